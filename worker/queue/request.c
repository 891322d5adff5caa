/*
 * request.c
 *		The queue and the state of each request.
 *
 * A state changes by compare-and-set: zodan_one() treats anything but exactly
 * one changed row as an error, since that means that somebody else has taken
 * the request.
 */
#include "queue/request.h"

#include "base/locks.h"
#include "lib/stringinfo.h"

/* states in which a request may wait for a node that can't be reached */
#define WAITING		"('retrying', 'cancelling', 'rolling_back')"

/* how often somebody looks for it: the longer it has been away the less often */
#define LOOK_EVERY \
	"interval '1 s' * least(60, greatest(2, extract(epoch FROM clock_timestamp() - missing_since) / 5))"

/* states in which nobody works on a request, but its slots may be there */
#define IDLE		"('paused', 'failed', 'cancelled')"

/* the clock was put back since the request s was changed: its times say nothing */
#define CLOCK_PUT_BACK " s.updated_at > now() + interval '5 s'"

/* how often somebody looks at them */
#define WATCH_EVERY	"interval '30 s'"

/*
 * Is the extension in this database?
 */
bool
zodan_catalog_installed(void)
{
	return zodan_is_true(zodan_sql("SELECT to_regclass('zodan.request_state') IS NOT NULL", 0)->value[0][0]);
}

/*
 * Takes the launcher's lock, or that of upkeep, for the life of this process.
 * False: there is such a process for this database already.
 */
bool
zodan_lock_process(int key)
{
	return zodan_is_true(zodan_sql("SELECT pg_try_advisory_lock($1::int, 0)", 1,
					   psprintf("%d", key))->value[0][0]);
}

/*
 * The process id of this database's launcher, or 0.
 */
int
zodan_launcher_pid(void)
{
	ZodanRows  *rows = zodan_sql("SELECT pid FROM pg_catalog.pg_locks"
								 " WHERE locktype = 'advisory' AND granted AND objsubid = 2"
								 "   AND database = (SELECT oid FROM pg_catalog.pg_database"
								 "                    WHERE datname = pg_catalog.current_database())"
								 "   AND classid = $1::oid AND objid = 0", 1,
								 psprintf("%d", ZODAN_LOCK_LAUNCHER));

	return rows->nrows ? (int) zodan_to_int64(rows->value[0][0]) : 0;
}

/* of the requests s: not one of the array $2, and nobody holds its lock */
#define NOBODY_RUNS_IT \
	" s.request_id <> ALL ($2::bigint[])" \
	" AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l" \
	"                  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2" \
	"                    AND l.database = (SELECT oid FROM pg_catalog.pg_database" \
	"                                       WHERE datname = current_database())" \
	"                    AND l.classid = $3::oid AND l.objid = (s.request_id % 2147483648)::oid)"

/* what becomes of the request s when an attempt begins */
#define ATTEMPT_BEGINS \
	" state = CASE WHEN s.state IN ('queued', 'retrying') THEN 'running' ELSE s.state END," \
	" attempt = s.attempt + 1, missing = NULL, missing_dsns = NULL, look_at = NULL," \
	" next_attempt_at = now() + interval '1 s' *" \
	"   least(60, 0.1 * power(1.5, least(20, s.attempt - s.attempt_of_progress)))," \
	" started_at = coalesce(s.started_at, clock_timestamp())," \
	" updated_at = clock_timestamp()"

/*
 * Takes at most limit requests that are due and that nobody runs, oldest
 * first, and returns their ids. busy is an array literal of the requests
 * whose runner may not have got as far as taking its lock.
 *
 * A request that has lost its runner is due as well. How often it has been
 * taken is counted before it starts; if it takes its runner down each time
 * and gets nowhere, that holds back the next start.
 */
