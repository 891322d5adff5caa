/*
 * copy.c
 *		The rows: what to copy, and the lanes that do it.
 *
 * A lane is a pair of sessions: on the source in the exported snapshot, on
 * the new node with a replication origin of the lane's own. Each table is one
 * transaction on the new node, stamped as long ago as can be: its rows must
 * lose against every change that is made elsewhere while they are copied, and
 * a row without an origin and a time of its own would carry the copy's.
 *
 * One loop moves all lanes. What is intended, copying or copied is stored in
 * zodan.copy_tables; a table that a crash has left as "copying" is emptied
 * before it's copied again.
 */
#include "copy.h"

#include "pipe.h"
#include "settings.h"
#include "utils/builtins.h"

#define PROGRESS_MS		1000

typedef struct Lane
{
	ZodanConn	from;
	ZodanConn	to;
	ZodanPipe	pipe;
	ZodanCopyTable *table;		/* NULL: none left */
} Lane;

typedef struct Progress
{
	int64		done_bytes;		/* through COPY, tables that are finished */
	int64		done_size;		/* the size of those on the source */
	int64		total_size;
	int			done_tables;
	int			total_tables;
	int64		rows;
	TimestampTz started;
	ZodanDeadline next;
} Progress;

/*
 * Which tables have rows to copy, with which columns, and in which form.
 *
 * Binary COPY is faster, but sends the ids of types and objects, which aren't
 * the same elsewhere: composite types, arrays of anything that isn't built in,
 * and what refers to objects go as text.
 */
static const char *const plan_query =
"WITH RECURSIVE columns AS ("
"  SELECT t.set_reloid AS relid, i.has_row_filter, a.attnum, a.attname, a.atttypid"
"    FROM (SELECT DISTINCT t.set_reloid::oid AS set_reloid"
"            FROM {e}.replication_set_table t JOIN {e}.replication_set r USING (set_id)"
"            JOIN {e}.local_node l ON l.node_id = r.set_nodeid"
"           WHERE r.set_name = ANY ($1::text[])) AS t"
"    CROSS JOIN LATERAL %s AS i"
"    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.set_reloid AND a.attnum > 0"
"     AND NOT a.attisdropped AND a.attgenerated = '' AND a.attname = ANY (i.att_list)),"
" types AS ("
"  SELECT DISTINCT atttypid AS root, atttypid AS typid, false AS in_array FROM columns WHERE atttypid IS NOT NULL"
"  UNION"
"  SELECT x.root, n.typid, x.in_array OR n.in_array"
"    FROM types x JOIN pg_catalog.pg_type t ON t.oid = x.typid"
"    CROSS JOIN LATERAL ("
"      SELECT t.typbasetype, false WHERE t.typtype = 'd'"
"      UNION ALL SELECT t.typelem, true WHERE t.typelem <> 0 AND t.typsend = 'pg_catalog.array_send'::regproc"
"      UNION ALL SELECT r.rngsubtype, false FROM pg_catalog.pg_range r"
"                 WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) AS n(typid, in_array)),"
" forms AS ("
"  SELECT x.root, bool_and(t.typsend <> 0 AND t.typreceive <> 0 AND t.typtype <> 'c'"
"                          AND t.typcategory <> 'P'"
"                          AND t.oid <> ALL ('{regproc,regprocedure,regoper,regoperator,regclass,regtype,"
"regrole,regnamespace,regconfig,regdictionary,regcollation}'::regtype[])"
"                          AND (NOT x.in_array OR t.oid < 16384)) AS fits"
"    FROM types x JOIN pg_catalog.pg_type t ON t.oid = x.typid GROUP BY x.root)"
" SELECT coalesce(pg_catalog.json_agg(j), '[]') FROM ("
"  SELECT n.nspname, k.relname, bool_or(c.has_row_filter) AS filtered,"
"         pg_catalog.string_agg(pg_catalog.quote_ident(c.attname), ', ' ORDER BY c.attnum) AS columns,"
"         coalesce(bool_and(f.fits), true) AS binary_copy, pg_catalog.pg_table_size(k.oid) AS bytes_total"
"    FROM columns c JOIN pg_catalog.pg_class k ON k.oid = c.relid"
"    JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace"
"    LEFT JOIN forms f ON f.root = c.atttypid"
"   WHERE k.relkind = 'r' AND n.nspname <> ALL ($2::text[] || $3::text[])"
"   GROUP BY n.nspname, k.relname, k.oid) AS j";

