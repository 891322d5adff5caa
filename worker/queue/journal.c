/*
 * journal.c
 *		What a request has done, so that another process can go on with it: its
 *		phases, what it has made on which node, positions, and its log. What it
 *		has copied stands in plan.c.
 */
#include "queue/journal.h"

#include "base/failpoint.h"

/* bytes of a file in a row */
#define DUMP_CHUNK	"1048576"

/*
 * Adds to the log. level: debug, info, warning or error; node may be NULL.
 */
void
zodan_event(const char *level, const char *node, const char *message)
{
	zodan_one("INSERT INTO zodan.events (request_id, level, phase, node, message)"
			  " SELECT s.request_id, $2, s.phase, $3, $4 FROM zodan.request_state s"
			  "  WHERE s.request_id = $1::bigint", 4, zodan_request_id, level, node, message);
}

/*
 * Notes that a phase starts, or starts again; false if it is done already.
 */
bool
zodan_checkpoint_begin(const char *phase)
{
	return zodan_sql("INSERT INTO zodan.checkpoints AS c (request_id, phase, state)"
					 " VALUES ($1::bigint, $2, 'running')"
					 " ON CONFLICT (request_id, phase) DO UPDATE"
					 "    SET attempts = c.attempts + 1, started_at = clock_timestamp()"
					 "  WHERE c.state = 'running'", 2, zodan_request_id, phase)->nrows == 1;
}

/*
 * Stores that the phase, which is running, is done.
 */
void
zodan_checkpoint_done(const char *phase)
{
	zodan_one("UPDATE zodan.checkpoints SET state = 'done', finished_at = clock_timestamp(), error = NULL"
			  " WHERE request_id = $1::bigint AND phase = $2 AND state = 'running'", 2, zodan_request_id, phase);
	zodan_one("UPDATE zodan.request_state SET attempt_of_progress = attempt, missing_since = NULL WHERE request_id = $1::bigint", 1, zodan_request_id);
}

/*
 * How often a phase was started.
 */
int
zodan_checkpoint_attempts(const char *phase)
{
	return (int) zodan_to_int64(zodan_sql("SELECT max(attempts) FROM zodan.checkpoints"
							  " WHERE request_id = $1::bigint AND phase = $2", 2,
							  zodan_request_id, phase)->value[0][0]);
}

/*
 * Counts an attempt in which checks have failed that may pass by themselves,
 * though no node was missing; returns how many there have been.
 */
int
zodan_checkpoint_passing(const char *phase)
{
	return (int) zodan_to_int64(zodan_sql("UPDATE zodan.checkpoints SET passing = passing + 1"
							  " WHERE request_id = $1::bigint AND phase = $2 RETURNING passing", 2,
							  zodan_request_id, phase)->value[0][0]);
}

/*
 * Stores the error by which the phase has ended.
 */
void
zodan_checkpoint_error(const char *phase, const char *error)
{
	zodan_sql("UPDATE zodan.checkpoints SET error = $3 WHERE request_id = $1::bigint AND phase = $2", 3,
			  zodan_request_id, phase, error);
}

/*
 * An effect as it stands; its state is NULL if there is none.
 */
ZodanEffect *
zodan_find_effect(const char *node, const char *kind, const char *name)
{
	ZodanEffect *effect = palloc0(sizeof(ZodanEffect));
	ZodanRows  *rows = zodan_sql("SELECT state, result, identity FROM zodan.effects"
								 " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4", 4,
								 zodan_request_id, node, kind, name);

	effect->node = pstrdup(node);
	effect->kind = pstrdup(kind);
	effect->name = pstrdup(name);
	if (rows->nrows)
	{
		effect->state = rows->value[0][0];
		effect->result = rows->value[0][1];
		effect->identity = rows->value[0][2];
	}
	return effect;
}

/*
 * Stores the intent to make something on a node, unless that was done before,
 * and returns the effect as it was *before* the call: its state tells whether
 * an earlier attempt may have made it ("intent") or has ("done"). For
 * zodan_claim_effect(), which tells the new node that there is one more.
 */
ZodanEffect *
zodan_effect_intent(const char *node, const char *kind, const char *name)
{
	ZodanEffect *before;

	zodan_failpoint("before_intent", kind);
	before = zodan_find_effect(node, kind, name);
	zodan_sql("WITH c AS (UPDATE zodan.request_state SET claim = claim + 1 WHERE request_id = $1::bigint)"
			  "INSERT INTO zodan.effects AS e (request_id, node, kind, name) VALUES ($1::bigint, $2, $3, $4)"
			  " ON CONFLICT (request_id, node, kind, name) DO UPDATE"
			  "    SET state = 'intent', result = NULL, identity = NULL, changed_at = clock_timestamp()"
			  "  WHERE e.state = 'undone'", 4, zodan_request_id, node, kind, name);
	zodan_failpoint("after_intent", kind);
	return before;
}

