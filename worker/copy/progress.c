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
#define RATE_S			10

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

typedef enum Kind
{
	KIND_ROWS,
	KIND_INDEX,
	KIND_COLLATED,
	KIND_FINISH,
	KINDS
} Kind;

static ZodanTotals totals;
static int64 work_us[KINDS];	/* of lanes */
static int64 work_size[KINDS];	/* and how much was done in that time */
static double shown;			/* the fraction that was shown last */
static int64 started;
static ZodanDeadline next;
static ZodanDeadline next_told;
static int64 rate;

/* the bytes moved up to then, at most a second apart */
static int64 history[RATE_S + 1];
static int64 history_at[RATE_S + 1];
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
	started = zodan_wait_clock();
	next = next_told = zodan_wait_deadline(0);
}

static Kind
kind_of(const ZodanUnit *unit)
{
	if (unit->kind != UNIT_INDEX)
		return unit->kind == UNIT_ROWS ? KIND_ROWS : KIND_FINISH;
	return ((ZodanIndex *) linitial(unit->indexes))->collated ? KIND_COLLATED : KIND_INDEX;
}

/*
 * A unit is done, which has moved bytes and rows.
 */
void
zodan_progress_ended(const ZodanUnit *unit, int64 bytes, int64 rows)
{
	work_us[kind_of(unit)] += zodan_wait_clock() - unit->since;
	work_size[kind_of(unit)] += unit->size;
	totals.bytes += bytes;
	totals.rows += rows;
	if (unit->kind == UNIT_INDEX)
	{
		ListCell   *cell;

		foreach(cell, unit->indexes)
		{
			ZodanIndex *index = lfirst(cell);

			totals.index_built[index->collated] += index->work;
		}
	}
	else if (unit->kind == UNIT_FINISH)
		totals.finished += unit->size;
	else
	{
		totals.size_copied += unit->size;
		if (unit->group->parts_done == unit->group->nparts)
			totals.tables_copied += list_length(unit->group->tables);
	}
}

/*
 * When it's to be shown again.
 */
ZodanDeadline
zodan_progress_next(void)
{
	return next;
}

/*
 * Are those who listen to be told the next time that it's shown? They are about
 * once a second.
 */
bool
zodan_progress_tells(void)
{
	return zodan_wait_passed(next_told);
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
	int64		now = zodan_wait_clock();
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
	double		indexes = size[KIND_INDEX] + size[KIND_COLLATED] * COLLATED_WEIGHT;
	int64		indexes_us = us[KIND_INDEX] + us[KIND_COLLATED];

	speed[KIND_ROWS] = us[KIND_ROWS] > 0 ? (double) size[KIND_ROWS] / us[KIND_ROWS] : 0;
	if (speed[KIND_ROWS] == 0)
		speed[KIND_ROWS] = indexes_us > 0 ? indexes / indexes_us * INDEX_WEIGHT : 0;
	indexes = (indexes + PRIOR_US * speed[KIND_ROWS] / INDEX_WEIGHT) / (indexes_us + PRIOR_US);
	speed[KIND_INDEX] = (size[KIND_INDEX] + PRIOR_US * indexes) / (us[KIND_INDEX] + PRIOR_US);
	speed[KIND_COLLATED] = (size[KIND_COLLATED] + PRIOR_US * indexes / COLLATED_WEIGHT) / (us[KIND_COLLATED] + PRIOR_US);
	speed[KIND_FINISH] = (size[KIND_FINISH] + PRIOR_US / PAGE_US) / (us[KIND_FINISH] + PRIOR_US);
}

/*
 * The microseconds that a lane takes for so much of each kind.
 */
static double
time_for(const int64 *size, const double *speed)
{
	double		us = 0;

	for (int kind = 0; kind < KINDS; kind++)
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
	double		us = Max(zodan_units_largest_index(groups, false) / speed[KIND_INDEX],
						 zodan_units_largest_index(groups, true) / speed[KIND_COLLATED]);

	for (int i = 0; i < n; i++)
		if (under_way[i].unit->kind == UNIT_INDEX)
			us = Max(us, (1 - under_way[i].fraction) * under_way[i].unit->size / speed[kind_of(under_way[i].unit)]);
	return us;
}

