/*
 * request.c
 *		The queue and the state of each request.
 *
 * A state changes by compare-and-set, to what the table in states.c says:
 * zodan_spi_one() treats anything but exactly one changed row as an error, since
 * that means that somebody else has taken the request. What a user asks for
 * meanwhile isn't overwritten.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "queue/request.h"

#include "base/array.h"
#include "base/failpoint.h"
#include "base/locks.h"
#include "lib/stringinfo.h"
#include "queue/states.h"

static const char *const restart_statement =
#include "sql/request_restart.h"
		   ;

static const char *const end_statement =
#include "sql/request_end.h"
		   ;

/*
 * The nodes that the request waits for, one a row: name, connection string.
 */
ZodanRows *
zodan_request_unreachable(const ZodanRequest *req)
{
	return zodan_spi_execute("SELECT unnest(missing), unnest(missing_dsns) FROM zodan.request_state WHERE request_id = $1::bigint", 1,
							 req->id_text);
}

/*
 * Takes the lock of a request, for the life of this process. False: another
 * process runs it.
 */
bool
zodan_request_lock(int64 id)
{
	return zodan_spi_is_true(zodan_spi_execute("SELECT pg_try_advisory_lock($1::int, ($2::bigint % 2147483648)::int)", 2,
											   psprintf("%d", ZODAN_LOCK_RUNNER),
											   psprintf(INT64_FORMAT, id))->value[0][0]);
}

/*
 * Reads a request, which becomes the one that this process is about.
 */
ZodanRequest *
zodan_request_load(int64 id)
{
	ZodanRequest *req = palloc0(sizeof(ZodanRequest));
	char	  **v;

	req->id_text = psprintf(INT64_FORMAT, id);
	v = zodan_spi_one("SELECT r.operation, r.src_node_name, r.src_dsn, r.new_node_name, r.new_node_dsn,"
					  "       r.new_node_location, r.new_node_country, r.new_node_info, r.verb,"
					  "       (extract(epoch FROM r.sync_timeout) * 1000)::bigint, r.max_attempts, r.fence,"
					  "       r.copy_jobs, coalesce(u.rolsuper, false), s.state, s.attempt,"
					  "       s.keep, coalesce((r.options ->> 'force')::boolean, false), s.token::text,"
					  "       coalesce(s.asked, 'cancel'), s.reason, s.reason_hint, s.opening IS NOT NULL, s.found_dsn,"
					  "       r.verify, (extract(epoch FROM r.verify_timeout) * 1000)::bigint"
					  "  FROM zodan.requests r JOIN zodan.request_state s ON s.request_id = r.id"
					  "  LEFT JOIN pg_catalog.pg_roles u ON u.rolname = r.requested_by"
					  " WHERE r.id = $1::bigint", 1, req->id_text)->value[0];
	req->id = id;
	req->operation = v[0];
	req->src_node_name = v[1];
	req->src_dsn = v[2];
	req->new_node_name = v[3];
	req->new_node_dsn = v[4];
	req->location = v[5];
	req->country = v[6];
	req->info = v[7];
	req->verb = zodan_spi_is_true(v[8]);
	req->sync_timeout = zodan_spi_int64(v[9]);
	req->max_attempts = (int) zodan_spi_int64(v[10]);
	req->fence = zodan_spi_is_true(v[11]);
	req->copy_jobs = (int) zodan_spi_int64(v[12]);
	req->by_superuser = zodan_spi_is_true(v[13]);
	req->state = v[14];
	req->attempt = (int) zodan_spi_int64(v[15]);
	req->keep = zodan_spi_is_true(v[16]);
	req->force = zodan_spi_is_true(v[17]);
	req->token = v[18];
	req->session_token = (uint32) strtoul(pnstrdup(v[18], 8), NULL, 16) & 0x7FFFFFFF;
	req->asked = v[19];
	req->reason = v[20];
	req->reason_hint = v[21];
	req->opening = zodan_spi_is_true(v[22]);
	req->gave_dsn = req->new_node_dsn && !zodan_spi_is_true(v[23]);
	req->verify = v[24];
	req->verify_timeout = zodan_spi_int64(v[25]);
	return req;
}

