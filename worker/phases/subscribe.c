/*
 * subscribe.c
 *		The phases from mirror_replication_sets to subscribe_existing_nodes: the
 *		streams, and where each of them begins.
 *
 * The new node first catches up by the source's stream alone, which for that
 * time carries what the source has from its peers as well: so every change
 * comes after those that it builds on. Then that stream is cut at a position X
 * of the source: the new node is what the source was at X. From there on it
 * takes from each node only what was written there, from R on.
 *
 * X is found as R is: see cut().
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/subscribe.h"

#include "base/failpoint.h"
#include "base/lsn.h"
#include "cluster/claim.h"
#include "cluster/positions.h"
#include "cluster/subscriptions.h"
#include "copy/foreign_keys.h"
#include "copy/plan.h"
#include "copy/schema.h"
#include "copy/stream.h"
#include "engine/markers.h"
#include "engine/origins.h"
#include "remote/query.h"

/* catching up is over when a round takes less, or isn't shorter than the one before */
#define CATCH_UP_MS			500
#define CATCH_UP_SHRINK		0.8

/* how long the start of workers is helped on, how often it's looked at and helped if none starts */
#define WORKER_START_MS		10000
#define WORKER_POLL_MS		2
#define WAKE_AGAIN_MS		100

/* when, and how often then, it's said who doesn't replicate, and a lost worker is looked for */
#define FIRST_LOOK_MS		2000
#define LOOK_MS				5000

/*
 * Phase: what the new node offers is what the source offers.
 */
void
zodan_subscribe_mirror_sets(ZodanJob *job)
{
	zodan_engine_sets_mirror(job->engine, &ZODAN_SOURCE(job)->conn, &job->new_conn, zodan_schema_skipped(job));
}

/*
 * Phase: foreign keys; the source's stream, from the snapshot on; then a check
 * of those keys, which hold on the new node as they do on the source. Where
 * tables were copied under different snapshots, the keys come after these have
 * been brought to the same point.
 */
void
zodan_subscribe_sync_source_to_new(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanEffect *stream = zodan_effects_find(job->req, job->req->new_node_name, EFFECT_SUBSCRIPTION, source->sub_first);
	int			n;

	/* later an apply worker could be in the way; but see foreign_keys.c */
	if (!stream->running && !zodan_plan_has_later(job->req))
	{
		zodan_job_detail(job, 0, "adding foreign keys");
		zodan_foreign_keys_add(job, zodan_schema_skipped(job));
	}
	zodan_stream_start(job);
	zodan_stream_catch_up(job, NULL);
	if (ZODAN_NPEERS(job) > 0)
		zodan_engine_sub_wake_manager(job->engine, &job->new_conn, ZODAN_PEERS(job)[0].sub_in);
	zodan_job_detail(job, 0.5, "checking foreign keys");
	n = zodan_foreign_keys_check(job, zodan_schema_skipped(job));
	zodan_job_detail(job, 1, psprintf("the new node follows the source, %d foreign keys are checked", n));
}

/*
 * A position that lies behind all that a node has flushed can only be an error
 * of ours, and would lose rows.
 */
static void
check_positions(ZodanSlot *slots, int nslots)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * nslots);

	for (int i = 0; i < nslots; i++)
		calls[i] = (ZodanCall)
	{
		.conn = slots[i].conn,.nparams = 1,.params = {slots[i].lsn},
			.sql = "SELECT pg_catalog.pg_current_wal_flush_lsn() OPERATOR(pg_catalog.<) $1::pg_catalog.pg_lsn"
	};
	zodan_query_all(calls, nslots);
	for (int i = 0; i < nslots; i++)
		if (PQgetvalue(calls[i].result, 0, 0)[0] == 't')
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("node \"%s\": its stream would begin at %s, which it has not written yet",
							slots[i].conn->node, slots[i].lsn),
					 errhint("Cancel the request, and report this as an error of zodan_bgw's.")));
}

/*
 * Finds where the new node stands in the source's stream, and from where on
 * it takes each peer's own; stores the positions.
 */
