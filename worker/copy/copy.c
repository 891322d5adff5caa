/*
 * copy.c
 *		The copy: the rows, and the indexes on them.
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
#include "copy/lanes.h"
#include "copy/progress.h"
#include "copy/throttle.h"
#include "remote/query.h"
#include "utils/memutils.h"

#define THROTTLED_MS	10

/* The copy that is run */
typedef struct Copy
{
	ZodanJob   *job;
	List	   *groups;
	ZodanLane  *lanes;
	int			nlanes;
	int			first;			/* the lane that comes first in this turn */
	ZodanThrottle throttle;
	ZodanProgress progress;
	MemoryContext tick_context;
} Copy;

/*
 * Of a group that was rewritten nothing is left on the new node: it waits for a later
 * snapshot.
 */
static void
begin_again(Copy *copy, ZodanGroup *group)
{
	zodan_plan_emptied(copy->job->req, group->tables);
	zodan_progress_emptied(&copy->progress, group);
	zodan_snapshots_release(copy->job, group->snapshot);
	zodan_units_reset(group);
}

/*
 * Some of a unit's tables can't be read under the snapshot any more: the answer says
 * which.
 */
static void
refuse_rows(Copy *copy, ZodanLane *lane)
{
	ZodanJob   *job = copy->job;
	ZodanGroup *group = lane->unit->group;
	List	   *refused = NIL;
	char	   *message = psprintf("rewritten or truncated after snapshot %d was taken, and so copied again under a later one: %s",
								   group->snapshot->number, PQgetvalue(lane->call.result, 0, 0));

	for (int row = 0; row < PQntuples(lane->call.result); row++)
		refused = lappend(refused, list_nth(group->tables, atoi(PQgetvalue(lane->call.result, row, 1)) - 1));
	PQclear(lane->call.result);
	pfree(unconstify(char *, lane->call.sql));
	PQclear(zodan_query(&lane->from, "ROLLBACK", 0));
	/* the others of its family need the same snapshot: all of them are begun again */
	if (group->family)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE), errmsg("%s", message)));
	zodan_journal_event(job->req, "warning", lane->from.node, message);
	if (list_length(group->tables) > 1)
	{
		ZodanSnapshot *snapshot = group->snapshot;
		bool		all = list_length(refused) == list_length(group->tables);

		zodan_plan_emptied(job->req, group->tables);
		copy->groups = zodan_units_split(copy->groups, group, refused);
		if (all)
			zodan_snapshots_release(job, snapshot);
	}
	else if (zodan_units_refuse(lane->unit))
		begin_again(copy, group);
	pfree(lane->unit);
	lane->unit = NULL;
}

/*
 * A lane has done its unit: adds up and stores what that makes of its group.
 */
static void
end_unit(Copy *copy, ZodanLane *lane)
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
		else if (unit->kind == UNIT_EMPTY)
			begin_again(copy, group);
		else
			zodan_plan_built(job->req, group->tables);
	}
	zodan_progress_ended(&copy->progress, unit, unit->kind == UNIT_ROWS ? lane->pipe.bytes : 0, rows);
	lane->unit = NULL;
	pfree(unit);
}

/*
 * Moves a lane on, without waiting; returns whether its unit is done. A unit that
 * can't be done now is taken from it.
 */
static bool
step_lane(Copy *copy, ZodanLane *lane)
{
	int64		before;
	bool		done;

	if (lane->locking)
	{
		if (!zodan_lanes_poll(copy->job, lane))
			return false;
		lane->locking = false;
		zodan_remote_raise_any(&lane->call, 1);
		if (PQntuples(lane->call.result) > 0)
		{
			refuse_rows(copy, lane);
			return false;
		}
		zodan_lanes_read(copy->job, lane);
	}
	if (lane->unit->kind == UNIT_ROWS)
	{
		before = lane->pipe.bytes;
		lane->pipe.budget = zodan_throttle_budget(&copy->throttle);
		done = zodan_pipe_step(&lane->pipe);
		zodan_throttle_spend(&copy->throttle, lane->pipe.bytes - before);
		return done;
	}
	return zodan_lanes_poll(copy->job, lane);
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
	ZodanLane  *lanes = copy->lanes;
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
		ZodanLane  *lane = &copy->lanes[i];

		if (lane->unit)
			under_way[n++] = (ZodanUnderWay)
		{
			lane->unit, lane->unit->kind == UNIT_ROWS && !lane->locking ? lane->pipe.bytes : 0, lane->fraction
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
run_lane(Copy *copy, ZodanLane *lane)
{
	bool		ended = false;

	for (;;)
	{
		if (!lane->unit)
		{
			lane->unit = zodan_units_next(copy->groups, zodan_snapshots_current(copy->job));
			if (!lane->unit)
				return ended;
			zodan_lanes_start(copy->job, lane, count_busy(copy) + zodan_units_left(copy->groups) >= copy->nlanes);
		}
		if (!step_lane(copy, lane))
		{
			if (lane->unit)
				return ended;
			continue;
		}
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
		ZodanLane  *lane = &copy->lanes[(copy->first + i) % copy->nlanes];

		ended |= run_lane(copy, lane);
		if (!lane->unit)
			continue;
		busy++;
		*nsockets += zodan_lanes_sockets(lane, &sockets[*nsockets]);
		*starved |= lane->unit->kind == UNIT_ROWS && !lane->locking && lane->pipe.starved;
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
	int			nlanes = zodan_lanes_count(job);
	Copy		copy = {.job = job,.nlanes = nlanes,.lanes = palloc0(sizeof(ZodanLane) * nlanes)};
	ZodanSocket *sockets = palloc(sizeof(ZodanSocket) * (nlanes * 2 + 1));
	bool		wanted = false;

	copy.tick_context = AllocSetContextCreate(CurrentMemoryContext, "zodan copy tick", ALLOCSET_SMALL_SIZES);
	zodan_lanes_open(job, copy.lanes, nlanes, tables);
	zodan_lanes_empty_begun(job, &copy.lanes[0], tables);
	copy.groups = zodan_units_load(tables, zodan_copy_part_size * INT64CONST(1024) * 1024, zodan_snapshot_max_age);
	zodan_throttle_start(&copy.throttle);
	zodan_progress_start(&copy.progress, job);
	for (;;)
	{
		bool		starved;
		int			n;

		if (zodan_units_outdated(copy.groups, zodan_snapshots_current(job)))
			zodan_snapshots_outdate(job);
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
	zodan_lanes_close(copy.lanes, nlanes);
	MemoryContextDelete(copy.tick_context);
}