/*
 * Stores which tables are to be copied.
 */
void
zodan_copy_plan(ZodanJob *job, const char *skipped_schemas)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	char	   *query = zodan_engine_sql(job->engine, psprintf(plan_query, job->engine->table_info));

	zodan_plan_copy(zodan_value(&source->conn, query, 3, source->sets,
								skipped_schemas, job->engine->foreign_schemas));
}

/*
 * The name of a lane's origin on the new node.
 */
char *
zodan_copy_origin(ZodanJob *job, int lane)
{
	return psprintf("zodan_copy_" INT64_FORMAT "_%d", job->req->id, lane);
}

int
zodan_copy_lanes(ZodanJob *job)
{
	return job->req->copy_jobs > 0 ? job->req->copy_jobs : zodan_copy_jobs;
}

static void
open_lanes(ZodanJob *job, Lane *lanes, int nlanes)
{
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * nlanes * 2);

	for (int i = 0; i < nlanes; i++)
	{
		lanes[i].from = ZODAN_SOURCE(job)->conn;
		lanes[i].to = job->new_conn;
		lanes[i].from.bulk = lanes[i].to.bulk = true;
		lanes[i].pipe.from = conns[i * 2] = &lanes[i].from;
		lanes[i].pipe.to = conns[i * 2 + 1] = &lanes[i].to;
	}
	zodan_connect_all(conns, nlanes * 2);
	for (int i = 0; i < nlanes * 2; i++)
		if (!conns[i]->pg)
			ereport(ERROR,
					(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
					 errmsg("could not connect to node \"%s\": %s", conns[i]->node, conns[i]->error)));
	for (int i = 0; i < nlanes; i++)
	{
		PQclear(zodan_query(&lanes[i].from, psprintf("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
													 "SET TRANSACTION SNAPSHOT %s", zodan_literal(job->snapshot.name)), 0));
		PQclear(zodan_query(&lanes[i].to, "SET session_replication_role = replica", 0));
		PQclear(zodan_query(&lanes[i].to, "SELECT pg_catalog.pg_replication_origin_session_setup($1)", 1,
							zodan_copy_origin(job, i)));
	}
	pfree(conns);
}

/*
 * Starts a table on a lane.
 */
static void
start_table(ZodanJob *job, Lane *lane, ZodanCopyTable *table)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	char	   *name = psprintf("%s.%s", zodan_quote(table->nspname), zodan_quote(table->relname));
	char	   *columns = table->columns ? psprintf(" (%s)", table->columns) : "";
	char	   *what = psprintf("%s%s", name, columns);
	/* both ends speak the source's encoding, whatever ours is */
	char	   *options = psprintf("(FORMAT %s, ENCODING %s)", table->binary ? "binary" : "text",
								   zodan_literal(PQparameterStatus(lane->from.pg, "server_encoding")));

	if (table->filtered)
		what = psprintf("(SELECT %s FROM %s.table_data_filtered(NULL::%s, %s::regclass, %s::text[]))",
						table->columns ? table->columns : "", job->engine->name, name,
						zodan_literal(name), zodan_literal(source->sets));
	zodan_copy_begin(table->nspname, table->relname, job->snapshot_no);
	zodan_pipe_start(&lane->pipe,
					 psprintf("COPY %s TO STDOUT %s", what, options),
					 psprintf("BEGIN;"
							  "SELECT pg_catalog.pg_replication_origin_xact_setup('0/0', 'epoch');"
							  "%s"
							  "COPY %s%s FROM STDIN %s",
							  strcmp(table->state, "copying") == 0 ? psprintf("TRUNCATE ONLY %s;", name) : "",
							  name, columns, options));
	lane->table = table;
}

