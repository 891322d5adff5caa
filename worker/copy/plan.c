/*
 * plan.c
 *		What to copy: the tables zodan.copy_tables and zodan.copy_indexes. Made
 *		once, from the source's catalog as the snapshot of the structure shows
 *		it, and kept up to date while it is done, so that another process can go
 *		on with it.
 *
 *		table	pending -> copying -> copied, and then built: its indexes, keys
 *				and statistics are there, too
 *		index	built or not
 *
 * A table that a crash has left as "copying" may hold some of its rows, or all,
 * with indexes and keys: it is emptied and copied again. An index or a key is
 * there or not, whatever is stored of it.
 *
 * Only plain indexes of replicated tables, and the keys that rest on them, are
 * in the plan; pg_restore makes all that is more special. See schema.c.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/plan.h"

#include "base/lsn.h"
#include "remote/query.h"
#include "utils/builtins.h"
#include "utils/json.h"

static const char *const plan_query =
#include "sql/plan.h"
		   ;

static const char *const store_statement =
#include "sql/plan_store.h"
		   ;

/*
 * What finishing a table takes: as long as looking at some pages, and at those
 * that its statistics are made of: as many as ANALYZE takes rows, by default.
 */
#define FINISH_WORK "(100 + least(pages, 30000))"

static const char *const totals_query =
#include "sql/plan_totals.h"
		   ;

/*
 * Begins to ask the source what is to be copied, as the snapshot shows it. It
 * has a session of its own, so that other things can be done meanwhile;
 * zodan_plan_store() takes the answer.
 */
ZodanCall *
zodan_plan_ask(ZodanJob *job, const char *snapshot, const char *skipped_schemas)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanConn  *conn = palloc(sizeof(ZodanConn));
	ZodanCall  *call = palloc(sizeof(ZodanCall));

	*conn = zodan_connection_another(&source->conn);
	zodan_remote_connect(conn);
	PQclear(zodan_query(conn, psprintf("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT %s",
									   quote_literal_cstr(snapshot)), 0));
	*call = (ZodanCall)
	{
		.conn = conn,.sql = zodan_engine_sql(job->engine, psprintf(plan_query, job->engine->table_info)),
			.nparams = 4,.params = {source->sets, skipped_schemas, job->engine->uncopied_schemas,
									job->engine->truncates_heirs ? "true" : "false"}
	};
	zodan_remote_start(call);
	return call;
}

/*
 * Waits for the answer, and stores what is to be copied. Whatever was stored
 * before has come of another snapshot, under which nothing was copied.
 */
void
zodan_plan_store(const ZodanRequest *req, ZodanCall *call)
{
	zodan_query_all(call, 1);
	zodan_spi_execute("DELETE FROM zodan.copy_tables WHERE request_id = $1::bigint", 1, req->id_text);
	zodan_spi_execute(store_statement, 2, req->id_text, PQgetvalue(call->result, 0, 0));
	/* or the planner takes them for few, and goes through all for each that is copied */
	zodan_spi_execute("ANALYZE zodan.copy_tables, zodan.copy_indexes", 0);
	PQclear(call->result);
	zodan_connection_close(call->conn);
}

/*
 * Reads the indexes into their tables, which are sorted as the plan's tables
 * are.
 */