/*
 * options->key->member of the request, as text, or NULL.
 */
char *
zodan_request_option(const ZodanRequest *req, const char *key, const char *member)
{
	return zodan_spi_one("SELECT options -> $2 ->> $3 FROM zodan.requests WHERE id = $1::bigint", 3,
						 req->id_text, key, member)->value[0][0];
}

/*
 * options->key of the request, an array of strings, as the literal of a
 * PostgreSQL array, or NULL.
 */
char *
zodan_request_option_array(const ZodanRequest *req, const char *key)
{
	return zodan_spi_one("SELECT CASE WHEN options ? $2"
						 "            THEN ARRAY(SELECT jsonb_array_elements_text(options -> $2))::text END"
						 "  FROM zodan.requests WHERE id = $1::bigint", 2, req->id_text, key)->value[0][0];
}

/*
 * Stores the intent to open the new node to its users, unless something else was
 * asked of the request: false. Whoever asks for the request's end locks the same
 * row, so one of both is first.
 */
bool
zodan_request_intend_open(ZodanRequest *req)
{
	ZODAN_FAILPOINT(req, "before_intent", "open");
	req->opening = zodan_spi_execute("UPDATE zodan.request_state SET opening = clock_timestamp()"
									 " WHERE request_id = $1::bigint AND state = 'running' AND asked IS NULL", 1,
									 req->id_text)->nrows == 1;
	ZODAN_FAILPOINT(req, "after_intent", "open");
	return req->opening;
}

/*
 * What has been asked of the running request: "cancel", "pause", "restart" or
 * NULL.
 */
char *
zodan_request_asked(const ZodanRequest *req)
{
	return zodan_spi_one("SELECT asked FROM zodan.request_state WHERE request_id = $1::bigint", 1,
						 req->id_text)->value[0][0];
}

static void
notify_progress(const ZodanRequest *req)
{
	zodan_spi_one("SELECT pg_notify('zodan_progress', json_build_object("
				  "         'v', 1, 'request', request_id, 'operation', operation, 'node', node, 'state', state,"
				  "         'phase', phase, 'phase_no', phase_no, 'phases', phases, 'percent', percent,"
				  "         'detail', left(coalesce(detail, ''), 1500), 'at', updated_at)::text)"
				  "  FROM zodan.status WHERE request_id = $1::bigint", 1, req->id_text);
}

/*
 * Cancels the request unless somebody works on it again.
 */
void
zodan_request_cancel_idle(const ZodanRequest *req, const char *reason, const char *hint)
{
	ZodanRows  *rows = zodan_spi_execute(psprintf("UPDATE zodan.request_state"
												  "   SET state = %s, asked = 'cancel', keep = false, reason = $2, reason_hint = $3, probe_at = NULL, next_attempt_at = NULL,"
												  "       finished_at = NULL, updated_at = clock_timestamp()"
												  " WHERE request_id = $1::bigint AND state IN " ZODAN_IDLE, zodan_states_case(EVENT_CANCEL)),
										 3, req->id_text, reason, hint);

	if (rows->nrows > 0)
		notify_progress(req);
}

/*
 * Stores, of a request that nobody works on, what would break it if it went on;
 * returns whether that's new.
 */
bool
zodan_request_note_broken(const ZodanRequest *req, const char *message, const char *hint)
{
	return zodan_spi_execute("UPDATE zodan.request_state SET last_error = $2, hint = $3, updated_at = clock_timestamp()"
							 " WHERE request_id = $1::bigint AND state IN " ZODAN_IDLE " AND last_error IS DISTINCT FROM $2", 3,
							 req->id_text, message, hint)->nrows > 0;
}

/*
 * Asks it of the running request ourselves, unless something is asked already;
 * returns whether that's new.
 */
bool
zodan_request_ask(const ZodanRequest *req, const char *what, const char *reason, const char *hint)
{
	return zodan_spi_execute("UPDATE zodan.request_state SET asked = $2, reason = $3, reason_hint = $4"
							 " WHERE request_id = $1::bigint AND asked IS NULL", 4,
							 req->id_text, what, reason, hint)->nrows > 0;
}

