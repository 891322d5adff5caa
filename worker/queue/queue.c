/*
 * queue.c
 *		The queue: which requests are due, and who runs what.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "queue/queue.h"

#include "base/locks.h"
#include "base/retry.h"
#include "queue/states.h"

/* the clock was put back since the request s was changed: its times say nothing */
#define CLOCK_PUT_BACK "s.updated_at > now() + interval '5 s'"

/* of the requests s: not one of the array $2, and nobody holds its lock */
#define NOBODY_RUNS_IT \
	"s.request_id <> ALL ($2::bigint[])" \
	" AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l" \
	"                  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2" \
	"                    AND l.database = (SELECT oid FROM pg_catalog.pg_database" \
	"                                       WHERE datname = current_database())" \
	"                    AND l.classid = $3::oid AND l.objid = mod(s.request_id, 2147483648)::oid)"

/* what becomes of the request s when an attempt begins, but for its state */
#define ATTEMPT_BEGINS \
	"attempt = s.attempt + 1, missing = NULL, missing_dsns = NULL, probe_at = NULL," \
	" next_attempt_at = now() + " ZODAN_RETRY_BACKOFF(ZODAN_RETRY_DIED_MS, "s.attempt - s.attempt_of_progress") "," \
	" started_at = coalesce(s.started_at, clock_timestamp())," \
	" updated_at = clock_timestamp()"

static const char *const take_statement =
#include "sql/queue_take.h"
		   ;

static const char *const take_probes_statement =
#include "sql/queue_take_probes.h"
		   ;

static const char *const rivals_query =
#include "sql/queue_rivals.h"
		   ;

/*
 * Is the extension in this database?
 */
bool
zodan_queue_installed(void)
{
	return zodan_spi_is_true(zodan_spi_execute("SELECT to_regclass('zodan.request_state') IS NOT NULL", 0)->value[0][0]);
}

/*
 * Takes the launcher's lock, or that of upkeep, for the life of this process.
 * False: there is such a process for this database already.
 */
bool
zodan_queue_lock_process(int key)
{
	return zodan_spi_is_true(zodan_spi_execute("SELECT pg_try_advisory_lock($1::int, 0)", 1,
											   psprintf("%d", key))->value[0][0]);
}

/*
 * The process id of this database's launcher, or 0.
 */
int
zodan_queue_launcher_pid(void)
{
	ZodanRows  *rows = zodan_spi_execute("SELECT pid FROM pg_catalog.pg_locks"
										 " WHERE locktype = 'advisory' AND granted AND objsubid = 2"
										 "   AND database = (SELECT oid FROM pg_catalog.pg_database"
										 "                    WHERE datname = pg_catalog.current_database())"
										 "   AND classid = $1::oid AND objid = 0", 1,
										 psprintf("%d", ZODAN_LOCK_LAUNCHER));

	return rows->nrows ? (int) zodan_spi_int64(rows->value[0][0]) : 0;
}

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
zodan_queue_take(int limit, const char *busy)
{
	return zodan_spi_execute(psprintf(take_statement, zodan_states_in(EVENT_START), zodan_states_case(EVENT_START)),
							 3, psprintf("%d", limit), busy, psprintf("%d", ZODAN_LOCK_RUNNER));
}

/*
 * The same for requests that only are to be probed: for the node, where one
 * that could not be reached is waited for and the next attempt isn't due; at
 * its slots, where nobody works on a join that has some. They are probed
 * again some seconds later, whatever becomes of that.
 */
ZodanRows *
zodan_queue_take_probes(int limit, const char *busy)
{
	return zodan_spi_execute(take_probes_statement,
							 3, psprintf("%d", limit), busy, psprintf("%d", ZODAN_LOCK_RUNNER));
}

/*
 * One of the nodes that a request waits for has been reached, so an attempt begins
 * now; false if the request doesn't wait any more.
 */
