/*
 * lanes.c
 *		The lanes that bring rows, and the indexes on them.
 *
 * A lane is a pair of sessions: on the source, and on the new node with a
 * replication origin of the lane's own. Each unit of work is one transaction
 * on the new node, stamped as long ago as can be: its rows must lose against
 * every change that is made elsewhere while they are copied, and a row without
 * an origin and a time of its own would carry the copy's. A unit of rows reads
 * them in a transaction that takes the snapshot at its begin, so no lane holds
 * one between its units.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/lanes.h"

#include "base/array.h"
#include "base/failpoint.h"
#include "base/settings.h"
#include "cluster/names.h"
#include "copy/marks.h"
#include "copy/statements.h"
#include "remote/query.h"
#include "utils/builtins.h"

/*
 * How many tables, parts of tables or indexes the request may work at at a time.
 */
int
zodan_lanes_count(ZodanJob *job)
{
	return job->req->copy_jobs > 0 ? job->req->copy_jobs : zodan_copy_jobs;
}

/*
 * The name of a lane's origin on the new node.
 */
char *
zodan_lanes_origin(ZodanJob *job, int lane)
{
	return psprintf("%s%d", zodan_names_lane_origins(job), lane);
}

/*
 * Sets up a lane's session on the new node. The memory for sorting: where the
 * operator doesn't say how much, half of shared_buffers for all lanes, which
 * is an eighth of the machine where that is set as recommended.
 */
static void
set_up_receiver(ZodanJob *job, ZodanLane *lane, int i)
{
	PQclear(zodan_query(&lane->to, "SET session_replication_role = replica; SET default_tablespace = ''", 0));
	PQclear(zodan_query(&lane->to,
						"SELECT pg_catalog.set_config('maintenance_work_mem', CASE WHEN $1::int > 0 THEN $1::text ELSE"
						" (SELECT greatest(m.setting::bigint, least(1024 * 1024, b.setting::bigint * 8 / 2 / $2::int))::text"
						"    FROM pg_catalog.pg_settings m, pg_catalog.pg_settings b"
						"   WHERE m.name = 'maintenance_work_mem' AND b.name = 'shared_buffers') END, false)", 2,
						psprintf("%d", zodan_maintenance_work_mem > 0 ? Max(zodan_maintenance_work_mem, 1024) : 0),
						psprintf("%d", zodan_lanes_count(job))));
	/* on a node that replicates DDL by itself, this must stay here */
	zodan_engine_keep_ddl(job->engine, &lane->to);
	PQclear(zodan_query(&lane->to, "SELECT pg_catalog.pg_replication_origin_session_setup($1)", 1, zodan_lanes_origin(job, i)));
}

void
zodan_lanes_open(ZodanJob *job, ZodanLane *lanes, int nlanes, const List *tables)
{
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * nlanes * 2);
	int64		bytes = 0;
	ListCell   *cell;

	foreach(cell, tables)
		bytes += ((ZodanTable *) lfirst(cell))->copied ? 0 : ((ZodanTable *) lfirst(cell))->bytes;

	for (int i = 0; i < nlanes; i++)
	{
		lanes[i].from = zodan_connection_another(&ZODAN_SOURCE(job)->conn);
		lanes[i].to = zodan_connection_another(&job->new_conn);
		lanes[i].from.bulk = lanes[i].to.bulk = true;
		lanes[i].pipe.from = conns[i * 2] = &lanes[i].from;
		lanes[i].pipe.to = conns[i * 2 + 1] = &lanes[i].to;
	}
	zodan_remote_connect_all(conns, nlanes * 2);
	for (int i = 0; i < nlanes * 2; i++)
		if (!conns[i]->pg)
			ereport(ERROR,
					(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
					 errmsg("could not connect to node \"%s\": %s", conns[i]->node, conns[i]->error)));
	for (int i = 0; i < nlanes; i++)
	{
		zodan_pipe_widen(&lanes[i].from, nlanes, bytes);
		set_up_receiver(job, &lanes[i], i);
	}
	pfree(conns);
}

void
zodan_lanes_close(ZodanLane *lanes, int nlanes)
{
	for (int i = 0; i < nlanes; i++)
	{
		/* so that the origin can be dropped without waiting for the session's end */
		PQclear(zodan_query(&lanes[i].to, "SELECT pg_catalog.pg_replication_origin_session_reset()", 0));
		zodan_connection_close(&lanes[i].from);
		zodan_connection_close(&lanes[i].to);
	}
}