/*
 * The running request has been stopped, as was asked. False: by now it's asked to be
 * cancelled.
 */
bool
zodan_request_pause_seen(const ZodanRequest *req)
{
	bool		paused = zodan_spi_execute("UPDATE zodan.request_state SET state = $2, asked = NULL, updated_at = clock_timestamp()"
										   " WHERE request_id = $1::bigint AND state = 'running' AND asked = 'pause'", 2,
										   req->id_text, zodan_states_next("running", EVENT_PAUSE_SEEN))->nrows == 1;

	if (paused)
		notify_progress(req);
	return paused;
}

/*
 * The request, which is in that state, is rolled back from now on. What was asked of
 * it stays.
 */
void
zodan_request_roll_back(const ZodanRequest *req, const char *from)
{
	zodan_spi_one("UPDATE zodan.request_state SET state = $3, updated_at = clock_timestamp()"
				  " WHERE request_id = $1::bigint AND state = $2", 3, req->id_text, from, zodan_states_next(from, EVENT_ROLL_BACK));
	notify_progress(req);
}

/*
 * Stores the name of the engine that the request has found.
 */
void
zodan_request_set_engine(const ZodanRequest *req, const char *engine)
{
	zodan_spi_one("UPDATE zodan.request_state SET engine = $2 WHERE request_id = $1::bigint", 2,
				  req->id_text, engine);
}

/*
 * Stores the connection string of the node that goes, if the request has none: the
 * other nodes forget it.
 */
void
zodan_request_set_node_dsn(const ZodanRequest *req, const char *dsn)
{
	zodan_spi_execute("WITH r AS (UPDATE zodan.requests SET new_node_dsn = $2 WHERE id = $1::bigint AND new_node_dsn IS NULL RETURNING id)"
					  " UPDATE zodan.request_state SET found_dsn = true WHERE request_id IN (SELECT id FROM r)", 2,
					  req->id_text, dsn);
}

/*
 * Stores what is shown as the last error, and the hint to it; NULL: none.
 */
void
zodan_request_set_error(const ZodanRequest *req, const char *message, const char *hint)
{
	zodan_spi_one("UPDATE zodan.request_state SET last_error = $2, hint = $3 WHERE request_id = $1::bigint", 3,
				  req->id_text, message, hint);
}

/*
 * The request, running now, is tried again after ms milliseconds, or as soon
 * as one of the missing nodes (names; NIL: none), which have these connection
 * strings, can be reached. One that is being undone stays in its state: it only
 * waits. What a user has asked in the
 * meantime doesn't wait.
 */
void
zodan_request_retry_after(const ZodanRequest *req, int64 ms, const char *message, const char *hint, List *missing, List *dsns)
{
	zodan_spi_one(psprintf("UPDATE zodan.request_state"
						   "   SET state = %s,"
						   "       next_attempt_at = CASE WHEN asked IS NULL OR state IN ('cancelling', 'rolling_back') AND asked = $7"
						   "                              THEN clock_timestamp() + $2::float8 * interval '1 ms' END,"
						   "       last_error = $3, hint = $4, missing = $5::text[], missing_dsns = $6::text[],"
						   "       missing_since = CASE WHEN $5 IS NOT NULL THEN coalesce(missing_since, clock_timestamp()) END,"
						   "       probe_at = CASE WHEN $5 IS NOT NULL THEN clock_timestamp() + coalesce(" ZODAN_PROBE_EVERY ", interval '2 s') END,"
						   "       updated_at = clock_timestamp()"
						   " WHERE request_id = $1::bigint AND %s", zodan_states_case(EVENT_ERROR), zodan_states_in(EVENT_ERROR)), 7,
				  req->id_text, psprintf(INT64_FORMAT, ms), message, hint, missing == NIL ? NULL : zodan_array_literal(missing), zodan_array_literal(dsns), req->asked);
	notify_progress(req);
}

/*
 * The request, running now, looks after ms milliseconds whether the request
 * that it has to wait for has ended. That doesn't count as an attempt; and
 * what was checked is checked again then, the other one having changed it. But
 * which node a removal was about stays: that one may be added again meanwhile.
 */
