/*
 * remote.c
 *		Sessions on the nodes: connect, run statements with a deadline on one
 *		node or on many side by side, and keep passwords out of all messages.
 *		Together with pipe.c the only user of libpq.
 *
 * Nothing here blocks: sockets are waited for together with the process's
 * latch. No connection or result is closed on an error, since each error ends
 * the process.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "remote/remote.h"

#include "access/xact.h"
#include "base/dsn.h"
#include "base/locks.h"
#include "base/settings.h"
#include "mb/pg_wchar.h"
#include "storage/fd.h"

/* how long a statement that nobody waits for may take to end by itself, and is then cancelled again and again */
#define ENDS_ITSELF_MS	1000
#define CANCEL_AGAIN_MS	1000

/*
 * Fails a connection in whose session nothing may be changed; result is that of
 * zodan_session_change_pins(). A pooler goes on with a session that we leave.
 */
static void
require_changeable(ZodanConn *conn, const PGresult *result)
{
	if (PQgetvalue(result, 0, 0)[0] == 't')
		zodan_connection_fail(conn, ERRCODE_FEATURE_NOT_SUPPORTED,
							  "its sessions begin with a temporary schema: changing subscriptions or nodes in such a session may crash the server");
	else if (atoi(PQgetvalue(result, 0, 1)) != PQbackendPID(conn->pg))
		zodan_connection_fail(conn, ERRCODE_FEATURE_NOT_SUPPORTED,
							  "the connection string leads to a connection pooler: changing subscriptions or nodes through one may crash the server");
	else if (PQgetvalue(result, 0, 2)[0] != 't')
		zodan_connection_fail(conn, ERRCODE_CONNECTION_FAILURE, "the session that held the lock of this request is lost");
}

/*
 * Sets up the sessions of all that have connected.
 */
static void
pin_sessions(ZodanConn **conns, int nconns, int64 timeout_ms)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * nconns * 3);
	int			n = 0;

	for (int i = 0; i < nconns; i++)
	{
		if (!conns[i]->pg)
			continue;
		calls[n].conn = conns[i];
		calls[n++].sql = conns[i]->session->pins;
		if (conns[i]->guard)
		{
			calls[n].conn = conns[i];
			calls[n++].sql = conns[i]->guard;
		}
		if (!conns[i]->changes)
			continue;
		calls[n].conn = conns[i];
		calls[n++].sql = zodan_session_change_pins(conns[i]->session);
	}
	zodan_remote_run(calls, n, timeout_ms);
	for (int i = 0; i < n; i++)
	{
		ZodanConn  *conn = calls[i].conn;

		if (calls[i].error && conn->pg)
			zodan_connection_fail(conn, calls[i].sqlstate, calls[i].error);
		else if (!conn->pg)
			continue;			/* the first error is the one that tells */
		else if (calls[i].sql == conn->guard)
		{
			if (!PQgetisnull(calls[i].result, 0, 0))
				zodan_connection_fail(conn, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, PQgetvalue(calls[i].result, 0, 0));
		}
		else if (conn->changes && calls[i].sql != conn->session->pins)
			require_changeable(conn, calls[i].result);
		PQclear(calls[i].result);
	}
	pfree(calls);
}

/*
 * Goes on with connecting, without waiting.
 */
static PostgresPollingStatusType
poll_connection(ZodanConn *conn)
{
	PostgresPollingStatusType status = PQconnectPoll(conn->pg);

	if (status == PGRES_POLLING_OK)
		zodan_connection_finish(conn);
	else if (status == PGRES_POLLING_FAILED)
		zodan_connection_refused(conn);
	return status;
}

/*
 * Connects all of them side by side, within zodan.connect_timeout, but not
 * longer than a statement may take. Those that fail have no pg, but an error;
 * nothing is raised.
 */
