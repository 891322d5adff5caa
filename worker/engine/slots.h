/*
 * slots.h
 *		Replication slots, and snapshots that making one exports.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SLOTS_H
#define ZODAN_SLOTS_H

#include "remote/remote.h"
#include "access/xlogdefs.h"

/* A slot to make, or to move; or the origin of its name on the subscriber */
typedef struct ZodanSlot
{
	ZodanConn  *conn;
	const char *name;
	const char *lsn;			/* out: where it begins; in: where to move it */
} ZodanSlot;

typedef struct ZodanExport
{
	ZodanConn	conn;			/* holds the snapshot while it's open */
	int64		since;			/* from when on vacuum is held back on the node */
	char	   *name;
	XLogRecPtr	consistent;
	ZodanCall	call;			/* private */
	ZodanDeadline deadline;
	ZodanDeadline next_report;
} ZodanExport;

extern void zodan_slots_create(ZodanSlot *slots, int nslots, const char *plugin);
extern void zodan_slots_drop(ZodanConn *conn, const char *slot);
extern void zodan_slots_advance(ZodanSlot *slots, int nslots);
extern void zodan_slots_copy(ZodanConn *conn, const char *from, const char *to);
extern void zodan_slots_create_for_wal(ZodanConn *conn, const char *slot);
extern void zodan_slots_export(ZodanExport *export, const char *slot, bool temporary, const char *plugin);
extern bool zodan_slots_exported(ZodanExport *export, ZodanConn *control, bool impatient,
								 void (*report) (void *arg, const char *detail), void *arg);

#endif							/* ZODAN_SLOTS_H */