void
zodan_request_wait_turn(const ZodanRequest *req, int64 ms, const char *message)
{
	zodan_spi_execute("INSERT INTO zodan.events (request_id, level, message) SELECT $1::bigint, 'info', $2"
					  "  FROM zodan.request_state WHERE request_id = $1::bigint AND detail IS DISTINCT FROM $2", 2,
					  req->id_text, message);
	zodan_spi_execute("WITH d AS (DELETE FROM zodan.checkpoints WHERE request_id = $1::bigint"
					  "   AND NOT EXISTS (SELECT FROM zodan.effects WHERE request_id = $1::bigint))"
					  " DELETE FROM zodan.servers USING zodan.requests r WHERE r.id = request_id AND request_id = $1::bigint"
					  "   AND r.operation <> 'remove_node' AND NOT EXISTS (SELECT FROM zodan.effects WHERE request_id = $1::bigint)", 1, req->id_text);
	zodan_spi_one(psprintf("UPDATE zodan.request_state"
						   "   SET state = %s, detail = $3,"
						   "       attempt = attempt - 1, attempt_of_progress = least(attempt_of_progress, attempt - 1),"
						   "       next_attempt_at = clock_timestamp() + $2::float8 * interval '1 ms', updated_at = clock_timestamp()"
						   " WHERE request_id = $1::bigint AND %s", zodan_states_case(EVENT_WAIT), zodan_states_in(EVENT_WAIT)), 3,
				  req->id_text, psprintf(INT64_FORMAT, ms), message);
	notify_progress(req);
}

/*
 * The request, running now, is undone by the process that comes next. what:
 * "cancel", "restart" if it starts from the beginning afterwards, or "abandon" if its node is
 * not its own any more. reason and hint: NULL if they are stored already, or a
 * user has asked. That a user has asked for its end stays.
 */
void
zodan_request_roll_back_for(const ZodanRequest *req, const char *what, const char *reason, const char *hint)
{
	zodan_spi_one("UPDATE zodan.request_state"
				  "   SET state = $5, asked = CASE WHEN asked = 'cancel' THEN asked ELSE $2 END, reason = coalesce($3, reason),"
				  "       reason_hint = coalesce($4, reason_hint), updated_at = clock_timestamp()"
				  " WHERE request_id = $1::bigint AND state = 'running'", 5, req->id_text, what, reason, hint,
				  zodan_states_next("running", strcmp(what, "cancel") == 0 ? EVENT_CANCEL_SEEN : EVENT_ROLL_BACK));
	notify_progress(req);
}

/*
 * The request, which is undone, starts from the beginning after ms milliseconds; why stays
 * to be seen. False: it was cancelled meanwhile.
 */
bool
zodan_request_restart(const ZodanRequest *req, int64 ms)
{
	ZodanRows  *rows = zodan_spi_execute(restart_statement, 3, req->id_text, psprintf(INT64_FORMAT, ms),
										 zodan_states_next("rolling_back", EVENT_RESTART));

	if (rows->nrows == 1)
		notify_progress(req);
	return rows->nrows == 1;
}

/*
 * Ends the request; false: it isn't in that state any more, or, unless to_cancel, is
 * asked to be cancelled by now. With blank its passwords are removed, in the same
 * statement.
 */
static bool
end_request(const ZodanRequest *req, const char *from, const char *event, bool blank, bool to_cancel)
{
	if (zodan_spi_execute(end_statement, 5, req->id_text, from, zodan_states_next(from, event),
						  blank ? "t" : "f", to_cancel ? "t" : "f")->nrows == 0)
		return false;
	notify_progress(req);
	/* what it had on the nodes holds nothing more */
	if (blank && zodan_request_note_retained(req, 0, false))
		zodan_request_alert(req, NULL, NULL);
	return true;
}

/*
 * Ends the request, which is in that state, by an event. With blank, its passwords
 * are removed, since nothing is left that could need them.
 */
void
zodan_request_end(const ZodanRequest *req, const char *from, const char *event, bool blank)
{
	if (!end_request(req, from, event, blank, true))
		elog(ERROR, "the request is not in state \"%s\" any more", from);
}

/*
 * The same, as failed, unless a user has asked for its end meanwhile: false.
 */
