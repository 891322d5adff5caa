/*
 * replication.h
 *		Slots, origins, markers and positions on the nodes.
 */
#ifndef ZODAN_REPLICATION_H
#define ZODAN_REPLICATION_H

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

/* A slot to make, or to move; or the origin of its name on the subscriber */
typedef struct ZodanSlot
{
	ZodanConn  *conn;
	const char *name;
	const char *lsn;			/* out: where it begins; in: where to move it */
} ZodanSlot;

typedef struct ZodanSnapshot
{
	ZodanConn	conn;			/* holds the snapshot while it's open */
	int64		since;			/* from when on vacuum is held back on the node */
	char	   *name;
	XLogRecPtr	consistent;
	ZodanCall	call;			/* private */
	ZodanDeadline deadline;
	ZodanDeadline next_report;
} ZodanSnapshot;

extern XLogRecPtr zodan_parse_lsn(const char *text);
extern char *zodan_format_lsn(XLogRecPtr lsn);

extern void zodan_slots_create(ZodanSlot *slots, int nslots, const char *plugin);
extern void zodan_slot_drop(ZodanConn *conn, const char *slot);
extern void zodan_slots_advance(ZodanSlot *slots, int nslots);
extern void zodan_slot_copy(ZodanConn *conn, const char *from, const char *to);
extern void zodan_wal_slot_create(ZodanConn *conn, const char *slot);

extern void zodan_origin_create(ZodanConn *conn, const char *origin);
extern void zodan_origin_drop(ZodanConn *conn, const char *origin);
extern char *zodan_origin_identity(ZodanConn *conn, const char *origin);
extern bool zodan_origin_in_use(ZodanConn *conn, const char *origin);
extern void zodan_origins_set(ZodanSlot *origins, int norigins);

extern void zodan_markers(ZodanConn **conns, int nconns, XLogRecPtr *lsns);
extern void zodan_mark(ZodanConn *conn, const char *name);
extern void zodan_wait_confirmed(ZodanConfirm *waits, int nwaits, int64 timeout_ms,
								 void (*report) (const char *));
extern void zodan_snapshot_begin(ZodanSnapshot *snapshot, const char *slot, bool temporary, const char *plugin);
extern bool zodan_snapshot_ready(ZodanSnapshot *snapshot, ZodanConn *control, bool impatient,
								 void (*report) (const char *));

#endif							/* ZODAN_REPLICATION_H */
