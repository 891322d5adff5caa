/*
 * markers.c
 *		Markers: messages in the WAL of a node, and waiting until they have arrived.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "engine/markers.h"

#include "base/lsn.h"
#include "lib/stringinfo.h"
#include "remote/query.h"

/*
 * Writes a transactional message into the WAL of each node, side by side, and
 * returns where: what was committed before lies before that position.
 */
void
zodan_markers_write(ZodanConn **conns, int nconns, XLogRecPtr *lsns)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * Max(nconns, 1));

	for (int i = 0; i < nconns; i++)
	{
		calls[i].conn = conns[i];
		calls[i].sql = "SELECT pg_catalog.pg_logical_emit_message(true, 'zodan', 'marker')";
	}
	zodan_query_all(calls, nconns);
	for (int i = 0; i < nconns; i++)
	{
		lsns[i] = zodan_lsn_parse(PQgetvalue(calls[i].result, 0, 0), conns[i]->node, "the position of a marker");
		PQclear(calls[i].result);
	}
	pfree(calls);
}

/*
 * Writes a marker with a name, by which zodan_wal_last_marker() finds it.
 */
void
zodan_markers_write_named(ZodanConn *conn, const char *name)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_logical_emit_message(true, $1, '')", 1, name));
}

static void
look_at_slots(ZodanConfirm *waits, int nwaits)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * Max(nwaits, 1));
	ZodanConfirm **whose = palloc(sizeof(ZodanConfirm *) * Max(nwaits, 1));
	int			n = 0;

	for (int i = 0; i < nwaits; i++)
	{
		if (waits[i].reached)
			continue;
		calls[n].conn = waits[i].provider;
		calls[n].sql = "SELECT confirmed_flush_lsn, active, wal_status FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
		calls[n].nparams = 1;
		calls[n].params[0] = waits[i].slot;
		whose[n++] = &waits[i];
	}
	zodan_query_all(calls, n);
	for (int i = 0; i < n; i++)
	{
		ZodanConfirm *w = whose[i];
		PGresult   *result = calls[i].result;

		if (PQntuples(result) == 0 || strcmp(PQgetvalue(result, 0, 2), "lost") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\": slot \"%s\" for node \"%s\" is %s", w->provider->node,
							w->slot, w->subscriber,
							PQntuples(result) ? "lost: the WAL that it needs was removed" : "gone")));
		w->confirmed = zodan_lsn_parse(PQgetvalue(result, 0, 0), w->provider->node, psprintf("the confirmed position of slot \"%s\"", w->slot));
		w->active = PQgetvalue(result, 0, 1)[0] == 't';
		if (w->active)
			w->seen = zodan_wait_clock();
		w->reached = w->active && w->confirmed >= w->lsn;
		PQclear(result);
	}
	pfree(calls);
	pfree(whose);
}

/*
 * One whose slot's reader hasn't confirmed its position; NULL: all have. An error if a
 * reader that doesn't come back by itself has been missing for too long.
 */
static ZodanConfirm *
find_behind(ZodanConfirm *waits, int nwaits)
{
	ZodanConfirm *behind = NULL;

	for (int i = 0; i < nwaits && !behind; i++)
		if (!waits[i].reached)
			behind = &waits[i];
	if (behind && behind->absent_ms > 0 && zodan_wait_clock() - behind->seen > behind->absent_ms * 1000)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("node \"%s\": nobody reads slot \"%s\" of node \"%s\" any more", behind->subscriber,
						behind->slot, behind->provider->node),
				 errhint("The request starts its apply worker again; the server log of node \"%s\" says why it has ended.",
						 behind->subscriber)));
	return behind;
}

/*
 * Waits until each slot's reader has confirmed its position: then all that
 * was committed before it is applied and durable on the subscriber, since the
 * stream would start there after a crash. That may take long; what is bounded
 * is the time in which nobody gets anywhere. It's a transient error if a reader
 * that doesn't come back by itself is missing. report (may be NULL) is told about
 * every second who is behind.
 */
void
zodan_markers_wait_confirmed(ZodanConfirm *waits, int nwaits, void (*report) (void *arg, const char *detail), void *arg)
{
	ZodanSession *session;
	ZodanDeadline deadline;
	ZodanDeadline next_report = zodan_wait_deadline(1000);
	XLogRecPtr	moved = 0;
	int64		started = zodan_wait_clock();

	if (nwaits == 0)
		return;
	session = waits[0].provider->session;
	deadline = zodan_session_deadline(session);
	for (int i = 0; i < nwaits; i++)
	{
		waits[i].reached = false;
		waits[i].seen = started;
	}
	for (;;)
	{
		ZodanConfirm *behind;
		XLogRecPtr	sum = 0;
		char	   *where;

		look_at_slots(waits, nwaits);
		for (int i = 0; i < nwaits; i++)
			sum += waits[i].confirmed;
		if (sum > moved)
			deadline = zodan_session_deadline(session);
		moved = sum;
		behind = find_behind(waits, nwaits);
		if (!behind)
			return;
		where = psprintf("node \"%s\" has confirmed %X/%X of node \"%s\", waiting for %X/%X%s",
						 behind->subscriber, LSN_FORMAT_ARGS(behind->confirmed),
						 behind->provider->node, LSN_FORMAT_ARGS(behind->lsn),
						 behind->active ? "" : "; its subscription is not connected");
		if (zodan_wait_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("no progress within " INT64_FORMAT " ms: %s", session->timeout_ms, where),
					 errhint("Look for the errors of the apply worker in the server log of node \"%s\"; the request goes on by itself.",
							 behind->subscriber)));
		if (report && zodan_wait_passed(next_report))
		{
			report(arg, where);
			next_report = zodan_wait_deadline(1000);
		}
		pfree(where);
		/* so that what was short isn't made long */
		zodan_wait_sleep(&session->waiter, Min(Max((zodan_wait_clock() - started) / 1000 / 8, ZODAN_POLL_FIRST_MS), ZODAN_POLL_LAST_MS));
	}
}