static void
cut(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanConn  *new_conn = &job->new_conn;
	ZodanSlot	slot = {.conn = &source->conn,.name = source->slot_in};
	const char *new_node = new_conn->node;
	char	   *marked = zodan_journal_position(job->req, ZODAN_CUT, source->name)->marker_lsn;
	int64		last = PG_INT64_MAX;
	XLogRecPtr	marker;
	XLogRecPtr	x;

	/*
	 * A stream that was stopped is never started again, for it may be in the
	 * middle of a transaction; all that is needed was stored before.
	 */
	if (!marked)
	{
		for (;;)
		{
			int64		ms = zodan_stream_catch_up(job, NULL);

			if (ms < CATCH_UP_MS || ms > last * CATCH_UP_SHRINK)
				break;
			last = ms;
		}

		/* the slot of the stream that follows begins before X, wherever that will be */
		zodan_claim_effect(job, source->name, EFFECT_SLOT, source->slot_in);
		zodan_slots_create(&slot, 1, job->engine->plugin);
		zodan_effects_set(job->req, source->name, EFFECT_SLOT, source->slot_in, "done", slot.lsn);

		zodan_positions_hold_wal(job, &source->conn);
		zodan_positions_hold_wal(job, new_conn);
		ZODAN_FAILPOINT(job->req, "cut", "held");
		zodan_positions_set_markers(job, ZODAN_CUT);
		zodan_journal_set_position(job->req, ZODAN_CUT, new_node, "window_lsn",
								   zodan_query_value(new_conn, "SELECT pg_catalog.pg_current_wal_flush_lsn()", 0));
		zodan_stream_catch_up(job, &marker);
		marked = zodan_lsn_format(marker);
		zodan_journal_set_position(job->req, ZODAN_CUT, source->name, "marker_lsn", marked);
		/* what comes can't be taken back: a journal without that marker is from the past */
		zodan_claim_require(job);
	}
	zodan_stream_stop(job);
	ZODAN_FAILPOINT(job->req, "cut", "stopped");
	x = zodan_stream_position(job, zodan_lsn_parse(zodan_journal_position(job->req, ZODAN_CUT, new_node)->window_lsn, new_node, "the stored begin of the cut's window"),
							  zodan_lsn_parse(marked, source->name, "the stored marker of the cut"));
	zodan_positions_find_resume(job, ZODAN_CUT, x);
	zodan_journal_set_position(job->req, ZODAN_CUT, source->name, "consistent_lsn", zodan_lsn_format(x));
	zodan_journal_event(job->req, "info", source->name, psprintf("the new node is what the source was at %X/%X", LSN_FORMAT_ARGS(x)));
}

/*
 * Phase: the cut. All of the new node's subscriptions are disabled when it
 * ends, and stand where they have to go on.
 *
 * The stream of the source's own changes is another subscription than the one
 * that was stopped. That one may have been in the middle of a transaction,
 * which Spock takes for a failure of that transaction: it would discard it
 * when the same subscription meets it again.
 */
void
zodan_subscribe_advance_slots(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanConn  *new_conn = &job->new_conn;
	ZodanSlot  *slots = palloc0(sizeof(ZodanSlot) * job->nmembers);

	if (ZODAN_NPEERS(job) == 0)
	{
		zodan_job_detail(job, 1, "the source has no peers");
		return;
	}
	if (!zodan_journal_position(job->req, ZODAN_CUT, source->name)->consistent_lsn)
		cut(job);
	zodan_positions_release_wal(job, &source->conn);
	zodan_positions_release_wal(job, new_conn);

	zodan_engine_sub_drop(job->engine, new_conn, source->sub_first);
	zodan_slots_drop(&source->conn, source->slot_first);
	zodan_origins_drop(new_conn, source->slot_first);
	zodan_effects_undone(job->req, new_conn->node, EFFECT_SUBSCRIPTION, source->sub_first);
	zodan_effects_undone(job->req, source->name, EFFECT_SLOT, source->slot_first);
	zodan_subscriptions_follow_source(job);

	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];
		ZodanPosition *position = zodan_journal_position(job->req, ZODAN_CUT, m->name);

		slots[i].conn = &m->conn;
		slots[i].name = m->slot_in;
		slots[i].lsn = i == 0 ? position->consistent_lsn : position->resume_lsn;
	}
	check_positions(slots, job->nmembers);
	zodan_slots_advance(slots, job->nmembers);
	for (int i = 0; i < job->nmembers; i++)
		slots[i].conn = new_conn;
	zodan_origins_set(slots, job->nmembers);
	zodan_job_detail(job, 1, psprintf("it is set where the streams of %s begin", zodan_cluster_names(job)));
}

