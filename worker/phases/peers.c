/*
 * peers.c
 *		The phases bookmark_peers and sync_peers_to_source.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/peers.h"

#include "cluster/claim.h"
#include "cluster/positions.h"
#include "engine/slots.h"

/*
 * Phase: slots on the peers, which from now on keep what the new node may
 * need.
 */
void
zodan_peers_bookmark(ZodanJob *job)
{
	int			n = ZODAN_NPEERS(job);
	ZodanSlot  *slots = palloc0(sizeof(ZodanSlot) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		ZodanMember *m = &ZODAN_PEERS(job)[i];

		zodan_claim_effect(job, m->name, EFFECT_SLOT, m->slot_in);
		slots[i].conn = &m->conn;
		slots[i].name = m->slot_in;
	}
	zodan_slots_create(slots, n, job->engine->plugin);
	for (int i = 0; i < n; i++)
	{
		ZodanMember *m = &ZODAN_PEERS(job)[i];

		zodan_journal_set_position(job->req, ZODAN_CATCH_UP, m->name, "slot_lsn", slots[i].lsn);
		zodan_effects_set(job->req, m->name, EFFECT_SLOT, m->slot_in, "done", slots[i].lsn);
	}
	zodan_job_detail(job, 1, n == 0 ? "the source has no peers" :
					 "the peers keep what the new node may need");
}

/*
 * Phase: the source has what the peers had before.
 */
void
zodan_peers_sync(ZodanJob *job)
{
	zodan_positions_set_markers(job, ZODAN_CATCH_UP);
	zodan_job_detail(job, 1, ZODAN_NPEERS(job) == 0 ? "the source has no peers" :
					 "the source has what its peers had");
}
