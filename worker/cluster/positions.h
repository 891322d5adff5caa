/*
 * positions.h
 *		Positions in the nodes' WAL.
 */
#ifndef ZODAN_POSITIONS_H
#define ZODAN_POSITIONS_H

#include "cluster/cluster.h"

/* zodan.bookmarks.snapshot of the positions where the peers' own streams begin */
#define ZODAN_CUT			(-1)

extern void zodan_hold_wal(ZodanJob *job, ZodanConn *conn);
extern void zodan_release_wal(ZodanJob *job, ZodanConn *conn);
extern void zodan_set_markers(ZodanJob *job, int snapshot);
extern void zodan_find_resume_points(ZodanJob *job, int snapshot, XLogRecPtr consistent);

#endif							/* ZODAN_POSITIONS_H */
