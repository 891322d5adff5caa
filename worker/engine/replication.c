/*
 * replication.c
 *		Slots, origins, markers and positions on the nodes: PostgreSQL's own
 *		primitives, on which alone it rests that a join loses nothing. See
 *		docs/how-a-join-works.md for the argument.
 */
#include "engine/replication.h"

#include "utils/builtins.h"
#include "utils/pg_lsn.h"

#define POLL_FIRST_MS	2
#define POLL_LAST_MS	50

/*
 * Reads a position in its text form; raises an error if it is NULL, or none.
 */
XLogRecPtr
zodan_parse_lsn(const char *text)
{
	uint32		high;
	uint32		low;

	if (!text || sscanf(text, "%X/%X", &high, &low) != 2)
		elog(ERROR, "invalid position \"%s\"", text ? text : "(null)");
	return (uint64) high << 32 | low;
}

/*
 * A position in its text form, palloc'd.
 */
char *
zodan_format_lsn(XLogRecPtr lsn)
{
	return psprintf("%X/%X", LSN_FORMAT_ARGS(lsn));
}

/* ---------- slots ---------- */

/*
 * Makes logical slots, on different nodes side by side, unless they're there,
 * and stores in each where it begins.
 */
void
zodan_slots_create(ZodanSlot *slots, int nslots, const char *plugin)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * Max(nslots, 1));

	for (int i = 0; i < nslots; i++)
	{
		calls[i].conn = slots[i].conn;
		/* from 17 on a slot may be kept on standbys, so that it survives a failover */
		calls[i].sql = slots[i].conn->version >= 170000 ?
			"SELECT coalesce((SELECT confirmed_flush_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = $1),"
			" (SELECT lsn FROM pg_catalog.pg_create_logical_replication_slot($1, $2, false, false, true)))" :
			"SELECT coalesce((SELECT confirmed_flush_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = $1),"
			" (SELECT lsn FROM pg_catalog.pg_create_logical_replication_slot($1, $2)))";
		calls[i].nparams = 2;
		calls[i].params[0] = slots[i].name;
		calls[i].params[1] = plugin;
	}
	zodan_call_all(calls, nslots, zodan_statement_timeout());
	zodan_raise_any(calls, nslots);
	for (int i = 0; i < nslots; i++)
	{
		slots[i].lsn = zodan_field(calls[i].result, 0, 0);
		PQclear(calls[i].result);
	}
	pfree(calls);
}

/*
 * Drops the slot if it's there, ending whoever reads it.
 */
void
zodan_slot_drop(ZodanConn *conn, const char *slot)
{
	ZodanDeadline deadline = zodan_deadline(zodan_statement_timeout());
	int			poll_ms = POLL_FIRST_MS;

	for (;;)
	{
		char	   *gone = zodan_value(conn, "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1)", 1, slot);

		if (gone[0] == 't')
			return;
		PQclear(zodan_query(conn, "SELECT pg_catalog.pg_terminate_backend(active_pid)"
							"  FROM pg_catalog.pg_replication_slots"
							" WHERE slot_name = $1 AND active_pid <> pg_catalog.pg_backend_pid()", 1, slot));
		PQclear(zodan_query(conn, "SELECT pg_catalog.pg_drop_replication_slot(slot_name)"
							"  FROM pg_catalog.pg_replication_slots"
							" WHERE slot_name = $1 AND coalesce(active_pid, pg_catalog.pg_backend_pid()) = pg_catalog.pg_backend_pid()", 1, slot));
		if (zodan_deadline_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("node \"%s\": slot \"%s\" can't be dropped, being in use", conn->node, slot)));
		zodan_sleep(poll_ms);
		poll_ms = Min(poll_ms * 2, POLL_LAST_MS);
	}
}

/*
 * Moves each slot forward to its lsn, on different nodes side by side. Nothing
 * happens to one that is there already.
 */
