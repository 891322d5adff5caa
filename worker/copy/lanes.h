/*
 * lanes.h
 *		The lanes that bring rows, and the indexes on them.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_LANES_H
#define ZODAN_LANES_H

#include "copy/units.h"
#include "remote/pipe.h"

/* A pair of sessions, and what they do */
typedef struct ZodanLane
{
	ZodanConn	from;
	ZodanConn	to;
	ZodanUnit  *unit;			/* NULL: none under way */
	ZodanPipe	pipe;			/* of a unit of rows */
	ZodanPipeCount *counts;
	ZodanCall	call;			/* of other units, and before the rows are read */
	bool		locking;		/* the latter */
	double		fraction;		/* of an index, how much was built when that was looked at */
	ZodanDeadline answer;
} ZodanLane;

extern int	zodan_lanes_count(ZodanJob *job);
extern char *zodan_lanes_origin(ZodanJob *job, int lane);
extern void zodan_lanes_open(ZodanJob *job, ZodanLane *lanes, int nlanes, const List *tables);
extern void zodan_lanes_close(ZodanLane *lanes, int nlanes);
extern void zodan_lanes_empty_begun(ZodanJob *job, ZodanLane *lane, List *tables);
extern void zodan_lanes_start(ZodanJob *job, ZodanLane *lane, bool lanes_have_work);
extern bool zodan_lanes_poll(ZodanJob *job, ZodanLane *lane);
extern void zodan_lanes_read(ZodanJob *job, ZodanLane *lane);
extern int	zodan_lanes_sockets(const ZodanLane *lane, ZodanSocket *sockets);

#endif							/* ZODAN_LANES_H */