ZodanRows *
zodan_dequeue(int limit, const char *busy)
{
	return zodan_sql("WITH due AS ("
					 "  SELECT s.request_id FROM zodan.request_state s JOIN zodan.requests r ON r.id = s.request_id"
					 "   WHERE s.state NOT IN ('done', 'failed', 'cancelled', 'paused')"
					 "     AND (s.state <> 'queued' OR r.not_before IS NULL OR r.not_before <= now())"
					 "     AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= now() OR" CLOCK_PUT_BACK ")"
					 "     AND" NOBODY_RUNS_IT
					 "   ORDER BY s.request_id LIMIT $1::int"
					 "     FOR UPDATE OF s SKIP LOCKED)"
					 "UPDATE zodan.request_state s SET" ATTEMPT_BEGINS
					 "  FROM due WHERE s.request_id = due.request_id RETURNING s.request_id",
					 3, psprintf("%d", limit), busy, psprintf("%d", ZODAN_LOCK_RUNNER));
}

/*
 * The same for requests that only are to be looked at: for the node, where one
 * that could not be reached is waited for and the next attempt isn't due; at
 * its slots, where nobody works on a join that has some. They are looked at
 * again some seconds later, whatever becomes of that.
 */
ZodanRows *
zodan_dequeue_looks(int limit, const char *busy)
{
	return zodan_sql("WITH due AS ("
					 "  SELECT s.request_id FROM zodan.request_state s"
					 "   WHERE (s.state IN " WAITING " AND (s.look_at <= now() OR" CLOCK_PUT_BACK ") AND s.next_attempt_at > now()"
					 "          OR s.state IN " IDLE " AND (coalesce(s.look_at, '-infinity') <= now() OR s.look_at > now() + interval '2 min')"
					 "             AND EXISTS (SELECT FROM zodan.requests r JOIN zodan.effects e ON e.request_id = r.id"
					 "                          WHERE r.id = s.request_id AND r.operation = 'add_node'"
					 "                            AND e.kind = 'slot' AND e.state IN ('intent', 'done')))"
					 "     AND" NOBODY_RUNS_IT
					 "   ORDER BY s.look_at LIMIT $1::int"
					 "     FOR UPDATE OF s SKIP LOCKED)"
					 "UPDATE zodan.request_state s"
					 "   SET look_at = now() + CASE WHEN s.state IN " IDLE " THEN " WATCH_EVERY " ELSE " LOOK_EVERY " END"
					 "  FROM due WHERE s.request_id = due.request_id RETURNING s.request_id",
					 3, psprintf("%d", limit), busy, psprintf("%d", ZODAN_LOCK_RUNNER));
}

/*
 * The request, which has been taken from the queue, doesn't run, since there is no
 * place for another process. That was no attempt.
 */
void
zodan_not_started(int64 id)
{
	zodan_sql("UPDATE zodan.request_state"
			  "   SET state = CASE WHEN state = 'running' THEN 'queued' ELSE state END,"
			  "       attempt = attempt - 1, attempt_of_progress = least(attempt_of_progress, attempt - 1),"
			  "       next_attempt_at = clock_timestamp() + interval '2 s',"
			  "       detail = 'waits for a free background worker: all of max_worker_processes are in use', updated_at = clock_timestamp()"
			  " WHERE request_id = $1::bigint AND state IN ('running', 'cancelling', 'rolling_back')", 1, psprintf(INT64_FORMAT, id));
}

/*
 * The nodes that the request waits for, one a row: name, connection string.
 */
ZodanRows *
zodan_missing_nodes(void)
{
	return zodan_sql("SELECT unnest(missing), unnest(missing_dsns) FROM zodan.request_state WHERE request_id = $1::bigint", 1,
					 zodan_request_id);
}

/*
 * One of them has been found, so an attempt begins now; false if the request
 * doesn't wait any more.
 */
bool
zodan_dequeue_found(void)
{
	return zodan_sql("UPDATE zodan.request_state s SET" ATTEMPT_BEGINS
					 " WHERE s.request_id = $1::bigint AND s.state IN " WAITING
					 "   AND s.look_at IS NOT NULL", 1, zodan_request_id)->nrows == 1;
}

/*
 * Milliseconds until a request that waits for its time is due; -1: none does.
 */
