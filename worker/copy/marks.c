/*
 * marks.c
 *		What the new node itself says of the copy.
 *
 * That a table has been copied, and its indexes and keys have been made, stands in
 * the journal; and as a mark on the new node, which is written in the transaction
 * that has done it. A node that was restored to an earlier moment, or is a standby
 * that was promoted while it was behind, has lost both. So each attempt compares
 * them: if the node lacks a mark, what rests on it is worth nothing, and the join
 * starts from the beginning. It does so for a server that has gone back in time anyway, as far as
 * its timeline or its WAL tells: see claim.c.
 *
 * The marks are a table in a schema of their own, whose name has the request's
 * token. They have the origin of a lane of the copy's, so they never leave the
 * node, and are dropped before it is opened.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/marks.h"

#include "cluster/claim.h"
#include "cluster/names.h"
#include "cluster/servers.h"
#include "remote/query.h"
#include "utils/builtins.h"

/* the part of the mark that all of a table's indexes and keys are there */
#define BUILT	(-1)

/*
 * Makes the table, if it isn't there.
 */
void
zodan_marks_create(ZodanJob *job)
{
	zodan_claim_effect(job, job->req->new_node_name, EFFECT_MARKS, zodan_names_marks_schema(job));
	PQclear(zodan_query(&job->new_conn, psprintf("CREATE SCHEMA IF NOT EXISTS %s;"
												 "CREATE TABLE IF NOT EXISTS %s.mark (nspname name, relname name, part int, nparts int)",
												 zodan_names_marks_schema(job), zodan_names_marks_schema(job)), 0));
	zodan_effects_set(job->req, job->req->new_node_name, EFFECT_MARKS, zodan_names_marks_schema(job), "done", NULL);
}

/*
 * Drops it, a schema. From then on the marks aren't asked for any more, whether
 * or not this comes to its end; and once it has, nothing is sent: the users' event
 * triggers may be there.
 */
void
zodan_marks_drop(ZodanJob *job, const char *schema)
{
	ZodanEffect *marks = zodan_effects_find(job->req, job->req->new_node_name, EFFECT_MARKS, schema);

	if (!zodan_effects_is_live(marks))
		return;
	if (strcmp(marks->state, "done") == 0)
		zodan_effects_set(job->req, marks->node, marks->kind, marks->name, "intent", NULL);
	PQclear(zodan_query(&job->new_conn, psprintf("DROP SCHEMA IF EXISTS %s CASCADE", zodan_query_quote(schema)), 0));
	zodan_effects_undone(job->req, job->req->new_node_name, EFFECT_MARKS, schema);
}

/*
 * Tables (ZodanTable) as rows of SQL: with, a text, follows each name.
 */
static char *
rows_of(List *tables, const char *with)
{
	StringInfoData sql;
	ListCell   *cell;

	initStringInfo(&sql);
	foreach(cell, tables)
	{
		ZodanTable *table = lfirst(cell);

		appendStringInfo(&sql, "%s(%s, %s%s)", sql.len ? ", " : "",
						 quote_literal_cstr(table->nspname), quote_literal_cstr(table->relname), with);
	}
	return sql.data;
}

/*
 * The statement that writes marks of tables; it ends with a semicolon.
 */
static char *
insert(ZodanJob *job, List *tables, int part, int nparts)
{
	return psprintf("INSERT INTO %s.mark VALUES %s;", zodan_names_marks_schema(job), rows_of(tables, psprintf(", %d, %d", part, nparts)));
}

/*
 * For the transaction that copies a part of the rows of tables, of nparts parts.
 */
char *
zodan_marks_rows(ZodanJob *job, List *tables, int part, int nparts)
{
	return insert(job, tables, part, nparts);
}

/*
 * For the transaction that makes the last of the tables' keys.
 */
char *
zodan_marks_built(ZodanJob *job, List *tables)
{
	return insert(job, tables, BUILT, 1);
}

/*
 * For the transaction that empties tables.
 */
char *
zodan_marks_forget(ZodanJob *job, List *tables)
{
	return psprintf("DELETE FROM %s.mark WHERE (nspname, relname) IN (%s);", zodan_names_marks_schema(job), rows_of(tables, ""));
}

/*
 * Begins an attempt: an error if the new node lacks a mark of something that the
 * journal has as done, or has one of a table that the journal doesn't have as begun.
 * The latter is stored durably before the first row is copied, so such a journal is
 * from the past.
 */
void
zodan_marks_require(ZodanJob *job)
{
	ZodanEffect *marks = zodan_effects_find(job->req, job->req->new_node_name, EFFECT_MARKS, zodan_names_marks_schema(job));
	char	   *done;
	char	   *lacking;
	char	   *unknown;

	if (!marks->state || strcmp(marks->state, "done") != 0)
		return;
	done = zodan_plan_done(job->req);
	if (!zodan_query_value(&job->new_conn, "SELECT pg_catalog.to_regclass($1)", 1, psprintf("%s.mark", zodan_names_marks_schema(job))))
		lacking = "all of it";
	else
		lacking = zodan_query_value(&job->new_conn, psprintf(
															 "WITH d AS (SELECT * FROM pg_catalog.json_to_recordset($1::json) AS d(nspname name, relname name, built bool)),"
															 " m AS (SELECT nspname, relname, count(DISTINCT part) FILTER (WHERE part >= 0) = max(nparts) AS copied,"
															 "              bool_or(part < 0) AS built FROM %s.mark GROUP BY nspname, relname)"
															 " SELECT pg_catalog.format('%%s tables, such as %%I.%%I', count(*), min(d.nspname), min(d.relname))"
															 "   FROM d LEFT JOIN m USING (nspname, relname)"
															 "  WHERE m.copied IS NOT TRUE OR d.built AND m.built IS NOT TRUE HAVING count(*) > 0", zodan_names_marks_schema(job)), 1, done);
	unknown = lacking ? NULL : zodan_query_value(&job->new_conn, psprintf(
																		  "SELECT pg_catalog.format('%%I.%%I', m.nspname, m.relname) FROM %s.mark m"
																		  "  JOIN pg_catalog.json_to_recordset($1::json) AS p(nspname name, relname name) USING (nspname, relname)"
																		  " WHERE m.part >= 0 LIMIT 1", zodan_names_marks_schema(job)), 1, zodan_plan_pending(job->req));
	if (unknown)
		ereport(ERROR,
				(errcode(ERRCODE_ZODAN_PAST),
				 errmsg("node \"%s\" has rows of table %s, which the coordinator's tables don't know of: they were restored, or are a standby's that was behind",
						job->req->new_node_name, unknown),
				 errhint(ZODAN_STARTS_AGAIN)));
	if (lacking)
		ereport(ERROR,
				(errcode(ERRCODE_ZODAN_PAST),
				 errmsg("node \"%s\" has lost what was copied there: %s", job->req->new_node_name, lacking),
				 errhint(ZODAN_STARTS_AGAIN)));
}
