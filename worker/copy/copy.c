/*
 * copy.c
 *		The rows, the indexes on them, and the lanes that bring both.
 *
 * A lane is a pair of sessions: on the source, and on the new node with a
 * replication origin of the lane's own. Each unit of work is one transaction
 * on the new node, stamped as long ago as can be: its rows must lose against
 * every change that is made elsewhere while they are copied, and a row without
 * an origin and a time of its own would carry the copy's. A unit of rows reads
 * them in a transaction that takes the snapshot at its begin, so no lane holds
 * one between its units.
 *
 * One loop moves all lanes. What has been begun and done is stored by tables
 * and indexes (plan.c): a table of which a crash has left a part is emptied
 * before it's copied again, and an index is there or is not.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/copy.h"

#include "base/failpoint.h"
#include "base/settings.h"
#include "cluster/names.h"
#include "copy/marks.h"
#include "copy/progress.h"
#include "copy/snapshots.h"
#include "copy/statements.h"
#include "copy/throttle.h"
#include "copy/units.h"
#include "mb/pg_wchar.h"
#include "remote/pipe.h"
#include "remote/query.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define THROTTLED_MS	10

typedef struct Lane
{
	ZodanConn	from;
	ZodanConn	to;
	ZodanUnit  *unit;			/* NULL: none under way */
	ZodanPipe	pipe;			/* of a unit of rows */
	ZodanPipeCount *counts;
	ZodanCall	call;			/* of other units */
	double		fraction;		/* of an index, how much was built when that was looked at */
	ZodanDeadline answer;
} Lane;

/* The copy that is run */
typedef struct Copy
{
	ZodanJob   *job;
	List	   *groups;
	Lane	   *lanes;
	int			nlanes;
	int			first;			/* the lane that comes first in this turn */
	ZodanThrottle throttle;
	ZodanProgress progress;
	MemoryContext tick_context;
} Copy;

/*
 * The name of a lane's origin on the new node.
 */
char *
zodan_copy_origin(ZodanJob *job, int lane)
{
	return psprintf("%s%d", zodan_names_lane_origins(job), lane);
}

/*
 * How many tables, parts of tables or indexes the request may work at at a time.
 */
int
zodan_copy_lanes(ZodanJob *job)
{
	return job->req->copy_jobs > 0 ? job->req->copy_jobs : zodan_copy_jobs;
}

/*
 * Sets up a lane's session on the new node. The memory for sorting: where the
 * operator doesn't say how much, half of shared_buffers for all lanes, which
 * is an eighth of the machine where that is set as recommended.
 */
static void
set_up_receiver(ZodanJob *job, Lane *lane, int i)
{
	PQclear(zodan_query(&lane->to, "SET session_replication_role = replica; SET default_tablespace = ''", 0));
	PQclear(zodan_query(&lane->to,
						"SELECT pg_catalog.set_config('maintenance_work_mem', CASE WHEN $1::int > 0 THEN $1::text ELSE"
						" (SELECT greatest(m.setting::bigint, least(1024 * 1024, b.setting::bigint * 8 / 2 / $2::int))::text"
						"    FROM pg_catalog.pg_settings m, pg_catalog.pg_settings b"
						"   WHERE m.name = 'maintenance_work_mem' AND b.name = 'shared_buffers') END, false)", 2,
						psprintf("%d", zodan_maintenance_work_mem > 0 ? Max(zodan_maintenance_work_mem, 1024) : 0),
						psprintf("%d", zodan_copy_lanes(job))));
	/* on a node that replicates DDL by itself, this must stay here */
	zodan_engine_keep_ddl(job->engine, &lane->to);
	PQclear(zodan_query(&lane->to, "SELECT pg_catalog.pg_replication_origin_session_setup($1)", 1, zodan_copy_origin(job, i)));
}

static void
open_lanes(ZodanJob *job, Lane *lanes, int nlanes, const List *tables)
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

static void
close_lanes(Lane *lanes, int nlanes)
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
static void
empty_begun(ZodanJob *job, Lane *lane, List *tables)
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
 * Begins a unit of rows.
 */