bool
zodan_queue_take_reached(int64 id)
{
	return zodan_spi_execute(psprintf("UPDATE zodan.request_state s SET state = %s, " ATTEMPT_BEGINS
									  " WHERE s.request_id = $1::bigint AND s.state IN " ZODAN_WAITING
									  "   AND s.probe_at IS NOT NULL", zodan_states_case(EVENT_START)), 1, psprintf(INT64_FORMAT, id))->nrows == 1;
}

/*
 * The request, which has been taken from the queue, doesn't run, since there is no
 * place for another process. That was no attempt.
 */
void
zodan_queue_not_started(int64 id)
{
	zodan_spi_execute(psprintf("UPDATE zodan.request_state"
							   "   SET state = %s,"
							   "       attempt = attempt - 1, attempt_of_progress = least(attempt_of_progress, attempt - 1),"
							   "       next_attempt_at = clock_timestamp() + interval '2 s',"
							   "       detail = 'waits for a free background worker: all of max_worker_processes are in use', updated_at = clock_timestamp()"
							   " WHERE request_id = $1::bigint AND %s", zodan_states_case(EVENT_NOT_STARTED), zodan_states_in(EVENT_NOT_STARTED)), 1, psprintf(INT64_FORMAT, id));
}

/*
 * Milliseconds until a request that waits for its time is due; -1: none does.
 */
int64
zodan_queue_next_due_ms(void)
{
	char	   *text = zodan_spi_execute("SELECT (extract(epoch FROM min(due.at) - now()) * 1000)::bigint + 1"
										 "  FROM zodan.request_state s JOIN zodan.requests r ON r.id = s.request_id,"
										 "       LATERAL (VALUES (greatest(s.next_attempt_at, CASE WHEN s.state = 'queued' THEN r.not_before END)),"
										 "                       (s.probe_at)) AS due(at)"
										 " WHERE s.state <> 'done' AND due.at > now()", 0)->value[0][0];

	return text ? Max(zodan_spi_int64(text), 0) : -1;
}

/*
 * Puts a new request into the queue. Runs in the transaction that inserts it.
 */
