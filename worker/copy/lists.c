/*
 * lists.c
 *		The request's work directory, and the lists of what is restored when.
 *
 * What the directory holds is stored in a table, so that a standby of the
 * coordinator has it, and a dump counts exactly when the journal says so. Each
 * process that needs the files writes them anew.
 *
 * A list is a file with some lines of what "pg_restore --list" prints of the
 * dump, which is an order in which all can be made. What rows need, the section
 * "pre-data", is in three of them:
 *
 *		head		up to the last schema or extension
 *		tables		of what follows, the tables that need nothing but these:
 *					several sessions can make them side by side
 *		tail		all else, which may need any of them
 */
#include "copy/lists.h"

#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_class.h"
#include "common/file_perm.h"
#include "common/file_utils.h"
#include "copy/plan.h"
#include "lib/stringinfo.h"
#include "remote/program.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#define WORK_DIR	"zodan"

/* a session more is worth its start with so many tables */
#define TABLES_EACH	100

/* ---------- the directory ---------- */

static char *
directory(ZodanJob *job)
{
	return psprintf("%s/" WORK_DIR "/" INT64_FORMAT "_%s", DataDir, job->req->id, zodan_own_suffix(job));
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
	zodan_store_dump(directory(job));
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
	chunks = zodan_stored_dump();
	if (chunks->nrows == 0)
		return false;
	zodan_work_make(job);
	for (int i = 0; i < chunks->nrows; i++)
	{
		char	   *name = chunks->value[i][0];
		char	   *hex = zodan_stored_chunk(name, chunks->value[i][1]);
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
	zodan_forget_dump();
	remove_directory(job);
}

static void
write_file(const char *path, const char *text)
{
	FILE	   *file = open_file(path, "w");
	size_t		length = strlen(text);

	if (fwrite(text, 1, length, file) != length || FreeFile(file) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", path)));
}

static char *
read_file(const char *path)
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

/* ---------- their entries ---------- */

/*
 * The lines of a text, which is changed: a list of char *.
 */
static List *
lines_of(char *text)
{
	List	   *lines = NIL;
	char	   *rest;

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		lines = lappend(lines, line);
	return lines;
}

static List *
read_list(ZodanJob *job, const char *list)
{
	return lines_of(read_file(zodan_work_path(job, list)));
}

static void
write_list(ZodanJob *job, const char *list, const List *lines)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	foreach(cell, lines)
		appendStringInfo(&text, "%s\n", (char *) lfirst(cell));
	write_file(zodan_work_path(job, list), text.data);
}

/*
 * One entry of pg_restore's list, such as
 *		"3301; 2606 16390 FK CONSTRAINT public t t_fkey owner"
 * The type is upper case words, then come the schema and the name.
 */
static bool
entry_is(const char *line, const char *type)
{
	unsigned	oid;
	unsigned	table;
	int			dump_id;
	int			start = 0;
	size_t		length = strlen(type);

	return sscanf(line, "%d; %u %u %n", &dump_id, &table, &oid, &start) >= 3 && start > 0 &&
		strncmp(line + start, type, length) == 0 && line[start + length] == ' ';
}

/*
 * Which row of which catalog of the source an entry is about; 0 if none.
 */
static void
entry_object(const char *line, Oid *class, Oid *oid)
{
	int			dump_id;

	if (sscanf(line, "%d; %u %u", &dump_id, class, oid) != 3)
		*class = *oid = InvalidOid;
}

/*
 * Is it about an extension that no node gets by a restore: the engine's, ours
 * and what belongs to one server only?
 */
static bool
entry_is_foreign(ZodanJob *job, const char *line)
{
	const char *own[] = {job->engine->name, "zodan_bgw", "pg_cron"};

	for (int i = 0; i < lengthof(own); i++)
	{
		if (strstr(line, psprintf(" EXTENSION - %s ", own[i])) ||
			strstr(line, psprintf(" COMMENT - EXTENSION %s ", own[i])) ||
			strstr(line, psprintf(" SCHEMA - %s ", own[i])) ||
			strstr(line, psprintf(" ACL - SCHEMA %s ", own[i])))
			return true;
	}
	return false;
}

/*
 * The entries of a section of the dump that are to be restored.
 */
static List *
list_section(ZodanJob *job, char *dump, const char *section)
{
	ZodanProgram *command = zodan_program(job->engine->ddl_setting, "pg_restore", NULL);
	List	   *entries = NIL;
	ListCell   *cell;

	zodan_program_arg(command, "--list");
	zodan_program_arg(command, psprintf("--section=%s", section));
	zodan_program_arg(command, dump);
	foreach(cell, lines_of(zodan_program_run(command)))
	{
		char	   *line = lfirst(cell);

		if (line[0] != ';' && !entry_is_foreign(job, line))
			entries = lappend(entries, line);
	}
	return entries;
}

/* ---------- the lists ---------- */

static void
write_pre(ZodanJob *job, const List *pre, const Oid *independent, int n)
{
	List	   *head = NIL;
	List	   *tables = NIL;
	List	   *tail = NIL;
	ListCell   *cell;
	int			nhead = 0;

	foreach(cell, pre)
	{
		if (entry_is(lfirst(cell), "SCHEMA") || entry_is(lfirst(cell), "EXTENSION"))
			nhead = foreach_current_index(cell) + 1;
	}
	foreach(cell, pre)
	{
		char	   *line = lfirst(cell);
		Oid			class;
		Oid			oid;

		entry_object(line, &class, &oid);
		if (foreach_current_index(cell) < nhead)
			head = lappend(head, line);
		else if (class == RelationRelationId && bsearch(&oid, independent, n, sizeof(Oid), oid_cmp))
			tables = lappend(tables, line);
		else
			tail = lappend(tail, line);
	}
	write_list(job, ZODAN_LIST_PRE, pre);
	write_list(job, ZODAN_LIST_HEAD, head);
	write_list(job, ZODAN_LIST_TABLES, tables);
	write_list(job, ZODAN_LIST_TAIL, tail);
}

/*
 * Writes the lists of what a dump holds, a file's name. independent: the n
 * tables, by their OIDs on the source in ascending order, that need nothing but
 * schemas and extensions. kept: see zodan_kept_entries().
 */
void
zodan_lists_write(ZodanJob *job, char *dump, const Oid *independent, int n, char *kept)
{
	List	   *post = NIL;
	List	   *keys = NIL;
	List	   *last = NIL;
	ListCell   *cell;

	write_pre(job, list_section(job, dump, "pre-data"), independent, n);
	foreach(cell, list_section(job, dump, "post-data"))
	{
		char	   *line = lfirst(cell);

		if (entry_is(line, "FK CONSTRAINT"))
			keys = lappend(keys, line);
		else if (entry_is(line, "COMMENT") || entry_is(line, "EVENT TRIGGER"))
			last = lappend(last, line);
		else
			post = lappend(post, line);
	}
	write_list(job, ZODAN_LIST_POST, post);
	write_list(job, ZODAN_LIST_KEYS, keys);
	write_list(job, ZODAN_LIST_LAST, last);
	write_list(job, ZODAN_LIST_KEPT, list_make1(kept));
}

/*
 * Is there nothing in it?
 */
bool
zodan_list_is_empty(ZodanJob *job, const char *list)
{
	struct stat st;

	return stat(zodan_work_path(job, list), &st) == 0 && st.st_size == 0;
}

/*
 * Does everything in a list belong to the role that restores it? The owner is
 * the last word of a line, unless there are roles whose names have blanks. The
 * schema "public" isn't made by a restore, and so not its own.
 */
bool
zodan_list_is_own(ZodanJob *job, const char *list)
{
	char	   *role = zodan_value(&job->new_conn, "SELECT current_user", 0);
	ListCell   *cell;

	if (zodan_value(&ZODAN_SOURCE(job)->conn, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname ~ '\\s' LIMIT 1", 0))
		return false;
	foreach(cell, read_list(job, list))
	{
		char	   *line = lfirst(cell);
		char	   *owner = strrchr(line, ' ') + 1;

		if ((owner[0] != '\0' && strcmp(owner, role) != 0) || strstr(line, " SCHEMA - public "))
			return false;
	}
	return true;
}

/*
 * The name of a part of the list of tables.
 */
char *
zodan_list_part(int part)
{
	return psprintf("tables.%d.list", part);
}

/*
 * Divides the list of tables in at most n parts and writes them. Returns how
 * many there are: 0 if the tables are too few for more than one.
 */
int
zodan_list_divide_tables(ZodanJob *job, int n)
{
	List	   *tables = read_list(job, ZODAN_LIST_TABLES);

	n = Min(n, list_length(tables) / TABLES_EACH);
	if (n < 2)
		return 0;
	for (int part = 0; part < n; part++)
	{
		List	   *lines = NIL;

		for (int i = part; i < list_length(tables); i += n)
			lines = lappend(lines, list_nth(tables, i));
		write_list(job, zodan_list_part(part), lines);
	}
	return n;
}

/*
 * Writes the list of what has not been made with the rows.
 */
void
zodan_list_write_rest(ZodanJob *job)
{
	char	   *made = zodan_plan_made();
	List	   *lines = NIL;
	ListCell   *cell;

	foreach(cell, read_list(job, ZODAN_LIST_POST))
	{
		Oid			class;
		Oid			oid;

		entry_object(lfirst(cell), &class, &oid);
		if (!OidIsValid(class) || !strstr(made, psprintf(" %u %u ", class, oid)))
			lines = lappend(lines, lfirst(cell));
	}
	write_list(job, ZODAN_LIST_REST, lines);
}

/*
 * A view that needs a key of its table's is made as one of NULLs, and replaced
 * when the key is there, by what the dump calls a rule. Before the key can be
 * dropped it's made one of NULLs again; which can't be where the types of its
 * columns aren't there. So is an entry such a rule, of a view that isn't there?
 * The line is in the encoding of the source and the new node, not in ours.
 */
static bool
lacks_view(ZodanJob *job, const char *line)
{
	char	   *hex;

	if (!entry_is(line, "RULE") || !strstr(line, " _RETURN "))
		return false;
	hex = palloc0(strlen(line) * 2 + 1);
	hex_encode(line, strlen(line), hex);
	return !zodan_value(&job->new_conn,
						"SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
						" WHERE c.relkind = 'v' AND position(pg_catalog.convert_to(pg_catalog.format(' RULE %s %s _RETURN ', n.nspname, c.relname),"
						"                                                          pg_catalog.getdatabaseencoding())"
						"                                    IN pg_catalog.decode($1, 'hex')) > 0 LIMIT 1", 1, hex);
}

/*
 * Writes a list of what is to be dropped, which pg_restore goes through from
 * its end: indexes and keys after all else, and in the order in which they were
 * made. That of a partitioned table takes those of its partitions with it,
 * which can't be dropped before. What the new node had itself isn't among them.
 * Returns its name.
 */
const char *
zodan_list_write_drops(ZodanJob *job, const char *list)
{
	static const char name[] = "drop.list";
	List	   *indexes = NIL;
	List	   *others = NIL;
	char	   *kept = read_file(zodan_work_path(job, ZODAN_LIST_KEPT));
	ListCell   *cell;

	foreach(cell, read_list(job, list))
	{
		char	   *line = lfirst(cell);
		Oid			class;
		Oid			oid;

		entry_object(line, &class, &oid);
		if (OidIsValid(class) && strstr(kept, psprintf(" %u %u ", class, oid)))
			continue;
		if (entry_is(line, "INDEX") || entry_is(line, "CONSTRAINT"))
			indexes = lcons(line, indexes);
		else if (!lacks_view(job, line))
			others = lappend(others, line);
	}
	write_list(job, name, list_concat(indexes, others));
	return name;
}