static void
start_rows(ZodanJob *job, Lane *lane)
{
	ZodanGroup *group = lane->unit->group;
	StringInfoData out;
	StringInfoData in;
	ListCell   *cell;

	if (zodan_connection_is_lost(&group->snapshot->export.conn))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("node \"%s\": the session that holds the snapshot has been ended", lane->from.node)));
	ZODAN_FAILPOINT(job->req, "reading", "snapshot");
	if (lane->unit->part == 0)
		zodan_plan_begin(job->req, group->tables, group->snapshot->number);
	initStringInfo(&out);
	initStringInfo(&in);
	appendStringInfo(&out, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT %s;",
					 quote_literal_cstr(group->snapshot->export.name));
	appendStringInfo(&in, "BEGIN; SELECT pg_catalog.pg_replication_origin_xact_setup('0/0', 'epoch');%s",
					 zodan_marks_rows(job, group->tables, lane->unit->part, group->nparts));
	foreach(cell, group->tables)
	{
		ZodanTable *table = lfirst(cell);
		char	   *options = zodan_statements_options(table, PQparameterStatus(lane->from.pg, "server_encoding"));

		appendStringInfo(&out, "COPY %s TO STDOUT %s;", zodan_statements_rows(table, lane->unit), options);
		/* of a table that was rewritten meanwhile the pages would be others */
		if (group->nparts > 1)
			appendStringInfo(&out, "DO %s;", quote_literal_cstr(psprintf(
																		 "BEGIN IF (SELECT relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(oid)"
																		 " FROM pg_catalog.pg_class WHERE oid = %s::pg_catalog.regclass) IS NOT FALSE THEN"
																		 " RAISE object_in_use USING MESSAGE = %s; END IF; END",
																		 quote_literal_cstr(table->name),
																		 quote_literal_cstr(psprintf("table %s was rewritten while it was copied", table->name)))));
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
start_call(ZodanJob *job, Lane *lane, bool lanes_have_work)
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
static void
start_unit(ZodanJob *job, Lane *lane, bool lanes_have_work)
{
	lane->fraction = 0;
	if (lane->unit->kind == UNIT_ROWS)
		start_rows(job, lane);
	else
		start_call(job, lane, lanes_have_work);
}

/*
 * A lane has done its unit: adds up and stores what that makes of its group.
 */
static void
end_unit(Copy *copy, Lane *lane)
{
	ZodanJob   *job = copy->job;
	ZodanUnit  *unit = lane->unit;
	ZodanGroup *group = unit->group;
	bool		all = zodan_units_end(unit);
	int64		rows = 0;

	if (unit->kind == UNIT_ROWS)
	{
		for (int i = 0; i < list_length(group->tables); i++)
		{
			group->counts[i].bytes += lane->counts[i].bytes;
			group->counts[i].rows += lane->counts[i].rows;
			rows += lane->counts[i].rows;
		}
		pfree(lane->counts);
		if (all)
		{
			zodan_plan_copied(job->req, group->tables, group->counts);
			zodan_snapshots_release(job, group->snapshot);
		}
	}
	else
	{
		zodan_remote_raise_any(&lane->call, 1);
		PQclear(lane->call.result);
		if (unit->kind == UNIT_INDEX)
		{
			zodan_plan_indexes_built(job->req, unit->indexes);
			ZODAN_FAILPOINT(job->req, "built", ((ZodanIndex *) linitial(unit->indexes))->key ? "key" : "index");
		}
		else
			zodan_plan_built(job->req, group->tables);
	}
	zodan_progress_ended(&copy->progress, unit, unit->kind == UNIT_ROWS ? lane->pipe.bytes : 0, rows);
	lane->unit = NULL;
	pfree(unit);
}

/*
 * Moves a lane on, without waiting; returns whether its unit is done.
 */
static bool
step_lane(Copy *copy, Lane *lane)
{
	int64		before = lane->pipe.bytes;
	bool		done;

	if (lane->unit->kind == UNIT_ROWS)
	{
		lane->pipe.budget = zodan_throttle_budget(&copy->throttle);
		done = zodan_pipe_step(&lane->pipe);
		zodan_throttle_spend(&copy->throttle, lane->pipe.bytes - before);
		return done;
	}
	if (zodan_remote_poll(&lane->call))
		return true;
	/* that may take long, but not on a node that is gone */
	if (zodan_wait_passed(lane->answer))
	{
		if (!zodan_remote_answers(&lane->to))
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("node \"%s\" does not answer any more", lane->to.node)));
		lane->answer = zodan_session_deadline(&copy->job->session);
	}
	return false;
}