int64
zodan_next_due_ms(void)
{
	char	   *text = zodan_sql("SELECT (extract(epoch FROM min(due.at) - now()) * 1000)::bigint + 1"
								 "  FROM zodan.request_state s JOIN zodan.requests r ON r.id = s.request_id,"
								 "       LATERAL (VALUES (greatest(s.next_attempt_at, CASE WHEN s.state = 'queued' THEN r.not_before END)),"
								 "                       (s.look_at)) AS due(at)"
								 " WHERE s.state <> 'done' AND due.at > now()", 0)->value[0][0];

	return text ? Max(zodan_to_int64(text), 0) : -1;
}

/*
 * Puts a new request into the queue. Runs in the transaction that inserts it.
 */
void
zodan_queue(int64 id)
{
	char	   *text = psprintf(INT64_FORMAT, id);

	zodan_sql("INSERT INTO zodan.request_state (request_id, copy_rate)"
			  " SELECT id, copy_rate FROM zodan.requests WHERE id = $1::bigint", 1, text);
	zodan_sql("INSERT INTO zodan.events (request_id, level, message)"
			  " SELECT id, 'info', format('%s of %s from %s requested by %s',"
			  "                           operation, new_node_name, src_node_name, requested_by)"
			  "   FROM zodan.requests WHERE id = $1::bigint", 1, text);
}

/*
 * The requests that a new one may collide with: those that add or remove a
 * node of the same name and haven't ended, or have ended and left something
 * that can be gone on with, or undone: id, operation, state, new_node_dsn. What
 * was kept when a request was cancelled can be removed. Runs in the transaction
 * that inserts the new one, and keeps others of that name waiting.
 */
ZodanRows *
zodan_rivals(int64 id)
{
	char	   *text = psprintf(INT64_FORMAT, id);

	zodan_sql("SELECT pg_advisory_xact_lock($2::int, hashtext(new_node_name)) FROM zodan.requests WHERE id = $1::bigint",
			  2, text, psprintf("%d", ZODAN_LOCK_FILING));
	return zodan_sql("SELECT r.id, r.operation, s.state, r.new_node_dsn"
					 "  FROM zodan.requests mine JOIN zodan.requests r USING (new_node_name)"
					 "  JOIN zodan.request_state s ON s.request_id = r.id"
					 " WHERE mine.id = $1::bigint AND r.id <> mine.id"
					 "   AND mine.operation <> 'check' AND r.operation <> 'check'"
					 "   AND (s.state NOT IN ('done', 'failed', 'cancelled')"
					 "        OR (s.state = 'failed' OR s.state = 'cancelled' AND mine.operation = 'add_node')"
					 "           AND EXISTS (SELECT FROM zodan.effects e WHERE e.request_id = r.id AND e.state IN ('intent', 'done')))"
					 " ORDER BY r.id", 1, text);
}

/*
 * The requests that haven't ended, or have left something on a node: in a line each
 * what it is, and what is there, NULL if nothing.
 */
ZodanRows *
zodan_open_requests(void)
{
	return zodan_sql("SELECT format('request %s, %s of node %s, which is %s', r.id, r.operation, r.new_node_name, s.state), e.made"
					 "  FROM zodan.requests r JOIN zodan.request_state s ON s.request_id = r.id"
					 "  CROSS JOIN LATERAL (SELECT string_agg(format('%s %s of node %s', e.kind, e.name, e.node), ', ' ORDER BY e.id) AS made"
					 "                        FROM zodan.effects e WHERE e.request_id = r.id AND e.state IN ('intent', 'done')) AS e"
					 " WHERE s.state NOT IN ('done', 'failed', 'cancelled') OR s.state <> 'done' AND e.made IS NOT NULL ORDER BY r.id", 0);
}

/*
 * The request whose token that is, for messages; NULL: it isn't in this queue.
 */
char *
zodan_request_of(const char *token)
{
	ZodanRows  *rows = zodan_sql("SELECT format('request %s, %s, which is %s', r.id, r.operation, s.state)"
								 "  FROM zodan.requests r JOIN zodan.request_state s ON s.request_id = r.id WHERE s.token::text = $1", 1, token);

	return rows->nrows ? rows->value[0][0] : NULL;
}