bool
zodan_request_fail(const ZodanRequest *req, const char *from, bool blank)
{
	return end_request(req, from, EVENT_FAIL, blank, false);
}

/*
 * Shows where the request stands, and tells the listeners.
 */
void
zodan_request_progress(const ZodanRequest *req, const char *phase, double percent, const char *detail)
{
	zodan_spi_one_async("UPDATE zodan.request_state"
						"   SET phase = $2, percent = $3::numeric, detail = $4, updated_at = clock_timestamp()"
						" WHERE request_id = $1::bigint", 4,
						req->id_text, phase, psprintf("%.1f", percent), detail);
	notify_progress(req);
}

/*
 * Shows how far the copy is.
 */
void
zodan_request_copy_status(const ZodanRequest *req, const ZodanCopyStatus *status)
{
	zodan_spi_one_async("INSERT INTO zodan.copy_progress (request_id, bytes_copied, bytes_total, rows_copied, tables_copied, tables_total,"
						"                                 bytes_per_second, eta, snapshot_since)"
						" VALUES ($1::bigint, $2::bigint, $3::bigint, $4::bigint, $5::int, $6::int, $7::bigint,"
						"         clock_timestamp() + $8::float8 * interval '1 s', clock_timestamp() - $9::float8 * interval '1 ms')"
						" ON CONFLICT (request_id) DO UPDATE SET bytes_copied = excluded.bytes_copied, bytes_total = excluded.bytes_total,"
						"    rows_copied = excluded.rows_copied, tables_copied = excluded.tables_copied, tables_total = excluded.tables_total,"
						"    bytes_per_second = excluded.bytes_per_second, eta = excluded.eta, snapshot_since = excluded.snapshot_since", 9,
						req->id_text, psprintf(INT64_FORMAT, status->bytes),
						psprintf(INT64_FORMAT, status->bytes_total), psprintf(INT64_FORMAT, status->rows),
						psprintf("%d", status->tables), psprintf("%d", status->tables_total),
						psprintf(INT64_FORMAT, status->rate),
						status->eta < 0 ? NULL : psprintf("%.2f", status->eta),
						status->snapshot_age > 0 ? psprintf(INT64_FORMAT, status->snapshot_age) : NULL);
}

/*
 * The rate that the copy is to be held to, in bytes/s, which may be changed at any
 * time; 0: none.
 */
int64
zodan_request_copy_rate(const ZodanRequest *req)
{
	return zodan_spi_int64(zodan_spi_one("SELECT coalesce(copy_rate, 0) FROM zodan.request_state WHERE request_id = $1::bigint", 1,
										 req->id_text)->value[0][0]);
}

/*
 * Notes how much WAL the request's slots hold, in bytes, on the node where it
 * is most, and whether that is too much. Returns whether the latter is news.
 */
bool
zodan_request_note_retained(const ZodanRequest *req, int64 bytes, bool over)
{
	return zodan_spi_is_true(zodan_spi_one("WITH before AS (SELECT exceeded FROM zodan.wal_watch WHERE request_id = $1::bigint)"
										   "INSERT INTO zodan.wal_watch (request_id, retained, exceeded) VALUES ($1::bigint, $2::bigint, $3::boolean)"
										   " ON CONFLICT (request_id) DO UPDATE SET retained = excluded.retained, exceeded = excluded.exceeded"
										   " RETURNING exceeded <> coalesce((SELECT exceeded FROM before), false)", 3,
										   req->id_text, psprintf(INT64_FORMAT, bytes), over ? "t" : "f")->value[0][0]);
}

/*
 * Tells the listeners of zodan_alerts of a problem that the running request
 * has on a node; NULL: that it has none any more.
 */
void
zodan_request_alert(const ZodanRequest *req, const char *node, const char *problem)
{
	zodan_spi_one("SELECT pg_notify('zodan_alerts', json_build_object("
				  "         'v', 1, 'request', $1::bigint, 'node', $2, 'state', CASE WHEN $3 IS NULL THEN 'healthy' ELSE 'unhealthy' END,"
				  "         'problem', $3, 'at', clock_timestamp())::text)", 3, req->id_text, node, problem);
}
