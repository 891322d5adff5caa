/*
 * schema.c
 *		The structure of the database: pg_dump, pg_restore; sequences.
 *
 * The dump is made once, under the snapshot of the subscription's slot, and
 * kept in a directory of the request's below the data directory until the
 * request ends. It is restored in three parts, each by its own list of the
 * dump's contents:
 *
 *		tables		all of the section "pre-data", in one transaction
 *		indexes		"post-data" but foreign keys, comments and event triggers
 *		last		the comments and event triggers
 *
 * Foreign keys are taken from the source's catalog instead, since pg_restore
 * can't add them without locking out the engine's apply for the time that
 * checking all rows takes.
 */
#include "schema.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/file_utils.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "plan.h"
#include "port.h"
#include "program.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#define WORK_DIR	"zodan"

/* how many sequences are read in one statement */
#define SEQUENCES_AT_ONCE	500

/* ---------- the programs' version ---------- */

/*
 * Are pg_dump and pg_restore there, and of the version (server_version_num)
 * that the new node has? Returns what is found instead, or NULL.
 */
char *
zodan_schema_check_tools(ZodanJob *job, int version)
{
	static char *const programs[] = {"pg_dump", "pg_restore"};

	for (int i = 0; i < lengthof(programs); i++)
	{
		ZodanProgram *command = zodan_program(job->engine->ddl_setting, programs[i], NULL);
		int			major = 0;

		if (access(command->argv[0], X_OK) != 0)
			return psprintf("no program \"%s\"", command->argv[0]);
		zodan_program_arg(command, "--version");
		if (sscanf(zodan_program_run(command), "%*s (PostgreSQL) %d", &major) != 1 || major != version / 10000)
			return psprintf("\"%s\" of PostgreSQL %d", command->argv[0], major);
	}
	return NULL;
}

/* ---------- the dump ---------- */

static char *
work_path(ZodanJob *job, const char *file)
{
	return psprintf("%s/%s/" INT64_FORMAT "/%s", DataDir, WORK_DIR, job->req->id, file);
}

static void
make_directory(const char *path)
{
	if (MakePGDirectory(path) < 0 && errno != EEXIST)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create directory \"%s\": %m", path)));
}