void
zodan_remote_connect_all(ZodanConn **conns, int nconns)
{
	ZodanSession *session;
	int64		timeout_ms;
	ZodanDeadline deadline;
	ZodanSocket *sockets = palloc(sizeof(ZodanSocket) * nconns);
	PostgresPollingStatusType *poll = palloc(sizeof(PostgresPollingStatusType) * nconns);
	bool	   *pending = palloc0(sizeof(bool) * nconns);

	if (nconns == 0)
		return;
	session = conns[0]->session;
	timeout_ms = Min(zodan_connect_timeout, session->timeout_ms);
	deadline = zodan_wait_deadline(timeout_ms);
	for (int i = 0; i < nconns; i++)
	{
		zodan_connection_start(conns[i]);
		pending[i] = conns[i]->pg != NULL;
		poll[i] = PGRES_POLLING_WRITING;
	}

	for (;;)
	{
		int			n = 0;

		for (int i = 0; i < nconns; i++)
			if (pending[i])
			{
				sockets[n].fd = PQsocket(conns[i]->pg);
				sockets[n++].events = poll[i] == PGRES_POLLING_READING ?
					WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;
			}
		if (n == 0)
			break;
		if (zodan_wait_passed(deadline))
		{
			for (int i = 0; i < nconns; i++)
				if (pending[i])
					zodan_connection_fail(conns[i], ERRCODE_CONNECTION_FAILURE, psprintf("no connection within " INT64_FORMAT " ms", timeout_ms));
			break;
		}
		zodan_wait_sockets(&session->waiter, sockets, n, deadline);
		for (int k = 0, i = 0; i < nconns; i++)
		{
			if (!pending[i])
				continue;
			if (!sockets[k++].ready)
				continue;
			poll[i] = poll_connection(conns[i]);
			pending[i] = poll[i] != PGRES_POLLING_OK && poll[i] != PGRES_POLLING_FAILED;
		}
	}
	pin_sessions(conns, nconns, timeout_ms);
	pfree(sockets);
	pfree(poll);
	pfree(pending);
}

/*
 * Connects, or raises a (transient) error.
 */
void
zodan_remote_connect(ZodanConn *conn)
{
	zodan_remote_connect_all(&conn, 1);
	if (!conn->pg)
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("could not connect to node \"%s\": %s", conn->node, conn->error)));
}

/*
 * Does the node answer another session? For those who wait for something that
 * takes as long as it takes, and couldn't tell a node that is gone from one
 * that is busy. Only for a connection that is there, since it takes its server.
 */
bool
zodan_remote_answers(const ZodanConn *conn)
{
	ZodanConn	other = zodan_connection_another(conn);
	ZodanConn  *others = &other;

	other.guard = NULL;
	zodan_remote_connect_all(&others, 1);
	if (!other.pg)
		return false;
	zodan_connection_close(&other);
	return true;
}

/*
 * The packed SQLSTATE of a result; that of a lost connection, if it has none.
 */
int
zodan_remote_sqlstate(const PGresult *result)
{
	const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	return state && strlen(state) == 5 ?
		MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]) :
		ERRCODE_CONNECTION_FAILURE;
}

static void
fail_call(ZodanCall *call, int sqlstate, const char *message)
{
	call->finished = true;
	if (call->error)
		return;					/* the first error is the one that tells */
	call->error = zodan_connection_message(call->conn, message);
	call->sqlstate = sqlstate;
}

/*
 * Sends the statement, without waiting. Without parameters it may hold
 * several, or a replication command; the last one's result is kept.
 */
void
zodan_remote_start(ZodanCall *call)
{
	const char *sql = call->change.text ? call->change.text : call->sql;
	int			nparams = call->change.text ? call->change.nparams : call->nparams;
	ZodanSession *session = call->conn->session;
	int			ok;

	call->sent = true;
	if (call->change.text && !call->conn->changes)
		elog(ERROR, "a change of subscriptions or nodes outside of zodan_change_all()");
	if (!call->conn->pg)
	{
		fail_call(call, call->conn->changes ? call->conn->sqlstate : ERRCODE_CONNECTION_FAILURE,
				  call->conn->error ? call->conn->error : "not connected");
		return;
	}
	if (sql != session->pins)
		zodan_session_log(session, call->conn->node, sql);
	if (nparams)
		ok = PQsendQueryParams(call->conn->pg, sql, nparams, NULL, call->params, NULL, NULL, 0);
	else
		ok = PQsendQuery(call->conn->pg, sql);
	if (!ok)
		fail_call(call, ERRCODE_CONNECTION_FAILURE, PQerrorMessage(call->conn->pg));
}

/*
 * Takes in what has arrived, without waiting; returns whether the statement
 * has finished.
 */
