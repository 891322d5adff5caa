/*
 * progress.c
 *		How far a copy is, and how long it will take.
 *
 * There are four kinds of work: rows, indexes, indexes that are sorted by a
 * collation, and keys with statistics. How long a byte of the first three takes
 * a lane, and a page of the last, is learnt from what has been done and is under
 * way; the time that is left is what that makes of those that are left, divided
 * by the lanes, but no less than a lane takes for the largest index. The size of
 * things is that on the source.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/progress.h"

#include "copy/throttle.h"

/*
 * How often those who listen are told, and figures are stored; in the beginning
 * these are after each quarter of the time since, so that a short copy has an
 * ETA, too
 */
#define PROGRESS_MS		1000
#define PROGRESS_MIN_MS	100

/* what time of a lane an assumption is worth, as if it had been measured */
#define PRIOR_US		0.5e6

/* what time of lanes must have been measured before an ETA is shown */
#define KNOWN_US		0.5e6

/* how long a byte of an index takes, to one of the rows: roughly */
#define INDEX_WEIGHT	0.75

/* how much longer one takes that is sorted by a collation, roughly */
#define COLLATED_WEIGHT	1.9

/* how long it takes to look at a page of a table for its statistics, roughly */
#define PAGE_US			10.0

/*
 * To be called before the first unit.
 */
void
zodan_progress_start(ZodanProgress *progress, ZodanJob *job)
{
	memset(progress, 0, sizeof(*progress));
	zodan_plan_totals(job->req, &progress->totals);
	progress->started = zodan_wait_clock();
	progress->next = progress->next_told = zodan_wait_deadline(0);
}

static ZodanWork
kind_of(const ZodanUnit *unit)
{
	if (unit->kind != UNIT_INDEX)
		return unit->kind == UNIT_ROWS ? ZODAN_WORK_ROWS : ZODAN_WORK_FINISH;
	return ((ZodanIndex *) linitial(unit->indexes))->collated ? ZODAN_WORK_COLLATED : ZODAN_WORK_INDEX;
}

/*
 * A unit is done, which has moved bytes and rows.
 */
void
zodan_progress_ended(ZodanProgress *progress, const ZodanUnit *unit, int64 bytes, int64 rows)
{
	progress->us[kind_of(unit)] += zodan_wait_clock() - unit->since;
	progress->size[kind_of(unit)] += unit->size;
	progress->totals.bytes += bytes;
	progress->totals.rows += rows;
	if (unit->kind == UNIT_INDEX)
	{
		ListCell   *cell;

		foreach(cell, unit->indexes)
		{
			ZodanIndex *index = lfirst(cell);

			progress->totals.index_built[index->collated] += index->work;
		}
	}
	else if (unit->kind == UNIT_FINISH)
		progress->totals.finished += unit->size;
	else
	{
		progress->totals.size_copied += unit->size;
		if (unit->group->parts_done == unit->group->nparts)
			progress->totals.tables_copied += list_length(unit->group->tables);
	}
}

/*
 * The parts of a group that were there have been removed.
 */
void
zodan_progress_emptied(ZodanProgress *progress, const ZodanGroup *group)
{
	progress->totals.size_copied -= group->bytes / group->nparts * group->parts_done;
}

/*
 * Are those who listen to be told the next time that it's shown? They are about
 * once a second.
 */
bool
zodan_progress_tells(const ZodanProgress *progress)
{
	return zodan_wait_passed(progress->next_told);
}

static void
note_rate(ZodanProgress *progress, int64 bytes)
{
	int64		now = zodan_wait_clock();
	int64		us;

	if (progress->nhistory == lengthof(progress->history))
	{
		progress->nhistory--;
		memmove(progress->history, progress->history + 1, sizeof(progress->history[0]) * progress->nhistory);
		memmove(progress->history_at, progress->history_at + 1, sizeof(progress->history_at[0]) * progress->nhistory);
	}
	progress->history[progress->nhistory] = bytes;
	progress->history_at[progress->nhistory++] = now;
	us = now - progress->history_at[0];
	progress->rate = us > 0 ? (int64) ((bytes - progress->history[0]) * 1000000.0 / us) : 0;
}

