/*
 * phase_bookmark.c
 *		The phases bookmark_peers and sync_peers_to_source, and the snapshot of
 *		the source with the positions that belong to it.
 *
 * B, M, W, C and R are those of docs/how-a-join-works.md.
 */
#include "phase.h"

#include "common/hashfn.h"
#include "copy.h"

/*
 * The name of a slot on the node that this join has for a while. The slots of
 * other databases and other coordinators are there as well.
 */
static char *
passing_slot(ZodanJob *job, ZodanConn *conn, const char *use)
{
	char	   *own = psprintf("%s/%s", ZODAN_SOURCE(job)->slot_in, conn->node);

	return psprintf("zodan_%s_%08x", use, hash_bytes((const unsigned char *) own, (int) strlen(own)));
}

/*
 * Phase: slots on the peers, which from now on keep what the new node may
 * need.
 */
void
zodan_bookmark_peers(ZodanJob *job)
{
	int			n = ZODAN_NPEERS(job);
	ZodanSlot  *slots = palloc0(sizeof(ZodanSlot) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		ZodanMember *m = &ZODAN_PEERS(job)[i];

		zodan_effect_intent(m->name, EFFECT_SLOT, m->slot_in);
		slots[i].conn = &m->conn;
		slots[i].name = m->slot_in;
	}
	zodan_slots_create(slots, n, job->engine->plugin);
	for (int i = 0; i < n; i++)
	{
		ZodanMember *m = &ZODAN_PEERS(job)[i];

		zodan_set_bookmark(0, m->name, "slot_lsn", slots[i].lsn);
		zodan_effect_result(m->name, EFFECT_SLOT, m->slot_in, "done", slots[i].lsn);
	}
	zodan_job_detail(job, 1, n == 0 ? "the source has no peers" :
					 "the peers keep what the new node may need");
}

/*
 * Keeps the node's WAL from here on, across crashes, until it is released.
 */
void
zodan_hold_wal(ZodanJob *job, ZodanConn *conn)
{
	char	   *slot = passing_slot(job, conn, "wal");

	zodan_effect_intent(conn->node, EFFECT_SLOT, slot);
	zodan_wal_slot_create(conn, slot);
	zodan_effect_result(conn->node, EFFECT_SLOT, slot, "done", NULL);
}

void
zodan_release_wal(ZodanJob *job, ZodanConn *conn)
{
	char	   *slot = passing_slot(job, conn, "wal");

	zodan_slot_drop(conn, slot);
	zodan_effect_undone(conn->node, EFFECT_SLOT, slot);
}

/*
 * Makes sure that the source has, durably, all that its peers committed
 * before their markers, which are noted together with the source's position
 * before them.
 */
void
zodan_set_markers(ZodanJob *job, int snapshot)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	int			n = ZODAN_NPEERS(job);
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * Max(n, 1));
	XLogRecPtr *lsns = palloc(sizeof(XLogRecPtr) * Max(n, 1));
	ZodanConfirm *waits = palloc0(sizeof(ZodanConfirm) * Max(n, 1));

	zodan_forget_bookmarks(snapshot);
	zodan_set_bookmark(snapshot, source->name, "window_lsn",
					   zodan_value(&source->conn, "SELECT pg_catalog.pg_current_wal_insert_lsn()", 0));
	for (int i = 0; i < n; i++)
		conns[i] = &ZODAN_PEERS(job)[i].conn;
	zodan_markers(conns, n, lsns);
	for (int i = 0; i < n; i++)
	{
		ZodanMember *m = &ZODAN_PEERS(job)[i];

		if (!m->slot_for_source)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\" has no subscription to node \"%s\" any more", source->name, m->name)));
		zodan_set_bookmark(snapshot, m->name, "marker_lsn", zodan_format_lsn(lsns[i]));
		waits[i].provider = &m->conn;
		waits[i].subscriber = source->name;
		waits[i].slot = m->slot_for_source;
		waits[i].lsn = lsns[i];
	}
	zodan_wait_confirmed(waits, n, zodan_statement_timeout(), zodan_report);
}

/*
 * Finds and stores R of each peer, for the source's state at consistent.
 */
void
zodan_find_resume_points(ZodanJob *job, int snapshot, XLogRecPtr consistent)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	int			n = ZODAN_NPEERS(job);
	ZodanResume *resume = palloc0(sizeof(ZodanResume) * Max(n, 1));
	XLogRecPtr	window = zodan_parse_lsn(zodan_get_bookmark(snapshot, source->name)->window_lsn);

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		ZodanMember *m = &ZODAN_PEERS(job)[i];

		resume[i].node = m->name;
		resume[i].ids[0] = m->origin_on_source;
		resume[i].ids[1] = m->commit_label;
		resume[i].lsn = zodan_parse_lsn(zodan_get_bookmark(snapshot, m->name)->marker_lsn);
	}
	zodan_resume_points(&source->conn, window, consistent, resume, n);
	for (int i = 0; i < n; i++)
		zodan_set_bookmark(snapshot, resume[i].node, "resume_lsn", zodan_format_lsn(resume[i].lsn));
}

/*
 * Phase: the source has what the peers had before.
 */
void
zodan_sync_peers_to_source(ZodanJob *job)
{
	zodan_set_markers(job, 0);
	zodan_job_detail(job, 1, ZODAN_NPEERS(job) == 0 ? "the source has no peers" :
					 "the source has what its peers had");
}

/*
 * Opens a snapshot of the source, unless there is one: the one of the
 * subscription's own slot, or, when that one is lost, one of a temporary slot
 * for the tables that are left.
 */
void
zodan_open_snapshot(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	bool		first = !zodan_get_bookmark(0, source->name)->consistent_lsn;
	ZodanEffect *slot;

	if (job->snapshot.conn.pg)
		return;
	job->snapshot_no = first ? 0 : zodan_next_snapshot();

	/* a slot whose consistent point isn't known was made for nothing */
	if (first)
	{
		slot = zodan_effect_intent(source->name, EFFECT_SLOT, source->slot_first);
		if (slot->state)
			zodan_slot_drop(&source->conn, source->slot_first);
	}

	job->snapshot.conn = source->conn;
	zodan_snapshot_open(&job->snapshot, &source->conn,
						first ? source->slot_first : passing_slot(job, &source->conn, "copy"), !first,
						job->engine->plugin, zodan_report);
	zodan_set_bookmark(job->snapshot_no, source->name, "consistent_lsn", zodan_format_lsn(job->snapshot.consistent));
	if (first)
		zodan_effect_result(source->name, EFFECT_SLOT, source->slot_first, "done",
							zodan_format_lsn(job->snapshot.consistent));
	zodan_event("info", source->name, psprintf("snapshot %d: what was committed before %X/%X is in it",
											   job->snapshot_no, LSN_FORMAT_ARGS(job->snapshot.consistent)));
}