void
zodan_slots_advance(ZodanSlot *slots, int nslots)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * Max(nslots, 1));

	for (int i = 0; i < nslots; i++)
	{
		calls[i].conn = slots[i].conn;
		calls[i].sql = "SELECT pg_catalog.pg_replication_slot_advance(slot_name, $2::pg_catalog.pg_lsn)"
			"  FROM pg_catalog.pg_replication_slots"
			" WHERE slot_name = $1 AND confirmed_flush_lsn OPERATOR(pg_catalog.<) $2::pg_catalog.pg_lsn";
		calls[i].nparams = 2;
		calls[i].params[0] = slots[i].name;
		calls[i].params[1] = slots[i].lsn;
	}
	/* all that lies between is decoded, however long that takes */
	zodan_call_all(calls, nslots, ZODAN_NO_TIMEOUT);
	zodan_raise_any(calls, nslots);
	for (int i = 0; i < nslots; i++)
		PQclear(calls[i].result);
	pfree(calls);
}

/*
 * Makes a logical slot that stands where another one does.
 */
void
zodan_slot_copy(ZodanConn *conn, const char *from, const char *to)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_copy_logical_replication_slot($1, $2)", 2, from, to));

	/* that a slot is kept on standbys isn't copied, and can be set by a walsender alone */
	if (conn->version >= 170000)
	{
		ZodanConn	walsender = *conn;

		walsender.pg = NULL;
		walsender.replication = true;
		zodan_connect(&walsender);
		PQclear(zodan_query(&walsender, psprintf("ALTER_REPLICATION_SLOT %s (FAILOVER)", zodan_quote(to)), 0));
		zodan_disconnect(&walsender);
	}
}

/*
 * Makes a slot that keeps the node's WAL from here on; one of that name that
 * is there begins anew.
 */
void
zodan_wal_slot_create(ZodanConn *conn, const char *slot)
{
	zodan_slot_drop(conn, slot);
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_create_physical_replication_slot($1, true)", 1, slot));
}

/* ---------- origins ---------- */

/*
 * Makes a replication origin on the node; nothing if it is there.
 */
void
zodan_origin_create(ZodanConn *conn, const char *origin)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_replication_origin_create($1)"
						" WHERE pg_catalog.pg_replication_origin_oid($1) IS NULL", 1, origin));
}

/*
 * Drops a replication origin on the node; nothing if it is gone.
 */
void
zodan_origin_drop(ZodanConn *conn, const char *origin)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_replication_origin_drop($1)"
						" WHERE pg_catalog.pg_replication_origin_oid($1) IS NOT NULL", 1, origin));
}

/*
 * What tells a replication origin from a later one of its name: text; NULL if
 * there is none. The row of an origin is never updated.
 */
char *
zodan_origin_identity(ZodanConn *conn, const char *origin)
{
	return zodan_value(conn, "SELECT pg_catalog.concat_ws('/', roident, xmin) FROM pg_catalog.pg_replication_origin WHERE roname = $1",
					   1, origin);
}

/*
 * Does a process work for the origin?
 */
bool
zodan_origin_in_use(ZodanConn *conn, const char *origin)
{
	ZodanCall	call = {.conn = conn,.nparams = 1};

	call.sql = "SELECT pg_catalog.pg_replication_origin_session_setup($1)";
	call.params[0] = origin;
	zodan_call_all(&call, 1, zodan_statement_timeout());
	if (call.error && call.sqlstate == ERRCODE_OBJECT_IN_USE)
		return true;
	zodan_raise_any(&call, 1);
	PQclear(call.result);
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_replication_origin_session_reset()", 0));
	return false;
}

/*
 * Sets where subscribers go on, durably, on different nodes side by side: each
 * origin goes by the name of its slot. Only for subscriptions that are disabled
 * and have never run.
 */