/*
 * The requests that have ended and left something of a node of the name of the
 * one that this process is about: id, new_node_dsn.
 */
ZodanRows *
zodan_older_requests(void)
{
	return zodan_sql("SELECT r.id, r.new_node_dsn FROM zodan.requests mine JOIN zodan.requests r USING (new_node_name)"
					 "  JOIN zodan.request_state s ON s.request_id = r.id"
					 " WHERE mine.id = $1::bigint AND r.id < mine.id AND s.state IN ('failed', 'cancelled')"
					 "   AND EXISTS (SELECT FROM zodan.effects e WHERE e.request_id = r.id AND e.state IN ('intent', 'done'))", 1,
					 zodan_request_id);
}

/*
 * What a request has left isn't its own any more: the request of this process has
 * removed it.
 */
void
zodan_settle(const char *id)
{
	zodan_sql("WITH e AS (UPDATE zodan.effects SET state = 'left', changed_at = clock_timestamp()"
			  "            WHERE request_id = $2::bigint AND state IN ('intent', 'done')),"
			  " r AS (UPDATE zodan.requests SET src_dsn = zodan.redact_dsn(src_dsn), new_node_dsn = zodan.redact_dsn(new_node_dsn)"
			  "        WHERE id = $2::bigint)"
			  "INSERT INTO zodan.events (request_id, level, message)"
			  " SELECT $2::bigint, 'info', format('what this request has left was removed by request %s', $1)", 2,
			  zodan_request_id, id);
}

/*
 * Takes the lock of a request, for the life of this process. False: another
 * process runs it.
 */
bool
zodan_lock_request(int64 id)
{
	return zodan_is_true(zodan_sql("SELECT pg_try_advisory_lock($1::int, ($2::bigint % 2147483648)::int)", 2,
					   psprintf("%d", ZODAN_LOCK_RUNNER),
					   psprintf(INT64_FORMAT, id))->value[0][0]);
}

/*
 * Reads a request, which becomes the one that this process is about.
 */
ZodanRequest *
zodan_load_request(int64 id)
{
	ZodanRequest *req = palloc0(sizeof(ZodanRequest));
	char	  **v;

	snprintf(zodan_request_id, sizeof(zodan_request_id), INT64_FORMAT, id);
	v = zodan_one("SELECT r.operation, r.src_node_name, r.src_dsn, r.new_node_name, r.new_node_dsn,"
				  "       r.new_node_location, r.new_node_country, r.new_node_info, r.verb,"
				  "       (extract(epoch FROM r.sync_timeout) * 1000)::bigint, r.max_attempts, r.fence,"
				  "       r.copy_jobs, coalesce(u.rolsuper, false), s.state, s.attempt,"
				  "       s.keep, coalesce((r.options ->> 'force')::boolean, false), s.token::text,"
				  "       coalesce(s.asked, 'cancel'), s.reason, s.reason_hint"
				  "  FROM zodan.requests r JOIN zodan.request_state s ON s.request_id = r.id"
				  "  LEFT JOIN pg_catalog.pg_roles u ON u.rolname = r.requested_by"
				  " WHERE r.id = $1::bigint", 1, zodan_request_id)->value[0];
	req->id = id;
	req->operation = v[0];
	req->src_node_name = v[1];
	req->src_dsn = v[2];
	req->new_node_name = v[3];
	req->new_node_dsn = v[4];
	req->location = v[5];
	req->country = v[6];
	req->info = v[7];
	req->verb = zodan_is_true(v[8]);
	req->sync_timeout = zodan_to_int64(v[9]);
	req->max_attempts = (int) zodan_to_int64(v[10]);
	req->fence = zodan_is_true(v[11]);
	req->copy_jobs = (int) zodan_to_int64(v[12]);
	req->by_superuser = zodan_is_true(v[13]);
	req->state = v[14];
	req->attempt = (int) zodan_to_int64(v[15]);
	req->keep = zodan_is_true(v[16]);
	req->force = zodan_is_true(v[17]);
	req->token = v[18];
	req->session_token = (uint32) strtoul(pnstrdup(v[18], 8), NULL, 16) & 0x7FFFFFFF;
	req->asked = v[19];
	req->reason = v[20];
	req->reason_hint = v[21];
	return req;
}

