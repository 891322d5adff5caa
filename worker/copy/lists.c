/*
 * lists.c
 *		The lists of what is restored when.
 *
 * A list is a file with some lines of what "pg_restore --list" prints of the
 * dump, which is an order in which all can be made. What rows need, the section
 * "pre-data", is in three of them:
 *
 *		head		up to the last schema or extension
 *		tables		of what follows, the tables that need nothing but these:
 *					several sessions can make them side by side
 *		tail		all else, which may need any of them
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/lists.h"

#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_class.h"
#include "common/file_perm.h"
#include "common/file_utils.h"
#include "copy/plan.h"
#include "copy/work.h"
#include "lib/stringinfo.h"
#include "remote/program.h"
#include "remote/query.h"
#include "storage/fd.h"
#include "utils/builtins.h"

/* a session more is worth its start with so many tables */
#define TABLES_EACH	100

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
	return lines_of(zodan_work_read(zodan_work_path(job, list)));
}

static void
write_list(ZodanJob *job, const char *list, const List *lines)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	foreach(cell, lines)
		appendStringInfo(&text, "%s\n", (char *) lfirst(cell));
	zodan_work_write(zodan_work_path(job, list), text.data);
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
	ZodanProgram *command = zodan_program_new(&job->session, job->engine->ddl_setting, "pg_restore", NULL);
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
zodan_lists_is_empty(ZodanJob *job, const char *list)
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
zodan_lists_is_own(ZodanJob *job, const char *list)
{
	char	   *role = zodan_query_value(&job->new_conn, "SELECT current_user", 0);
	ListCell   *cell;

	if (zodan_query_value(&ZODAN_SOURCE(job)->conn, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname ~ '\\s' LIMIT 1", 0))
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
zodan_lists_part(int part)
{
	return psprintf("tables.%d.list", part);
}

/*
 * Divides the list of tables in at most n parts and writes them. Returns how
 * many there are: 0 if the tables are too few for more than one.
 */
int
zodan_lists_divide_tables(ZodanJob *job, int n)
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
		write_list(job, zodan_lists_part(part), lines);
	}
	return n;
}

/*
 * Writes the list of what has not been made with the rows.
 */
void
zodan_lists_write_rest(ZodanJob *job)
{
	char	   *made = zodan_plan_made(job->req);
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
	return !zodan_query_value(&job->new_conn,
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
zodan_lists_write_drops(ZodanJob *job, const char *list)
{
	static const char name[] = "drop.list";
	List	   *indexes = NIL;
	List	   *others = NIL;
	char	   *kept = zodan_work_read(zodan_work_path(job, ZODAN_LIST_KEPT));
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
