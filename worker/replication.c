/*
 * replication.c
 *		Slots, origins, markers and positions on the nodes: PostgreSQL's own
 *		primitives, on which alone it rests that a join loses nothing. See
 *		docs/how-a-join-works.md for the argument.
 */
#include "replication.h"

#include "utils/builtins.h"
#include "utils/pg_lsn.h"

/* how the source's WAL is read: backwards, in pieces that grow */
#define WAL_PIECE_FIRST	(512 * 1024)
#define WAL_PIECE_LAST	(16 * 1024 * 1024)

/* how far before a piece the changes of its commits are looked for at first */
#define WAL_BACK	(1024 * 1024)

#define POLL_FIRST_MS	2
#define POLL_LAST_MS	50

XLogRecPtr
zodan_parse_lsn(const char *text)
{
	uint32		high;
	uint32		low;

	if (!text || sscanf(text, "%X/%X", &high, &low) != 2)
		elog(ERROR, "invalid position \"%s\"", text ? text : "(null)");
	return (uint64) high << 32 | low;
}

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

void
zodan_origin_create(ZodanConn *conn, const char *origin)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_replication_origin_create($1)"
						" WHERE pg_catalog.pg_replication_origin_oid($1) IS NULL", 1, origin));
}

void
zodan_origin_drop(ZodanConn *conn, const char *origin)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_replication_origin_drop($1)"
						" WHERE pg_catalog.pg_replication_origin_oid($1) IS NOT NULL", 1, origin));
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
			w->seen = GetCurrentTimestamp();
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
	TimestampTz started = GetCurrentTimestamp();

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
		if (behind->absent_ms > 0 && TimestampDifferenceExceeds(behind->seen, GetCurrentTimestamp(), behind->absent_ms))
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
					 errhint("Look for the errors of the apply worker in the server log of node \"%s\", then SELECT zodan.retry(id).",
							 behind->subscriber)));
		if (report && zodan_deadline_passed(next_report))
		{
			report(where);
			next_report = zodan_deadline(1000);
		}
		pfree(where);
		/* so that what was short isn't made long */
		zodan_sleep(Min(Max((GetCurrentTimestamp() - started) / 1000 / 8, POLL_FIRST_MS), POLL_LAST_MS));
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
	snapshot->since = GetCurrentTimestamp();
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

/* ---------- resume points ---------- */

/*
 * The function of pg_walinspect, made for one transaction only: the source needs
 * the library, not the extension.
 */
static const char *const wal_function =
"CREATE FUNCTION pg_temp.zodan_wal_records(IN pg_catalog.pg_lsn, IN pg_catalog.pg_lsn,"
" OUT start_lsn pg_catalog.pg_lsn, OUT end_lsn pg_catalog.pg_lsn, OUT prev_lsn pg_catalog.pg_lsn,"
" OUT xid pg_catalog.xid, OUT resource_manager text, OUT record_type text, OUT record_length int4,"
" OUT main_data_length int4, OUT fpi_length int4, OUT description text, OUT block_ref text)"
" RETURNS SETOF record AS '$libdir/pg_walinspect', 'pg_get_wal_records_info' LANGUAGE C STRICT";

/*
 * Of the commits that start in [$2, $3), what the WAL from $1 on tells: a row
 * for each label, with the largest position of those that have changed this
 * database; a row without a label, with where the first record starts, and
 * whether some commit's changes must be further back than $1. A label alone
 * doesn't tell: other databases of the server write to the same WAL.
 */
static const char *const wal_query =
"WITH r AS MATERIALIZED (SELECT * FROM pg_temp.zodan_wal_records($1::pg_catalog.pg_lsn, $3::pg_catalog.pg_lsn)),"
" touched AS (SELECT xid::text, pg_catalog.bool_or(block_ref LIKE '%/' || d.oid || '/%') AS here"
"   FROM r, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database() AND block_ref LIKE '%rel %'"
"  GROUP BY xid::text),"
" commits AS (SELECT xid::text AS top, pg_catalog.regexp_match(description, 'origin: node (\\d+), lsn ([0-9A-F]+/[0-9A-F]+)') AS m,"
"   pg_catalog.regexp_match(description, 'subxacts:((?: \\d+)+)') AS subs"
"   FROM r WHERE resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%' AND start_lsn >= $2::pg_catalog.pg_lsn),"
" labelled AS (SELECT c.m[1] AS label, c.m[2]::pg_catalog.pg_lsn AS lsn, pg_catalog.bool_or(t.here) AS here FROM commits c"
"  CROSS JOIN LATERAL pg_catalog.unnest(c.top || pg_catalog.string_to_array(pg_catalog.ltrim(coalesce(c.subs[1], '')), ' ')) AS x(xid)"
"   LEFT JOIN touched t ON t.xid = x.xid WHERE c.m IS NOT NULL AND c.m[2] <> '0/0' GROUP BY c.top, c.m)"
" SELECT NULL AS label, pg_catalog.min(start_lsn), EXISTS (SELECT FROM labelled WHERE here IS NULL)"
"   FROM r WHERE start_lsn >= $2::pg_catalog.pg_lsn"
" UNION ALL"
" SELECT label, pg_catalog.max(lsn), false FROM labelled WHERE here GROUP BY label";

/*
 * The last commit in [$1, $2) of a transaction that has written a marker with the
 * name $3.
 */
