/*
 * progress.c
 *		How far a copy is, and how long it will take.
 *
 * There are two kinds of work, rows and indexes. How long a byte of either
 * takes a lane is learnt from what has been done and is under way; the time
 * that is left is what that makes of the bytes that are left, divided by the
 * lanes. The size of things is that on the source.
 */
#include "progress.h"

#include "throttle.h"

#define PROGRESS_MS		1000
#define RATE_S			10

/* what time of a lane the assumption about indexes is worth, as if it had been measured */
#define INDEX_PRIOR_US	1.5e6

static ZodanTotals totals;
static int64 work_us[2];		/* of lanes, spent on rows and indexes */
static int64 work_size[2];		/* and how much was done in that time */
static double shown;			/* the fraction that was shown last */
static ZodanDeadline next;
static int64 rate;

/* the bytes moved up to then, a second apart */
static int64 history[RATE_S + 1];
static TimestampTz history_at[RATE_S + 1];
static int	nhistory;

/*
 * To be called before the first unit.
 */
void
zodan_progress_start(void)
{
	zodan_plan_totals(&totals);
	memset(work_us, 0, sizeof(work_us));
	memset(work_size, 0, sizeof(work_size));
	shown = 0;
	rate = 0;
	nhistory = 0;
	next = zodan_deadline(0);
}

/*
 * A unit is done, which has moved bytes and rows.
 */
void
zodan_progress_ended(const ZodanUnit *unit, int64 bytes, int64 rows)
{
	if (unit->kind == UNIT_FINISH)
		return;
	work_us[unit->kind] += GetCurrentTimestamp() - unit->since;
	work_size[unit->kind] += unit->size;
	totals.bytes += bytes;
	totals.rows += rows;
	if (unit->kind == UNIT_INDEX)
		totals.index_built += unit->size;
	else
	{
		totals.size_copied += unit->size;
		if (unit->group->parts_done == unit->group->nparts)
			totals.tables_copied += list_length(unit->group->tables);
	}
}

bool
zodan_progress_due(void)
{
	return zodan_deadline_passed(next);
}

/*
 * The bytes a second that were moved lately.
 */
int64
zodan_progress_rate(void)
{
	return rate;
}

static void
note_rate(int64 bytes)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		us;

	if (nhistory == lengthof(history))
	{
		nhistory--;
		memmove(history, history + 1, sizeof(history[0]) * nhistory);
		memmove(history_at, history_at + 1, sizeof(history_at[0]) * nhistory);
	}
	history[nhistory] = bytes;
	history_at[nhistory++] = now;
	us = now - history_at[0];
	rate = us > 0 ? (int64) ((bytes - history[0]) * 1000000.0 / us) : 0;
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
	if (unit->kind == UNIT_FINISH)
		return;
	done = Min(done, unit->size);
	us[unit->kind] += GetCurrentTimestamp() - unit->since;
	size[unit->kind] += done;
	left[unit->kind] -= done;
}

/*
 * Shows where the copy stands; returns the rate that the request is to be held
 * to, in bytes/s, which may have been changed meanwhile; 0: none.
 */
int64
zodan_progress_show(ZodanJob *job, const ZodanUnderWay *under_way, int n, int nlanes)
{
	int64		us[2] = {work_us[0], work_us[1]};
	int64		size[2] = {work_size[0], work_size[1]};
	int64		left[2] = {totals.size - totals.size_copied, totals.index_size - totals.index_built};
	ZodanCopyStatus status = {.bytes = totals.bytes,.bytes_total = totals.size,.rows = totals.rows,
	.tables = totals.tables_copied,.tables_total = totals.tables,.snapshot_age = zodan_snapshot_age()};
	double		speed[2];
	double		seconds;
	double		fraction;
	StringInfoData now;
	const char *waits_for = zodan_snapshot_waits_for();
	char	   *held = zodan_throttle_reason();

	initStringInfo(&now);
	for (int i = 0; i < n; i++)
	{
		append_name(&now, under_way[i].unit);
		status.bytes += under_way[i].bytes;
		/* a table is not larger in COPY's form, as a rule */
		add_done(under_way[i].unit, under_way[i].unit->kind == UNIT_ROWS ? under_way[i].bytes :
				 (int64) (under_way[i].fraction * under_way[i].unit->size), us, size, left);
	}
	note_rate(status.bytes);
	status.rate = rate;

	/* bytes that a lane does in a microsecond */
	speed[0] = us[0] > 0 ? (double) size[0] / us[0] : 0;
	if (speed[0] == 0)
		speed[0] = us[1] > 0 ? (double) size[1] / us[1] * ZODAN_INDEX_WEIGHT : 0;
	speed[1] = (size[1] + INDEX_PRIOR_US * speed[0] / ZODAN_INDEX_WEIGHT) / (us[1] + INDEX_PRIOR_US);
	if (speed[0] > 0)
	{
		seconds = (left[0] / speed[0] + left[1] / speed[1]) / nlanes / 1000000;
		fraction = 1 - (left[0] / speed[0] + left[1] / speed[1]) / (totals.size / speed[0] + totals.index_size / speed[1]);
	}
	else
	{
		seconds = -1;
		fraction = 0;
	}
	status.eta = Min(seconds, 1e9);
	shown = Max(shown, fraction);

	status.copy_rate = zodan_copy_status(&status);
	zodan_job_detail(job, shown,
					 psprintf("%d of %d tables, %.1f MB, %.1f MB/s%s%s%s%s, now: %s", totals.tables_copied, totals.tables,
							  status.bytes / 1048576.0, rate / 1048576.0,
							  held ? ", " : "", held ? held : "",
							  waits_for ? ", " : "", waits_for ? waits_for : "",
							  now.len ? now.data : "waiting"));
	pfree(now.data);
	next = zodan_deadline(PROGRESS_MS);
	return status.copy_rate;
}

/*
 * Everything is done: shows what that was.
 */
void
zodan_progress_end(void)
{
	ZodanCopyStatus status = {.bytes = totals.bytes,.bytes_total = totals.size,.rows = totals.rows,
	.tables = totals.tables_copied,.tables_total = totals.tables,.eta = -1};

	zodan_copy_status(&status);
	zodan_event("info", NULL, psprintf(INT64_FORMAT " rows in %d tables copied, " INT64_FORMAT " bytes, rows written as many as read",
									   totals.rows, totals.tables_copied, totals.bytes));
}