/*
 * Stores what has become of an intent: "done", or still "intent", and a result
 * (an LSN, an id) or NULL. That something has been made is progress: the next
 * attempt isn't held back for those before it.
 */
void
zodan_effect_result(const char *node, const char *kind, const char *name,
					const char *state, const char *result)
{
	zodan_failpoint("after_effect", kind);
	zodan_one("WITH progress AS ("
			  " UPDATE zodan.request_state s SET attempt_of_progress = s.attempt FROM zodan.effects e"
			  "  WHERE s.request_id = $1::bigint AND e.request_id = s.request_id AND e.node = $2 AND e.kind = $3 AND e.name = $4"
			  "    AND e.state = 'intent' AND $5 = 'done')"
			  "UPDATE zodan.effects SET state = $5, result = $6, changed_at = clock_timestamp()"
			  " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4"
			  "   AND state IN ('intent', 'done')", 6, zodan_request_id, node, kind, name, state, result);
}

/*
 * Stores what tells something that was made from a later object of its name.
 */
void
zodan_effect_identity(const char *node, const char *kind, const char *name, const char *identity)
{
	zodan_one("UPDATE zodan.effects SET identity = $5"
			  " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4", 5,
			  zodan_request_id, node, kind, name, identity);
}

/*
 * Notes that something may be there that the journal doesn't know of, unless it
 * does; result: NULL if it isn't known. That doesn't count as an intent.
 */
void
zodan_effect_assume(const char *node, const char *kind, const char *name, const char *result)
{
	zodan_sql("INSERT INTO zodan.effects AS e (request_id, node, kind, name, result) VALUES ($1::bigint, $2, $3, $4, $5)"
			  " ON CONFLICT (request_id, node, kind, name) DO UPDATE"
			  "    SET state = CASE WHEN e.state = 'done' THEN 'done' ELSE 'intent' END, result = coalesce(e.result, excluded.result),"
			  "        changed_at = clock_timestamp()"
			  "  WHERE e.state = 'undone' OR e.result IS NULL", 5, zodan_request_id, node, kind, name, result);
}

/*
 * Stores the intent to open the new node to its users, unless something else was
 * asked of the request: false. Whoever asks for the request's end locks the same
 * row, so one of both is first.
 */
bool
zodan_effect_intent_open(const char *node, const char *database)
{
	bool		stored;

	zodan_failpoint("before_intent", EFFECT_OPEN);
	stored = zodan_sql("WITH s AS (SELECT request_id FROM zodan.request_state"
					 "            WHERE request_id = $1::bigint AND state = 'running' AND asked IS NULL FOR UPDATE)"
					 "INSERT INTO zodan.effects (request_id, node, kind, name) SELECT request_id, $2, '" EFFECT_OPEN "', $3 FROM s", 3,
					 zodan_request_id, node, database)->nrows == 1;
	zodan_failpoint("after_intent", EFFECT_OPEN);
	return stored;
}

/*
 * Notes that something isn't there any more, if it ever was, and if that isn't
 * noted already.
 */
void
zodan_effect_undone(const char *node, const char *kind, const char *name)
{
	zodan_failpoint("after_undo", kind);
	zodan_sql("UPDATE zodan.effects SET state = 'undone', changed_at = clock_timestamp()"
			  " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4 AND state IN ('intent', 'done')",
			  4, zodan_request_id, node, kind, name);
}

/*
 * Notes that something isn't the request's to drop any more.
 */
void
zodan_effect_left(const char *node, const char *kind, const char *name)
{
	zodan_one("UPDATE zodan.effects SET state = 'left', changed_at = clock_timestamp()"
			  " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4 AND state IN ('intent', 'done')",
			  4, zodan_request_id, node, kind, name);
}

/*
 * How often the request has intended something; with count once more.
 */
char *
zodan_intents(bool count)
{
	return zodan_one("UPDATE zodan.request_state SET claim = claim + $2::int WHERE request_id = $1::bigint RETURNING claim", 2,
					 zodan_request_id, count ? "1" : "0")->value[0][0];
}

/*
 * The new node was told that it has intended something so often.
 */
void
zodan_set_told(const char *intents)
{
	zodan_one_async("UPDATE zodan.request_state SET claim_told = $2::bigint WHERE request_id = $1::bigint", 2, zodan_request_id, intents);
}

/*
 * What it was told last; it may have been told more since.
 */
int64
zodan_get_told(void)
{
	return zodan_to_int64(zodan_one("SELECT claim_told FROM zodan.request_state WHERE request_id = $1::bigint", 1, zodan_request_id)->value[0][0]);
}

/*
 * It has intended something as often as that at least, though the journal didn't
 * know.
 */