/*
 * Empties the tables of which an earlier process may have left some rows, or all
 * of them under a snapshot that they can't share any more; and those that their
 * extension has made, maybe with rows. A lane does that: what has its origin never
 * leaves the new node, whatever follows that.
 */
void
zodan_lanes_empty_begun(ZodanJob *job, ZodanLane *lane, List *tables)
{
	List	   *emptied = NIL;
	int			nbegun = 0;
	StringInfoData sql;
	ListCell   *cell;

	initStringInfo(&sql);
	foreach(cell, tables)
	{
		ZodanTable *table = lfirst(cell);

		if (!table->begun && !table->seeded)
			continue;
		appendStringInfo(&sql, "%s ONLY %s", emptied == NIL ? "TRUNCATE" : ",", table->name);
		emptied = lappend(emptied, table);
		nbegun += table->begun;
	}
	if (emptied == NIL)
		return;
	PQclear(zodan_query(&lane->to, psprintf("BEGIN; SELECT pg_catalog.pg_replication_origin_xact_setup('0/0', 'epoch'); %s %s; COMMIT",
											zodan_marks_forget(job, emptied), sql.data), 0));
	zodan_plan_emptied(job->req, emptied);
	if (nbegun > 0)
		zodan_journal_event(job->req, "warning", job->req->new_node_name,
							psprintf("tables that an earlier attempt did not get through with, and that are emptied and copied again: %d", nbegun));
}

/*
 * Begins a unit of rows: takes the snapshot, and locks its tables, so that none is
 * truncated or rewritten until they are read. The answer names those that were since
 * the snapshot was taken, which shows nothing of them, or pages that are others: no
 * rewrite but that of VACUUM FULL and CLUSTER keeps what a snapshot sees. What the
 * catalogs are under the snapshot is compared with what they are now.
 */
static void
start_rows(ZodanJob *job, ZodanLane *lane)
{
	ZodanGroup *group = lane->unit->group;
	StringInfoData lock;
	char	   *array;
	List	   *names = NIL;
	ListCell   *cell;

	if (zodan_connection_is_lost(&group->snapshot->export.conn))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("node \"%s\": the session that holds the snapshot has been ended", lane->from.node)));
	ZODAN_FAILPOINT(job->req, "reading", "snapshot");
	if (lane->unit->part == 0)
		zodan_plan_begin(job->req, group->tables, group->snapshot->number);
	initStringInfo(&lock);
	appendStringInfo(&lock, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT %s; LOCK TABLE",
					 quote_literal_cstr(group->snapshot->export.name));
	foreach(cell, group->tables)
	{
		ZodanTable *table = lfirst(cell);

		appendStringInfo(&lock, "%s ONLY %s", names == NIL ? "" : ",", table->name);
		names = lappend(names, table->name);
	}
	array = zodan_array_literal(names);
	appendStringInfo(&lock, " IN ACCESS SHARE MODE; SELECT pg_catalog.string_agg(t.name, ', ') OVER (), t.n FROM pg_catalog.unnest(%s::text[]) WITH ORDINALITY AS t (name, n)"
					 "  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.name::pg_catalog.regclass"
					 " WHERE nullif(c.relfilenode, 0) IS DISTINCT FROM pg_catalog.pg_relation_filenode(t.name::pg_catalog.regclass)",
					 quote_literal_cstr(array));
	pfree(array);
	list_free(names);
	lane->call = (ZodanCall)
	{
		.conn = &lane->from,.sql = lock.data
	};
	lane->answer = zodan_session_deadline(&job->session);
	lane->locking = true;
	zodan_remote_start(&lane->call);
}

/*
 * The tables of a unit of rows are locked, and show what the snapshot does: reads
 * them.
 */
void
zodan_lanes_read(ZodanJob *job, ZodanLane *lane)
{
	ZodanGroup *group = lane->unit->group;
	StringInfoData out;
	StringInfoData in;
	ListCell   *cell;

	PQclear(lane->call.result);
	pfree(unconstify(char *, lane->call.sql));
	initStringInfo(&out);
	initStringInfo(&in);
	appendStringInfo(&in, "BEGIN; SELECT pg_catalog.pg_replication_origin_xact_setup('0/0', 'epoch');%s",
					 zodan_marks_rows(job, group->tables, lane->unit->part, group->nparts));
	foreach(cell, group->tables)
	{
		ZodanTable *table = lfirst(cell);
		char	   *options = zodan_statements_options(table, PQparameterStatus(lane->from.pg, "server_encoding"));

		appendStringInfo(&out, "COPY %s TO STDOUT %s;", zodan_statements_rows(table, lane->unit), options);
		appendStringInfo(&in, "COPY %s%s FROM STDIN %s;", table->name,
						 table->columns ? psprintf(" (%s)", table->columns) : "", options);
	}
	appendStringInfoString(&out, "COMMIT");
	lane->counts = palloc(sizeof(ZodanPipeCount) * list_length(group->tables));
	zodan_pipe_start(&lane->pipe, out.data, in.data, lane->counts, list_length(group->tables));
	pfree(out.data);
	pfree(in.data);
}