static int
lane_sockets(const Lane *lane, ZodanSocket *sockets)
{
	if (lane->unit->kind == UNIT_ROWS)
		return zodan_pipe_sockets(&lane->pipe, sockets);
	sockets[0].fd = PQsocket(lane->to.pg);
	sockets[0].events = WL_SOCKET_READABLE | (PQflush(lane->to.pg) == 1 ? WL_SOCKET_WRITEABLE : 0);
	return 1;
}

/* ---------- the loop ---------- */

/*
 * Looks how far the lanes' indexes are: scanning and the sorting that goes on
 * then take about 60 % of the time, and what comes after loading about 10.
 * Nothing is shown of one that is about to
 * end, nor of several of small tables: it could be any of them.
 */
static void
look_at_indexes(Copy *copy)
{
	Lane	   *lanes = copy->lanes;
	char	   *pids = NULL;
	PGresult   *result;

	for (int i = 0; i < copy->nlanes; i++)
		if (lanes[i].unit && lanes[i].unit->kind == UNIT_INDEX && list_length(lanes[i].unit->indexes) == 1)
			pids = psprintf("%s%s%d", pids ? pids : "", pids ? "," : "", PQbackendPID(lanes[i].to.pg));
	if (!pids)
		return;
	result = zodan_query(&copy->job->new_conn,
						 "SELECT pid, CASE WHEN phase LIKE '%scanning table' THEN 0.6 * blocks_done / greatest(blocks_total, 1)"
						 "                 WHEN phase LIKE '%sorting%' THEN 0.6"
						 "                 WHEN phase LIKE '%loading%' THEN 0.6 + 0.3 * tuples_done / greatest(tuples_total, 1)"
						 "                 ELSE 0 END"
						 "  FROM pg_catalog.pg_stat_progress_create_index WHERE pid = ANY ($1::int[])", 1, psprintf("{%s}", pids));
	for (int row = 0; row < PQntuples(result); row++)
		for (int i = 0; i < copy->nlanes; i++)
			if (PQbackendPID(lanes[i].to.pg) == atoi(PQgetvalue(result, row, 0)))
				lanes[i].fraction = Max(lanes[i].fraction, atof(PQgetvalue(result, row, 1)));
	PQclear(result);
}

/*
 * Shows where the copy stands, and adjusts its rate.
 */
static void
tick(Copy *copy)
{
	MemoryContext caller = MemoryContextSwitchTo(copy->tick_context);
	ZodanUnderWay *under_way = palloc(sizeof(ZodanUnderWay) * copy->nlanes);
	bool		tells = zodan_progress_tells(&copy->progress);
	int			n = 0;

	look_at_indexes(copy);
	for (int i = 0; i < copy->nlanes; i++)
	{
		Lane	   *lane = &copy->lanes[i];

		if (lane->unit)
			under_way[n++] = (ZodanUnderWay)
		{
			lane->unit, lane->unit->kind == UNIT_ROWS ? lane->pipe.bytes : 0, lane->fraction
		};
	}
	if (tells)
	{
		zodan_throttle_set(&copy->throttle, zodan_request_copy_rate(copy->job->req));
		zodan_throttle_watch(&copy->throttle, copy->job);
	}
	zodan_progress_show(&copy->progress, copy->job, &copy->throttle, copy->groups, under_way, n, copy->nlanes);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(copy->tick_context);
}

static int
count_busy(const Copy *copy)
{
	int			busy = 0;

	for (int i = 0; i < copy->nlanes; i++)
		busy += copy->lanes[i].unit != NULL;
	return busy;
}

/*
 * Does a lane have nothing to do, or will one as soon as those that read rows
 * are through? A snapshot would be of no use while the others build for long.
 */