static void
load_indexes(const ZodanRequest *req, List *tables)
{
	ZodanRows  *rows = zodan_spi_execute("SELECT t.nspname, t.relname, quote_ident(x.index_name), x.key, x.mark, x.definition, x.work, x.built_at IS NOT NULL, x.collated, x.access_method = 'btree'"
										 "  FROM zodan.copy_indexes x JOIN zodan.copy_tables t USING (request_id, nspname, relname)"
										 " WHERE x.request_id = $1::bigint AND t.built_at IS NULL"
										 " ORDER BY t.bytes_total DESC, t.nspname, t.relname, x.work DESC", 1, req->id_text);
	int			next = 0;
	ListCell   *cell;

	foreach(cell, tables)
	{
		ZodanTable *table = lfirst(cell);

		for (; next < rows->nrows && strcmp(rows->value[next][0], table->nspname) == 0 &&
			 strcmp(rows->value[next][1], table->relname) == 0; next++)
		{
			ZodanIndex *index = palloc(sizeof(ZodanIndex));

			index->table = table;
			index->name = rows->value[next][2];
			index->key = rows->value[next][3];
			index->mark = rows->value[next][4];
			index->definition = rows->value[next][5];
			index->work = zodan_spi_int64(rows->value[next][6]);
			index->built = zodan_spi_is_true(rows->value[next][7]);
			index->collated = zodan_spi_is_true(rows->value[next][8]);
			index->btree = zodan_spi_is_true(rows->value[next][9]);
			table->indexes = lappend(table->indexes, index);
		}
	}
	Assert(next == rows->nrows);
}

/*
 * Returns the tables (ZodanTable) that aren't all done, the largest first, each
 * with its indexes (ZodanIndex). Those that an earlier process has copied are
 * among them as begun if it didn't come to others that need the same snapshot.
 */
List *
zodan_plan_tables(const ZodanRequest *req)
{
	ZodanRows  *rows;
	List	   *tables = NIL;

	zodan_spi_execute("UPDATE zodan.copy_tables SET state = 'copying', bytes_copied = 0, rows_copied = NULL, finished_at = NULL, built_at = NULL"
					  " WHERE request_id = $1::bigint AND state = 'copied' AND family IN"
					  "       (SELECT family FROM zodan.copy_tables WHERE request_id = $1::bigint AND state <> 'copied')", 1, req->id_text);
	rows = zodan_spi_execute("SELECT nspname, relname, format('%I.%I', nspname, relname), state, columns,"
							 "       row_filter, binary_copy, bytes_total, pages, coalesce(family, 0), seeded AND state = 'pending', " FINISH_WORK
							 "  FROM zodan.copy_tables"
							 " WHERE request_id = $1::bigint AND built_at IS NULL"
							 " ORDER BY bytes_total DESC, nspname, relname", 1, req->id_text);
	for (int i = 0; i < rows->nrows; i++)
	{
		ZodanTable *table = palloc0(sizeof(ZodanTable));

		table->nspname = rows->value[i][0];
		table->relname = rows->value[i][1];
		table->name = rows->value[i][2];
		table->copied = strcmp(rows->value[i][3], "copied") == 0;
		table->begun = strcmp(rows->value[i][3], "copying") == 0;
		table->columns = rows->value[i][4];
		table->row_filter = rows->value[i][5];
		table->binary = zodan_spi_is_true(rows->value[i][6]);
		table->bytes = zodan_spi_int64(rows->value[i][7]);
		table->pages = zodan_spi_int64(rows->value[i][8]);
		table->family = (Oid) zodan_spi_int64(rows->value[i][9]);
		table->seeded = zodan_spi_is_true(rows->value[i][10]);
		table->finish_work = zodan_spi_int64(rows->value[i][11]);
		tables = lappend(tables, table);
	}
	load_indexes(req, tables);
	return tables;
}

/*
 * How much there is to do, and how much of that is done.
 */
