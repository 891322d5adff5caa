/*
 * catalog.c
 *		The tables of the schema "zodan": the only user of SPI.
 *
 * Each function is one statement in one transaction (or in the caller's, when
 * it has one), so that nothing is held while a remote node is talked to. All
 * values travel as text; the casts stand in the statements.
 *
 * A state changes by compare-and-set: one() and its callers treat anything
 * but exactly one changed row as an error, since that means that somebody
 * else has taken the request.
 */
#include "catalog.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "failpoint.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define MAX_ARGS	8

/* the request that this process runs, as text; set by zodan_load_request() */
static char request_id[32];

/*
 * Runs one statement with text parameters and returns its rows, allocated in
 * the caller's memory context. For a statement that returns none, nrows is
 * the number of rows that it changed.
 */
static ZodanRows *
run(const char *statement, int nargs, va_list args)
{
	bool		own = !IsTransactionState();
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[MAX_ARGS];
	Datum		values[MAX_ARGS];
	char		nulls[MAX_ARGS];
	ZodanRows  *rows;
	int			rc;

	if (own)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, statement);

	for (int i = 0; i < nargs; i++)
	{
		const char *arg = va_arg(args, const char *);

		types[i] = TEXTOID;
		nulls[i] = arg ? ' ' : 'n';
		values[i] = arg ? CStringGetTextDatum(arg) : (Datum) 0;
	}
	rc = SPI_execute_with_args(statement, nargs, types, values, nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI failed: %s", SPI_result_code_string(rc));

	rows = MemoryContextAllocZero(caller, sizeof(ZodanRows));
	rows->nrows = (int) SPI_processed;
	if (SPI_tuptable)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;

		rows->ncols = desc->natts;
		rows->value = MemoryContextAlloc(caller, sizeof(char **) * Max(rows->nrows, 1));
		for (int r = 0; r < rows->nrows; r++)
		{
			rows->value[r] = MemoryContextAlloc(caller, sizeof(char *) * desc->natts);
			for (int c = 0; c < desc->natts; c++)
			{
				char	   *text = SPI_getvalue(SPI_tuptable->vals[r], desc, c + 1);

				rows->value[r][c] = text ? MemoryContextStrdup(caller, text) : NULL;
			}
		}
	}

	SPI_finish();
	PopActiveSnapshot();
	if (own)
	{
		CommitTransactionCommand();
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);
		MemoryContextSwitchTo(caller);
	}
	return rows;
}

static ZodanRows *
sql(const char *statement, int nargs,...)
{
	ZodanRows  *rows;
	va_list		args;

	va_start(args, nargs);
	rows = run(statement, nargs, args);
	va_end(args);
	return rows;
}

/*
 * As sql(), for a statement that must find exactly one row.
 */
static ZodanRows *
one(const char *statement, int nargs,...)
{
	ZodanRows  *rows;
	va_list		args;

	va_start(args, nargs);
	rows = run(statement, nargs, args);
	va_end(args);
	if (rows->nrows != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("request %s is not in the state that was expected", request_id),
				 errdetail("A statement changed %d rows, not one: %s", rows->nrows, statement)));
	return rows;
}

static bool
is_true(const char *text)
{
	return text && text[0] == 't';
}

static int64
to_int64(const char *text)
{
	return text ? strtoll(text, NULL, 10) : 0;
}

/*
 * Is the extension in this database?
 */
bool
zodan_catalog_installed(void)
{
	return is_true(sql("SELECT to_regclass('zodan.request_state') IS NOT NULL", 0)->value[0][0]);
}

/*
 * Runs work(arg) inside a transaction with a snapshot, for the few lookups in
 * system caches that are made outside of SPI.
 */