static const char *const mark_query =
"WITH r AS MATERIALIZED (SELECT * FROM pg_temp.zodan_wal_records($1::pg_catalog.pg_lsn, $2::pg_catalog.pg_lsn))"
" SELECT pg_catalog.max(c.start_lsn) FROM r c JOIN r m ON m.xid::text = c.xid::text"
"  WHERE c.resource_manager = 'Transaction' AND c.record_type LIKE 'COMMIT%'"
"    AND m.resource_manager = 'LogicalMessage' AND pg_catalog.strpos(m.description, 'prefix \"' || $3 || '\"') > 0";

/*
 * A commit record with this label was found: whose is it?
 */
static void
note_commit(ZodanResume *peers, int npeers, const char *label, XLogRecPtr lsn)
{
	for (int i = 0; i < npeers; i++)
		for (int k = 0; k < lengthof(peers[i].ids); k++)
			if (peers[i].ids[k] &&
				(strcmp(peers[i].ids[k], label) == 0 || strcmp(peers[i].ids[k], "*") == 0))
			{
				peers[i].found = true;
				peers[i].lsn = Max(peers[i].lsn, lsn);
			}
}

/*
 * Asks about a piece of the WAL, by a query with three parameters. The function
 * is made and taken back for each: were it committed, it would stay when the
 * node crashes, until some other session gets the same temporary schema.
 */
static PGresult *
read_wal(ZodanConn *source, const char *query, const char *first, const char *second, const char *third)
{
	ZodanCall	calls[] = {
		{.conn = source,.sql = "BEGIN"},
		{.conn = source,.sql = wal_function},
		{.conn = source,.sql = query,.nparams = 3,.params = {first, second, third}},
		{.conn = source,.sql = "ROLLBACK"}
	};

	zodan_call_all(calls, lengthof(calls), zodan_statement_timeout());
	zodan_raise_any(calls, lengthof(calls));
	for (int i = 0; i < lengthof(calls); i++)
		if (i != 2)
			PQclear(calls[i].result);
	return calls[2].result;
}

/*
 * Finds, for each peer, where the new node must go on with the peer's own
 * changes: the largest of its marker and the positions that the source's
 * commit records in [window, consistent) carry for it.
 *
 * The WAL is read backwards, since the latest such record is what's wanted.
 * A piece ends where the first record of the one behind it starts, so no
 * record is cut in two.
 */
void
zodan_resume_points(ZodanConn *source, XLogRecPtr window, XLogRecPtr consistent,
					ZodanResume *peers, int npeers)
{
	XLogRecPtr	end = consistent;
	uint64		piece = WAL_PIECE_FIRST;
	uint64		back = WAL_BACK;

	if (npeers == 0)
		return;
	for (int i = 0; i < npeers; i++)
		peers[i].found = false;

	while (end > window)
	{
		XLogRecPtr	start = end - window > piece ? end - piece : window;
		XLogRecPtr	from = start - window > back ? start - back : window;
		XLogRecPtr	first = InvalidXLogRecPtr;
		bool		unclear = false;
		bool		all = true;
		PGresult   *result = read_wal(source, wal_query, zodan_format_lsn(from), zodan_format_lsn(start),
										  zodan_format_lsn(end));

		for (int row = 0; row < PQntuples(result); row++)
			if (PQgetisnull(result, row, 0))
			{
				if (!PQgetisnull(result, row, 1))
					first = zodan_parse_lsn(PQgetvalue(result, row, 1));
				unclear = PQgetvalue(result, row, 2)[0] == 't';
			}

		/* changes before the window belong to commits that don't matter */
		if (unclear && from > window)
		{
			PQclear(result);
			back *= 4;
			continue;
		}
		for (int row = 0; row < PQntuples(result); row++)
			if (!PQgetisnull(result, row, 0))
				note_commit(peers, npeers, PQgetvalue(result, row, 0),
							zodan_parse_lsn(PQgetvalue(result, row, 1)));
		PQclear(result);

		for (int i = 0; i < npeers; i++)
			all = all && peers[i].found;
		if (all || start == window)
			return;
		piece = Min(piece * 2, WAL_PIECE_LAST);
		if (first == InvalidXLogRecPtr)
			piece *= 2;			/* it all lies within one record */
		else
			end = first;
	}
}

/*
 * The last commit of a marker with a name that starts in [window, before): a
 * slot that is moved there sends this transaction first, which changes
 * nothing, and then all that committed later. InvalidXLogRecPtr: there is none.
 */
XLogRecPtr
zodan_last_mark(ZodanConn *conn, const char *name, XLogRecPtr window, XLogRecPtr before)
{
	XLogRecPtr	end = before;
	uint64		piece = WAL_PIECE_FIRST;

	while (end > window)
	{
		XLogRecPtr	start = end - window > piece ? end - piece : window;
		XLogRecPtr	commit = InvalidXLogRecPtr;
		PGresult   *result = read_wal(conn, mark_query, zodan_format_lsn(start), zodan_format_lsn(end), name);

		if (!PQgetisnull(result, 0, 0))
			commit = zodan_parse_lsn(PQgetvalue(result, 0, 0));
		PQclear(result);
		if (commit != InvalidXLogRecPtr || start == window)
			return commit;
		/* so that a marker isn't parted from its commit */
		end = start + WAL_PIECE_FIRST / 2;
		piece = Min(piece * 2, WAL_PIECE_LAST);
	}
	return InvalidXLogRecPtr;
}
