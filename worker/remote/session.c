/*
 * session.c
 *		What the sessions of a request, or of upkeep, have in common: whose they
 *		are, what each starts with, and how long a statement may take.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "remote/session.h"

#include "base/locks.h"
#include "common/pg_prng.h"

/* what every session starts with */
static const char *const pins =
#include "sql/session_pins.h"
		   ;

/* to be filled in: see there */
static const char *const change_pins =
#include "sql/session_change_pins.h"
		   ;

/*
 * Says whose statements these are, by a name and a token, and how long one may
 * take, in milliseconds.
 */
void
zodan_session_init(ZodanSession *session, const char *name, uint32 token, int64 timeout_ms)
{
	memset(session, 0, sizeof(*session));
	session->name = psprintf("zodan_bgw: %s", name);
	session->token = psprintf("%u", token);
	session->process = psprintf("%u", pg_prng_uint32(&pg_global_prng_state) & 0x7FFFFFFF);
	session->child = psprintf("%s: child of %s", session->name, session->token);
	session->pins = psprintf("%s;SELECT pg_catalog.pg_advisory_lock_shared(%d, %s),"
							 " pg_catalog.pg_advisory_lock_shared(%d, %s)",
							 pins, ZODAN_LOCK_SESSION, session->token, ZODAN_LOCK_PROCESS, session->process);
	session->timeout_ms = timeout_ms;
}

/*
 * A statement is sent to a node: logs it, without passwords, if that is wanted.
 */
void
zodan_session_log(const ZodanSession *session, const char *node, const char *sql)
{
	if (session->log && !session->waiter.suspended)
		session->log(session->log_arg, node, zodan_dsn_redact_text(&session->secrets, sql));
}

/*
 * What a session begins with, behind the others, in which an engine's functions
 * change subscriptions or nodes: see change.c. The server itself ends a statement
 * whose time has passed, or whose client has gone. The last result is a row:
 * whether the session has a temporary schema, the number of its backend, and
 * whether a session of this runner holds the lock of the cluster there. The second
 * key 1 is taken here before 0 is looked for, and zodan_cluster_lock() takes 0
 * before it looks for 1: so one of both sees the other.
 */
char *
zodan_session_change_pins(const ZodanSession *session)
{
	return psprintf(change_pins, zodan_session_server_timeout(session), ZODAN_LOCK_CLUSTER,
					ZODAN_LOCK_CLUSTER, ZODAN_LOCK_PROCESS, session->process);
}

/*
 * The connection option "options" of such a session, palloc'd: own is that of
 * another session of the same role, or NULL. From PostgreSQL 17 on triggers may
 * be run at the start of a session, which often make temporary tables.
 */
char *
zodan_session_change_options(int version, bool superuser, const char *own)
{
	return version < 170000 || !superuser ? pstrdup(own ? own : "") :
		psprintf("%s -c event_triggers=off", own ? own : "");
}

/*
 * By when a single wait that begins now must have ended.
 */
ZodanDeadline
zodan_session_deadline(const ZodanSession *session)
{
	return zodan_wait_deadline(session->timeout_ms);
}

/*
 * How long a statement may take, as a server's settings take it: at most 24 days.
 */
int
zodan_session_server_timeout(const ZodanSession *session)
{
	return (int) Min(session->timeout_ms, PG_INT32_MAX);
}