void
zodan_plan_totals(const ZodanRequest *req, ZodanTotals *totals)
{
	char	  **t = zodan_spi_one(totals_query, 1, req->id_text)->value[0];
	char	  **x = zodan_spi_one("SELECT coalesce(sum(work) FILTER (WHERE NOT collated), 0),"
								  "       coalesce(sum(work) FILTER (WHERE collated), 0),"
								  "       coalesce(sum(work) FILTER (WHERE NOT collated AND built_at IS NOT NULL), 0),"
								  "       coalesce(sum(work) FILTER (WHERE collated AND built_at IS NOT NULL), 0)"
								  "  FROM zodan.copy_indexes WHERE request_id = $1::bigint", 1, req->id_text)->value[0];

	totals->tables = (int) zodan_spi_int64(t[0]);
	totals->tables_copied = (int) zodan_spi_int64(t[1]);
	totals->size = zodan_spi_int64(t[2]);
	totals->size_copied = zodan_spi_int64(t[3]);
	totals->bytes = zodan_spi_int64(t[4]);
	totals->rows = zodan_spi_int64(t[5]);
	totals->finish_work = zodan_spi_int64(t[6]);
	totals->finished = zodan_spi_int64(t[7]);
	for (int collated = 0; collated < 2; collated++)
	{
		totals->index_work[collated] = zodan_spi_int64(x[collated]);
		totals->index_built[collated] = zodan_spi_int64(x[2 + collated]);
	}
}

/* ---------- what becomes of them ---------- */

/*
 * What is about to be done is stored durably, so that it's known what may be
 * there. What has been done isn't: that would wait for all that the lanes write,
 * if they write on the same server, and they for us. A crash may take it back,
 * from some point on; then it is done again. zodan_progress_end() makes it
 * durable.
 */
typedef ZodanRows *(*Store) (const char *statement, int nargs,...);

/*
 * An error if a statement wasn't about as many as there are.
 */
static void
expect_all(int n, const List *all, const char *what)
{
	if (n != list_length(all))
		elog(ERROR, "%d of %d %s are not in the state that was expected", list_length(all) - n, list_length(all), what);
}

/*
 * Runs a statement about the request's tables, or an error if it isn't about
 * as many as there are. The statement has them as "t", ends within its WHERE,
 * and may have a third parameter; counts may be NULL.
 */
static void
update_tables(const ZodanRequest *req, Store store, const char *statement, List *tables, const ZodanPipeCount *counts, const char *argument)
{
	StringInfoData json;
	ListCell   *cell;
	int			n;

	initStringInfo(&json);
	foreach(cell, tables)
	{
		ZodanTable *table = lfirst(cell);
		const ZodanPipeCount *count = counts ? &counts[foreach_current_index(cell)] : NULL;

		appendStringInfoString(&json, json.len ? ",{\"nspname\":" : "[{\"nspname\":");
		escape_json(&json, table->nspname);
		appendStringInfoString(&json, ",\"relname\":");
		escape_json(&json, table->relname);
		appendStringInfo(&json, ",\"bytes\":" INT64_FORMAT ",\"rows\":" INT64_FORMAT "}",
						 count ? count->bytes : 0, count ? count->rows : 0);
	}
	appendStringInfoChar(&json, ']');
	n = (int) zodan_spi_int64(store(psprintf("WITH changed AS (%s x.request_id = $1::bigint AND x.nspname = t.nspname"
											 " AND x.relname = t.relname RETURNING 1) SELECT count(*) FROM changed", statement),
									argument ? 3 : 2, req->id_text, json.data, argument)->value[0][0]);
	expect_all(n, tables, "tables");
	pfree(json.data);
}

#define TABLES "jsonb_to_recordset($2::jsonb) AS t(nspname name, relname name, bytes bigint, rows bigint)"

/*
 * Nothing is there of the tables any more.
 */
void
zodan_plan_emptied(const ZodanRequest *req, List *tables)
{
	update_tables(req, zodan_spi_one, "UPDATE zodan.copy_tables x SET state = 'pending', snapshot = NULL, started_at = NULL"
				  "  FROM " TABLES " WHERE x.state IN ('copying', 'pending') AND", tables, NULL, NULL);
}

/*
 * Rows of the tables, of which none is there, are about to be copied under the
 * snapshot of that number.
 */
