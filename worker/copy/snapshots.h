/*
 * snapshots.h
 *		The snapshots of the source under which tables are copied.
 */
#ifndef ZODAN_SNAPSHOTS_H
#define ZODAN_SNAPSHOTS_H

#include "cluster/cluster.h"

#include "engine/slots.h"

/* A snapshot that tables are copied under */
typedef struct ZodanView
{
	ZodanSnapshot snapshot;
	int			number;			/* zodan.bookmarks.snapshot */
	int64		adopted;		/* from when on it is used */
	int			users;			/* who has begun under it and has not released it */
} ZodanView;

extern ZodanView *zodan_snapshots_open(ZodanJob *job);
extern void zodan_snapshots_prepare(ZodanJob *job, bool wanted, bool impatient);
extern ZodanView *zodan_snapshots_current(void);
extern bool zodan_snapshots_coming(void);
extern void zodan_snapshots_retire(ZodanJob *job);
extern void zodan_snapshots_release(ZodanView *view);
extern int	zodan_snapshots_socket(ZodanSocket *socket);
extern int64 zodan_snapshots_age(void);
extern const char *zodan_snapshots_waits_for(void);
extern bool zodan_snapshots_is_lost(void);
extern void zodan_snapshots_close(ZodanJob *job);

#endif							/* ZODAN_SNAPSHOTS_H */
