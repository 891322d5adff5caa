/*
 * origins.c
 *		Replication origins.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "engine/origins.h"

#include "remote/query.h"

/*
 * Makes a replication origin on the node; nothing if it is there.
 */
void
zodan_origins_create(ZodanConn *conn, const char *origin)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_replication_origin_create($1)"
						" WHERE pg_catalog.pg_replication_origin_oid($1) IS NULL", 1, origin));
}

/*
 * Drops a replication origin on the node; nothing if it is gone.
 */
void
zodan_origins_drop(ZodanConn *conn, const char *origin)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_replication_origin_drop($1)"
						" WHERE pg_catalog.pg_replication_origin_oid($1) IS NOT NULL", 1, origin));
}

/*
 * What tells a replication origin from a later one of its name: text; NULL if
 * there is none. The row of an origin is never updated.
 */
char *
zodan_origins_identity(ZodanConn *conn, const char *origin)
{
	return zodan_query_value(conn, "SELECT pg_catalog.concat_ws('/', roident, xmin) FROM pg_catalog.pg_replication_origin WHERE roname = $1",
							 1, origin);
}

/*
 * Does a process work for the origin?
 */
bool
zodan_origins_in_use(ZodanConn *conn, const char *origin)
{
	ZodanCall	call = {.conn = conn,.nparams = 1};

	call.sql = "SELECT pg_catalog.pg_replication_origin_session_setup($1)";
	call.params[0] = origin;
	zodan_remote_run(&call, 1, ZODAN_USUAL_TIMEOUT);
	if (call.error && call.sqlstate == ERRCODE_OBJECT_IN_USE)
		return true;
	zodan_remote_raise_any(&call, 1);
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
	zodan_query_all_clear(calls, norigins);
	pfree(calls);
}