void
zodan_origins_set(ZodanSlot *origins, int norigins)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * Max(norigins, 1));

	for (int i = 0; i < norigins; i++)
	{
		calls[i].conn = origins[i].conn;
		/* it writes WAL, but only a commit that has something to commit flushes it */
		calls[i].sql = "SELECT pg_catalog.pg_replication_origin_advance($1, $2::pg_catalog.pg_lsn),"
			" pg_catalog.pg_logical_emit_message(true, 'zodan', 'origin')";
		calls[i].nparams = 2;
		calls[i].params[0] = origins[i].name;
		calls[i].params[1] = origins[i].lsn;
	}
	zodan_call_all(calls, norigins, zodan_statement_timeout());
	zodan_raise_any(calls, norigins);
	for (int i = 0; i < norigins; i++)
		PQclear(calls[i].result);
	pfree(calls);
}

/* ---------- markers ---------- */

/*
 * Writes a transactional message into the WAL of each node, side by side, and
 * returns where: what was committed before lies before that position.
 */
void
zodan_markers(ZodanConn **conns, int nconns, XLogRecPtr *lsns)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * Max(nconns, 1));

	for (int i = 0; i < nconns; i++)
	{
		calls[i].conn = conns[i];
		calls[i].sql = "SELECT pg_catalog.pg_logical_emit_message(true, 'zodan', 'marker')";
	}
	zodan_call_all(calls, nconns, zodan_statement_timeout());
	zodan_raise_any(calls, nconns);
	for (int i = 0; i < nconns; i++)
	{
		lsns[i] = zodan_parse_lsn(PQgetvalue(calls[i].result, 0, 0));
		PQclear(calls[i].result);
	}
	pfree(calls);
}

/*
 * Writes a marker with a name, by which zodan_last_mark() finds it.
 */
void
zodan_mark(ZodanConn *conn, const char *name)
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
	zodan_call_all(calls, n, zodan_statement_timeout());
	zodan_raise_any(calls, n);
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
		w->confirmed = zodan_parse_lsn(PQgetvalue(result, 0, 0));
		w->active = PQgetvalue(result, 0, 1)[0] == 't';
		if (w->active)
			w->seen = zodan_clock();
		w->reached = w->active && w->confirmed >= w->lsn;
		PQclear(result);
	}
	pfree(calls);
	pfree(whose);
}

/*
 * Waits until each slot's reader has confirmed its position: then all that
 * was committed before it is applied and durable on the subscriber, since the
 * stream would start there after a crash. That may take long; what is bounded
 * by timeout_ms is the time in which nobody gets anywhere. It's a transient
 * error if a reader that doesn't come back by itself is missing. report (may be
 * NULL) is told about every second who is behind.
 */
void
zodan_wait_confirmed(ZodanConfirm *waits, int nwaits, int64 timeout_ms,
					 void (*report) (const char *))
{
	ZodanDeadline deadline = zodan_deadline(timeout_ms);
	ZodanDeadline next_report = zodan_deadline(1000);
	XLogRecPtr	moved = 0;
	int64		started = zodan_clock();

	for (int i = 0; i < nwaits; i++)
	{
		waits[i].reached = false;
		waits[i].seen = started;
	}
	for (;;)
	{
		ZodanConfirm *behind = NULL;
		XLogRecPtr	sum = 0;
		char	   *where;

		look_at_slots(waits, nwaits);
		for (int i = 0; i < nwaits; i++)
			sum += waits[i].confirmed;
		if (sum > moved)
			deadline = zodan_deadline(timeout_ms);
		moved = sum;
		for (int i = 0; i < nwaits && !behind; i++)
			if (!waits[i].reached)
				behind = &waits[i];
		if (!behind)
			return;
		if (behind->absent_ms > 0 && zodan_clock() - behind->seen > behind->absent_ms * 1000)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("node \"%s\": nobody reads slot \"%s\" of node \"%s\" any more", behind->subscriber,
							behind->slot, behind->provider->node),
					 errhint("The request starts its apply worker again; the server log of node \"%s\" says why it has ended.",
							 behind->subscriber)));

		where = psprintf("node \"%s\" has confirmed %X/%X of node \"%s\", waiting for %X/%X%s",
						 behind->subscriber, LSN_FORMAT_ARGS(behind->confirmed),
						 behind->provider->node, LSN_FORMAT_ARGS(behind->lsn),
						 behind->active ? "" : "; its subscription is not connected");
		if (zodan_deadline_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("no progress within " INT64_FORMAT " ms: %s", timeout_ms, where),
					 errhint("Look for the errors of the apply worker in the server log of node \"%s\"; the request goes on by itself.",
							 behind->subscriber)));
		if (report && zodan_deadline_passed(next_report))
		{
			report(where);
			next_report = zodan_deadline(1000);
		}
		pfree(where);
		/* so that what was short isn't made long */
		zodan_sleep(Min(Max((zodan_clock() - started) / 1000 / 8, POLL_FIRST_MS), POLL_LAST_MS));
	}
}