static bool
want_snapshot(const Copy *copy)
{
	int			reading = 0;

	for (int i = 0; i < copy->nlanes; i++)
	{
		if (!copy->lanes[i].unit)
			return true;
		reading += copy->lanes[i].unit->kind == UNIT_ROWS;
	}
	return zodan_units_before_waiting(copy->groups) < reading;
}

/*
 * Moves a lane on, giving it units, as far as that goes without waiting; returns
 * whether it has done one.
 */
static bool
run_lane(Copy *copy, Lane *lane)
{
	bool		ended = false;

	for (;;)
	{
		if (!lane->unit)
		{
			lane->unit = zodan_units_next(copy->groups, zodan_snapshots_current(copy->job));
			if (!lane->unit)
				return ended;
			start_unit(copy->job, lane, count_busy(copy) + zodan_units_left(copy->groups) >= copy->nlanes);
		}
		if (!step_lane(copy, lane))
			return ended;
		end_unit(copy, lane);
		ended = true;
	}
}

/*
 * Moves all lanes on. Returns how many have a unit; they wait for *nsockets
 * sockets, or, *starved, for a moment.
 */
static int
run_lanes(Copy *copy, ZodanSocket *sockets, int *nsockets, bool *starved)
{
	int			busy = 0;
	bool		ended = false;

	*nsockets = 0;
	*starved = false;
	/* each lane comes first in its turn, so that a bounded rate is shared */
	copy->first = (copy->first + 1) % copy->nlanes;
	for (int i = 0; i < copy->nlanes; i++)
	{
		Lane	   *lane = &copy->lanes[(copy->first + i) % copy->nlanes];

		ended |= run_lane(copy, lane);
		if (!lane->unit)
			continue;
		busy++;
		*nsockets += lane_sockets(lane, &sockets[*nsockets]);
		*starved |= lane->unit->kind == UNIT_ROWS && lane->pipe.starved;
	}
	/* there may be something now for those that came before */
	*starved |= ended && busy < copy->nlanes;
	return busy;
}

/*
 * Does what the plan has left: copies the rows of those tables, builds their
 * indexes, and what goes with that.
 */
void
zodan_copy_run(ZodanJob *job, List *tables)
{
	int			nlanes = zodan_copy_lanes(job);
	Copy		copy = {.job = job,.nlanes = nlanes,.lanes = palloc0(sizeof(Lane) * nlanes)};
	ZodanSocket *sockets = palloc(sizeof(ZodanSocket) * (nlanes * 2 + 1));
	bool		wanted = false;

	copy.tick_context = AllocSetContextCreate(CurrentMemoryContext, "zodan copy tick", ALLOCSET_SMALL_SIZES);
	open_lanes(job, copy.lanes, nlanes, tables);
	empty_begun(job, &copy.lanes[0], tables);
	copy.groups = zodan_units_load(tables, zodan_copy_part_size * INT64CONST(1024) * 1024, zodan_snapshot_max_age);
	zodan_throttle_start(&copy.throttle);
	zodan_progress_start(&copy.progress, job);
	for (;;)
	{
		bool		starved;
		int			n;

		if (zodan_units_waiting(copy.groups))
			zodan_snapshots_prepare(job, wanted, count_busy(&copy) == 0);
		else
			zodan_snapshots_retire(job);
		if (run_lanes(&copy, sockets, &n, &starved) == 0 && !zodan_units_waiting(copy.groups))
			break;
		wanted = zodan_units_waiting(copy.groups) && want_snapshot(&copy);
		starved |= wanted && !zodan_snapshots_coming(job);
		if (zodan_wait_passed(copy.progress.next))
			tick(&copy);
		n += zodan_snapshots_socket(job, &sockets[n]);
		if (n > 0)
			zodan_wait_sockets(&job->session.waiter, sockets, n, starved ? zodan_wait_deadline(THROTTLED_MS) : copy.progress.next);
	}
	zodan_progress_end(&copy.progress, job);
	close_lanes(copy.lanes, nlanes);
	MemoryContextDelete(copy.tick_context);
}
