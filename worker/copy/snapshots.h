/*
 * snapshots.h
 *		The snapshots of the source under which tables are copied.
 */
#ifndef ZODAN_SNAPSHOTS_H
#define ZODAN_SNAPSHOTS_H

#include "cluster/cluster.h"

/* A snapshot that tables are copied under */
typedef struct ZodanView
{
	ZodanSnapshot snapshot;
	int			number;			/* zodan.bookmarks.snapshot */
	int64		adopted;		/* from when on it is used */
	int			users;			/* who has begun under it and has not released it */
} ZodanView;

extern ZodanView *zodan_snapshot_open(ZodanJob *job);
extern void zodan_snapshot_prepare(ZodanJob *job, bool wanted, bool impatient);
extern ZodanView *zodan_snapshot_current(void);
extern bool zodan_snapshot_coming(void);
extern void zodan_snapshot_retire(ZodanJob *job);
extern void zodan_snapshot_release(ZodanView *view);
extern int	zodan_snapshot_socket(ZodanSocket *socket);
extern int64 zodan_snapshot_age(void);
extern const char *zodan_snapshot_waits_for(void);
extern bool zodan_snapshot_is_lost(void);
extern void zodan_snapshot_close(ZodanJob *job);

#endif							/* ZODAN_SNAPSHOTS_H */