void
zodan_plan_begin(const ZodanRequest *req, List *tables, int snapshot)
{
	update_tables(req, zodan_spi_one, "UPDATE zodan.copy_tables x"
				  "   SET state = 'copying', snapshot = $3::int, started_at = clock_timestamp()"
				  "  FROM " TABLES " WHERE x.state = 'pending' AND", tables, NULL, psprintf("%d", snapshot));
}

/*
 * All rows are there; counts, one for each table, tell how many.
 */
void
zodan_plan_copied(const ZodanRequest *req, List *tables, const ZodanPipeCount *counts)
{
	update_tables(req, zodan_spi_one_async, "UPDATE zodan.copy_tables x SET state = 'copied', bytes_copied = t.bytes, rows_copied = t.rows,"
				  "       finished_at = clock_timestamp()"
				  "  FROM " TABLES " WHERE x.state = 'copying' AND", tables, counts, NULL);
}

/*
 * All indexes of the tables are built, their keys and statistics made.
 */
void
zodan_plan_built(const ZodanRequest *req, List *tables)
{
	update_tables(req, zodan_spi_one_async, "UPDATE zodan.copy_tables x SET built_at = clock_timestamp()"
				  "  FROM " TABLES " WHERE x.state = 'copied' AND x.built_at IS NULL AND", tables, NULL, NULL);
}

/*
 * Indexes (ZodanIndex) are built.
 */
void
zodan_plan_indexes_built(const ZodanRequest *req, List *indexes)
{
	StringInfoData names;
	ListCell   *cell;
	int			n;

	initStringInfo(&names);
	foreach(cell, indexes)
	{
		ZodanIndex *index = lfirst(cell);

		appendStringInfoString(&names, names.len ? ",[" : "[[");
		escape_json(&names, index->table->nspname);
		appendStringInfoChar(&names, ',');
		escape_json(&names, index->table->relname);
		appendStringInfoChar(&names, ',');
		escape_json(&names, index->name);
		appendStringInfoChar(&names, ']');
	}
	appendStringInfoChar(&names, ']');
	n = (int) zodan_spi_int64(zodan_spi_one_async("WITH changed AS (UPDATE zodan.copy_indexes x SET built_at = clock_timestamp()"
												  "  FROM jsonb_array_elements($2::jsonb) AS n"
												  " WHERE x.request_id = $1::bigint AND x.nspname = (n ->> 0)::name AND x.relname = (n ->> 1)::name"
												  "   AND quote_ident(x.index_name) = n ->> 2 RETURNING 1) SELECT count(*) FROM changed", 2,
												  req->id_text, names.data)->value[0][0]);
	expect_all(n, indexes, "indexes");
	pfree(names.data);
}

/*
 * Adds the key that rests on an index to those that zodan_plan_make_keys() makes.
 */
void
zodan_plan_add_key(StringInfo keys, const char *table, const char *name, const char *key)
{
	appendStringInfo(keys, "%s(%s, %s, %s)", keys->len ? ", " : "", quote_literal_cstr(table),
					 quote_literal_cstr(name), quote_literal_cstr(key));
}

/*
 * The statement that makes those keys which aren't there: an earlier process may
 * have come that far with any of them.
 */
char *
zodan_plan_make_keys(const StringInfoData *keys)
{
	if (keys->len == 0)
		return "";
	return psprintf("DO %s;", quote_literal_cstr(psprintf(
														  "DECLARE k record; BEGIN"
														  " FOR k IN SELECT * FROM (VALUES %s) AS v(tab, name, kind) WHERE NOT EXISTS"
														  "   (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = v.tab::pg_catalog.regclass"
														  "       AND conname = (pg_catalog.parse_ident(v.name))[1])"
														  " LOOP EXECUTE pg_catalog.format('ALTER TABLE ONLY %%s ADD CONSTRAINT %%s %%s USING INDEX %%s', k.tab, k.name, k.kind, k.name);"
														  " END LOOP; END", keys->data)));
}

/*
 * The statements that make all indexes and keys of the plan which are not
 * there, and set what else the indexes are used for.
 */
