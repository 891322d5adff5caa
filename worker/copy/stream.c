/*
 * stream.c
 *		The source's stream by which the new node catches up.
 *
 * Tables that were copied under different snapshots are at different points in
 * time. The engine brings them together: it skips a table's changes up to the
 * position that the state of the table tells. But an apply worker reads these
 * states for the first time when it has no transaction at hand, and by then
 * may have applied its first one to all tables alike. A row could so become
 * older than it was copied, and stay so, since what came next is skipped.
 *
 * So the first transaction of such a worker has to be one that changes
 * nothing. Markers are written from before the first snapshot on, every few
 * seconds, and a slot, "start", keeps the WAL since. It's moved to where the
 * last marker before the first snapshot commits, and the stream's slot is a
 * copy of it. What lies between that marker and a table's snapshot is skipped
 * for that table, as anything is up to where the table stands. And the worker
 * mustn't be started by anybody else, from somewhere in the middle: the
 * subscription is sealed while its only worker waits at a gate; see engine.c.
 * If that worker ends, the stream begins at the last marker before the position
 * that it has come to, and for each table skips what is there.
 *
 * When all tables stand at the same point, the seal is taken off.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/stream.h"

#include "base/array.h"
#include "base/failpoint.h"
#include "base/lsn.h"
#include "cluster/claim.h"
#include "cluster/names.h"
#include "cluster/positions.h"
#include "cluster/subscriptions.h"
#include "copy/plan.h"
#include "engine/markers.h"
#include "engine/origins.h"
#include "engine/wal.h"
#include "remote/query.h"

/* how long a worker may take to connect, and to look at the states of tables */
#define WORKER_MS	10000
#define POLL_MS		2

/*
 * Makes the slot from which the stream may begin, and the first marker, before
 * the first snapshot.
 */
void
zodan_stream_prepare(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	char	   *slot = zodan_names_start_slot(job);
	ZodanExport opening = {.conn = zodan_connection_another(&source->conn)};

	if (zodan_names_has_start_slot(job))
		return;
	/* one of that name can only be what an earlier request has left */
	zodan_claim_effect(job, source->name, EFFECT_SLOT, slot);
	zodan_slots_drop(&source->conn, slot);

	/* what that waits for, the status has to tell */
	zodan_slots_export(&opening, slot, false, job->engine->plugin);
	while (!zodan_slots_exported(&opening, &source->conn, true, zodan_job_report, job))
	{
		ZodanSocket socket = {PQsocket(opening.conn.pg), WL_SOCKET_READABLE};

		zodan_wait_sockets(&job->session.waiter, &socket, 1, opening.next_report);
	}
	zodan_connection_close(&opening.conn);
	zodan_markers_write_named(&source->conn, slot);
	zodan_effects_set(job->req, source->name, EFFECT_SLOT, slot, "done", zodan_lsn_format(opening.consistent));
}

/*
 * Drops the slot "start". Without it the stream is one like any other.
 */
static void
forget_start(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);

	zodan_slots_drop(&source->conn, zodan_names_start_slot(job));
	ZODAN_FAILPOINT(job->req, "gate", "gone");
	zodan_effects_undone(job->req, source->name, EFFECT_SLOT, zodan_names_start_slot(job));
}

static bool
is_read(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);

	return zodan_query_value(&source->conn, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active",
							 1, source->slot_first) != NULL;
}

/*
 * Disables the stream's subscription, and waits until its worker and its
 * walsender have gone.
 */
void
zodan_stream_stop(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanDeadline deadline = zodan_session_deadline(&job->session);
	char	   *names = psprintf("{%s}", source->sub_first);
	int			running;

	zodan_engine_sub_disable(job->engine, &job->new_conn, source->sub_first);
	while (zodan_engine_sub_started(job->engine, &job->new_conn, names, &running) || running > 0 ||
		   zodan_origins_in_use(&job->new_conn, source->slot_first) || is_read(job))
	{
		if (zodan_wait_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("node \"%s\": the worker of subscription \"%s\" does not end",
							job->req->new_node_name, source->sub_first)));
		zodan_wait_sleep(&job->session.waiter, 10);
	}
}

/*
 * Where the new node, the stream being stopped, stands in it: all commits of
 * the source that start before this position are durable on the new node, no
 * other is. What it has applied stands in its own WAL from window on, labelled
 * with where that comes from, and with the stream's origin or, where it was
 * forwarded, with what the engine makes of the origin there; known is where it
 * stood at window. A label that isn't that of a commit of the source isn't of the
 * stream: nobody else may commit with an origin in the new node's database.
 */
