/*
 * change.c
 *		Changes of an engine's subscriptions and nodes, each in a session that is
 *		there for one transaction.
 *
 * pglogical and Spock before 6 keep what subscriptions a transaction has changed
 * in a list in the transaction's memory, and don't empty it when the transaction
 * is aborted (pglogical_subscription_changed() in pglogical_worker.c, and the same
 * in spock_worker.c). The next commit of that backend reads the freed list, and
 * the server crashes. So a session may not commit anything after such an abort:
 *
 * - It isn't used again.
 * - It has no temporary schema, the removal of which at its end is a commit. Any
 *   statement may make one; a trigger of the user's is enough. So no session of a
 *   request's that does anything else runs a change.
 * - The change is in a transaction block. A backend that waits for its client
 *   outside of one commits by itself when it's told to catch up with others'
 *   invalidation messages (ProcessCatchupInterrupt() in sinval.c); in a block,
 *   also an aborted one, it doesn't.
 *
 * That holds however the session ends: by an error, a cancel, a time-out, by the
 * end of our process or of the network. Such sessions hold the lock of the
 * cluster: see zodan_session_change_pins().
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "remote/change.h"

/*
 * The option "options" for a session that changes something, from another session
 * on the node: that may come from a service file or the environment, too.
 */
static char *
change_options(const ZodanConn *conn)
{
	PQconninfoOption *options = conn->pg ? PQconninfo(conn->pg) : NULL;
	const char *superuser = conn->pg ? PQparameterStatus(conn->pg, "is_superuser") : NULL;
	char	   *result = NULL;

	for (PQconninfoOption *o = options; o && o->keyword; o++)
		if (strcmp(o->keyword, "options") == 0)
			result = zodan_session_change_options(conn->version, superuser && strcmp(superuser, "on") == 0, o->val);
	PQconninfoFree(options);
	return result;
}

/*
 * Adds a statement that ends or begins the transaction of a change: what goes
 * wrong with it goes wrong with the change.
 */
static void
add_command(ZodanCall *run, ZodanCall **whose, int *n, ZodanConn *session, const char *command, ZodanCall *change)
{
	run[*n] = (ZodanCall)
	{
		.conn = session,.sql = command
	};
	whose[(*n)++] = change;
}

/*
 * Runs changes, on different nodes side by side and those on one node in their
 * order, as one transaction; conn is another session on the node. What became
 * of each is in the calls; nothing is raised, but see zodan_remote_run().
 */
void
zodan_change_all(ZodanCall *calls, int ncalls)
{
	ZodanConn  *sessions = palloc0(sizeof(ZodanConn) * ncalls);
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * ncalls);
	ZodanCall  *run = palloc0(sizeof(ZodanCall) * ncalls * 3);
	ZodanCall **whose = palloc(sizeof(ZodanCall *) * ncalls * 3);
	int			nsessions = 0;
	int			n = 0;

	if (ncalls == 0)
		return;
	for (int i = 0; i < ncalls; i++)
	{
		const ZodanConn *conn = calls[i].conn;
		ZodanConn  *session = &sessions[nsessions];
		int			last = i;

		if (calls[i].sent)
			continue;			/* with one before */
		*session = zodan_connection_another(conn);
		session->changes = true;
		session->options = change_options(conn);
		conns[nsessions++] = session;
		add_command(run, whose, &n, session, "BEGIN", &calls[i]);
		for (int k = i; k < ncalls; k++)
		{
			if (calls[k].conn != conn)
				continue;
			run[n] = calls[k];
			run[n].conn = session;
			whose[n++] = &calls[k];
			calls[k].sent = true;
			last = k;
		}
		add_command(run, whose, &n, session, "COMMIT", &calls[last]);
	}
	zodan_remote_connect_all(conns, nsessions);
	zodan_remote_run(run, n, calls[0].conn->session->timeout_ms);
	for (int i = 0; i < n; i++)
	{
		if (run[i].change.text)
			whose[i]->result = run[i].result;
		else
			PQclear(run[i].result);
		if (!run[i].error || whose[i]->error)
			continue;
		whose[i]->error = run[i].error;
		whose[i]->detail = run[i].detail;
		whose[i]->hint = run[i].hint;
		whose[i]->sqlstate = run[i].sqlstate;
	}
	for (int i = 0; i < ncalls; i++)
		calls[i].finished = true;
	for (int i = 0; i < nsessions; i++)
		zodan_connection_close(&sessions[i]);
}

/*
 * Runs one change and returns its result, which the caller may PQclear(); raises
 * what goes wrong. The text parameters follow, as many as the change takes.
 */
PGresult *
zodan_change_make(ZodanConn *conn, ZodanChange change,...)
{
	ZodanCall	call = {.conn = conn,.change = change};
	va_list		args;

	va_start(args, change);
	for (int i = 0; i < change.nparams; i++)
		call.params[i] = va_arg(args, const char *);
	va_end(args);
	zodan_change_all(&call, 1);
	zodan_remote_raise_any(&call, 1);
	return call.result;
}
