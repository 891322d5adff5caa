/*
 * work.c
 *		The request's work directory.
 *
 * What the directory holds is stored in a table, so that a standby of the
 * coordinator has it, and a dump counts exactly when the journal says so. Each
 * process that needs the files writes them anew.
 */
#include "copy/work.h"

#include "cluster/names.h"
#include "common/file_perm.h"
#include "common/file_utils.h"
#include "lib/stringinfo.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#define WORK_DIR	"zodan"

static char *
directory(ZodanJob *job)
{
	return psprintf("%s/" WORK_DIR "/" INT64_FORMAT "_%s", DataDir, job->req->id, zodan_names_suffix(job));
}

/*
 * The path of a file of the request's.
 */
char *
zodan_work_path(ZodanJob *job, const char *file)
{
	return psprintf("%s/%s", directory(job), file);
}

static FILE *
open_file(const char *path, const char *mode)
{
	FILE	   *file = AllocateFile(path, mode);

	if (!file)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	return file;
}

static void
make_directory(const char *path)
{
	if (MakePGDirectory(path) < 0 && errno != EEXIST)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create directory \"%s\": %m", path)));
}

static void
remove_directory(ZodanJob *job)
{
	char	   *path = directory(job);

	if (access(path, F_OK) == 0 && !rmtree(path, true))
		ereport(WARNING, (errmsg("could not remove directory \"%s\"", path)));
}

/*
 * Makes the directory, with nothing in it.
 */
void
zodan_work_make(ZodanJob *job)
{
	remove_directory(job);
	make_directory(psprintf("%s/" WORK_DIR, DataDir));
	make_directory(directory(job));
}

/*
 * Stores what is in the directory.
 */
void
zodan_work_store(ZodanJob *job)
{
	zodan_journal_store_dump(directory(job));
	job->fetched = true;
}

/*
 * Makes the directory, with what is stored, unless this process has done so.
 * Returns false if nothing is stored.
 */
bool
zodan_work_fetch(ZodanJob *job)
{
	ZodanRows  *chunks;
	FILE	   *file = NULL;

	if (job->fetched)
		return true;
	chunks = zodan_journal_dump();
	if (chunks->nrows == 0)
		return false;
	zodan_work_make(job);
	for (int i = 0; i < chunks->nrows; i++)
	{
		char	   *name = chunks->value[i][0];
		char	   *hex = zodan_journal_dump_chunk(name, chunks->value[i][1]);
		size_t		length = strlen(hex) / 2;

		if (i == 0 || strcmp(name, chunks->value[i - 1][0]) != 0)
			file = open_file(zodan_work_path(job, name), "w");
		hex_decode(hex, strlen(hex), hex);
		if (fwrite(hex, 1, length, file) != length ||
			((i + 1 == chunks->nrows || strcmp(name, chunks->value[i + 1][0]) != 0) && FreeFile(file) != 0))
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", zodan_work_path(job, name))));
		pfree(hex);
	}
	job->fetched = true;
	return true;
}

/*
 * Removes it, and what is stored.
 */
void
zodan_work_forget(ZodanJob *job)
{
	zodan_journal_forget_dump();
	remove_directory(job);
}

void
zodan_work_write(const char *path, const char *text)
{
	FILE	   *file = open_file(path, "w");
	size_t		length = strlen(text);

	if (fwrite(text, 1, length, file) != length || FreeFile(file) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", path)));
}

char *
zodan_work_read(const char *path)
{
	FILE	   *file = open_file(path, "r");
	StringInfoData text;
	char		chunk[8192];
	size_t		n;

	initStringInfo(&text);
	while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
		appendBinaryStringInfo(&text, chunk, (int) n);
	if (ferror(file) || FreeFile(file) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	return text.data;
}