/*
 * Tells those who read or listen where the copy stands.
 */
static void
tell(ZodanJob *job, const ZodanCopyStatus *status, const ZodanUnderWay *under_way, int n)
{
	const char *waits_for = zodan_snapshots_waits_for();
	char	   *held = zodan_throttle_reason();
	StringInfoData now;

	initStringInfo(&now);
	for (int i = 0; i < n; i++)
		append_name(&now, under_way[i].unit);
	zodan_job_detail(job, shown,
					 psprintf("%d of %d tables, %.1f MB, %.1f MB/s%s%s%s%s, now: %s", status->tables, status->tables_total,
							  status->bytes / 1048576.0, status->rate / 1048576.0,
							  held ? ", " : "", held ? held : "",
							  waits_for ? ", " : "", waits_for ? waits_for : "",
							  now.len ? now.data : "waiting"));
	next_told = zodan_wait_deadline(PROGRESS_MS);
}

/*
 * Stores where the copy stands, and tells of it about once a second; returns
 * the rate that the request is to be held to, in bytes/s, which may have been
 * changed meanwhile; 0: none.
 */
int64
zodan_progress_show(ZodanJob *job, List *groups, const ZodanUnderWay *under_way, int n, int nlanes)
{
	int64		us[KINDS];
	int64		size[KINDS];
	int64		all[KINDS] = {totals.size, totals.index_work[0], totals.index_work[1], totals.finish_work};
	int64		left[KINDS] = {totals.size - totals.size_copied, totals.index_work[0] - totals.index_built[0],
	totals.index_work[1] - totals.index_built[1], totals.finish_work - totals.finished};
	ZodanCopyStatus status = {.bytes = totals.bytes,.bytes_total = totals.size,.rows = totals.rows,
	.tables = totals.tables_copied,.tables_total = totals.tables,.snapshot_age = zodan_snapshots_age(),.eta = -1};
	double		speed[KINDS];

	memcpy(us, work_us, sizeof(us));
	memcpy(size, work_size, sizeof(size));
	for (int i = 0; i < n; i++)
	{
		status.bytes += under_way[i].bytes;
		/* a table is not larger in COPY's form, as a rule */
		add_done(under_way[i].unit, under_way[i].unit->kind == UNIT_ROWS ? under_way[i].bytes :
				 (int64) (under_way[i].fraction * under_way[i].unit->size), us, size, left);
	}
	note_rate(status.bytes);
	status.rate = rate;

	find_speeds(us, size, speed);
	if (speed[KIND_ROWS] > 0)
	{
		double		time_left = time_for(left, speed);

		shown = Max(shown, 1 - time_left / time_for(all, speed));
		if (us[KIND_ROWS] + us[KIND_INDEX] + us[KIND_COLLATED] + us[KIND_FINISH] >= KNOWN_US)
			status.eta = Min(Max(time_left / nlanes, time_for_largest(groups, under_way, n, speed)) / 1000000, 1e9);
	}

	status.copy_rate = zodan_request_copy_status(&status);
	if (zodan_progress_tells())
		tell(job, &status, under_way, n);
	next = zodan_wait_deadline(Min(Max((zodan_wait_clock() - started) / 1000 / 4, PROGRESS_MIN_MS), zodan_wait_left(next_told)));
	return status.copy_rate;
}

/*
 * Everything is done: shows what that was. The event is durable, and makes all
 * that has been stored of the plan so: see plan.c.
 */
void
zodan_progress_end(void)
{
	ZodanCopyStatus status = {.bytes = totals.bytes,.bytes_total = totals.size,.rows = totals.rows,
	.tables = totals.tables_copied,.tables_total = totals.tables,.eta = -1};

	zodan_request_copy_status(&status);
	zodan_journal_event("info", NULL, psprintf(INT64_FORMAT " rows in %d tables copied, " INT64_FORMAT " bytes, rows written as many as read",
									   totals.rows, totals.tables_copied, totals.bytes));
}
