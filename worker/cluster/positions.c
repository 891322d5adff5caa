/*
 * positions.c
 *		Positions in the nodes' WAL: where the source stands, and from where on the
 *		new node takes each peer's own stream.
 *
 * B, M, W, C and R are those of docs/how-a-join-works.md.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/positions.h"

#include "base/lsn.h"
#include "cluster/claim.h"
#include "cluster/names.h"
#include "engine/markers.h"
#include "engine/slots.h"
#include "engine/wal.h"
#include "remote/query.h"

/*
 * Keeps the node's WAL from here on, across crashes, until it is released.
 */
void
zodan_positions_hold_wal(ZodanJob *job, ZodanConn *conn)
{
	char	   *slot = zodan_names_helper_slot(job, conn, "wal");

	zodan_claim_effect(job, conn->node, EFFECT_SLOT, slot);
	zodan_slots_create_for_wal(conn, slot);
	zodan_effects_set(job->req, conn->node, EFFECT_SLOT, slot, "done", NULL);
}

/*
 * Ends what zodan_positions_hold_wal() has begun; nothing if that is so.
 */
void
zodan_positions_release_wal(ZodanJob *job, ZodanConn *conn)
{
	char	   *slot = zodan_names_helper_slot(job, conn, "wal");

	zodan_slots_drop(conn, slot);
	zodan_effects_undone(job->req, conn->node, EFFECT_SLOT, slot);
}

/*
 * Makes sure that the source has, durably, all that its peers committed
 * before their markers, which are noted together with the source's position
 * before them.
 */
void
zodan_positions_set_markers(ZodanJob *job, ZodanMoment moment)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	int			n = ZODAN_NPEERS(job);
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * Max(n, 1));
	XLogRecPtr *lsns = palloc(sizeof(XLogRecPtr) * Max(n, 1));
	ZodanConfirm *waits = palloc0(sizeof(ZodanConfirm) * Max(n, 1));

	zodan_journal_forget_positions(job->req, moment);
	zodan_journal_set_position(job->req, moment, source->name, "window_lsn",
							   zodan_query_value(&source->conn, "SELECT pg_catalog.pg_current_wal_flush_lsn()", 0));
	for (int i = 0; i < n; i++)
		conns[i] = &ZODAN_PEERS(job)[i].conn;
	zodan_markers_write(conns, n, lsns);
	for (int i = 0; i < n; i++)
	{
		ZodanMember *m = &ZODAN_PEERS(job)[i];

		if (!m->slot_for_source)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\" has no subscription to node \"%s\" any more", source->name, m->name),
					 errhint("Create it again, or take that node out of the cluster.")));
		zodan_journal_set_position(job->req, moment, m->name, "marker_lsn", zodan_lsn_format(lsns[i]));
		waits[i].provider = &m->conn;
		waits[i].subscriber = source->name;
		waits[i].slot = m->slot_for_source;
		waits[i].lsn = lsns[i];
	}
	zodan_markers_wait_confirmed(waits, n, zodan_job_report, job);
}

/*
 * Finds and stores R of each peer, for the source's state at consistent.
 */
void
zodan_positions_find_resume(ZodanJob *job, ZodanMoment moment, XLogRecPtr consistent)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	int			n = ZODAN_NPEERS(job);
	ZodanResume *resume = palloc0(sizeof(ZodanResume) * Max(n, 1));
	XLogRecPtr	window = zodan_lsn_parse(zodan_journal_position(job->req, moment, source->name)->window_lsn, source->name,
										 psprintf("the stored begin of the window of moment %s", moment.name));

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		ZodanMember *m = &ZODAN_PEERS(job)[i];

		resume[i].node = m->name;
		resume[i].ids[0] = m->origin_on_source;
		resume[i].ids[1] = m->commit_label;
		resume[i].lsn = zodan_lsn_parse(zodan_journal_position(job->req, moment, m->name)->marker_lsn, m->name,
										psprintf("the stored marker of moment %s", moment.name));
	}
	zodan_wal_resume_points(&source->conn, window, consistent, resume, n);
	for (int i = 0; i < n; i++)
		zodan_journal_set_position(job->req, moment, resume[i].node, "resume_lsn", zodan_lsn_format(resume[i].lsn));
}
