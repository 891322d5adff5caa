/*
 * schema.c
 *		The structure of the database: pg_dump, pg_restore; sequences.
 *
 * The dump is made once, under the snapshot of the subscription's slot, and
 * stored until the request ends. It is restored in three parts, each by its own lists of the
 * dump's contents:
 *
 *		tables		all of the section "pre-data"
 *		indexes		"post-data" but foreign keys, comments and event triggers
 *		last		the comments and event triggers
 *
 * Foreign keys are taken from the source's catalog instead, since pg_restore
 * can't add them without locking out the engine's apply for the time that
 * checking all rows takes.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/schema.h"

#include <unistd.h>

#include "base/failpoint.h"
#include "cluster/kept.h"
#include "copy/lists.h"
#include "copy/plan.h"
#include "copy/work.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "remote/program.h"
#include "remote/query.h"
#include "utils/builtins.h"

#define DUMP	"schema.dump"

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
		ZodanProgram *command = zodan_program_new(&job->session, job->engine->ddl_setting, programs[i], NULL);
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

/*
 * The schemas of the new node that are the user's: neither the system's, nor
 * an extension's, nor "public", which every database has. The literal of an
 * array.
 */
char *
zodan_schema_own_schemas(ZodanJob *job)
{
	return zodan_query_value(&job->new_conn,
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
 * The schemas that the new node had before the join and that are left out of
 * it: the literal of an array. Known from copy_schema on.
 */
char *
zodan_schema_skipped(ZodanJob *job)
{
	ZodanEffect *schema = zodan_effects_find(job->req, job->req->new_node_name, EFFECT_SCHEMA, job->new_dbname);

	return schema->result ? schema->result : "{}";
}

/*
 * Is there a dump that counts?
 */
bool
zodan_schema_dumped(ZodanJob *job)
{
	return zodan_work_fetch(job);
}

static void
require_dump(ZodanJob *job)
{
	if (!zodan_work_fetch(job))
		elog(ERROR, "no dump of the structure is stored");
}

static const char *const independent_query =
#include "sql/schema_independent.h"
		   ;

static const char *const analyze_query =
#include "sql/schema_analyze.h"
		   ;

/*
 * Writes the lists of the dump. Which tables are independent, and what the new node
 * has itself, is asked under its snapshot, or it wouldn't be so of what is in it.
 */
static void
write_lists(ZodanJob *job, const char *snapshot)
{
	ZodanConn  *source = &ZODAN_SOURCE(job)->conn;
	PGresult   *result;
	Oid		   *independent;
	char	   *kept;

	PQclear(zodan_query(source, psprintf("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT %s",
										 quote_literal_cstr(snapshot)), 0));
	result = zodan_query(source, independent_query, 0);
	independent = palloc(sizeof(Oid) * PQntuples(result));
	for (int i = 0; i < PQntuples(result); i++)
		independent[i] = atooid(PQgetvalue(result, i, 0));
	kept = zodan_kept_entries(source, zodan_journal_kept(job->req, "objects"));
	PQclear(zodan_query(source, "COMMIT", 0));
	zodan_lists_write(job, zodan_work_path(job, DUMP), independent, PQntuples(result), kept);
	pfree(independent);
	PQclear(result);
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
	ZodanProgram *command = zodan_program_new(&job->session, job->engine->ddl_setting, "pg_dump", &source->conn);
	PGresult   *result;

	zodan_work_make(job);
	zodan_program_arg(command, "--format=custom");
	zodan_program_arg(command, "--section=pre-data");
	zodan_program_arg(command, "--section=post-data");
	zodan_program_arg(command, "--no-subscriptions");
	/* large objects: their contents don't replicate */
	zodan_program_arg(command, "-B");
	zodan_program_arg(command, psprintf("--snapshot=%s", snapshot));
	zodan_program_arg(command, psprintf("--lock-wait-timeout=%d", zodan_session_server_timeout(&job->session)));
	zodan_program_arg(command, psprintf("--file=%s", zodan_work_path(job, DUMP)));

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
						 zodan_query_value(&job->new_conn, "SELECT pg_catalog.array_agg(nspname) FROM pg_catalog.pg_namespace", 0));
	for (int i = 0; i < PQntuples(result); i++)
		zodan_program_arg(command, psprintf("--exclude-schema=\"%s\"", PQgetvalue(result, i, 0)));
	PQclear(result);
	zodan_program_run(command);
	write_lists(job, snapshot);
}

/*
 * Stores the dump, with its lists.
 */
void
zodan_schema_keep(ZodanJob *job)
{
	zodan_work_store(job);
}

static ZodanProgram *
restore_command(ZodanJob *job, const char *list)
{
	ZodanProgram *command = zodan_program_new(&job->session, job->engine->ddl_setting, "pg_restore", &job->new_conn);

	zodan_program_arg(command, "--exit-on-error");
	zodan_program_arg(command, psprintf("--use-list=%s", zodan_work_path(job, list)));
	return command;
}

static void
run_restore(ZodanJob *job, ZodanProgram *command)
{
	zodan_program_arg(command, zodan_work_path(job, DUMP));
	zodan_program_run(command);
}

/*
 * Runs statements on the new node that take as long as the data need.
 */
static void
run_on_new(ZodanJob *job, char *sql)
{
	ZodanCall	call = {.conn = &job->new_conn,.sql = sql};

	zodan_remote_run(&call, 1, ZODAN_NO_TIMEOUT);
	zodan_remote_raise_any(&call, 1);
	PQclear(call.result);
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

	if (zodan_lists_is_empty(job, list))
		return;
	command = zodan_program_new(&job->session, job->engine->ddl_setting, "pg_restore", NULL);
	zodan_program_arg(command, psprintf("--use-list=%s", zodan_work_path(job, zodan_lists_write_drops(job, list))));
	zodan_program_arg(command, "--clean");
	zodan_program_arg(command, "--if-exists");
	zodan_program_arg(command, "--file=-");
	zodan_program_arg(command, zodan_work_path(job, DUMP));
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
	/* it's in the source's encoding, which is the new node's; a server must know that before it gets the text */
	PQclear(zodan_query(&job->new_conn, psprintf("SET client_encoding = %s",
												 quote_literal_cstr(PQparameterStatus(job->new_conn.pg, "server_encoding"))), 0));
	run_on_new(job, psprintf("BEGIN; %s\n; COMMIT; SET client_encoding = %s", script,
							 quote_literal_cstr(GetDatabaseEncodingName())));
}

/*
 * Restores lists, each in one transaction, side by side; there may be nothing
 * in them.
 */
static void
restore_lists(ZodanJob *job, List *lists, bool no_owner)
{
	List	   *commands = NIL;
	ListCell   *cell;

	foreach(cell, lists)
	{
		ZodanProgram *command;

		if (zodan_lists_is_empty(job, lfirst(cell)))
			continue;
		command = restore_command(job, lfirst(cell));
		if (no_owner)
			zodan_program_arg(command, "--no-owner");
		zodan_program_arg(command, "--single-transaction");
		zodan_program_arg(command, zodan_work_path(job, DUMP));
		commands = lappend(commands, command);
	}
	zodan_program_run_all(commands);
}

/*
 * Makes everything that rows need, by as many as jobs sessions. again: an
 * earlier attempt may have made some of it, which is dropped. Where all belongs
 * to the role that restores it nothing needs to be said of owners, which is a
 * statement for each object.
 */
void
zodan_schema_restore_tables(ZodanJob *job, int jobs, bool again)
{
	bool		no_owner = zodan_lists_is_own(job, ZODAN_LIST_PRE);
	int			nparts = zodan_lists_divide_tables(job, jobs);
	List	   *parts = NIL;

	if (again)
		drop_list(job, ZODAN_LIST_PRE);
	if (nparts == 0)
	{
		restore_lists(job, list_make1(ZODAN_LIST_PRE), no_owner);
		return;
	}
	for (int i = 0; i < nparts; i++)
		parts = lappend(parts, zodan_lists_part(i));
	restore_lists(job, list_make1(ZODAN_LIST_HEAD), no_owner);
	ZODAN_FAILPOINT(job->req, "restored", "head");
	restore_lists(job, parts, no_owner);
	ZODAN_FAILPOINT(job->req, "restored", "tables");
	restore_lists(job, list_make1(ZODAN_LIST_TAIL), no_owner);
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
	ZodanProgram *command = restore_command(job, ZODAN_LIST_REST);

	require_dump(job);
	zodan_lists_write_rest(job);
	if (zodan_lists_is_empty(job, ZODAN_LIST_REST))
		return;
	if (again)
	{
		drop_list(job, ZODAN_LIST_REST);
		run_on_new(job, zodan_plan_remake(job->req));
	}
	zodan_program_arg(command, psprintf("--jobs=%d", jobs));
	run_restore(job, command);
}

/*
 * Makes what has to come last: comments, which may be about foreign keys, and
 * event triggers, which might fire for what comes before.
 */
void
zodan_schema_restore_last(ZodanJob *job, bool again)
{
	ZodanProgram *command = restore_command(job, ZODAN_LIST_LAST);

	require_dump(job);
	if (zodan_lists_is_empty(job, ZODAN_LIST_LAST))
		return;
	/* what an earlier attempt may have made is replaced */
	if (again)
	{
		zodan_program_arg(command, "--clean");
		zodan_program_arg(command, "--if-exists");
	}
	/* each by itself: to hold several tables could stop the apply workers */
	run_restore(job, command);
}

/*
 * Has the new node tables, which no join begins with?
 */
bool
zodan_schema_has_tables(ZodanJob *job)
{
	return zodan_query_value(&job->new_conn,
							 "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
							 " WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384 AND n.nspname <> ALL ($1::text[])"
							 "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
							 "                      AND d.objid = c.oid AND d.deptype = 'e') LIMIT 1", 1, job->engine->foreign_schemas) != NULL;
}

/*
 * Drops the comments and event triggers, which would fire for all else that is
 * dropped.
 */
void
zodan_schema_drop_last(ZodanJob *job)
{
	if (zodan_schema_dumped(job))
		drop_list(job, ZODAN_LIST_LAST);
}

/*
 * Drops what the restores have made, and changes back what they have changed. An
 * error if something of the user's depends on it. Returns false if no dump is
 * stored.
 */
bool
zodan_schema_drop(ZodanJob *job)
{
	static const char *const lists[] = {ZODAN_LIST_LAST, ZODAN_LIST_KEYS, ZODAN_LIST_POST, ZODAN_LIST_PRE};

	bool		dumped = zodan_schema_dumped(job);
	char	   *rights = zodan_journal_kept(job->req, "rights");

	for (int i = 0; dumped && i < lengthof(lists); i++)
		drop_list(job, lists[i]);
	if (rights)
		zodan_kept_restore_rights(&job->new_conn, rights);
	return dumped;
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

	result = zodan_query(&job->new_conn, analyze_query, 1, job->engine->foreign_schemas);
	for (int i = 0; i < PQntuples(result); i++)
		run_on_new(job, PQgetvalue(result, i, 0));
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
						zodan_query_value(&ZODAN_SOURCE(job)->conn, query.data, 0)));
	pfree(query.data);
}

/*
 * Sets all of the new node's sequences to where the source's stand; returns
 * how many. Positions are not transactional, so this is done again before the
 * node is opened.
 */
int
zodan_schema_copy_sequences(ZodanJob *job, const char *skipped_schemas)
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