XLogRecPtr
zodan_stream_position(ZodanJob *job, XLogRecPtr window, XLogRecPtr known)
{
	ZodanConn  *new_conn = &job->new_conn;
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanResume applied = {.node = source->name,.lsn = known};
	char	   *lsn;
	char	   *kept;

	applied.ids[0] = zodan_query_value(new_conn, "SELECT roident FROM pg_catalog.pg_replication_origin WHERE roname = $1", 1, source->slot_first);
	applied.ids[1] = job->engine->labels_by_origin ? "*" : NULL;

	/* a commit that isn't flushed could be lost, and would be missing for ever */
	PQclear(zodan_query(new_conn, "SELECT pg_catalog.pg_logical_emit_message(true, 'zodan', 'flush')", 0));
	zodan_wal_resume_points(new_conn, window,
							zodan_lsn_parse(zodan_query_value(new_conn, "SELECT pg_catalog.pg_current_wal_flush_lsn()", 0), new_conn->node, "its flush position"),
							&applied, 1);
	lsn = zodan_lsn_format(applied.lsn);
	/* "start", and what the cut holds, still keep the WAL of what was sent last */
	kept = zodan_query_value(&source->conn, "SELECT pg_catalog.min(restart_lsn) FROM pg_catalog.pg_replication_slots WHERE slot_name IN ($1, $2, $3)",
							 3, source->slot_first, zodan_names_start_slot(job), zodan_names_helper_slot(job, &source->conn, "wal"));
	if (applied.lsn > known && kept && !zodan_wal_are_commits(&source->conn, kept, zodan_array_literal(list_make1(lsn)), 1))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("node \"%s\" has a commit that is labelled with %s, which is that of no commit of node \"%s\": something else commits with a replication origin in its database",
						new_conn->node, lsn, source->name),
				 errhint("End that, then SELECT zodan.cancel(" INT64_FORMAT "), and file the request again.", job->req->id)));
	return applied.lsn;
}

/*
 * The position that the stream, which doesn't run, has come to: at first that
 * of the first snapshot. From when it's started on the new node's WAL is held.
 */
static XLogRecPtr
reached(ZodanJob *job)
{
	ZodanConn  *new_conn = &job->new_conn;
	XLogRecPtr	first = zodan_lsn_parse(zodan_journal_position(job->req, ZODAN_SNAPSHOT(0), ZODAN_SOURCE(job)->name)->consistent_lsn,
										ZODAN_SOURCE(job)->name, "the stored consistent point of the first snapshot");
	ZodanPosition *position = zodan_journal_position(job->req, ZODAN_CATCH_UP, new_conn->node);

	if (position->window_lsn)
		return zodan_stream_position(job, zodan_lsn_parse(position->window_lsn, new_conn->node, "the stored begin of the stream's window"), first);
	zodan_positions_hold_wal(job, new_conn);
	zodan_journal_set_position(job->req, ZODAN_CATCH_UP, new_conn->node, "window_lsn",
							   zodan_query_value(new_conn, "SELECT pg_catalog.pg_current_wal_flush_lsn()", 0));
	return first;
}

/*
 * Moves the slot "start" to the last marker before a position, and returns
 * where that is. If there is no new one it stays where it is, at the last.
 */
static const char *
move_start(ZodanJob *job, XLogRecPtr position)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanSlot	slot = {.conn = &source->conn,.name = zodan_names_start_slot(job),
		.lsn = zodan_journal_position(job->req, ZODAN_CATCH_UP, source->name)->marker_lsn
	};
	char	   *kept = zodan_query_value(&source->conn, "SELECT confirmed_flush_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
										 1, slot.name);
	XLogRecPtr	mark = zodan_wal_last_marker(&source->conn, slot.name, zodan_lsn_parse(kept, source->name, psprintf("the confirmed position of slot \"%s\"", slot.name)), position);

	if (mark != InvalidXLogRecPtr)
		slot.lsn = zodan_lsn_format(mark);
	if (!slot.lsn)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("node \"%s\": its WAL has no marker of this request before %X/%X", source->name, LSN_FORMAT_ARGS(position)),
				 errhint("Cancel the request, and report this as an error of zodan_bgw's.")));
	/* once it's there, that marker isn't found any more */
	zodan_journal_set_position(job->req, ZODAN_CATCH_UP, source->name, "marker_lsn", slot.lsn);
	zodan_slots_advance(&slot, 1);
	return slot.lsn;
}

/*
 * Waits until the worker, which has just been enabled, waits at the gate.
 */
static void
wait_at_gate(ZodanJob *job, const ZodanConn *gate)
{
	const char *sub = ZODAN_SOURCE(job)->sub_first;
	ZodanDeadline deadline = zodan_session_deadline(&job->session);

	while (!zodan_engine_sub_at_gate(job->engine, &job->new_conn, sub, gate))
	{
		if (zodan_wait_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("node \"%s\": no worker of subscription \"%s\" was started within " INT64_FORMAT " ms",
							gate->node, sub, job->session.timeout_ms),
					 errhint("Look for messages of the engine in the server log of that node.")));
		zodan_wait_sleep(&job->session.waiter, POLL_MS);
	}
}

/*
 * Starts the stream at the marker, in a worker that is the only one.
 *
 * The stream's slot is made after the seal: if we end before, no worker gets
 * anywhere, and if we end after it, this one alone does.
 */
