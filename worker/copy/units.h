/*
 * units.h
 *		The work of a copy, in pieces that a lane does at a time.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_UNITS_H
#define ZODAN_UNITS_H

#include "copy/plan.h"
#include "copy/snapshots.h"

/* One table, or several small ones that are handled together */
typedef struct ZodanGroup
{
	List	   *tables;			/* ZodanTable */
	List	   *indexes;		/* ZodanIndex, all of them, */
	List	   *builds;			/* and those that aren't built */
	int64		bytes;			/* of the tables on the source */
	Oid			family;			/* of its tables */
	bool		early;			/* goes before those that aren't */
	bool		shared;			/* lanes read it together, even if they could begin others */
	int			nparts;			/* the rows, each part by a lane */
	int			parts_begun;
	int			parts_done;
	int			nbuilds;		/* the indexes, the largest first: by one, or all of several tables */
	int			nlong;			/* of these, how many take longer than a part */
	int			builds_begun;
	int			builds_done;
	bool		finish_begun;
	int64		part_bytes;		/* for groups that are made of it */
	int64		lane_bytes;
	bool		rewritten;		/* no more parts are begun: what is there is to be emptied, */
	bool		emptying;		/* or is being emptied */
	int			refused;		/* the number of the latest snapshot that it's too new for; -1: none */
	ZodanSnapshot *snapshot;	/* under which the rows are copied; NULL: not known yet */
	ZodanPipeCount *counts;		/* what was copied, by table */
} ZodanGroup;

typedef enum ZodanUnitKind
{
	UNIT_ROWS,					/* a part of the rows */
	UNIT_EMPTY,					/* the parts that are there are removed */
	UNIT_INDEX,
	UNIT_FINISH					/* keys that rest on the indexes, statistics */
} ZodanUnitKind;

typedef struct ZodanUnit
{
	ZodanUnitKind kind;
	ZodanGroup *group;
	int			part;
	List	   *indexes;		/* ZodanIndex */
	int64		size;			/* bytes of rows, or the work of indexes or of finishing */
	int64		since;
} ZodanUnit;

extern List *zodan_units_load(List *tables, int64 part_bytes, int snapshot_s);
extern int	zodan_units_before_waiting(List *groups);
extern bool zodan_units_waiting(List *groups);
extern int	zodan_units_left(List *groups);
extern int64 zodan_units_largest_index(List *groups, bool collated);
extern ZodanUnit *zodan_units_next(List *groups, ZodanSnapshot *snapshot);
extern bool zodan_units_end(ZodanUnit *unit);
extern bool zodan_units_refuse(ZodanUnit *unit);
extern List *zodan_units_split(List *groups, ZodanGroup *group, List *refused);
extern void zodan_units_reset(ZodanGroup *group);
extern bool zodan_units_outdated(List *groups, const ZodanSnapshot *snapshot);

#endif							/* ZODAN_UNITS_H */