/* ---------- snapshots ---------- */

/*
 * Who keeps the slot's creation waiting, for the status; NULL: nobody.
 */
static char *
describe_blockers(ZodanConn *control, int walsender)
{
	return zodan_value(control,
					   "SELECT pg_catalog.format('a transaction of %s (pid %s, %s), open since %s',"
					   "         coalesce(usename::text, 'a prepared transaction'), pid, coalesce(nullif(application_name, ''), 'no application name'),"
					   "         pg_catalog.date_trunc('second', xact_start))"
					   "  FROM pg_catalog.pg_stat_activity"
					   " WHERE pid OPERATOR(pg_catalog.=) ANY (pg_catalog.pg_blocking_pids($1::int))"
					   " ORDER BY xact_start LIMIT 1", 1, psprintf("%d", walsender));
}

/*
 * Begins to make a slot over a connection of its own, which then holds the
 * snapshot that divides the node's history at the slot's consistent point:
 * what was committed before is in the snapshot, what comes later the slot
 * streams. snapshot->conn.dsn and .node are set by the caller.
 */
void
zodan_snapshot_begin(ZodanSnapshot *snapshot, const char *slot, bool temporary, const char *plugin)
{
	snapshot->conn.replication = true;
	zodan_connect(&snapshot->conn);
	snapshot->since = zodan_clock();
	snapshot->deadline = zodan_deadline(zodan_statement_timeout());
	snapshot->next_report = zodan_deadline(1000);
	snapshot->call.conn = &snapshot->conn;
	snapshot->call.sql = psprintf("CREATE_REPLICATION_SLOT %s %sLOGICAL %s (SNAPSHOT 'export'%s)",
								  zodan_quote(slot), temporary ? "TEMPORARY " : "", zodan_quote(plugin),
								  !temporary && snapshot->conn.version >= 170000 ? ", FAILOVER" : "");
	zodan_call_start(&snapshot->call);
}

/*
 * Is the snapshot there? That has to wait for all transactions that write on
 * the node at the moment: report is told about every second for which. When
 * that takes too long, it's an error if the caller is impatient. control is
 * another connection to the same node.
 */
bool
zodan_snapshot_ready(ZodanSnapshot *snapshot, ZodanConn *control, bool impatient, void (*report) (const char *))
{
	ZodanCall  *call = &snapshot->call;

	if (!zodan_call_poll(call))
	{
		char	   *who;

		if (!zodan_deadline_passed(snapshot->next_report))
			return false;
		snapshot->next_report = zodan_deadline(1000);
		who = describe_blockers(control, PQbackendPID(snapshot->conn.pg));
		if (who)
			report(psprintf("the snapshot on node \"%s\" waits for %s", control->node, who));
		if (impatient && zodan_deadline_passed(snapshot->deadline))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("no snapshot on node \"%s\" within " INT64_FORMAT " ms: it waits for %s",
							control->node, zodan_statement_timeout(), who ? who : "transactions that write"),
					 errhint("End that transaction; the request goes on by itself.")));
		return false;
	}
	zodan_raise_any(call, 1);
	snapshot->consistent = zodan_parse_lsn(PQgetvalue(call->result, 0, 1));
	snapshot->name = zodan_field(call->result, 0, 2);
	PQclear(call->result);
	return true;
}