/*
 * options->key->member of the request, as text, or NULL.
 */
char *
zodan_option_text(const char *key, const char *member)
{
	return zodan_one("SELECT options -> $2 ->> $3 FROM zodan.requests WHERE id = $1::bigint", 3,
					 zodan_request_id, key, member)->value[0][0];
}

/*
 * options->key of the request, an array of strings, as the literal of a
 * PostgreSQL array, or NULL.
 */
char *
zodan_option_array(const char *key)
{
	return zodan_one("SELECT CASE WHEN options ? $2"
					 "            THEN ARRAY(SELECT jsonb_array_elements_text(options -> $2))::text END"
					 "  FROM zodan.requests WHERE id = $1::bigint", 2, zodan_request_id, key)->value[0][0];
}

/*
 * What has been asked of the running request: "cancel", "pause", "restart" or
 * NULL.
 */
char *
zodan_asked(void)
{
	return zodan_one("SELECT asked FROM zodan.request_state WHERE request_id = $1::bigint", 1,
					 zodan_request_id)->value[0][0];
}

static void
notify_progress(void)
{
	zodan_one("SELECT pg_notify('zodan_progress', json_build_object("
			  "         'v', 1, 'request', request_id, 'operation', operation, 'node', node, 'state', state,"
			  "         'phase', phase, 'phase_no', phase_no, 'phases', phases, 'percent', percent,"
			  "         'detail', left(coalesce(detail, ''), 1500), 'at', updated_at)::text)"
			  "  FROM zodan.status WHERE request_id = $1::bigint", 1, zodan_request_id);
}

/*
 * Cancels the request unless somebody works on it again.
 */
void
zodan_cancel_idle(const char *reason, const char *hint)
{
	ZodanRows  *rows = zodan_sql("UPDATE zodan.request_state"
								 "   SET state = 'cancelling', asked = 'cancel', keep = false, reason = $2, reason_hint = $3, look_at = NULL, next_attempt_at = NULL,"
								 "       finished_at = NULL, updated_at = clock_timestamp()"
								 " WHERE request_id = $1::bigint AND state IN " IDLE, 3, zodan_request_id, reason, hint);

	if (rows->nrows > 0)
		notify_progress();
}

/*
 * Stores, of a request that nobody works on, what would break it if it went on;
 * returns whether that's new.
 */
bool
zodan_note_broken(const char *message, const char *hint)
{
	return zodan_sql("UPDATE zodan.request_state SET last_error = $2, hint = $3, updated_at = clock_timestamp()"
					 " WHERE request_id = $1::bigint AND state IN " IDLE " AND last_error IS DISTINCT FROM $2", 3,
					 zodan_request_id, message, hint)->nrows > 0;
}

/*
 * Asks it of the running request ourselves, unless something is asked already;
 * returns whether that's new.
 */
bool
zodan_ask(const char *what, const char *reason, const char *hint)
{
	return zodan_sql("UPDATE zodan.request_state SET asked = $2, reason = $3, reason_hint = $4"
					 " WHERE request_id = $1::bigint AND asked IS NULL", 4,
					 zodan_request_id, what, reason, hint)->nrows > 0;
}

/*
 * Moves the request from one state to another, and forgets what was asked of it;
 * raises an error if it is not in the first any more.
 */
void
zodan_set_state(const char *from, const char *to)
{
	zodan_one("UPDATE zodan.request_state"
			  "   SET state = $3, asked = NULL, updated_at = clock_timestamp()"
			  " WHERE request_id = $1::bigint AND state = $2", 3, zodan_request_id, from, to);
	notify_progress();
}

/*
 * Stores the name of the engine that the request has found.
 */
void
zodan_set_engine(const char *engine)
{
	zodan_one("UPDATE zodan.request_state SET engine = $2 WHERE request_id = $1::bigint", 2,
			  zodan_request_id, engine);
}

