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

/*
 * What every session starts with. Nothing that a statement holds may be
 * written to the node's log, since DSNs are among the parameters.
 */
static const char *const pins =
"SET search_path = '';"
"SET datestyle = 'ISO, YMD';"
"SET intervalstyle = 'postgres';"
"SET timezone = 'UTC';"
"SET bytea_output = 'hex';"
"SET extra_float_digits = 3;"
"SET standard_conforming_strings = on;"
"SET quote_all_identifiers = off;"
"SET statement_timeout = 0;"
"SET lock_timeout = 0;"
"SET idle_in_transaction_session_timeout = 0;"
"SET idle_session_timeout = 0;"
"SET default_transaction_read_only = off;"
"SET synchronous_commit = local;"
"SET default_transaction_isolation = 'read committed';"
"SET client_min_messages = warning;"
/* what is asked is small, however large the planner takes it to be */
"SET jit = off;"
"SELECT pg_catalog.set_config(name, '0', false)"
"  FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout';"
/* these take a superuser, which the joins need anyway and the checks ask for */
"SELECT pg_catalog.set_config(name, value, false)"
"  FROM pg_catalog.pg_roles, (VALUES ('log_statement', 'none'),"
"       ('log_min_error_statement', 'panic'), ('log_min_duration_statement', '-1'),"
"       ('log_min_duration_sample', '-1'), ('log_parameter_max_length', '0'),"
"       ('log_parameter_max_length_on_error', '0'), ('log_transaction_sample_rate', '0'))"
"       AS pins(name, value)"
" WHERE rolname = current_user AND rolsuper";

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
	return psprintf("SET statement_timeout = %d;"
					"SET client_connection_check_interval = '1s';"
					"SELECT pg_catalog.pg_advisory_lock_shared(%d, 1);"
					"SELECT pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0, pg_catalog.pg_backend_pid(), EXISTS"
					" (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_locks own USING (pid)"
					"   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2"
					"     AND l.classid = %d::pg_catalog.oid AND l.objid = 0"
					"     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
					"     AND own.locktype = 'advisory' AND own.objsubid = 2"
					"     AND own.classid = %d::pg_catalog.oid AND own.objid = %s)",
					zodan_session_server_timeout(session), ZODAN_LOCK_CLUSTER,
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