void
zodan_queue_add(int64 id)
{
	char	   *text = psprintf(INT64_FORMAT, id);

	zodan_spi_execute("INSERT INTO zodan.request_state (request_id, copy_rate)"
					  " SELECT id, copy_rate FROM zodan.requests WHERE id = $1::bigint", 1, text);
	zodan_spi_execute("INSERT INTO zodan.events (request_id, level, message)"
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
zodan_queue_rivals(int64 id)
{
	char	   *text = psprintf(INT64_FORMAT, id);

	zodan_spi_execute("SELECT pg_advisory_xact_lock($2::int, hashtext(new_node_name)) FROM zodan.requests WHERE id = $1::bigint",
					  2, text, psprintf("%d", ZODAN_LOCK_FILING));
	return zodan_spi_execute(rivals_query, 1, text);
}

/*
 * The requests that haven't ended, or have left something on a node: in a line each
 * what it is, and what is there, NULL if nothing.
 */
ZodanRows *
zodan_queue_open(void)
{
	return zodan_spi_execute("SELECT format('request %s, %s of node %s, which is %s', r.id, r.operation, r.new_node_name, s.state), e.made"
							 "  FROM zodan.requests r JOIN zodan.request_state s ON s.request_id = r.id"
							 "  CROSS JOIN LATERAL (SELECT string_agg(format('%s %s of node %s', e.kind, e.name, e.node), ', ' ORDER BY e.id) AS made"
							 "                        FROM zodan.effects e WHERE e.request_id = r.id AND e.state IN ('intent', 'done')) AS e"
							 " WHERE s.state NOT IN ('done', 'failed', 'cancelled') OR s.state <> 'done' AND e.made IS NOT NULL ORDER BY r.id", 0);
}

/*
 * The request whose token that is, for messages; NULL: it isn't in this queue.
 */
char *
zodan_queue_request_of(const char *token)
{
	ZodanRows  *rows = zodan_spi_execute("SELECT format('request %s, %s, which is %s', r.id, r.operation, s.state)"
										 "  FROM zodan.requests r JOIN zodan.request_state s ON s.request_id = r.id WHERE s.token::text = $1", 1, token);

	return rows->nrows ? rows->value[0][0] : NULL;
}

/*
 * The requests that have ended and left something of a node of the name of the
 * one that this process is about: id, new_node_dsn (or NULL), whether that was the
 * same server and database, and whether any other node was the same.
 */
ZodanRows *
zodan_queue_older(const ZodanRequest *req)
{
	return zodan_spi_execute("SELECT r.id, r.new_node_dsn, coalesce(bool_or(same.node = r.new_node_name), false),"
							 "       coalesce(bool_or(same.node <> r.new_node_name), false)"
							 "  FROM zodan.requests mine JOIN zodan.requests r USING (new_node_name)"
							 "  JOIN zodan.request_state s ON s.request_id = r.id"
							 "  LEFT JOIN LATERAL (SELECT a.node FROM zodan.servers a JOIN zodan.servers b USING (node, system_identifier, database_oid)"
							 "                      WHERE a.request_id = mine.id AND b.request_id = r.id) AS same ON true"
							 " WHERE mine.id = $1::bigint AND r.id < mine.id AND s.state IN ('failed', 'cancelled')"
							 "   AND EXISTS (SELECT FROM zodan.effects e WHERE e.request_id = r.id AND e.state IN ('intent', 'done'))"
							 " GROUP BY r.id, r.new_node_dsn", 1,
							 req->id_text);
}

/*
 * What a request has left isn't its own any more: the request of this process has
 * removed it.
 */
void
zodan_queue_settle(const ZodanRequest *req, const char *id)
{
	zodan_spi_execute("WITH d AS (DELETE FROM zodan.dump_files WHERE request_id = $2::bigint),"
					  " e AS (UPDATE zodan.effects SET state = 'left', changed_at = clock_timestamp()"
					  "            WHERE request_id = $2::bigint AND state IN ('intent', 'done')),"
					  " r AS (UPDATE zodan.requests SET src_dsn = zodan.redact_dsn(src_dsn), new_node_dsn = zodan.redact_dsn(new_node_dsn)"
					  "        WHERE id = $2::bigint)"
					  "INSERT INTO zodan.events (request_id, level, message)"
					  " SELECT $2::bigint, 'info', format('what this request has left was removed by request %s', $1)", 2,
					  req->id_text, id);
}

/*
 * Deletes the requests that ended more than so many minutes ago, with all that
 * belongs to them, and older events, and what pg_cron has noted of upkeep;
 * returns how many requests. One that has left something to undo, or to go on
 * with, stays.
 */
int
zodan_queue_purge(int minutes)
{
	char	   *age = psprintf("%d", minutes);
	ZodanRows  *requests;

	requests = zodan_spi_execute("DELETE FROM zodan.requests r USING zodan.request_state s"
								 " WHERE s.request_id = r.id AND s.state IN ('done', 'failed', 'cancelled')"
								 "   AND s.finished_at < now() - $1::int * interval '1 min'"
								 "   AND (s.state = 'done' OR NOT EXISTS (SELECT FROM zodan.effects e"
								 "                                         WHERE e.request_id = r.id AND e.state IN ('intent', 'done')))",
								 1, age);
	zodan_spi_execute("DELETE FROM zodan.events WHERE at < now() - $1::int * interval '1 min'", 1, age);
	if (zodan_spi_execute("SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_cron'", 0)->nrows)
		zodan_spi_execute("DELETE FROM cron.job_run_details"
						  " WHERE command = 'SELECT zodan.upkeep()' AND end_time < now() - $1::int * interval '1 min'", 1, age);
	return requests->nrows;
}