bool
zodan_remote_poll(ZodanCall *call)
{
	PGconn	   *pg = call->conn->pg;

	if (call->finished)
		return true;
	if (PQflush(pg) < 0 || !PQconsumeInput(pg))
	{
		fail_call(call, ERRCODE_CONNECTION_FAILURE, PQerrorMessage(pg));
		return true;
	}
	while (!PQisBusy(pg))
	{
		PGresult   *result = PQgetResult(pg);

		if (!result)
		{
			call->finished = true;
			if (!call->result && !call->error)
				fail_call(call, ERRCODE_CONNECTION_FAILURE, PQerrorMessage(pg));
			return true;
		}
		switch (PQresultStatus(result))
		{
			case PGRES_COMMAND_OK:
			case PGRES_TUPLES_OK:
			case PGRES_EMPTY_QUERY:
				PQclear(call->result);
				call->result = result;
				break;
			default:
				if (!call->error)
				{
					const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

					fail_call(call, zodan_remote_sqlstate(result),
							  primary ? primary : PQresultErrorMessage(result));
					call->detail = zodan_dsn_redact_text(&call->conn->session->secrets, PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL));
					call->hint = zodan_dsn_redact_text(&call->conn->session->secrets, PQresultErrorField(result, PG_DIAG_MESSAGE_HINT));
				}
				PQclear(result);
				PQclear(call->result);
				call->result = NULL;
				if (PQstatus(pg) == CONNECTION_BAD)
					return true;
				call->finished = false; /* until libpq says that it's over */
		}
	}
	return false;
}

/*
 * Starts a call unless one before it has its connection; where that one has
 * failed, this one fails with it.
 */
static void
start_in_turn(ZodanCall *calls, int i)
{
	for (int k = i - 1; k >= 0; k--)
	{
		if (calls[k].conn != calls[i].conn)
			continue;
		if (!calls[k].finished)
			return;
		if (calls[k].error && !calls[i].go_on)
		{
			calls[i].sent = true;
			fail_call(&calls[i], calls[k].sqlstate, calls[k].error);
			calls[i].detail = calls[k].detail;
			calls[i].hint = calls[k].hint;
			return;
		}
		break;
	}
	zodan_remote_start(&calls[i]);
}

/*
 * Runs the calls until all have finished, or the deadline has passed; returns
 * whether they have.
 */
static bool
run_until(ZodanCall *calls, int ncalls, ZodanDeadline deadline)
{
	ZodanSocket *sockets = palloc(sizeof(ZodanSocket) * Max(ncalls, 1));
	int			n;

	for (;;)
	{
		n = 0;

		for (int i = 0; i < ncalls; i++)
		{
			if (!calls[i].sent)
				start_in_turn(calls, i);
			if (!calls[i].sent || zodan_remote_poll(&calls[i]))
				continue;
			sockets[n].fd = PQsocket(calls[i].conn->pg);
			sockets[n++].events = WL_SOCKET_READABLE |
				(PQflush(calls[i].conn->pg) == 1 ? WL_SOCKET_WRITEABLE : 0);
		}
		if (n == 0 || zodan_wait_passed(deadline))
			break;
		zodan_wait_sockets(&calls[0].conn->session->waiter, sockets, n, deadline);
	}
	pfree(sockets);
	return n == 0;
}

/*
 * Asks the servers, each in another session, to cancel the statements that are
 * under way. Returns whether any of these has answered: where there is no other
 * session to be had, nothing can be done about the statement.
 */
static bool
cancel_calls(ZodanCall *calls, int ncalls)
{
	ZodanConn  *others = palloc0(sizeof(ZodanConn) * ncalls);
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * ncalls);
	ZodanCall  *cancels = palloc0(sizeof(ZodanCall) * ncalls);
	bool		answered = false;
	int			n = 0;

	for (int i = 0; i < ncalls; i++)
	{
		const ZodanConn *conn = calls[i].conn;

		if (calls[i].finished)
			continue;
		others[n] = zodan_connection_another(conn);
		/* it may be what has kept the statement from being wanted any more */
		others[n].guard = NULL;
		conns[n] = &others[n];
		cancels[n].conn = &others[n];
		/* by a DSN with several hosts that may be another server, with another process of that number */
		cancels[n].sql = "SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_locks"
			" WHERE pid = $1::int AND locktype = 'advisory' AND granted AND objsubid = 2"
			"   AND classid = $2::pg_catalog.oid AND objid = $3::pg_catalog.oid";
		cancels[n].nparams = 3;
		cancels[n].params[0] = psprintf("%d", PQbackendPID(conn->pg));
		cancels[n].params[1] = psprintf("%d", ZODAN_LOCK_PROCESS);
		cancels[n++].params[2] = conn->session->process;
	}
	zodan_remote_connect_all(conns, n);
	zodan_remote_run(cancels, n, CANCEL_AGAIN_MS);
	for (int i = 0; i < n; i++)
	{
		answered |= cancels[i].result != NULL;
		PQclear(cancels[i].result);
		zodan_connection_close(&others[i]);
	}
	return answered;
}