void
zodan_set_intents(const char *intents)
{
	zodan_one("UPDATE zodan.request_state SET claim = greatest(claim, $2::bigint) WHERE request_id = $1::bigint", 2,
			  zodan_request_id, intents);
}

/*
 * Is it there, or may it be?
 */
bool
zodan_effect_is_live(const ZodanEffect *effect)
{
	return effect->state && (strcmp(effect->state, "intent") == 0 || strcmp(effect->state, "done") == 0);
}

/*
 * Everything that the request has made, or may have made, and not undone,
 * latest first.
 */
List *
zodan_live_effects(void)
{
	ZodanRows  *rows = zodan_sql("SELECT node, kind, name, state, result, identity FROM zodan.effects"
								 " WHERE request_id = $1::bigint AND state IN ('intent', 'done')"
								 " ORDER BY id DESC", 1, zodan_request_id);
	List	   *effects = NIL;

	for (int i = 0; i < rows->nrows; i++)
	{
		ZodanEffect *effect = palloc(sizeof(ZodanEffect));

		effect->node = rows->value[i][0];
		effect->kind = rows->value[i][1];
		effect->name = rows->value[i][2];
		effect->state = rows->value[i][3];
		effect->result = rows->value[i][4];
		effect->identity = rows->value[i][5];
		effects = lappend(effects, effect);
	}
	return effects;
}

/*
 * Stores what the new node has before anything of the structure is made there,
 * unless that was stored before: see kept.c.
 */
void
zodan_set_kept(const char *objects, const char *rights)
{
	zodan_sql("INSERT INTO zodan.kept (request_id, objects, rights) VALUES ($1::bigint, $2::text[], $3::json)"
			  " ON CONFLICT (request_id) DO NOTHING", 3, zodan_request_id, objects, rights);
}

/*
 * A column of that, as text; NULL if nothing is stored.
 */
char *
zodan_get_kept(const char *column)
{
	ZodanRows  *rows = zodan_sql(psprintf("SELECT %s FROM zodan.kept WHERE request_id = $1::bigint", column), 1, zodan_request_id);

	return rows->nrows ? rows->value[0][0] : NULL;
}

/*
 * Stores the files of a directory (an absolute path): they are what the request's
 * dump consists of.
 */
void
zodan_store_dump(const char *directory)
{
	zodan_sql("INSERT INTO zodan.dump_files (request_id, name, chunk, content)"
			  " SELECT $1::bigint, f, n, pg_read_binary_file($2 || '/' || f, n * $3::bigint, $3::bigint)"
			  "   FROM pg_ls_dir($2) AS f, pg_stat_file($2 || '/' || f) AS s, generate_series(0, s.size / $3::bigint) AS n", 3,
			  zodan_request_id, directory, DUMP_CHUNK);
}

/*
 * What is stored of the dump: rows of a file's name and a number, the chunks of a
 * file in ascending order.
 */
ZodanRows *
zodan_stored_dump(void)
{
	return zodan_sql("SELECT name, chunk FROM zodan.dump_files WHERE request_id = $1::bigint ORDER BY name, chunk", 1, zodan_request_id);
}

/*
 * The content of a chunk, as hexadecimal digits.
 */
char *
zodan_stored_chunk(const char *name, const char *chunk)
{
	return zodan_one("SELECT encode(content, 'hex') FROM zodan.dump_files WHERE request_id = $1::bigint AND name = $2 AND chunk = $3::bigint", 3,
					 zodan_request_id, name, chunk)->value[0][0];
}

void
zodan_forget_dump(void)
{
	zodan_sql("DELETE FROM zodan.dump_files WHERE request_id = $1::bigint", 1, zodan_request_id);
}

/*
 * What a node was when it was looked at last: NULL if it wasn't. Its WAL has got at
 * least as far as the positions that were found on it.
 */
ZodanServer *
zodan_get_server(const char *node)
{
	ZodanServer *server = palloc(sizeof(ZodanServer));
	ZodanRows  *rows = zodan_sql("SELECT system_identifier, database_oid, timeline, greatest(lsn,"
								 "       (SELECT greatest(max(b.slot_lsn), max(b.consistent_lsn)) FROM zodan.bookmarks b"
								 "         WHERE b.request_id = $1::bigint AND b.node = $2))"
								 "  FROM zodan.servers WHERE request_id = $1::bigint AND node = $2", 2, zodan_request_id, node);

	if (rows->nrows == 0)
		return NULL;
	server->system_identifier = rows->value[0][0];
	server->database_oid = rows->value[0][1];
	server->timeline = rows->value[0][2];
	server->lsn = rows->value[0][3];
	return server;
}

/*
 * Stores what a node is now.
 */