char *
zodan_plan_remake(const ZodanRequest *req)
{
	ZodanRows  *rows = zodan_spi_execute("SELECT format('%I.%I', nspname, relname), quote_ident(index_name), key, definition, mark"
										 "  FROM zodan.copy_indexes WHERE request_id = $1::bigint ORDER BY 1, 2", 1, req->id_text);
	StringInfoData sql;
	StringInfoData keys;
	StringInfoData marks;

	initStringInfo(&sql);
	initStringInfo(&keys);
	initStringInfo(&marks);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **v = rows->value[i];

		appendStringInfo(&sql, "%s;", v[3]);
		if (v[2])
			zodan_plan_add_key(&keys, v[0], v[1], v[2]);
		if (v[4])
			appendStringInfo(&marks, "ALTER TABLE %s %s;", v[0], v[4]);
	}
	appendStringInfo(&sql, "%s%s", zodan_plan_make_keys(&keys), marks.data);
	return sql.data;
}

/*
 * The objects of the source that the plan has brought to the new node: a list
 * of "CLASS OID " as in the table of contents of a dump, where CLASS is the
 * catalog.
 */
char *
zodan_plan_made(const ZodanRequest *req)
{
	return zodan_spi_one("SELECT coalesce(string_agg(format(' %s %s ', CASE WHEN constraint_oid IS NULL THEN 1259 ELSE 2606 END,"
						 "                                    coalesce(constraint_oid, index_oid)), ''), '')"
						 "  FROM zodan.copy_indexes x JOIN zodan.copy_tables t USING (request_id, nspname, relname)"
						 " WHERE x.request_id = $1::bigint AND t.built_at IS NOT NULL", 1, req->id_text)->value[0][0];
}

/*
 * The tables that were copied, and whether all is built on them, as JSON.
 */
char *
zodan_plan_done(const ZodanRequest *req)
{
	return zodan_spi_one("SELECT coalesce(json_agg(json_build_object('nspname', nspname, 'relname', relname, 'built', built_at IS NOT NULL)), '[]')"
						 "  FROM zodan.copy_tables WHERE request_id = $1::bigint AND state = 'copied'", 1, req->id_text)->value[0][0];
}

/*
 * The tables of which no rows have been copied yet, as JSON.
 */
char *
zodan_plan_pending(const ZodanRequest *req)
{
	return zodan_spi_one("SELECT coalesce(json_agg(json_build_object('nspname', nspname, 'relname', relname)), '[]')"
						 "  FROM zodan.copy_tables WHERE request_id = $1::bigint AND state = 'pending'", 1, req->id_text)->value[0][0];
}

/*
 * Was any table copied under a later snapshot than the first?
 */
bool
zodan_plan_has_later(const ZodanRequest *req)
{
	return zodan_spi_one("SELECT count(*) > 0 FROM zodan.copy_tables WHERE request_id = $1::bigint AND snapshot > 0", 1,
						 req->id_text)->value[0][0][0] == 't';
}

/*
 * The tables that were copied, and up to which position on the source each of
 * them has its changes: that of its snapshot, or what has been applied since.
 * It's JSON for zodan_engine_sub_skip_until().
 */
char *
zodan_plan_positions(const ZodanRequest *req, const char *source, XLogRecPtr applied)
{
	return zodan_spi_one("SELECT coalesce(json_agg(json_build_object('nspname', t.nspname, 'relname', t.relname,"
						 "                                           'lsn', greatest(b.consistent_lsn, $3::pg_lsn))), '[]')"
						 "  FROM zodan.copy_tables t JOIN zodan.positions b ON b.request_id = t.request_id AND b.moment = 'snapshot' AND b.snapshot = t.snapshot"
						 " WHERE t.request_id = $1::bigint AND b.node = $2", 3,
						 req->id_text, source, zodan_lsn_format(applied))->value[0][0];
}
