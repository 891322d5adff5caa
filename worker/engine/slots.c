/*
 * slots.c
 *		Replication slots, and snapshots that making one exports.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "engine/slots.h"

#include "base/lsn.h"
#include "remote/query.h"

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
	zodan_query_all(calls, nslots);
	for (int i = 0; i < nslots; i++)
	{
		slots[i].lsn = zodan_query_field(calls[i].result, 0, 0);
		PQclear(calls[i].result);
	}
	pfree(calls);
}

/*
 * Drops the slot if it's there, ending whoever reads it.
 */
void
zodan_slots_drop(ZodanConn *conn, const char *slot)
{
	ZodanDeadline deadline = zodan_session_deadline(conn->session);
	int			poll_ms = ZODAN_POLL_FIRST_MS;

	for (;;)
	{
		char	   *gone = zodan_query_value(conn, "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1)", 1, slot);

		if (gone[0] == 't')
			return;
		PQclear(zodan_query(conn, "SELECT pg_catalog.pg_terminate_backend(active_pid)"
							"  FROM pg_catalog.pg_replication_slots"
							" WHERE slot_name = $1 AND active_pid <> pg_catalog.pg_backend_pid()", 1, slot));
		PQclear(zodan_query(conn, "SELECT pg_catalog.pg_drop_replication_slot(slot_name)"
							"  FROM pg_catalog.pg_replication_slots"
							" WHERE slot_name = $1 AND coalesce(active_pid, pg_catalog.pg_backend_pid()) = pg_catalog.pg_backend_pid()", 1, slot));
		if (zodan_wait_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("node \"%s\": slot \"%s\" can't be dropped, being in use", conn->node, slot)));
		zodan_wait_sleep(&conn->session->waiter, poll_ms);
		poll_ms = Min(poll_ms * 2, ZODAN_POLL_LAST_MS);
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
	zodan_remote_run(calls, nslots, ZODAN_NO_TIMEOUT);
	zodan_remote_raise_any(calls, nslots);
	for (int i = 0; i < nslots; i++)
		PQclear(calls[i].result);
	pfree(calls);
}

/*
 * Makes a logical slot that stands where another one does.
 */
void
zodan_slots_copy(ZodanConn *conn, const char *from, const char *to)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_copy_logical_replication_slot($1, $2)", 2, from, to));

	/* that a slot is kept on standbys isn't copied, and can be set by a walsender alone */
	if (conn->version >= 170000)
	{
		ZodanConn	walsender = zodan_connection_another(conn);

		walsender.replication = true;
		zodan_remote_connect(&walsender);
		PQclear(zodan_query(&walsender, psprintf("ALTER_REPLICATION_SLOT %s (FAILOVER)", zodan_query_quote(to)), 0));
		zodan_connection_close(&walsender);
	}
}

/*
 * Makes a slot that keeps the node's WAL from here on; one of that name that
 * is there begins anew.
 */
void
zodan_slots_create_for_wal(ZodanConn *conn, const char *slot)
{
	zodan_slots_drop(conn, slot);
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_create_physical_replication_slot($1, true)", 1, slot));
}

/*
 * Begins to make a slot over a connection of its own, which then holds the
 * snapshot that divides the node's history at the slot's consistent point:
 * what was committed before is in the snapshot, what comes later the slot
 * streams. export->conn.dsn and .node are set by the caller.
 */
void
zodan_slots_export(ZodanExport *export, const char *slot, bool temporary, const char *plugin)
{
	export->conn.replication = true;
	zodan_remote_connect(&export->conn);
	export->since = zodan_wait_clock();
	export->deadline = zodan_session_deadline(export->conn.session);
	export->next_report = zodan_wait_deadline(1000);
	export->call.conn = &export->conn;
	export->call.sql = psprintf("CREATE_REPLICATION_SLOT %s %sLOGICAL %s (SNAPSHOT 'export'%s)",
								zodan_query_quote(slot), temporary ? "TEMPORARY " : "", zodan_query_quote(plugin),
								!temporary && export->conn.version >= 170000 ? ", FAILOVER" : "");
	zodan_remote_start(&export->call);
}

/*
 * Is the snapshot there? That has to wait for all transactions that write on
 * the node at the moment: report is told about every second for which. When
 * that takes too long, it's an error if the caller is impatient. control is
 * another connection to the same node.
 */
bool
zodan_slots_exported(ZodanExport *export, ZodanConn *control, bool impatient,
					 void (*report) (void *arg, const char *detail), void *arg)
{
	ZodanCall  *call = &export->call;

	if (!zodan_remote_poll(call))
	{
		char	   *who;

		if (!zodan_wait_passed(export->next_report))
			return false;
		export->next_report = zodan_wait_deadline(1000);
		who = zodan_query_blockers(control, PQbackendPID(export->conn.pg));
		if (who)
			report(arg, psprintf("the snapshot on node \"%s\" waits for %s", control->node, who));
		if (impatient && zodan_wait_passed(export->deadline))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("no snapshot on node \"%s\" within " INT64_FORMAT " ms: it waits for %s",
							control->node, control->session->timeout_ms, who ? who : "transactions that write"),
					 errhint("End that transaction; the request goes on by itself.")));
		return false;
	}
	zodan_remote_raise_any(call, 1);
	export->consistent = zodan_lsn_parse(PQgetvalue(call->result, 0, 1), control->node, "the consistent point of a new slot");
	export->name = zodan_query_field(call->result, 0, 2);
	PQclear(call->result);
	return true;
}