/*
 * Nobody wants the calls any more, why says the reason. What is under way ends,
 * or is cancelled, before its session goes: most servers notice that a client has
 * gone only at the end of a statement. That takes no longer than a statement may
 * take; a server that doesn't answer isn't waited for. An error that comes
 * between, which is another process's cancelling us, ends the wait.
 */
static void
leave_calls(ZodanCall *calls, int ncalls, const char *why)
{
	ZodanSession *session = calls[0].conn->session;
	ZodanDeadline deadline = zodan_session_deadline(session);
	MemoryContext context = CurrentMemoryContext;
	bool		was_suspended = session->waiter.suspended;

	session->waiter.suspended = true;
	for (int i = 0; i < ncalls; i++)
	{
		if (calls[i].sent)
			continue;
		calls[i].sent = true;
		fail_call(&calls[i], ERRCODE_QUERY_CANCELED, why);
	}
	PG_TRY();
	{
		bool		done = run_until(calls, ncalls, zodan_wait_deadline(Min(ENDS_ITSELF_MS, session->timeout_ms)));

		while (!done && !zodan_wait_passed(deadline) && cancel_calls(calls, ncalls))
			done = run_until(calls, ncalls, zodan_wait_deadline(Min(CANCEL_AGAIN_MS, zodan_wait_left(deadline))));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	session->waiter.suspended = was_suspended;
}

/*
 * The time for the calls has passed. What may take as long as it takes goes
 * on if its node answers another session; the others fail. Changes are left
 * by the server's doing, not by closing their session.
 */
static void
end_silent_calls(ZodanCall *calls, int ncalls, int64 timeout_ms)
{
	char	   *message = psprintf("no answer within " INT64_FORMAT " ms",
								   timeout_ms > 0 ? timeout_ms : calls[0].conn->session->timeout_ms);

	/* nothing is changed by the pins */
	if (calls[0].conn->changes && calls[0].sql != calls[0].conn->session->pins)
		leave_calls(calls, ncalls, message);
	for (int i = 0; i < ncalls; i++)
	{
		if (calls[i].finished || (timeout_ms == ZODAN_NO_TIMEOUT && calls[i].conn->pg && zodan_remote_answers(calls[i].conn)))
			continue;
		fail_call(&calls[i], ERRCODE_QUERY_CANCELED, message);
		zodan_connection_close(calls[i].conn);
	}
}

/*
 * Runs all statements, those on different connections side by side and those
 * on one in their order, and waits until all have finished or timeout_ms has
 * passed. What became of each is in the calls; nothing is raised. When one
 * has failed, those behind it on its connection aren't run.
 *
 * With ZODAN_NO_TIMEOUT that may take for ever, but once in the time that
 * another statement may take it's looked whether the node is still there.
 *
 * What does raise an error is an interrupt, and the waiter, by which a
 * request is cancelled: then no statement is left under way.
 */
void
zodan_remote_run(ZodanCall *calls, int ncalls, int64 timeout_ms)
{
	ZodanSession *session;
	int64		round_ms;
	MemoryContext context = CurrentMemoryContext;

	if (ncalls == 0)
		return;
	session = calls[0].conn->session;
	round_ms = timeout_ms > 0 ? timeout_ms : session->timeout_ms;
	PG_TRY();
	{
		while (!run_until(calls, ncalls, zodan_wait_deadline(round_ms)))
			end_silent_calls(calls, ncalls, timeout_ms);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* what comes in the midst of leaving ends that */
		if (session->waiter.suspended)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		/* it may have come out of a statement of our own */
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(context);
		leave_calls(calls, ncalls, "it was not begun");
		ReThrowError(error);
	}
	PG_END_TRY();
}

/*
 * Raises a call's error, with the node's name.
 */
void
zodan_remote_raise(const ZodanCall *call)
{
	call->conn->session->transient |= call->transient;
	ereport(ERROR,
			(errcode(call->sqlstate),
			 errmsg("node \"%s\": %s", call->conn->node, call->error),
			 call->detail ? errdetail("%s", call->detail) : 0,
			 call->hint ? errhint("%s", call->hint) : 0));
}

/*
 * Raises the first error among the calls, if there is one.
 */
void
zodan_remote_raise_any(const ZodanCall *calls, int ncalls)
{
	for (int i = 0; i < ncalls; i++)
		if (calls[i].error)
			zodan_remote_raise(&calls[i]);
}