void
zodan_set_server(const char *node, const ZodanServer *server)
{
	zodan_one("INSERT INTO zodan.servers (request_id, node, system_identifier, database_oid, timeline, lsn)"
			  " VALUES ($1::bigint, $2, $3::bigint, $4::oid, $5::int, $6::pg_lsn)"
			  " ON CONFLICT (request_id, node) DO UPDATE SET system_identifier = excluded.system_identifier,"
			  "    database_oid = excluded.database_oid, timeline = excluded.timeline, lsn = excluded.lsn", 6,
			  zodan_request_id, node, server->system_identifier, server->database_oid, server->timeline, server->lsn);
}

/*
 * Notes how far the WAL of a node has got, which can't be less later.
 */
void
zodan_note_lsn(const char *node, const char *lsn)
{
	zodan_sql("UPDATE zodan.servers SET lsn = greatest(lsn, $3::pg_lsn) WHERE request_id = $1::bigint AND node = $2", 3,
			  zodan_request_id, node, lsn);
}

/*
 * Forgets which phases were done: none can be gone on with.
 */
void
zodan_forget_checkpoints(void)
{
	zodan_sql("DELETE FROM zodan.checkpoints WHERE request_id = $1::bigint", 1, zodan_request_id);
}

/*
 * Stores a position. column: one of the columns of zodan.bookmarks.
 */
void
zodan_set_bookmark(int snapshot, const char *node, const char *column, const char *lsn)
{
	zodan_one(psprintf("INSERT INTO zodan.bookmarks (request_id, snapshot, node, %s)"
					   " VALUES ($1::bigint, $2::int, $3, $4::pg_lsn)"
					   " ON CONFLICT (request_id, snapshot, node) DO UPDATE SET %s = excluded.%s",
					   column, column, column), 4,
			  zodan_request_id, psprintf("%d", snapshot), node, lsn);
}

/*
 * The positions of a node; all are NULL if none is stored.
 */
ZodanBookmark *
zodan_get_bookmark(int snapshot, const char *node)
{
	ZodanBookmark *mark = palloc0(sizeof(ZodanBookmark));
	ZodanRows  *rows = zodan_sql("SELECT slot_lsn, marker_lsn, window_lsn, consistent_lsn, resume_lsn"
								 "  FROM zodan.bookmarks"
								 " WHERE request_id = $1::bigint AND snapshot = $2::int AND node = $3", 3,
								 zodan_request_id, psprintf("%d", snapshot), node);

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
	zodan_sql("UPDATE zodan.bookmarks"
			  "   SET marker_lsn = NULL, window_lsn = NULL, consistent_lsn = NULL, resume_lsn = NULL"
			  " WHERE request_id = $1::bigint AND snapshot = $2::int", 2,
			  zodan_request_id, psprintf("%d", snapshot));
}

/*
 * The number for the next snapshot of the source.
 */
int
zodan_next_snapshot(void)
{
	return (int) zodan_to_int64(zodan_one("SELECT coalesce(max(snapshot), 0) + 1 FROM zodan.bookmarks"
							  " WHERE request_id = $1::bigint", 1, zodan_request_id)->value[0][0]);
}

/*
 * Forgets what an earlier attempt of the phase has found.
 */
void
zodan_forget_check_failures(const char *phase)
{
	zodan_sql("DELETE FROM zodan.check_failures WHERE request_id = $1::bigint AND phase = $2", 2,
			  zodan_request_id, phase);
}

/*
 * Stores one thing that a check has found, and an event. passing: it may pass by
 * itself.
 */
void
zodan_check_failure(const char *phase, const char *check, const char *node,
					const char *found, const char *expected, const char *todo, bool passing)
{
	zodan_one("INSERT INTO zodan.check_failures"
			  "       (request_id, phase, check_name, node, found, expected, what_to_do, passing)"
			  " VALUES ($1::bigint, $2, $3, $4, $5, $6, $7, $8::boolean)", 8,
			  zodan_request_id, phase, check, node, found, expected, todo, passing ? "t" : "f");
	zodan_event("error", node,
				psprintf("%s: found %s, expected %s; %s", check, found, expected, todo));
}

/*
 * All failed checks in a line each, NULL if none; how many they are, and how
 * many of them may pass by themselves.
 */
char *
zodan_check_summary(int *count, int *passing)
{
	char	  **v = zodan_one("SELECT count(*), string_agg(format('%s: %s: found %s, expected %s', node,"
							  "                                   check_name, found, expected), E'\\n' ORDER BY id),"
							  "       count(*) FILTER (WHERE passing)"
							  "  FROM zodan.check_failures WHERE request_id = $1::bigint", 1,
							  zodan_request_id)->value[0];

	*count = (int) zodan_to_int64(v[0]);
	*passing = (int) zodan_to_int64(v[2]);
	return v[1];
}
