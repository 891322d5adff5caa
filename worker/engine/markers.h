/*
 * markers.h
 *		Markers: messages in the WAL of a node, and waiting until they have arrived.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_MARKERS_H
#define ZODAN_MARKERS_H

#include "remote/remote.h"
#include "access/xlogdefs.h"

/* A position that a slot's reader must have confirmed */
typedef struct ZodanConfirm
{
	ZodanConn  *provider;		/* where the slot is */
	const char *subscriber;		/* the node that reads it */
	const char *slot;
	XLogRecPtr	lsn;
	int64		absent_ms;		/* how long the reader may be missing; 0: it comes back by itself */
	XLogRecPtr	confirmed;		/* out: how far it was last seen */
	bool		active;			/* out */
	bool		reached;		/* out */
	int64		seen;			/* private: when it was there */
} ZodanConfirm;

extern void zodan_markers_write(ZodanConn **conns, int nconns, XLogRecPtr *lsns);
extern void zodan_markers_write_named(ZodanConn *conn, const char *name);
extern void zodan_markers_wait_confirmed(ZodanConfirm *waits, int nwaits, void (*report) (void *arg, const char *detail), void *arg);

#endif							/* ZODAN_MARKERS_H */