void
zodan_catalog_transaction(void (*work) (void *), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(caller);
	work(arg);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

/*
 * Takes the launcher's lock, for the life of this process. False: there is
 * a launcher for this database already.
 */
bool
zodan_lock_launcher(void)
{
	return is_true(sql("SELECT pg_try_advisory_lock($1::int, 0)", 1,
					   psprintf("%d", ZODAN_LOCK_LAUNCHER))->value[0][0]);
}

/*
 * The process id of this database's launcher, or 0.
 */
int
zodan_launcher_pid(void)
{
	ZodanRows  *rows = sql("SELECT pid FROM pg_catalog.pg_locks"
						   " WHERE locktype = 'advisory' AND granted AND objsubid = 2"
						   "   AND database = (SELECT oid FROM pg_catalog.pg_database"
						   "                    WHERE datname = pg_catalog.current_database())"
						   "   AND classid = $1::oid AND objid = 0", 1,
						   psprintf("%d", ZODAN_LOCK_LAUNCHER));

	return rows->nrows ? (int) to_int64(rows->value[0][0]) : 0;
}

/*
 * Claims at most limit requests that are due and that nobody runs, oldest
 * first, and returns their ids. busy is an array literal of the requests
 * whose runner may not have got as far as taking its lock.
 *
 * A request that has lost its runner is due as well. How often it has been
 * claimed is counted before it starts; if it takes its runner down each time
 * and gets nowhere, that holds back the next start.
 */
ZodanRows *
zodan_claim(int limit, const char *busy)
{
	return sql("WITH due AS ("
			   "  SELECT s.request_id FROM zodan.request_state s JOIN zodan.requests r ON r.id = s.request_id"
			   "   WHERE s.state NOT IN ('done', 'failed', 'cancelled', 'paused')"
			   "     AND (s.state <> 'queued' OR r.not_before IS NULL OR r.not_before <= now())"
			   "     AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= now())"
			   "     AND s.request_id <> ALL ($2::bigint[])"
			   "     AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l"
			   "                      WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2"
			   "                        AND l.database = (SELECT oid FROM pg_catalog.pg_database"
			   "                                           WHERE datname = current_database())"
			   "                        AND l.classid = $3::oid AND l.objid = (r.id % 2147483648)::oid)"
			   "   ORDER BY s.request_id LIMIT $1::int"
			   "     FOR UPDATE OF s SKIP LOCKED)"
			   "UPDATE zodan.request_state s"
			   "   SET state = CASE WHEN s.state IN ('queued', 'retrying') THEN 'running' ELSE s.state END,"
			   "       attempt = s.attempt + 1,"
			   "       next_attempt_at = now() + interval '1 s' *"
			   "         least(60, 0.1 * power(1.5, least(20, s.attempt - s.attempt_of_progress))),"
			   "       started_at = coalesce(s.started_at, clock_timestamp()),"
			   "       updated_at = clock_timestamp()"
			   "  FROM due WHERE s.request_id = due.request_id RETURNING s.request_id",
			   3, psprintf("%d", limit), busy, psprintf("%d", ZODAN_LOCK_RUNNER));
}

/*
 * Milliseconds until a request that waits for its time is due; -1: none does.
 */
int64
zodan_next_due_ms(void)
{
	char	   *text = sql("SELECT (extract(epoch FROM min(due.at) - now()) * 1000)::bigint + 1"
						   "  FROM zodan.request_state s JOIN zodan.requests r ON r.id = s.request_id,"
						   "       greatest(s.next_attempt_at, CASE WHEN s.state = 'queued' THEN r.not_before END) AS due(at)"
						   " WHERE s.state NOT IN ('done', 'failed', 'cancelled', 'paused') AND due.at > now()", 0)->value[0][0];

	return text ? Max(to_int64(text), 0) : -1;
}

/*
 * Puts a new request into the queue. Runs in the transaction that inserts it.
 */
void
zodan_queue(int64 id)
{
	char	   *text = psprintf(INT64_FORMAT, id);

	sql("INSERT INTO zodan.request_state (request_id) VALUES ($1::bigint)", 1, text);
	sql("INSERT INTO zodan.events (request_id, level, message)"
		" SELECT id, 'info', format('%s of %s from %s requested by %s',"
		"                           operation, new_node_name, src_node_name, requested_by)"
		"   FROM zodan.requests WHERE id = $1::bigint", 1, text);
}

/*
 * Takes the lock of a request, for the life of this process. False: another
 * process runs it.
 */
bool
zodan_lock_request(int64 id)
{
	return is_true(sql("SELECT pg_try_advisory_lock($1::int, ($2::bigint % 2147483648)::int)", 2,
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

	snprintf(request_id, sizeof(request_id), INT64_FORMAT, id);
	v = one("SELECT r.operation, r.src_node_name, r.src_dsn, r.new_node_name, r.new_node_dsn,"
			"       r.new_node_location, r.new_node_country, r.new_node_info, r.verb,"
			"       (extract(epoch FROM r.sync_timeout) * 1000)::bigint, r.max_attempts, r.fence,"
			"       r.copy_jobs, r.requested_by, coalesce(u.rolsuper, false), s.state, s.attempt"
			"  FROM zodan.requests r JOIN zodan.request_state s ON s.request_id = r.id"
			"  LEFT JOIN pg_catalog.pg_roles u ON u.rolname = r.requested_by"
			" WHERE r.id = $1::bigint", 1, request_id)->value[0];
	req->id = id;
	req->operation = v[0];
	req->src_node_name = v[1];
	req->src_dsn = v[2];
	req->new_node_name = v[3];
	req->new_node_dsn = v[4];
	req->location = v[5];
	req->country = v[6];
	req->info = v[7];
	req->verb = is_true(v[8]);
	req->sync_timeout = to_int64(v[9]);
	req->max_attempts = (int) to_int64(v[10]);
	req->fence = is_true(v[11]);
	req->copy_jobs = (int) to_int64(v[12]);
	req->requested_by = v[13];
	req->by_superuser = is_true(v[14]);
	req->state = v[15];
	req->attempt = (int) to_int64(v[16]);
	return req;
}

/*
 * options->key->member of the request, as text, or NULL.
 */
char *
zodan_option_text(const char *key, const char *member)
{
	return one("SELECT options -> $2 ->> $3 FROM zodan.requests WHERE id = $1::bigint", 3,
			   request_id, key, member)->value[0][0];
}

/*
 * options->key of the request, an array of strings, as the literal of a
 * PostgreSQL array, or NULL.
 */
char *
zodan_option_array(const char *key)
{
	return one("SELECT CASE WHEN options ? $2"
			   "            THEN ARRAY(SELECT jsonb_array_elements_text(options -> $2))::text END"
			   "  FROM zodan.requests WHERE id = $1::bigint", 2, request_id, key)->value[0][0];
}

/*
 * What a user has asked of the running request: "cancel", "pause" or NULL.
 */
char *
zodan_asked(void)
{
	return one("SELECT asked FROM zodan.request_state WHERE request_id = $1::bigint", 1,
			   request_id)->value[0][0];
}

static void
notify_progress(void)
{
	one("SELECT pg_notify('zodan_progress', json_build_object("
		"         'v', 1, 'request', request_id, 'operation', operation, 'node', node, 'state', state,"
		"         'phase', phase, 'phase_no', phase_no, 'phases', phases, 'percent', percent,"
		"         'detail', left(coalesce(detail, ''), 1500), 'at', updated_at)::text)"
		"  FROM zodan.status WHERE request_id = $1::bigint", 1, request_id);
}

void
zodan_set_state(const char *from, const char *to)
{
	one("UPDATE zodan.request_state"
		"   SET state = $3, asked = NULL, updated_at = clock_timestamp()"
		" WHERE request_id = $1::bigint AND state = $2", 3, request_id, from, to);
	notify_progress();
}

void
zodan_set_engine(const char *engine)
{
	one("UPDATE zodan.request_state SET engine = $2 WHERE request_id = $1::bigint", 2,
		request_id, engine);
}

void
zodan_set_error(const char *message, const char *hint)
{
	one("UPDATE zodan.request_state SET last_error = $2, hint = $3 WHERE request_id = $1::bigint", 3,
		request_id, message, hint);
}

/*
 * The request, running now, is tried again after ms milliseconds. One that
 * is being undone stays in its state: it only waits.
 */
void
zodan_retry_at(int64 ms, const char *message, const char *hint)
{
	one("UPDATE zodan.request_state"
		"   SET state = CASE WHEN state = 'running' THEN 'retrying' ELSE state END,"
		"       next_attempt_at = clock_timestamp() + $2::float8 * interval '1 ms',"
		"       last_error = $3, hint = $4, updated_at = clock_timestamp()"
		" WHERE request_id = $1::bigint AND state IN ('running', 'cancelling', 'rolling_back')", 4,
		request_id, psprintf(INT64_FORMAT, ms), message, hint);
	notify_progress();
}

/*
 * Ends the request. With blank, its passwords are removed, since nothing is
 * left that could need them.
 */
void
zodan_end_request(const char *from, const char *to, bool blank)
{
	if (blank)
		one("UPDATE zodan.requests"
			"   SET src_dsn = zodan.redact_dsn(src_dsn), new_node_dsn = zodan.redact_dsn(new_node_dsn),"
			"       options = CASE WHEN options ? 'peer_dsns' THEN"
			"         jsonb_set(options, '{peer_dsns}',"
			"                   (SELECT coalesce(jsonb_object_agg(key, zodan.redact_dsn(value)), '{}')"
			"                      FROM jsonb_each_text(options -> 'peer_dsns'))) ELSE options END"
			" WHERE id = $1::bigint", 1, request_id);
	one("UPDATE zodan.request_state"
		"   SET state = $3, asked = NULL, next_attempt_at = NULL, eta = NULL,"
		"       percent = CASE WHEN $3 = 'done' THEN 100 ELSE percent END,"
		"       last_error = CASE WHEN $3 = 'done' THEN NULL ELSE last_error END,"
		"       hint = CASE WHEN $3 = 'done' THEN NULL ELSE hint END,"
		"       finished_at = clock_timestamp(), updated_at = clock_timestamp()"
		" WHERE request_id = $1::bigint AND state = $2", 3, request_id, from, to);
	notify_progress();
}

/*
 * Shows where the request stands, and tells the listeners.
 */
void
zodan_progress(const char *phase, double percent, const char *detail)
{
	one("UPDATE zodan.request_state"
		"   SET phase = $2, percent = $3::numeric, detail = $4, updated_at = clock_timestamp()"
		" WHERE request_id = $1::bigint", 4,
		request_id, phase, psprintf("%.1f", percent), detail);
	notify_progress();
}

/*
 * How far the copy is, in bytes; eta_s: seconds left, negative if unknown.
 */
void
zodan_progress_bytes(int64 copied, int64 total, double eta_s)
{
	one("UPDATE zodan.request_state"
		"   SET bytes_copied = $2::bigint, bytes_total = $3::bigint,"
		"       eta = clock_timestamp() + $4::float8 * interval '1 s'"
		" WHERE request_id = $1::bigint", 4,
		request_id, psprintf(INT64_FORMAT, copied), psprintf(INT64_FORMAT, total),
		eta_s < 0 ? NULL : psprintf("%.1f", eta_s));
}

/*
 * Adds to the log. level: debug, info, warning or error; node may be NULL.
 */
void
zodan_event(const char *level, const char *node, const char *message)
{
	one("INSERT INTO zodan.events (request_id, level, phase, node, message)"
		" SELECT s.request_id, $2, s.phase, $3, $4 FROM zodan.request_state s"
		"  WHERE s.request_id = $1::bigint", 4, request_id, level, node, message);
}

/*
 * Notes that a phase starts, or starts again; false if it is done already.
 */
bool
zodan_checkpoint_begin(const char *phase)
{
	return sql("INSERT INTO zodan.checkpoints AS c (request_id, phase, state)"
			   " VALUES ($1::bigint, $2, 'running')"
			   " ON CONFLICT (request_id, phase) DO UPDATE"
			   "    SET attempts = c.attempts + 1, started_at = clock_timestamp()"
			   "  WHERE c.state = 'running'", 2, request_id, phase)->nrows == 1;
}

void
zodan_checkpoint_done(const char *phase)
{
	one("UPDATE zodan.checkpoints SET state = 'done', finished_at = clock_timestamp(), error = NULL"
		" WHERE request_id = $1::bigint AND phase = $2 AND state = 'running'", 2, request_id, phase);
	one("UPDATE zodan.request_state SET attempt_of_progress = attempt WHERE request_id = $1::bigint", 1, request_id);
}

/*
 * How often a phase was started.
 */
int
zodan_checkpoint_attempts(const char *phase)
{
	return (int) to_int64(sql("SELECT max(attempts) FROM zodan.checkpoints"
							  " WHERE request_id = $1::bigint AND phase = $2", 2,
							  request_id, phase)->value[0][0]);
}

void
zodan_checkpoint_error(const char *phase, const char *error)
{
	sql("UPDATE zodan.checkpoints SET error = $3 WHERE request_id = $1::bigint AND phase = $2", 3,
		request_id, phase, error);
}

/*
 * An effect as it stands; its state is NULL if there is none.
 */
ZodanEffect *
zodan_find_effect(const char *node, const char *kind, const char *name)
{
	ZodanEffect *effect = palloc0(sizeof(ZodanEffect));
	ZodanRows  *rows = sql("SELECT state, result FROM zodan.effects"
						   " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4", 4,
						   request_id, node, kind, name);

	effect->node = pstrdup(node);
	effect->kind = pstrdup(kind);
	effect->name = pstrdup(name);
	if (rows->nrows)
	{
		effect->state = rows->value[0][0];
		effect->result = rows->value[0][1];
	}
	return effect;
}

/*
 * Stores the intent to make something on a node, unless that was done before,
 * and returns the effect as it was *before* the call: its state tells whether
 * an earlier attempt may have made it ("intent") or has ("done").
 */
ZodanEffect *
zodan_effect_intent(const char *node, const char *kind, const char *name)
{
	ZodanEffect *before;

	zodan_failpoint("before_intent", kind);
	before = zodan_find_effect(node, kind, name);
	sql("INSERT INTO zodan.effects AS e (request_id, node, kind, name) VALUES ($1::bigint, $2, $3, $4)"
		" ON CONFLICT (request_id, node, kind, name) DO UPDATE"
		"    SET state = 'intent', result = NULL, changed_at = clock_timestamp()"
		"  WHERE e.state = 'undone'", 4, request_id, node, kind, name);
	zodan_failpoint("after_intent", kind);
	return before;
}

/*
 * Stores what has become of an intent: "done", or still "intent", and a result
 * (an LSN, an id) or NULL.
 */
void
zodan_effect_result(const char *node, const char *kind, const char *name,
					const char *state, const char *result)
{
	zodan_failpoint("after_effect", kind);
	one("UPDATE zodan.effects SET state = $5, result = $6, changed_at = clock_timestamp()"
		" WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4"
		"   AND state <> 'undone'", 6, request_id, node, kind, name, state, result);
}

/*
 * Notes that something isn't there any more, if it ever was, and if that isn't
 * noted already.
 */
void
zodan_effect_undone(const char *node, const char *kind, const char *name)
{
	zodan_failpoint("after_undo", kind);
	sql("UPDATE zodan.effects SET state = 'undone', changed_at = clock_timestamp()"
		" WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4 AND state <> 'undone'",
		4, request_id, node, kind, name);
}

/*
 * Everything that the request has made, or may have made, and not undone,
 * latest first.
 */
List *
zodan_live_effects(void)
{
	ZodanRows  *rows = sql("SELECT node, kind, name, state, result FROM zodan.effects"
						   " WHERE request_id = $1::bigint AND state <> 'undone'"
						   " ORDER BY id DESC", 1, request_id);
	List	   *effects = NIL;

	for (int i = 0; i < rows->nrows; i++)
	{
		ZodanEffect *effect = palloc(sizeof(ZodanEffect));

		effect->node = rows->value[i][0];
		effect->kind = rows->value[i][1];
		effect->name = rows->value[i][2];
		effect->state = rows->value[i][3];
		effect->result = rows->value[i][4];
		effects = lappend(effects, effect);
	}
	return effects;
}

/*
 * Stores a position. column: one of the columns of zodan.bookmarks.
 */
void
zodan_set_bookmark(int snapshot, const char *node, const char *column, const char *lsn)
{
	one(psprintf("INSERT INTO zodan.bookmarks (request_id, snapshot, node, %s)"
				 " VALUES ($1::bigint, $2::int, $3, $4::pg_lsn)"
				 " ON CONFLICT (request_id, snapshot, node) DO UPDATE SET %s = excluded.%s",
				 column, column, column), 4,
		request_id, psprintf("%d", snapshot), node, lsn);
}

/*
 * The positions of a node; all are NULL if none is stored.
 */
ZodanBookmark *
zodan_get_bookmark(int snapshot, const char *node)
{
	ZodanBookmark *mark = palloc0(sizeof(ZodanBookmark));
	ZodanRows  *rows = sql("SELECT slot_lsn, marker_lsn, window_lsn, consistent_lsn, resume_lsn"
						   "  FROM zodan.bookmarks"
						   " WHERE request_id = $1::bigint AND snapshot = $2::int AND node = $3", 3,
						   request_id, psprintf("%d", snapshot), node);

	mark->node = pstrdup(node);
	if (rows->nrows)
	{
		mark->slot_lsn = rows->value[0][0];
		mark->marker_lsn = rows->value[0][1];
		mark->window_lsn = rows->value[0][2];
		mark->consistent_lsn = rows->value[0][3];
		mark->resume_lsn = rows->value[0][4];
	}
	return mark;
}

/*
 * Forgets what was noted for a snapshot, but not where the slots began.
 */
void
zodan_forget_bookmarks(int snapshot)
{
	sql("UPDATE zodan.bookmarks"
		"   SET marker_lsn = NULL, window_lsn = NULL, consistent_lsn = NULL, resume_lsn = NULL"
		" WHERE request_id = $1::bigint AND snapshot = $2::int", 2,
		request_id, psprintf("%d", snapshot));
}

/*
 * Stores the tables to copy, as JSON from the source; those that are known
 * already stay as they are.
 */
void
zodan_plan_copy(const char *tables)
{
	sql("INSERT INTO zodan.copy_tables"
		"       (request_id, nspname, relname, columns, filtered, binary_copy, bytes_total)"
		" SELECT $1::bigint, t.* FROM jsonb_to_recordset($2::jsonb) AS"
		"   t(nspname name, relname name, columns text, filtered boolean, binary_copy boolean, bytes_total bigint)"
		" ON CONFLICT DO NOTHING", 2, request_id, tables);
}

void
zodan_copy_begin(const char *nspname, const char *relname, int snapshot)
{
	one("UPDATE zodan.copy_tables"
		"   SET state = 'copying', snapshot = $4::int, started_at = clock_timestamp()"
		" WHERE request_id = $1::bigint AND nspname = $2 AND relname = $3 AND state <> 'copied'", 4,
		request_id, nspname, relname, psprintf("%d", snapshot));
}

void
zodan_copy_done(const char *nspname, const char *relname, int64 bytes, int64 rows)
{
	one("UPDATE zodan.copy_tables"
		"   SET state = 'copied', bytes_copied = $4::bigint, rows_copied = $5::bigint,"
		"       finished_at = clock_timestamp()"
		" WHERE request_id = $1::bigint AND nspname = $2 AND relname = $3 AND state = 'copying'", 5,
		request_id, nspname, relname, psprintf(INT64_FORMAT, bytes), psprintf(INT64_FORMAT, rows));
}

/*
 * The tables in one of the states (an array literal), largest first.
 */
List *
zodan_copy_list(const char *states)
{
	ZodanRows  *rows = sql("SELECT nspname, relname, state, snapshot, columns, filtered, binary_copy, bytes_total"
						   "  FROM zodan.copy_tables"
						   " WHERE request_id = $1::bigint AND state = ANY ($2::text[])"
						   " ORDER BY bytes_total DESC, nspname, relname", 2, request_id, states);
	List	   *tables = NIL;

	for (int i = 0; i < rows->nrows; i++)
	{
		ZodanCopyTable *table = palloc(sizeof(ZodanCopyTable));

		table->nspname = rows->value[i][0];
		table->relname = rows->value[i][1];
		table->state = rows->value[i][2];
		table->snapshot = (int) to_int64(rows->value[i][3]);
		table->columns = rows->value[i][4];
		table->filtered = is_true(rows->value[i][5]);
		table->binary = is_true(rows->value[i][6]);
		table->bytes_total = to_int64(rows->value[i][7]);
		tables = lappend(tables, table);
	}
	return tables;
}

/*
 * The number for the next snapshot of the source.
 */
int
zodan_next_snapshot(void)
{
	return (int) to_int64(one("SELECT coalesce(max(snapshot), 0) + 1 FROM zodan.bookmarks"
							  " WHERE request_id = $1::bigint", 1, request_id)->value[0][0]);
}

/*
 * The tables that were copied under a later snapshot of the source than the
 * subscription's own, each with that one's consistent point: a JSON array of
 * {nspname, relname, lsn}.
 */
char *
zodan_later_tables(const char *source)
{
	return one("SELECT coalesce(json_agg(json_build_object('nspname', t.nspname, 'relname', t.relname,"
			   "                                           'lsn', b.consistent_lsn)), '[]')"
			   "  FROM zodan.copy_tables t JOIN zodan.bookmarks b USING (request_id, snapshot)"
			   " WHERE request_id = $1::bigint AND snapshot > 0 AND b.node = $2", 2,
			   request_id, source)->value[0][0];
}

void
zodan_forget_check_failures(const char *phase)
{
	sql("DELETE FROM zodan.check_failures WHERE request_id = $1::bigint AND phase = $2", 2,
		request_id, phase);
}

void
zodan_check_failure(const char *phase, const char *check, const char *node,
					const char *found, const char *expected, const char *todo)
{
	one("INSERT INTO zodan.check_failures"
		"       (request_id, phase, check_name, node, found, expected, what_to_do)"
		" VALUES ($1::bigint, $2, $3, $4, $5, $6, $7)", 7,
		request_id, phase, check, node, found, expected, todo);
	zodan_event("error", node,
				psprintf("%s: found %s, expected %s; %s", check, found, expected, todo));
}

/*
 * All failed checks in a line each, and how many they are; NULL if none.
 */
char *
zodan_check_summary(int *count)
{
	char	  **v = one("SELECT count(*), string_agg(format('%s: %s: found %s, expected %s', node,"
						"                                   check_name, found, expected), E'\\n' ORDER BY id)"
						"  FROM zodan.check_failures WHERE request_id = $1::bigint", 1,
						request_id)->value[0];

	*count = (int) to_int64(v[0]);
	return v[1];
}