/*
 * Stores what is shown as the last error, and the hint to it; NULL: none.
 */
void
zodan_set_error(const char *message, const char *hint)
{
	zodan_one("UPDATE zodan.request_state SET last_error = $2, hint = $3 WHERE request_id = $1::bigint", 3,
			  zodan_request_id, message, hint);
}

/*
 * Strings as the literal of an array; NULL if there are none.
 */
static char *
array_literal(List *strings)
{
	StringInfoData buf;
	ListCell   *cell;

	if (strings == NIL)
		return NULL;
	initStringInfo(&buf);
	foreach(cell, strings)
	{
		if (!lfirst(cell))
		{
			appendStringInfoString(&buf, buf.len ? ",NULL" : "{NULL");
			continue;
		}
		appendStringInfoString(&buf, buf.len ? ",\"" : "{\"");
		for (const char *c = lfirst(cell); *c; c++)
			appendStringInfo(&buf, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
		appendStringInfoChar(&buf, '"');
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

/*
 * The request, running now, is tried again after ms milliseconds, or as soon
 * as one of the missing nodes (names; NIL: none), which have these connection
 * strings, can be reached. One that is being undone stays in its state: it only
 * waits. What a user has asked in the meantime doesn't wait.
 */
void
zodan_retry_at(int64 ms, const char *message, const char *hint, List *missing, List *dsns)
{
	zodan_one("UPDATE zodan.request_state"
			  "   SET state = CASE WHEN state = 'running' THEN 'retrying' ELSE state END,"
			  "       next_attempt_at = CASE WHEN asked IS NULL THEN clock_timestamp() + $2::float8 * interval '1 ms' END,"
			  "       last_error = $3, hint = $4, missing = $5::text[], missing_dsns = $6::text[],"
			  "       missing_since = CASE WHEN $5 IS NOT NULL THEN coalesce(missing_since, clock_timestamp()) END,"
			  "       look_at = CASE WHEN $5 IS NOT NULL THEN clock_timestamp() + coalesce(" LOOK_EVERY ", interval '2 s') END,"
			  "       updated_at = clock_timestamp()"
			  " WHERE request_id = $1::bigint AND state IN ('running', 'cancelling', 'rolling_back')", 6,
			  zodan_request_id, psprintf(INT64_FORMAT, ms), message, hint, array_literal(missing), array_literal(dsns));
	notify_progress();
}

/*
 * The request, running now, looks after ms milliseconds whether the request
 * that it has to wait for has ended. That doesn't count as an attempt; and
 * what was checked is checked again then, the other one having changed it.
 */
void
zodan_wait_turn(int64 ms, const char *message)
{
	zodan_sql("INSERT INTO zodan.events (request_id, level, message) SELECT $1::bigint, 'info', $2"
			  "  FROM zodan.request_state WHERE request_id = $1::bigint AND detail IS DISTINCT FROM $2", 2,
			  zodan_request_id, message);
	zodan_sql("DELETE FROM zodan.checkpoints WHERE request_id = $1::bigint"
			  "   AND NOT EXISTS (SELECT FROM zodan.effects WHERE request_id = $1::bigint)", 1, zodan_request_id);
	zodan_one("UPDATE zodan.request_state"
			  "   SET state = CASE WHEN state = 'running' THEN 'queued' ELSE state END, detail = $3,"
			  "       attempt = attempt - 1, attempt_of_progress = least(attempt_of_progress, attempt - 1),"
			  "       next_attempt_at = clock_timestamp() + $2::float8 * interval '1 ms', updated_at = clock_timestamp()"
			  " WHERE request_id = $1::bigint AND state IN ('running', 'cancelling', 'rolling_back')", 3,
			  zodan_request_id, psprintf(INT64_FORMAT, ms), message);
	notify_progress();
}

/*
 * The request, running now, is undone by the process that comes next. what:
 * "cancel", "restart" if it begins anew afterwards, or "abandon" if its node is
 * not its own any more. reason and hint: NULL if they are stored already, or a
 * user has asked. That a user has asked for its end stays.
 */
void
zodan_undo_for(const char *what, const char *reason, const char *hint)
{
	zodan_one("UPDATE zodan.request_state"
			  "   SET state = CASE WHEN $2 = 'cancel' THEN 'cancelling' ELSE 'rolling_back' END,"
			  "       asked = CASE WHEN asked = 'cancel' THEN asked ELSE $2 END, reason = coalesce($3, reason),"
			  "       reason_hint = coalesce($4, reason_hint), updated_at = clock_timestamp()"
			  " WHERE request_id = $1::bigint AND state = 'running'", 4, zodan_request_id, what, reason, hint);
	notify_progress();
}

/*
 * The request, which is undone, begins anew after ms milliseconds; why stays
 * to be seen. False: it was cancelled meanwhile.
 */
bool
zodan_start_again(int64 ms)
{
	ZodanRows  *rows = zodan_sql("WITH u AS ("
								 " UPDATE zodan.request_state"
								 "    SET state = 'retrying', asked = NULL, reason = NULL, reason_hint = NULL, phase = NULL, percent = 0,"
								 "        bytes_copied = NULL, bytes_total = NULL, eta = NULL,"
								 "        next_attempt_at = clock_timestamp() + $2::float8 * interval '1 ms',"
								 "        last_error = reason, hint = reason_hint, updated_at = clock_timestamp()"
								 "  WHERE request_id = $1::bigint AND state = 'rolling_back' AND asked = 'restart'"
								 "  RETURNING request_id),"
								 " c AS (DELETE FROM zodan.checkpoints x USING u WHERE x.request_id = u.request_id),"
								 " e AS (DELETE FROM zodan.effects x USING u WHERE x.request_id = u.request_id),"
								 " b AS (DELETE FROM zodan.bookmarks x USING u WHERE x.request_id = u.request_id),"
								 " t AS (DELETE FROM zodan.copy_tables x USING u WHERE x.request_id = u.request_id),"
								 " k AS (DELETE FROM zodan.kept x USING u WHERE x.request_id = u.request_id),"
								 " n AS (DELETE FROM zodan.servers x USING u WHERE x.request_id = u.request_id)"
								 " SELECT FROM u", 2,
								 zodan_request_id, psprintf(INT64_FORMAT, ms));

	if (rows->nrows == 1)
		notify_progress();
	return rows->nrows == 1;
}

/*
 * Ends the request. With blank, its passwords are removed, since nothing is
 * left that could need them.
 */
void
zodan_end_request(const char *from, const char *to, bool blank)
{
	if (blank)
		zodan_one("UPDATE zodan.requests"
				  "   SET src_dsn = zodan.redact_dsn(src_dsn), new_node_dsn = zodan.redact_dsn(new_node_dsn),"
				  "       options = CASE WHEN options ? 'peer_dsns' THEN"
				  "         jsonb_set(options, '{peer_dsns}', zodan.redact_dsns(options -> 'peer_dsns')) ELSE options END"
				  " WHERE id = $1::bigint", 1, zodan_request_id);
	zodan_one("UPDATE zodan.request_state"
			  "   SET state = $3, asked = NULL, next_attempt_at = NULL, eta = NULL, missing = NULL, missing_dsns = NULL, missing_since = NULL,"
			  "       percent = CASE WHEN $3 = 'done' THEN 100 ELSE percent END,"
			  "       last_error = CASE WHEN $3 = 'done' THEN NULL ELSE last_error END,"
			  "       hint = CASE WHEN $3 = 'done' THEN NULL ELSE hint END,"
			  "       finished_at = clock_timestamp(), updated_at = clock_timestamp()"
			  " WHERE request_id = $1::bigint AND state = $2", 3, zodan_request_id, from, to);
	notify_progress();
	/* what it had on the nodes holds nothing more */
	if (blank && zodan_note_retained(0, false))
		zodan_alert(NULL, NULL);
}

/*
 * Deletes the requests that ended more than so many minutes ago, with all that
 * belongs to them, and older events, and what pg_cron has noted of upkeep;
 * returns how many requests. One that has left something to undo, or to go on
 * with, stays.
 */
int
zodan_purge(int minutes)
{
	char	   *age = psprintf("%d", minutes);
	ZodanRows  *requests;

	requests = zodan_sql("DELETE FROM zodan.requests r USING zodan.request_state s"
						 " WHERE s.request_id = r.id AND s.state IN ('done', 'failed', 'cancelled')"
						 "   AND s.finished_at < now() - $1::int * interval '1 min'"
						 "   AND (s.state = 'done' OR NOT EXISTS (SELECT FROM zodan.effects e"
						 "                                         WHERE e.request_id = r.id AND e.state IN ('intent', 'done')))",
						 1, age);
	zodan_sql("DELETE FROM zodan.events WHERE at < now() - $1::int * interval '1 min'", 1, age);
	if (zodan_sql("SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_cron'", 0)->nrows)
		zodan_sql("DELETE FROM cron.job_run_details"
				  " WHERE command = 'SELECT zodan.upkeep()' AND end_time < now() - $1::int * interval '1 min'", 1, age);
	return requests->nrows;
}

/*
 * Shows where the request stands, and tells the listeners.
 */
void
zodan_progress(const char *phase, double percent, const char *detail)
{
	zodan_one_async("UPDATE zodan.request_state"
					"   SET phase = $2, percent = $3::numeric, detail = $4, updated_at = clock_timestamp()"
					" WHERE request_id = $1::bigint", 4,
					zodan_request_id, phase, psprintf("%.1f", percent), detail);
	notify_progress();
}

/*
 * Shows how far the copy is; returns the rate that it's to be held to, in
 * bytes/s, 0: none.
 */
int64
zodan_copy_status(const ZodanCopyStatus *status)
{
	return zodan_to_int64(zodan_one_async("UPDATE zodan.request_state"
										  "   SET bytes_copied = $2::bigint, bytes_total = $3::bigint, rows_copied = $4::bigint,"
										  "       tables_copied = $5::int, tables_total = $6::int, bytes_per_second = $7::bigint,"
										  "       eta = clock_timestamp() + $8::float8 * interval '1 s',"
										  "       snapshot_since = clock_timestamp() - $9::float8 * interval '1 ms'"
										  " WHERE request_id = $1::bigint RETURNING coalesce(copy_rate, 0)", 9,
										  zodan_request_id, psprintf(INT64_FORMAT, status->bytes),
										  psprintf(INT64_FORMAT, status->bytes_total), psprintf(INT64_FORMAT, status->rows),
										  psprintf("%d", status->tables), psprintf("%d", status->tables_total),
										  psprintf(INT64_FORMAT, status->rate),
										  status->eta < 0 ? NULL : psprintf("%.2f", status->eta),
										  status->snapshot_age > 0 ? psprintf(INT64_FORMAT, status->snapshot_age) : NULL)->value[0][0]);
}

/*
 * Notes how much WAL the request's slots hold, in bytes, on the node where it
 * is most, and whether that is too much. Returns whether the latter is news.
 */
bool
zodan_note_retained(int64 bytes, bool over)
{
	return zodan_is_true(zodan_one("UPDATE zodan.request_state s SET wal_retained = $2::bigint, wal_over = $3::boolean"
								   "  FROM (SELECT wal_over FROM zodan.request_state WHERE request_id = $1::bigint FOR UPDATE) AS before"
								   " WHERE s.request_id = $1::bigint RETURNING before.wal_over <> s.wal_over", 3,
								   zodan_request_id, psprintf(INT64_FORMAT, bytes), over ? "t" : "f")->value[0][0]);
}

/*
 * Tells the listeners of zodan_alerts of a problem that the running request
 * has on a node; NULL: that it has none any more.
 */
void
zodan_alert(const char *node, const char *problem)
{
	zodan_one("SELECT pg_notify('zodan_alerts', json_build_object("
			  "         'v', 1, 'request', $1::bigint, 'node', $2, 'state', CASE WHEN $3 IS NULL THEN 'ok' ELSE 'bad' END,"
			  "         'problem', $3, 'at', clock_timestamp())::text)", 3, zodan_request_id, node, problem);
}
