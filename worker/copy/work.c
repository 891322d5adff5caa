/*
 * work.c
 *		The request's work directory.
 *
 * What the directory holds is stored in a table, so that a standby of the
 * coordinator has it, and a dump counts exactly when the journal says so. Each
 * process that needs the files writes them anew.
 *
 * Copyright (c) 2026, the zodan_bgw authors
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
write_file(const char *path, const char *mode, const char *content, size_t length)
{
	FILE	   *file = open_file(path, mode);

	if (fwrite(content, 1, length, file) != length || FreeFile(file) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", path)));
}

static void
make_directory(const char *path)
{
	if (MakePGDirectory(path) < 0 && errno != EEXIST)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create directory \"%s\": %m", path)));
}

static void
remove_directory(char *path)
{
	if (access(path, F_OK) == 0 && !rmtree(path, true))
		ereport(WARNING, (errmsg("could not remove directory \"%s\"", path)));
}

/*
 * Makes the directory, with nothing in it.
 */
void
zodan_work_make(ZodanJob *job)
{
	remove_directory(directory(job));
	make_directory(psprintf("%s/" WORK_DIR, DataDir));
	make_directory(directory(job));
}

/*
 * Stores what is in the directory.
 */
void
zodan_work_store(ZodanJob *job)
{
	zodan_journal_store_dump(job->req, directory(job));
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

	if (job->fetched)
		return true;
	chunks = zodan_journal_dump(job->req);
	if (chunks->nrows == 0)
		return false;
	zodan_work_make(job);
	for (int i = 0; i < chunks->nrows; i++)
	{
		char	   *hex = zodan_journal_dump_chunk(job->req, chunks->value[i][0], chunks->value[i][1]);
		size_t		length = strlen(hex) / 2;

		hex_decode(hex, strlen(hex), hex);
		/* opened for each, since the end of a transaction, such as that of the next look, closes it */
		write_file(zodan_work_path(job, chunks->value[i][0]), "a", hex, length);
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
	zodan_journal_forget_dump(job->req);
	remove_directory(directory(job));
}

/*
 * Removes the directories of this database's requests that don't need them any
 * more: a request may have ended in the middle of that, or been deleted.
 */
void
zodan_work_sweep(void)
{
	char	   *all = psprintf("%s/" WORK_DIR, DataDir);
	DIR		   *dir = AllocateDir(all);
	struct dirent *entry;
	List	   *names = NIL;
	ZodanRows  *idle;

	if (!dir)
		return;					/* there has been none yet */
	while ((entry = ReadDirExtended(dir, all, LOG)) != NULL)
		names = lappend(names, pstrdup(entry->d_name));
	FreeDir(dir);
	idle = zodan_journal_dumps_done(names);
	for (int i = 0; i < idle->nrows; i++)
		remove_directory(psprintf("%s/%s", all, idle->value[i][0]));
}

/*
 * Writes a text into a file, instead of what is in it.
 */
void
zodan_work_write(const char *path, const char *text)
{
	write_file(path, "w", text, strlen(text));
}

/*
 * What is in a file.
 */
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