/*
 * Waits until each subscription has been seen replicating. A call's connection
 * is that to the subscriber; its first parameter, the subscription's name.
 * The workers of a node that has lost one are started again.
 */
static void
wait_replicating(ZodanJob *job, ZodanCall *calls, int ncalls)
{
	ZodanDeadline deadline = zodan_session_deadline(&job->session);
	ZodanDeadline next_look = zodan_wait_deadline(FIRST_LOOK_MS);
	char	   *query = psprintf("SELECT x.status FROM (%s) AS x(name, status) WHERE x.name = $1", job->engine->sub_status);
	char	  **status = palloc(sizeof(char *) * ncalls);

	for (;;)
	{
		int			behind = -1;

		for (int i = 0; i < ncalls; i++)
			calls[i] = (ZodanCall)
		{
			.conn = calls[i].conn,.sql = query,.nparams = 1,.params = {calls[i].params[0]}
		};
		zodan_query_all(calls, ncalls);
		for (int i = 0; i < ncalls; i++)
		{
			status[i] = PQntuples(calls[i].result) > 0 ? zodan_query_field(calls[i].result, 0, 0) : "gone";
			if (strcmp(status[i], "replicating") == 0)
				status[i] = NULL;
			else if (behind < 0)
				behind = i;
			PQclear(calls[i].result);
		}
		if (behind < 0)
			return;
		if (zodan_wait_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("node \"%s\": subscription \"%s\" is %s, not replicating", calls[behind].conn->node,
							calls[behind].params[0], status[behind]),
					 errhint("Look for the errors of its worker in the server log of that node.")));
		if (zodan_wait_passed(next_look))
		{
			zodan_job_report(job, psprintf("node \"%s\": subscription \"%s\" is %s", calls[behind].conn->node,
										   calls[behind].params[0], status[behind]));
			for (int i = behind; i < ncalls; i++)
				if (status[i])
					zodan_subscriptions_mend_lost(job, calls[i].conn);
			next_look = zodan_wait_deadline(LOOK_MS);
		}
		zodan_wait_sleep(&job->session.waiter, 20);
	}
}

/*
 * Enables all subscriptions of the new node: all but the last at once, with
 * whose help the manager is woken until their workers run.
 */
static void
enable_on_new_node(ZodanJob *job)
{
	int			last = job->nmembers - 1;
	ZodanDeadline deadline = zodan_wait_deadline(WORKER_START_MS);
	ZodanDeadline next_wake = {0};
	const char **subs = palloc(sizeof(char *) * job->nmembers);
	char	   *names;
	int			running;
	int			seen = -1;

	for (int i = 0; i <= last; i++)
		subs[i] = job->members[i].sub_in;
	names = zodan_subscriptions_enable(job, subs, last);

	/* where one doesn't start, the wait for its position will say what's wrong */
	while (last > 0 && !zodan_engine_sub_started(job->engine, &job->new_conn, names, &running) && !zodan_wait_passed(deadline))
	{
		if (running != seen || zodan_wait_passed(next_wake))
		{
			zodan_engine_sub_wake_manager(job->engine, &job->new_conn, job->members[last].sub_in);
			next_wake = zodan_wait_deadline(WAKE_AGAIN_MS);
			seen = running;
		}
		zodan_wait_sleep(&job->session.waiter, WORKER_POLL_MS);
	}
	zodan_subscriptions_enable(job, &subs[last], 1);
}