static void
append_name(StringInfo buf, const ZodanUnit *unit)
{
	ZodanTable *table = linitial(unit->group->tables);

	appendStringInfoString(buf, buf->len ? ", " : "");
	if (unit->kind == UNIT_INDEX && list_length(unit->indexes) == 1)
		appendStringInfo(buf, "index %s", ((ZodanIndex *) linitial(unit->indexes))->name);
	else if (list_length(unit->group->tables) > 1)
		appendStringInfo(buf, "%s%d small tables", unit->kind == UNIT_ROWS ? "" : "indexes of ",
						 list_length(unit->group->tables));
	else if (unit->group->nparts > 1 && unit->kind == UNIT_ROWS)
		appendStringInfo(buf, "%s (part %d of %d)", table->name, unit->part + 1, unit->group->nparts);
	else
		appendStringInfo(buf, "%s%s", unit->kind == UNIT_FINISH ? "statistics of " : "", table->name);
}

/*
 * Adds what a unit under way has done to the work and the time that it took,
 * and takes it from what is left.
 */
static void
add_done(const ZodanUnit *unit, int64 done, int64 *us, int64 *size, int64 *left)
{
	done = Min(done, unit->size);
	us[kind_of(unit)] += zodan_wait_clock() - unit->since;
	size[kind_of(unit)] += done;
	left[kind_of(unit)] -= done;
}

/*
 * How much of each kind a lane does in a microsecond, by what it has done in
 * which time; 0: nothing is known of rows and indexes. What is known of rows
 * tells of indexes, and what is known of either kind of indexes tells of the
 * other, until more is.
 */
static void
find_speeds(const int64 *us, const int64 *size, double *speed)
{
	double		indexes = size[ZODAN_WORK_INDEX] + size[ZODAN_WORK_COLLATED] * COLLATED_WEIGHT;
	int64		indexes_us = us[ZODAN_WORK_INDEX] + us[ZODAN_WORK_COLLATED];

	speed[ZODAN_WORK_ROWS] = us[ZODAN_WORK_ROWS] > 0 ? (double) size[ZODAN_WORK_ROWS] / us[ZODAN_WORK_ROWS] : 0;
	if (speed[ZODAN_WORK_ROWS] == 0)
		speed[ZODAN_WORK_ROWS] = indexes_us > 0 ? indexes / indexes_us * INDEX_WEIGHT : 0;
	indexes = (indexes + PRIOR_US * speed[ZODAN_WORK_ROWS] / INDEX_WEIGHT) / (indexes_us + PRIOR_US);
	speed[ZODAN_WORK_INDEX] = (size[ZODAN_WORK_INDEX] + PRIOR_US * indexes) / (us[ZODAN_WORK_INDEX] + PRIOR_US);
	speed[ZODAN_WORK_COLLATED] = (size[ZODAN_WORK_COLLATED] + PRIOR_US * indexes / COLLATED_WEIGHT) / (us[ZODAN_WORK_COLLATED] + PRIOR_US);
	speed[ZODAN_WORK_FINISH] = (size[ZODAN_WORK_FINISH] + PRIOR_US / PAGE_US) / (us[ZODAN_WORK_FINISH] + PRIOR_US);
}

/*
 * The microseconds that a lane takes for so much of each kind.
 */
static double
time_for(const int64 *size, const double *speed)
{
	double		us = 0;

	for (int kind = 0; kind < ZODAN_WORKS; kind++)
		us += size[kind] / speed[kind];
	return us;
}

/*
 * The microseconds that a lane takes for the index that will take it the
 * longest, of those under way and those that haven't been begun.
 */
static double
time_for_largest(List *groups, const ZodanUnderWay *under_way, int n, const double *speed)
{
	double		us = Max(zodan_units_largest_index(groups, false) / speed[ZODAN_WORK_INDEX],
						 zodan_units_largest_index(groups, true) / speed[ZODAN_WORK_COLLATED]);

	for (int i = 0; i < n; i++)
		if (under_way[i].unit->kind == UNIT_INDEX)
			us = Max(us, (1 - under_way[i].fraction) * under_way[i].unit->size / speed[kind_of(under_way[i].unit)]);
	return us;
}

/*
 * Tells those who read or listen where the copy stands.
 */
