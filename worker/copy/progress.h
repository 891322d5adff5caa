/*
 * progress.h
 *		How far a copy is, and how long it will take.
 */
#ifndef ZODAN_PROGRESS_H
#define ZODAN_PROGRESS_H

#include "copy/units.h"

/* A unit under way */
typedef struct ZodanUnderWay
{
	const ZodanUnit *unit;
	int64		bytes;			/* that it has moved */
	double		fraction;		/* of an index that is built, 0 to 1 */
} ZodanUnderWay;

extern void zodan_progress_start(void);
extern void zodan_progress_ended(const ZodanUnit *unit, int64 bytes, int64 rows);
extern ZodanDeadline zodan_progress_next(void);
extern bool zodan_progress_tells(void);
extern int64 zodan_progress_rate(void);
extern int64 zodan_progress_show(ZodanJob *job, List *groups, const ZodanUnderWay *under_way, int n, int nlanes);
extern void zodan_progress_end(void);

#endif							/* ZODAN_PROGRESS_H */
