/*
 * query.c
 *		One statement on one node, and what it returns.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "remote/query.h"

#include "base/locks.h"
#include "lib/stringinfo.h"

/*
 * Runs statements on one node or several, as zodan_remote_run() does, each within the
 * usual time, and raises the first error. Their results are the caller's to clear.
 */
void
zodan_query_all(ZodanCall *calls, int ncalls)
{
	zodan_remote_run(calls, ncalls, ZODAN_USUAL_TIMEOUT);
	zodan_remote_raise_any(calls, ncalls);
}

/*
 * The same, where nobody wants the results.
 */
void
zodan_query_all_clear(ZodanCall *calls, int ncalls)
{
	zodan_query_all(calls, ncalls);
	for (int i = 0; i < ncalls; i++)
		PQclear(calls[i].result);
}

static PGresult *
query(ZodanConn *conn, const char *sql, int nparams, va_list args)
{
	ZodanCall	call = {.conn = conn,.sql = sql,.nparams = nparams};

	for (int i = 0; i < nparams; i++)
		call.params[i] = va_arg(args, const char *);
	zodan_query_all(&call, 1);
	return call.result;
}

/*
 * Runs one statement with nparams text parameters and returns its result,
 * which the caller may PQclear(); raises what goes wrong.
 */
PGresult *
zodan_query(ZodanConn *conn, const char *sql, int nparams,...)
{
	PGresult   *result;
	va_list		args;

	va_start(args, nparams);
	result = query(conn, sql, nparams, args);
	va_end(args);
	return result;
}

/*
 * As zodan_query(), but returns the first column of the first row as a
 * palloc'd string; NULL if it is SQL's NULL or there is no row.
 */
char *
zodan_query_value(ZodanConn *conn, const char *sql, int nparams,...)
{
	PGresult   *result;
	char	   *value;
	va_list		args;

	va_start(args, nparams);
	result = query(conn, sql, nparams, args);
	va_end(args);
	value = PQntuples(result) > 0 ? zodan_query_field(result, 0, 0) : NULL;
	PQclear(result);
	return value;
}

/*
 * Is a session on the same server as another one of this process, and, if that is
 * asked for, in the same database? One is seen from the other; copies of a server,
 * which share all that it says of itself, aren't taken for it.
 */
bool
zodan_query_same_server(ZodanConn *conn, const ZodanConn *other, bool same_database)
{
	return zodan_query_value(conn, "SELECT 1 FROM pg_catalog.pg_locks WHERE pid = $1::int AND locktype = 'advisory' AND granted AND objsubid = 2"
							 "   AND classid = $2::pg_catalog.oid AND objid = $3::pg_catalog.oid"
							 "   AND ($4::bool OR database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))", 4,
							 psprintf("%d", PQbackendPID(other->pg)), psprintf("%d", ZODAN_LOCK_PROCESS), conn->session->process,
							 same_database ? "false" : "true") != NULL;
}

/*
 * A field of a result as a palloc'd string; NULL if it is SQL's NULL.
 */
char *
zodan_query_field(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? NULL : pstrdup(PQgetvalue(result, row, column));
}

/*
 * An identifier as it stands in a statement, always quoted.
 */
char *
zodan_query_quote(const char *identifier)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '"');
	for (const char *c = identifier; *c; c++)
	{
		if (*c == '"')
			appendStringInfoChar(&buf, '"');
		appendStringInfoChar(&buf, *c);
	}
	appendStringInfoChar(&buf, '"');
	return buf.data;
}

/*
 * Who keeps a process of the node's waiting, for messages; NULL: nobody.
 */
char *
zodan_query_blockers(ZodanConn *control, int pid)
{
	return zodan_query_value(control,
							 "SELECT pg_catalog.format('a transaction of %s (pid %s, %s), open since %s',"
							 "         coalesce(usename::text, 'a prepared transaction'), pid, coalesce(nullif(application_name, ''), 'no application name'),"
							 "         pg_catalog.date_trunc('second', xact_start))"
							 "  FROM pg_catalog.pg_stat_activity"
							 " WHERE pid OPERATOR(pg_catalog.=) ANY (pg_catalog.pg_blocking_pids($1::int))"
							 " ORDER BY xact_start LIMIT 1", 1, psprintf("%d", pid));
}