static void
write_file(const char *path, const char *text)
{
	FILE	   *file = AllocateFile(path, "w");
	size_t		length = strlen(text);

	if (!file || fwrite(text, 1, length, file) != length || fflush(file) != 0 ||
		pg_fsync(fileno(file)) != 0 || FreeFile(file) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", path)));
}

static char *
read_file(const char *path)
{
	FILE	   *file = AllocateFile(path, "r");
	StringInfoData text;
	char		chunk[8192];
	size_t		n;

	if (!file)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	initStringInfo(&text);
	while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
		appendBinaryStringInfo(&text, chunk, (int) n);
	if (ferror(file) || FreeFile(file) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	return text.data;
}

/*
 * The schemas of the new node that are the user's: neither the system's, nor
 * an extension's, nor "public", which every database has. The literal of an
 * array.
 */
char *
zodan_schema_own_schemas(ZodanJob *job)
{
	return zodan_value(&job->new_conn,
					   "SELECT pg_catalog.array_agg(n.nspname ORDER BY n.nspname)::text"
					   "  FROM pg_catalog.pg_namespace n"
					   " WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')"
					   "   AND n.nspname <> ALL ($1::text[])"
					   "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
					   "                    WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass"
					   "                      AND d.objid = n.oid AND d.deptype = 'e')",
					   1, job->engine->foreign_schemas);
}

/*
 * Is there a dump that counts?
 */
bool
zodan_schema_dumped(ZodanJob *job)
{
	return access(work_path(job, "schema.dump"), R_OK) == 0;
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
 * The entries of a section of the dump, one a line.
 */
static char *
list_section(ZodanJob *job, char *dump, const char *section)
{
	ZodanProgram *command = zodan_program(job->engine->ddl_setting, "pg_restore", NULL);

	zodan_program_arg(command, "--list");
	zodan_program_arg(command, psprintf("--section=%s", section));
	zodan_program_arg(command, dump);
	return zodan_program_run(command);
}

/*
 * Writes the lists of what is restored when.
 */
static void
write_lists(ZodanJob *job, char *dump)
{
	StringInfoData pre,
				post,
				keys,
				last;
	char	   *rest;

	initStringInfo(&pre);
	initStringInfo(&post);
	initStringInfo(&keys);
	initStringInfo(&last);

	for (char *line = strtok_r(list_section(job, dump, "pre-data"), "\n", &rest); line;
		 line = strtok_r(NULL, "\n", &rest))
		if (line[0] != ';' && !entry_is_foreign(job, line))
			appendStringInfo(&pre, "%s\n", line);
	for (char *line = strtok_r(list_section(job, dump, "post-data"), "\n", &rest); line;
		 line = strtok_r(NULL, "\n", &rest))
	{
		if (line[0] != ';')
			appendStringInfo(entry_is(line, "FK CONSTRAINT") ? &keys :
							 entry_is(line, "COMMENT") || entry_is(line, "EVENT TRIGGER") ? &last : &post,
							 "%s\n", line);
	}
	write_file(work_path(job, "pre.list"), pre.data);
	write_file(work_path(job, "post.list"), post.data);
	/* these are only dropped by it: see zodan_add_foreign_keys() */
	write_file(work_path(job, "keys.list"), keys.data);
	write_file(work_path(job, "last.list"), last.data);
}

static char *
unfinished_dump(ZodanJob *job)
{
	return work_path(job, psprintf("schema.%d", MyProcPid));
}

/*
 * Dumps the source's structure as the snapshot shows it, without the schemas
 * in skipped_schemas (an array literal, as the engine's are skipped too). The
 * dump counts from zodan_schema_keep() on.
 */
void
zodan_schema_dump(ZodanJob *job, const char *snapshot, const char *skipped_schemas)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanProgram *command = zodan_program(job->engine->ddl_setting, "pg_dump", &source->conn);
	char	   *unfinished = unfinished_dump(job);
	PGresult   *result;

	make_directory(psprintf("%s/%s", DataDir, WORK_DIR));
	make_directory(psprintf("%s/%s/" INT64_FORMAT, DataDir, WORK_DIR, job->req->id));

	zodan_program_arg(command, "--format=custom");
	zodan_program_arg(command, "--section=pre-data");
	zodan_program_arg(command, "--section=post-data");
	zodan_program_arg(command, "--no-subscriptions");
	/* large objects: their contents don't replicate */
	zodan_program_arg(command, "-B");
	zodan_program_arg(command, psprintf("--snapshot=%s", snapshot));
	zodan_program_arg(command, psprintf("--lock-wait-timeout=" INT64_FORMAT, zodan_statement_timeout()));
	zodan_program_arg(command, psprintf("--file=%s", unfinished));

	/*
	 * Only what exists, for a pattern that matches nothing is an error to some
	 * versions. Where an extension is to be created, its schema must be there.
	 */
	result = zodan_query(&source->conn,
						 "SELECT pg_catalog.replace(n.nspname, '\"', '\"\"') FROM pg_catalog.pg_namespace n"
						 " WHERE n.nspname = ANY ($1::text[] || '{zodan}'::text[]) OR n.nspname = ANY ($2::text[])"
						 "   AND (n.nspname = ANY ($3::text[]) OR NOT EXISTS"
						 "        (SELECT FROM pg_catalog.pg_extension x WHERE x.extnamespace = n.oid))", 3,
						 skipped_schemas, job->engine->foreign_schemas,
						 zodan_value(&job->new_conn, "SELECT pg_catalog.array_agg(nspname) FROM pg_catalog.pg_namespace", 0));
	for (int i = 0; i < PQntuples(result); i++)
		zodan_program_arg(command, psprintf("--exclude-schema=\"%s\"", PQgetvalue(result, i, 0)));
	PQclear(result);
	zodan_program_run(command);
	write_lists(job, unfinished);
}

/*
 * Gives the dump its name: where that stands, all is there.
 */
void
zodan_schema_keep(ZodanJob *job)
{
	durable_rename(unfinished_dump(job), work_path(job, "schema.dump"), ERROR);
}

static ZodanProgram *
restore_command(ZodanJob *job, const char *list, bool again)
{
	ZodanProgram *command = zodan_program(job->engine->ddl_setting, "pg_restore", &job->new_conn);

	zodan_program_arg(command, "--exit-on-error");
	zodan_program_arg(command, psprintf("--use-list=%s", work_path(job, list)));
	/* what an earlier attempt may have made is replaced */
	if (again)
	{
		zodan_program_arg(command, "--clean");
		zodan_program_arg(command, "--if-exists");
	}
	return command;
}

static bool
list_is_empty(ZodanJob *job, const char *list)
{
	struct stat st;

	return stat(work_path(job, list), &st) == 0 && st.st_size == 0;
}

/*
 * Does everything in a list belong to the role that restores it? Then nothing
 * needs to be said of owners, which is a statement for each object; but of the
 * schema "public" it does, which isn't made by a restore. The owner is the last
 * word of a line, unless there are roles whose names have blanks.
 */
static bool
owns_all(ZodanJob *job, const char *list)
{
	char	   *role = zodan_value(&job->new_conn, "SELECT current_user", 0);
	char	   *rest;

	if (zodan_value(&ZODAN_SOURCE(job)->conn, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname ~ '\\s' LIMIT 1", 0))
		return false;
	for (char *line = strtok_r(read_file(work_path(job, list)), "\n", &rest); line;
		 line = strtok_r(NULL, "\n", &rest))
	{
		char	   *owner = strrchr(line, ' ') + 1;

		if ((owner[0] != '\0' && strcmp(owner, role) != 0) || strstr(line, " SCHEMA - public "))
			return false;
	}
	return true;
}

/*
 * Makes everything that rows need: all or nothing. again: an earlier attempt
 * may have made it.
 */
void
zodan_schema_restore_tables(ZodanJob *job, bool again)
{
	ZodanProgram *command = restore_command(job, "pre.list", again);

	if (owns_all(job, "pre.list"))
		zodan_program_arg(command, "--no-owner");
	zodan_program_arg(command, "--single-transaction");
	zodan_program_arg(command, work_path(job, "schema.dump"));
	zodan_program_run(command);
}

/*
 * Writes the list of what has not been made with the rows.
 */
static void
write_rest(ZodanJob *job)
{
	char	   *made = zodan_plan_made();
	char	   *rest;
	StringInfoData list;

	initStringInfo(&list);
	for (char *line = strtok_r(read_file(work_path(job, "post.list")), "\n", &rest); line;
		 line = strtok_r(NULL, "\n", &rest))
	{
		int			dump_id;
		unsigned	class;
		unsigned	oid;

		if (sscanf(line, "%d; %u %u", &dump_id, &class, &oid) != 3 || !strstr(made, psprintf(" %u %u ", class, oid)))
			appendStringInfo(&list, "%s\n", line);
	}
	write_file(work_path(job, "rest.list"), list.data);
}

/*
 * Writes a list of what is to be dropped, which pg_restore goes through from
 * its end: indexes and keys after all else, and in the order in which they were
 * made. That of a partitioned table takes those of its partitions with it,
 * which can't be dropped before.
 */
static const char *
write_drops(ZodanJob *job, const char *list)
{
	char	   *rest;
	List	   *indexes = NIL;
	ListCell   *cell;
	StringInfoData others;
	StringInfoData all;

	initStringInfo(&others);
	initStringInfo(&all);
	for (char *line = strtok_r(read_file(work_path(job, list)), "\n", &rest); line;
		 line = strtok_r(NULL, "\n", &rest))
	{
		if (entry_is(line, "INDEX") || entry_is(line, "CONSTRAINT"))
			indexes = lcons(line, indexes);
		else
			appendStringInfo(&others, "%s\n", line);
	}
	foreach(cell, indexes)
		appendStringInfo(&all, "%s\n", (char *) lfirst(cell));
	appendStringInfoString(&all, others.data);
	write_file(work_path(job, "drop.list"), all.data);
	return "drop.list";
}

/*
 * Drops what is in a list, as far as it's there: pg_restore writes the
 * statements for that in front of all others when it's told to clean.
 */
static void
drop_list(ZodanJob *job, const char *list)
{
	ZodanProgram *command;
	char	   *script;
	char	   *end;

	if (list_is_empty(job, list))
		return;
	command = zodan_program(job->engine->ddl_setting, "pg_restore", NULL);
	zodan_program_arg(command, psprintf("--use-list=%s", work_path(job, write_drops(job, list))));
	zodan_program_arg(command, "--clean");
	zodan_program_arg(command, "--if-exists");
	zodan_program_arg(command, "--file=-");
	zodan_program_arg(command, work_path(job, "schema.dump"));
	script = zodan_program_run(command);

	/* the first entry's heading ends them; psql's own commands are not SQL */
	end = strstr(script, "\n-- Name: ");
	if (end)
		*end = '\0';
	for (char *line = script; line && *line; line = strchr(line, '\n'))
	{
		line += *line == '\n';
		if (*line == '\\')
			line[0] = line[1] = '-';
	}
	/* of what the script sets only the encoding matters to us */
	PQclear(zodan_query(&job->new_conn, psprintf("BEGIN; %s\n; COMMIT; SET client_encoding = %s", script,
												 quote_literal_cstr(GetDatabaseEncodingName())), 0));
}

/*
 * Makes the indexes and constraints that aren't there but foreign keys,
 * triggers, rules and policies; jobs at the same time. again: an earlier
 * attempt may have made some of them. These are dropped, and with the index of
 * a partitioned table those of its partitions, which the plan has.
 */
void
zodan_schema_restore_indexes(ZodanJob *job, int jobs, bool again)
{
	ZodanProgram *command = restore_command(job, "rest.list", false);
	ZodanCall	call = {.conn = &job->new_conn};

	write_rest(job);
	if (list_is_empty(job, "rest.list"))
		return;
	if (again)
	{
		drop_list(job, "rest.list");
		call.sql = zodan_plan_remake();
		zodan_call_all(&call, 1, ZODAN_NO_TIMEOUT);
		zodan_raise_any(&call, 1);
		PQclear(call.result);
	}
	zodan_program_arg(command, psprintf("--jobs=%d", jobs));
	zodan_program_arg(command, work_path(job, "schema.dump"));
	zodan_program_run(command);
}

/*
 * Makes what has to come last: comments, which may be about foreign keys, and
 * event triggers, which might fire for what comes before.
 */
void
zodan_schema_restore_last(ZodanJob *job, bool again)
{
	ZodanProgram *command = restore_command(job, "last.list", again);

	if (list_is_empty(job, "last.list"))
		return;
	/* each by itself: to hold several tables could stop the apply workers */
	zodan_program_arg(command, work_path(job, "schema.dump"));
	zodan_program_run(command);
}

/*
 * Drops what the restores have made. Returns false if the dump is not there
 * any more.
 */
bool
zodan_schema_drop(ZodanJob *job)
{
	static const char *const lists[] = {"last.list", "keys.list", "post.list", "pre.list"};

	if (!zodan_schema_dumped(job))
		return false;
	for (int i = 0; i < lengthof(lists); i++)
		drop_list(job, lists[i]);
	return true;
}

/*
 * Removes the dump; missing files are no error.
 */
void
zodan_schema_forget(ZodanJob *job)
{
	char	   *path = psprintf("%s/%s/" INT64_FORMAT, DataDir, WORK_DIR, job->req->id);

	if (access(path, F_OK) == 0 && !rmtree(path, true))
		ereport(WARNING, (errmsg("could not remove directory \"%s\"", path)));
}

/*
 * Gathers the statistics that could not be gathered when the rows of a table
 * had come: those that parents have of all their children together, and those
 * of what has been made since.
 */
void
zodan_schema_analyze(ZodanJob *job)
{
	PGresult   *result;

	result = zodan_query(&job->new_conn,
						 "SELECT pg_catalog.format('ANALYZE %I.%I', n.nspname, c.relname)"
						 "  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
						 " WHERE n.nspname <> ALL ($1::text[] || '{pg_catalog,information_schema,zodan}'::text[])"
						 "   AND (c.relkind IN ('r', 'p') AND c.relhassubclass"
						 "        OR c.relkind = 'r' AND c.reltuples > 0"
						 "           AND (EXISTS (SELECT FROM pg_catalog.pg_statistic_ext e WHERE e.stxrelid = c.oid)"
						 "                OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indexprs IS NOT NULL"
						 "                              AND NOT EXISTS (SELECT FROM pg_catalog.pg_statistic s WHERE s.starelid = i.indexrelid))))"
						 " ORDER BY 1", 1, job->engine->foreign_schemas);
	for (int i = 0; i < PQntuples(result); i++)
	{
		ZodanCall	call = {.conn = &job->new_conn,.sql = PQgetvalue(result, i, 0)};

		zodan_call_all(&call, 1, ZODAN_NO_TIMEOUT);
		zodan_raise_any(&call, 1);
		PQclear(call.result);
	}
	PQclear(result);
}

/* ---------- sequences ---------- */

/*
 * Sets the sequences whose names are in the rows from first to end - 1: so many
 * that neither the statement's depth nor its locks are too many for a server.
 */
static void
copy_sequences(ZodanJob *job, PGresult *names, int first, int end)
{
	StringInfoData query;

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT pg_catalog.json_agg(s) FROM (");
	for (int i = first; i < end; i++)
		appendStringInfo(&query, "%sSELECT %s AS seq, last_value, is_called FROM %s",
						 i > first ? " UNION ALL " : "", quote_literal_cstr(PQgetvalue(names, i, 0)),
						 PQgetvalue(names, i, 0));
	appendStringInfoString(&query, ") AS s");
	PQclear(zodan_query(&job->new_conn,
						"SELECT pg_catalog.setval(s.seq::pg_catalog.regclass, s.last_value, s.is_called)"
						"  FROM pg_catalog.json_to_recordset($1::json)"
						"         AS s(seq text, last_value bigint, is_called bool)", 1,
						zodan_value(&ZODAN_SOURCE(job)->conn, query.data, 0)));
	pfree(query.data);
}

/*
 * Sets all of the new node's sequences to where the source's stand; returns
 * how many. Positions are not transactional, so this is done again before the
 * node is opened.
 */
int
zodan_copy_sequences(ZodanJob *job, const char *skipped_schemas)
{
	ZodanConn  *source = &ZODAN_SOURCE(job)->conn;
	PGresult   *result;
	int			n;

	result = zodan_query(source,
						 "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)"
						 "  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
						 " WHERE c.relkind = 'S' AND c.relpersistence = 'p'"
						 "   AND n.nspname <> ALL ($1::text[] || $2::text[] || '{zodan,pg_catalog,information_schema}'::text[])"
						 "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
						 "                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
						 "                      AND d.objid = c.oid AND d.deptype = 'e')"
						 " ORDER BY 1", 2, skipped_schemas, job->engine->foreign_schemas);
	n = PQntuples(result);
	for (int i = 0; i < n; i += SEQUENCES_AT_ONCE)
		copy_sequences(job, result, i, Min(i + SEQUENCES_AT_ONCE, n));
	PQclear(result);
	return n;
}
