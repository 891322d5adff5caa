/*
 * positions.h
 *		Positions in the nodes' WAL.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_POSITIONS_H
#define ZODAN_POSITIONS_H

#include "base/lsn.h"
#include "cluster/cluster.h"

extern void zodan_positions_hold_wal(ZodanJob *job, ZodanConn *conn);
extern void zodan_positions_release_wal(ZodanJob *job, ZodanConn *conn);
extern void zodan_positions_set_markers(ZodanJob *job, ZodanMoment moment);
extern void zodan_positions_find_resume(ZodanJob *job, ZodanMoment moment, XLogRecPtr consistent);

#endif							/* ZODAN_POSITIONS_H */