/*
 * Begins a unit that is statements on the new node. Parallel workers of an index
 * would only be in the way of others where the lanes have enough to do.
 */
static void
start_call(ZodanJob *job, ZodanLane *lane, bool lanes_have_work)
{
	StringInfoData sql;
	ListCell   *cell;

	initStringInfo(&sql);
	if (lanes_have_work)
		appendStringInfoString(&sql, "SET LOCAL max_parallel_maintenance_workers = 0;");
	/* workers that share the memory would need more, and so would what isn't sorted */
	if (lanes_have_work && zodan_maintenance_work_mem == 0 && list_length(lane->unit->indexes) == 1 &&
		((ZodanIndex *) linitial(lane->unit->indexes))->btree)
		appendStringInfo(&sql, "SELECT pg_catalog.set_config('maintenance_work_mem', least(setting::int, %d)::text, true)"
						 "  FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem';",
						 zodan_statements_sort_memory(((ZodanIndex *) linitial(lane->unit->indexes))->work));
	foreach(cell, lane->unit->indexes)
		appendStringInfo(&sql, "%s;", ((ZodanIndex *) lfirst(cell))->definition);
	if (lane->unit->kind == UNIT_EMPTY)
		appendStringInfo(&sql, "BEGIN; SELECT pg_catalog.pg_replication_origin_xact_setup('0/0', 'epoch'); %s TRUNCATE ONLY %s; COMMIT",
						 zodan_marks_forget(job, lane->unit->group->tables), ((ZodanTable *) linitial(lane->unit->group->tables))->name);
	lane->call = (ZodanCall)
	{
		.conn = &lane->to,.sql = lane->unit->kind == UNIT_FINISH ? zodan_statements_finish(job, lane->unit->group) : sql.data
	};
	lane->answer = zodan_session_deadline(&job->session);
	zodan_remote_start(&lane->call);
}

/*
 * Begins the unit that a lane has been given.
 */
void
zodan_lanes_start(ZodanJob *job, ZodanLane *lane, bool lanes_have_work)
{
	lane->fraction = 0;
	if (lane->unit->kind == UNIT_ROWS)
		start_rows(job, lane);
	else
		start_call(job, lane, lanes_have_work);
}

/*
 * Moves a lane's statement on, without waiting; returns whether it is done.
 */
bool
zodan_lanes_poll(ZodanJob *job, ZodanLane *lane)
{
	if (zodan_remote_poll(&lane->call))
		return true;
	/* that may take long, but not on a node that is gone */
	if (zodan_wait_passed(lane->answer))
	{
		if (!zodan_remote_answers(lane->call.conn))
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("node \"%s\" does not answer any more", lane->call.conn->node)));
		if (lane->locking)
		{
			char	   *who = zodan_query_blockers(&ZODAN_SOURCE(job)->conn, PQbackendPID(lane->from.pg));

			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("node \"%s\": could not lock table %s within " INT64_FORMAT " ms: it waits for %s", lane->from.node,
							((ZodanTable *) linitial(lane->unit->group->tables))->name, job->session.timeout_ms, who ? who : "another session"),
					 errhint("End that transaction; the request goes on by itself.")));
		}
		lane->answer = zodan_session_deadline(&job->session);
	}
	return false;
}

/*
 * Fills in the sockets that a lane waits for; returns how many those are.
 */
int
zodan_lanes_sockets(const ZodanLane *lane, ZodanSocket *sockets)
{
	if (lane->unit->kind == UNIT_ROWS && !lane->locking)
		return zodan_pipe_sockets(&lane->pipe, sockets);
	sockets[0].fd = PQsocket(lane->call.conn->pg);
	sockets[0].events = WL_SOCKET_READABLE | (PQflush(lane->call.conn->pg) == 1 ? WL_SOCKET_WRITEABLE : 0);
	return 1;
}
