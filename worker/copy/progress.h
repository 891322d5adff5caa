/*
 * progress.h
 *		How far a copy is, and how long it will take.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_PROGRESS_H
#define ZODAN_PROGRESS_H

#include "copy/throttle.h"
#include "copy/units.h"

/* A unit under way */
typedef struct ZodanUnderWay
{
	const ZodanUnit *unit;
	int64		bytes;			/* that it has moved */
	double		fraction;		/* of an index that is built, 0 to 1 */
} ZodanUnderWay;

/* kinds of work */
typedef enum ZodanWork
{
	ZODAN_WORK_ROWS,
	ZODAN_WORK_INDEX,
	ZODAN_WORK_COLLATED,
	ZODAN_WORK_FINISH,
	ZODAN_WORKS
} ZodanWork;

/* the rate is that of the last so many seconds */
#define ZODAN_RATE_S	10

typedef struct ZodanProgress
{
	ZodanTotals totals;
	int64		us[ZODAN_WORKS];	/* of lanes */
	int64		size[ZODAN_WORKS];	/* and how much was done in that time */
	double		shown;			/* the fraction that was shown last */
	int64		started;
	ZodanDeadline next;			/* when it's to be shown again, */
	ZodanDeadline next_told;	/* and those who listen are told */
	int64		rate;			/* bytes/s */

	/* the bytes moved up to then, at most a second apart */
	int64		history[ZODAN_RATE_S + 1];
	int64		history_at[ZODAN_RATE_S + 1];
	int			nhistory;
} ZodanProgress;

extern void zodan_progress_start(ZodanProgress *progress, ZodanJob *job);
extern void zodan_progress_ended(ZodanProgress *progress, const ZodanUnit *unit, int64 bytes, int64 rows);
extern void zodan_progress_emptied(ZodanProgress *progress, const ZodanGroup *group);
extern bool zodan_progress_tells(const ZodanProgress *progress);
extern void zodan_progress_show(ZodanProgress *progress, ZodanJob *job, const ZodanThrottle *throttle, List *groups,
								const ZodanUnderWay *under_way, int n, int nlanes);
extern void zodan_progress_end(const ZodanProgress *progress, ZodanJob *job);

#endif							/* ZODAN_PROGRESS_H */