static void
tell(ZodanProgress *progress, ZodanJob *job, const ZodanThrottle *throttle, const ZodanCopyStatus *status, const ZodanUnderWay *under_way, int n)
{
	const char *waits_for = zodan_snapshots_waits_for(job);
	char	   *held = zodan_throttle_reason(throttle);
	StringInfoData now;

	initStringInfo(&now);
	for (int i = 0; i < n; i++)
		append_name(&now, under_way[i].unit);
	zodan_job_detail(job, progress->shown,
					 psprintf("%d of %d tables, %.1f MB, %.1f MB/s%s%s%s%s, now: %s", status->tables, status->tables_total,
							  status->bytes / 1048576.0, status->rate / 1048576.0,
							  held ? ", " : "", held ? held : "",
							  waits_for ? ", " : "", waits_for ? waits_for : "",
							  now.len ? now.data : "waiting"));
	progress->next_told = zodan_wait_deadline(PROGRESS_MS);
}

/*
 * Stores where the copy stands, and tells of it about once a second.
 */
void
zodan_progress_show(ZodanProgress *progress, ZodanJob *job, const ZodanThrottle *throttle, List *groups,
					const ZodanUnderWay *under_way, int n, int nlanes)
{
	const ZodanTotals *totals = &progress->totals;
	int64		us[ZODAN_WORKS];
	int64		size[ZODAN_WORKS];
	int64		all[ZODAN_WORKS] = {totals->size, totals->index_work[0], totals->index_work[1], totals->finish_work};
	int64		left[ZODAN_WORKS] = {totals->size - totals->size_copied, totals->index_work[0] - totals->index_built[0],
	totals->index_work[1] - totals->index_built[1], totals->finish_work - totals->finished};
	ZodanCopyStatus status = {.bytes = totals->bytes,.bytes_total = totals->size,.rows = totals->rows,
	.tables = totals->tables_copied,.tables_total = totals->tables,.snapshot_age = zodan_snapshots_age(job),.eta = -1};
	double		speed[ZODAN_WORKS];

	memcpy(us, progress->us, sizeof(us));
	memcpy(size, progress->size, sizeof(size));
	for (int i = 0; i < n; i++)
	{
		status.bytes += under_way[i].bytes;
		/* a table is not larger in COPY's form, as a rule */
		add_done(under_way[i].unit, under_way[i].unit->kind == UNIT_ROWS ? under_way[i].bytes :
				 (int64) (under_way[i].fraction * under_way[i].unit->size), us, size, left);
	}
	note_rate(progress, status.bytes);
	status.rate = progress->rate;

	find_speeds(us, size, speed);
	if (speed[ZODAN_WORK_ROWS] > 0)
	{
		double		time_left = time_for(left, speed);

		progress->shown = Max(progress->shown, 1 - time_left / time_for(all, speed));
		if (us[ZODAN_WORK_ROWS] + us[ZODAN_WORK_INDEX] + us[ZODAN_WORK_COLLATED] + us[ZODAN_WORK_FINISH] >= KNOWN_US)
			status.eta = Min(Max(time_left / nlanes, time_for_largest(groups, under_way, n, speed)) / 1000000, 1e9);
	}

	zodan_request_copy_status(job->req, &status);
	if (zodan_progress_tells(progress))
		tell(progress, job, throttle, &status, under_way, n);
	progress->next = zodan_wait_deadline(Min(Max((zodan_wait_clock() - progress->started) / 1000 / 4, PROGRESS_MIN_MS), zodan_wait_left(progress->next_told)));
}

/*
 * Everything is done: shows what that was. The event is durable, and makes all
 * that has been stored of the plan so: see plan.c.
 */
void
zodan_progress_end(const ZodanProgress *progress, ZodanJob *job)
{
	const ZodanTotals *totals = &progress->totals;
	ZodanCopyStatus status = {.bytes = totals->bytes,.bytes_total = totals->size,.rows = totals->rows,
	.tables = totals->tables_copied,.tables_total = totals->tables,.eta = -1};

	zodan_request_copy_status(job->req, &status);
	zodan_journal_event(job->req, "info", NULL, psprintf(INT64_FORMAT " rows in %d tables copied, " INT64_FORMAT " bytes, rows written as many as read",
														 totals->rows, totals->tables_copied, totals->bytes));
}