/*
 * Phase: the streams of all existing nodes, each of its own changes.
 */
void
zodan_subscribe_enable(ZodanJob *job)
{
	int			n = job->nmembers;
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * n);
	XLogRecPtr *lsns = palloc(sizeof(XLogRecPtr) * n);
	ZodanConfirm *waits = palloc0(sizeof(ZodanConfirm) * n);
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * n);

	enable_on_new_node(job);
	for (int i = 0; i < n; i++)
		conns[i] = &job->members[i].conn;
	zodan_markers_write(conns, n, lsns);
	for (int i = 0; i < n; i++)
		waits[i] = (ZodanConfirm)
	{
		.provider = &job->members[i].conn,.subscriber = job->req->new_node_name,
			.slot = job->members[i].slot_in,.lsn = lsns[i]
	};
	zodan_markers_wait_confirmed(waits, n, zodan_job_report, job);
	for (int i = 0; i < n; i++)
		calls[i] = (ZodanCall)
	{
		.conn = &job->new_conn,.params = {job->members[i].sub_in}
	};
	wait_replicating(job, calls, n);
	zodan_job_detail(job, 1, psprintf("the new node replicates from %s", zodan_cluster_names(job)));
}

/*
 * Phase: the existing nodes' subscriptions to the new one. Its slots begin
 * here, behind the copy; nothing else was written on it.
 */
void
zodan_subscribe_existing_nodes(ZodanJob *job)
{
	int			n = job->nmembers;
	ZodanConn  *new_conn = &job->new_conn;
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * n);
	ZodanSlot  *slots = palloc0(sizeof(ZodanSlot) * n);
	ZodanSlot  *origins = palloc0(sizeof(ZodanSlot) * n);
	ZodanMember **whose = palloc(sizeof(ZodanMember *) * n);
	int			norigins = 0;
	ZodanConfirm *waits = palloc0(sizeof(ZodanConfirm) * n);
	XLogRecPtr	marker;

	for (int i = 0; i < n; i++)
	{
		zodan_claim_effect(job, new_conn->node, EFFECT_SLOT, job->members[i].slot_out);
		slots[i].conn = new_conn;
		slots[i].name = job->members[i].slot_out;
	}
	zodan_slots_create(slots, n, job->engine->plugin);
	for (int i = 0; i < n; i++)
	{
		ZodanMember *m = &job->members[i];
		char	   *running = zodan_claim_running(job, m->name, m->sub_out);

		zodan_effects_set(job->req, new_conn->node, EFFECT_SLOT, m->slot_out, "done", slots[i].lsn);
		calls[i].conn = &m->conn;
		calls[i].params[0] = psprintf("{%s}", m->sub_out);

		/* "done" stands for having been set here: it may run from now on */
		if (running && strcmp(running, "done") == 0)
			continue;
		whose[norigins] = m;
		origins[norigins] = slots[i];
		origins[norigins++].conn = &m->conn;
	}
	zodan_origins_set(origins, norigins);
	for (int i = 0; i < norigins; i++)
		zodan_effects_set_running(job->req, whose[i]->name, whose[i]->sub_out);
	/* nor can this */
	zodan_claim_require(job);
	zodan_engine_sub_enable(job->engine, calls, n);

	zodan_markers_write(&new_conn, 1, &marker);
	for (int i = 0; i < n; i++)
		waits[i] = (ZodanConfirm)
	{
		.provider = new_conn,.subscriber = job->members[i].name,
			.slot = job->members[i].slot_out,.lsn = marker
	};
	zodan_markers_wait_confirmed(waits, n, zodan_job_report, job);
	for (int i = 0; i < n; i++)
		calls[i].params[0] = job->members[i].sub_out;
	wait_replicating(job, calls, n);
	zodan_job_detail(job, 1, psprintf("%s replicate from the new node", zodan_cluster_names(job)));
}