static void
start_at_marker(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanConn  *new_conn = &job->new_conn;
	ZodanSlot	origin = {.conn = new_conn,.name = source->slot_first};
	ZodanConn	gate = zodan_connection_another(new_conn);
	XLogRecPtr	done;

	/* a walsender alone may have been left behind by a node that has vanished */
	if (zodan_engine_sub_sealed(job->engine, new_conn, source->sub_first) && is_read(job) &&
		zodan_origins_in_use(new_conn, source->slot_first))
		return;
	zodan_stream_stop(job);
	done = reached(job);
	origin.lsn = move_start(job, done);
	zodan_slots_drop(&source->conn, source->slot_first);
	zodan_engine_sub_unseal(job->engine, new_conn, source->sub_first, source->slot_first);
	zodan_engine_sub_skip_until(job->engine, new_conn, source->sub_first, zodan_plan_positions(job->req, source->name, done));
	zodan_origins_set(&origin, 1);

	zodan_remote_connect(&gate);
	zodan_engine_sub_gate(job->engine, &gate);
	zodan_subscriptions_enable(job, &source->sub_first, 1);
	wait_at_gate(job, &gate);
	ZODAN_FAILPOINT(job->req, "gate", "waiting");
	zodan_engine_sub_seal(job->engine, new_conn, source->sub_first);
	ZODAN_FAILPOINT(job->req, "gate", "sealed");
	zodan_slots_copy(&source->conn, zodan_names_start_slot(job), source->slot_first);
	ZODAN_FAILPOINT(job->req, "gate", "slot");
	PQclear(zodan_query(&gate, "COMMIT", 0));
	zodan_connection_close(&gate);
}

static int64
catch_up(ZodanJob *job, XLogRecPtr *marker, void (*report) (void *arg, const char *detail))
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanConn  *conn = &source->conn;
	ZodanConfirm wait = {.provider = conn,.subscriber = job->req->new_node_name,.slot = source->slot_first};
	int64		started = zodan_wait_clock();

	/* nobody else starts the worker of a sealed subscription */
	if (zodan_engine_sub_sealed(job->engine, &job->new_conn, source->sub_first))
		wait.absent_ms = WORKER_MS;
	zodan_markers_write(&conn, 1, &wait.lsn);
	zodan_markers_wait_confirmed(&wait, 1, report, job);
	if (marker)
		*marker = wait.lsn;
	return (zodan_wait_clock() - started) / 1000;
}

/*
 * Writes a marker on the source and waits until the new node has all before
 * it. Returns the milliseconds that took, and where the marker is unless that
 * is NULL.
 */
int64
zodan_stream_catch_up(ZodanJob *job, XLogRecPtr *marker)
{
	return catch_up(job, marker, zodan_job_report);
}

static void
forget_and_report(void *arg, const char *detail)
{
	ZodanJob   *job = arg;

	zodan_engine_sub_forget_passed(job->engine, &job->new_conn, ZODAN_SOURCE(job)->sub_first);
	zodan_job_report(job, detail);
}

/*
 * Do all tables stand at the same point? A subscription is told what to skip
 * before it's enabled, and unsealed when it skips nothing any more.
 */
static bool
are_together(ZodanJob *job)
{
	ZodanConn  *new_conn = &job->new_conn;
	const char *sub = ZODAN_SOURCE(job)->sub_first;

	return zodan_journal_position(job->req, ZODAN_CATCH_UP, new_conn->node)->window_lsn &&
		zodan_engine_sub_enabled(job->engine, new_conn, sub) &&
		!zodan_engine_sub_sealed(job->engine, new_conn, sub) &&
		!zodan_engine_sub_skips(job->engine, new_conn, sub);
}

/*
 * Waits until no table is treated apart any more; then its worker may be
 * started by anybody.
 */
static void
bring_together(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanConn  *new_conn = &job->new_conn;
	ZodanDeadline deadline;

	catch_up(job, NULL, forget_and_report);
	deadline = zodan_wait_deadline(WORKER_MS);
	while (zodan_engine_sub_skips(job->engine, new_conn, source->sub_first))
	{
		if (zodan_wait_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("node \"%s\": subscription \"%s\" still skips changes of tables",
							new_conn->node, source->sub_first)));
		zodan_wait_sleep(&job->session.waiter, POLL_MS);
	}
	zodan_engine_sub_forget_passed(job->engine, new_conn, source->sub_first);
	zodan_engine_sub_unseal(job->engine, new_conn, source->sub_first, source->slot_first);
}

/*
 * Starts the stream, unless it was started, and waits until all tables stand
 * at the same point.
 */
void
zodan_stream_start(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);

	if (zodan_names_has_start_slot(job) && zodan_plan_has_later(job->req))
	{
		if (!are_together(job))
		{
			start_at_marker(job);
			bring_together(job);
		}
		zodan_positions_release_wal(job, &job->new_conn);
		forget_start(job);
		return;
	}
	if (zodan_names_has_start_slot(job))
	{
		ZodanSlot	origin = {&job->new_conn, source->slot_first, zodan_journal_position(job->req, ZODAN_SNAPSHOT(0), source->name)->consistent_lsn};

		zodan_origins_set(&origin, 1);
		forget_start(job);
	}
	zodan_subscriptions_enable(job, &source->sub_first, 1);
}