static void
show_progress(ZodanJob *job, Progress *p, Lane *lanes, int nlanes)
{
	int64		bytes = p->done_bytes;
	int64		size = p->done_size;
	double		fraction;
	double		elapsed;
	StringInfoData current;

	if (!zodan_deadline_passed(p->next))
		return;
	p->next = zodan_deadline(PROGRESS_MS);

	initStringInfo(&current);
	for (int i = 0; i < nlanes; i++)
		if (lanes[i].table)
		{
			bytes += lanes[i].pipe.bytes;
			/* a table is not larger in COPY's form, as a rule */
			size += Min(lanes[i].pipe.bytes, lanes[i].table->bytes_total);
			appendStringInfo(&current, "%s%s.%s", current.len ? ", " : "",
							 lanes[i].table->nspname, lanes[i].table->relname);
		}
	fraction = p->total_size > 0 ? (double) size / p->total_size : 0;
	elapsed = (GetCurrentTimestamp() - p->started) / 1000000.0;
	zodan_progress_bytes(bytes, p->total_size,
						 fraction > 0.01 ? elapsed * (1 - fraction) / fraction : -1);
	zodan_job_detail(job, fraction,
					 psprintf("%d of %d tables, %.1f MB, now: %s", p->done_tables, p->total_tables,
							  bytes / 1048576.0, current.data));
	pfree(current.data);
}

/*
 * Copies all tables that aren't yet, under the snapshot that is open.
 */
void
zodan_copy_run(ZodanJob *job)
{
	List	   *todo = zodan_copy_list("{pending,copying}");
	List	   *all = zodan_copy_list("{pending,copying,copied}");
	int			nlanes = Min(zodan_copy_lanes(job), list_length(todo));
	Lane	   *lanes = palloc0(sizeof(Lane) * Max(nlanes, 1));
	ZodanSocket *sockets = palloc(sizeof(ZodanSocket) * Max(nlanes, 1) * 2);
	Progress	p = {.started = GetCurrentTimestamp(),.next = zodan_deadline(PROGRESS_MS)};
	int			next = 0;
	int			running = 0;
	ListCell   *cell;

	foreach(cell, all)
		p.total_size += ((ZodanCopyTable *) lfirst(cell))->bytes_total;
	p.total_tables = list_length(all);
	p.done_tables = list_length(all) - list_length(todo);
	p.done_size = p.total_size;
	foreach(cell, todo)
		p.done_size -= ((ZodanCopyTable *) lfirst(cell))->bytes_total;

	open_lanes(job, lanes, nlanes);
	for (int i = 0; i < nlanes; i++, running++)
		start_table(job, &lanes[i], list_nth(todo, next++));
	while (running > 0)
	{
		int			n = 0;

		for (int i = 0; i < nlanes; i++)
		{
			Lane	   *lane = &lanes[i];

			if (!lane->table)
				continue;
			if (zodan_pipe_step(&lane->pipe))
			{
				zodan_copy_done(lane->table->nspname, lane->table->relname,
								lane->pipe.bytes, lane->pipe.rows_written);
				p.done_bytes += lane->pipe.bytes;
				p.done_size += lane->table->bytes_total;
				p.rows += lane->pipe.rows_written;
				p.done_tables++;
				lane->table = NULL;
				if (next < list_length(todo))
					start_table(job, lane, list_nth(todo, next++));
				else
					running--;
			}
			n += zodan_pipe_sockets(&lane->pipe, &sockets[n]);
		}
		show_progress(job, &p, lanes, nlanes);
		if (n > 0)
			zodan_wait_sockets(sockets, n, p.next);
	}

	zodan_progress_bytes(p.done_bytes, p.total_size, -1);
	zodan_event("info", NULL, psprintf(INT64_FORMAT " rows in %d tables copied, " INT64_FORMAT " bytes, rows written as many as read",
									   p.rows, list_length(todo), p.done_bytes));
	for (int i = 0; i < nlanes; i++)
	{
		/* so that the origin can be dropped without waiting for the session's end */
		PQclear(zodan_query(&lanes[i].to, "SELECT pg_catalog.pg_replication_origin_session_reset()", 0));
		zodan_disconnect(&lanes[i].from);
		zodan_disconnect(&lanes[i].to);
	}
}
