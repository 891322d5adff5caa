/*
 * snapshots.h
 *		The snapshots of the source under which tables are copied.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SNAPSHOTS_H
#define ZODAN_SNAPSHOTS_H

#include "cluster/cluster.h"

#include "engine/slots.h"

/* A snapshot that tables are copied under */
typedef struct ZodanSnapshot
{
	ZodanExport export;
	int			number;			/* zodan.positions.snapshot */
	int64		adopted;		/* from when on it is used */
	int			users;			/* who has begun under it and has not released it */
} ZodanSnapshot;

extern ZodanSnapshot *zodan_snapshots_open(ZodanJob *job);
extern void zodan_snapshots_prepare(ZodanJob *job, bool wanted, bool impatient);
extern ZodanSnapshot *zodan_snapshots_current(ZodanJob *job);
extern bool zodan_snapshots_coming(ZodanJob *job);
extern void zodan_snapshots_outdate(ZodanJob *job);
extern void zodan_snapshots_retire(ZodanJob *job);
extern void zodan_snapshots_release(ZodanJob *job, ZodanSnapshot *snapshot);
extern int	zodan_snapshots_socket(ZodanJob *job, ZodanSocket *socket);
extern int64 zodan_snapshots_age(ZodanJob *job);
extern const char *zodan_snapshots_waits_for(ZodanJob *job);
extern bool zodan_snapshots_is_lost(ZodanJob *job);
extern void zodan_snapshots_close(ZodanJob *job);

#endif							/* ZODAN_SNAPSHOTS_H */
