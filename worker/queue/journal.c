/*
 * journal.c
 *		What a request has done, so that another process can go on with it: its
 *		phases, what it has made on which node, positions, and its log. What it
 *		has copied stands in plan.c.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "queue/journal.h"

#include "base/array.h"
#include "base/failpoint.h"
#include "base/locks.h"

/* bytes of a file in a row; small ones for tests */
#ifdef ZODAN_FAILPOINTS
#define DUMP_CHUNK	"1000"
#else
#define DUMP_CHUNK	"1048576"
#endif

/*
 * Adds to the log. level: debug, info, warning or error; node may be NULL.
 */
void
zodan_journal_event(const ZodanRequest *req, const char *level, const char *node, const char *message)
{
	zodan_spi_one("INSERT INTO zodan.events (request_id, level, phase, node, message)"
				  " SELECT s.request_id, $2, s.phase, $3, $4 FROM zodan.request_state s"
				  "  WHERE s.request_id = $1::bigint", 4, req->id_text, level, node, message);
}

/*
 * Notes that a phase starts, or starts again; false if it is done already, or if
 * something has been asked of the request. Whoever asks locks the same row, and knows
 * by the phase whether that can still be done.
 */
bool
zodan_journal_phase_begin(const ZodanRequest *req, const char *phase)
{
	return zodan_spi_execute("WITH s AS (SELECT request_id FROM zodan.request_state WHERE request_id = $1::bigint AND asked IS NULL FOR UPDATE)"
							 " INSERT INTO zodan.checkpoints AS c (request_id, phase, state)"
							 " SELECT request_id, $2, 'running' FROM s"
							 " ON CONFLICT (request_id, phase) DO UPDATE"
							 "    SET attempts = c.attempts + 1, started_at = clock_timestamp()"
							 "  WHERE c.state = 'running'", 2, req->id_text, phase)->nrows == 1;
}

/*
 * Stores that the phase, which is running, is done.
 */
void
zodan_journal_phase_done(const ZodanRequest *req, const char *phase)
{
	zodan_spi_one("UPDATE zodan.checkpoints SET state = 'done', finished_at = clock_timestamp(), error = NULL"
				  " WHERE request_id = $1::bigint AND phase = $2 AND state = 'running'", 2, req->id_text, phase);
	zodan_spi_one("UPDATE zodan.request_state SET attempt_of_progress = attempt, missing_since = NULL WHERE request_id = $1::bigint", 1, req->id_text);
}

/*
 * How often a phase was started.
 */
int
zodan_journal_phase_attempts(const ZodanRequest *req, const char *phase)
{
	return (int) zodan_spi_int64(zodan_spi_execute("SELECT max(attempts) FROM zodan.checkpoints"
												   " WHERE request_id = $1::bigint AND phase = $2", 2,
												   req->id_text, phase)->value[0][0]);
}

/*
 * Counts an attempt in which checks have failed that may go away by themselves,
 * though no node was missing; returns how many there have been.
 */
int
zodan_journal_phase_transient(const ZodanRequest *req, const char *phase)
{
	return (int) zodan_spi_int64(zodan_spi_execute("UPDATE zodan.checkpoints SET transient = transient + 1"
												   " WHERE request_id = $1::bigint AND phase = $2 RETURNING transient", 2,
												   req->id_text, phase)->value[0][0]);
}

/*
 * Stores the error by which the phase has ended.
 */
void
zodan_journal_phase_error(const ZodanRequest *req, const char *phase, const char *error)
{
	zodan_spi_execute("UPDATE zodan.checkpoints SET error = $3 WHERE request_id = $1::bigint AND phase = $2", 3,
					  req->id_text, phase, error);
}

/*
 * Stores what the new node has before anything of the structure is made there,
 * unless that was stored before: see kept.c.
 */
void
zodan_journal_set_kept(const ZodanRequest *req, const char *objects, const char *rights)
{
	zodan_spi_execute("INSERT INTO zodan.kept (request_id, objects, rights) VALUES ($1::bigint, $2::text[], $3::json)"
					  " ON CONFLICT (request_id) DO NOTHING", 3, req->id_text, objects, rights);
}

/*
 * A column of that, as text; NULL if nothing is stored.
 */
char *
zodan_journal_kept(const ZodanRequest *req, const char *column)
{
	ZodanRows  *rows = zodan_spi_execute(psprintf("SELECT %s FROM zodan.kept WHERE request_id = $1::bigint", column), 1, req->id_text);

	return rows->nrows ? rows->value[0][0] : NULL;
}

/*
 * Stores the files of a directory (an absolute path): they are what the request's
 * dump consists of.
 */
void
zodan_journal_store_dump(const ZodanRequest *req, const char *directory)
{
	zodan_spi_execute("INSERT INTO zodan.dump_files (request_id, name, chunk, content)"
					  " SELECT $1::bigint, f, n, pg_read_binary_file($2 || '/' || f, n * $3::bigint, $3::bigint)"
					  "   FROM pg_ls_dir($2) AS f, pg_stat_file($2 || '/' || f) AS s, generate_series(0, s.size / $3::bigint) AS n", 3,
					  req->id_text, directory, DUMP_CHUNK);
}

/*
 * What is stored of the dump: rows of a file's name and a number, the chunks of a
 * file in ascending order.
 */
ZodanRows *
zodan_journal_dump(const ZodanRequest *req)
{
	return zodan_spi_execute("SELECT name, chunk FROM zodan.dump_files WHERE request_id = $1::bigint ORDER BY name, chunk", 1, req->id_text);
}

/*
 * The content of a chunk, as hexadecimal digits.
 */
char *
zodan_journal_dump_chunk(const ZodanRequest *req, const char *name, const char *chunk)
{
	return zodan_spi_one("SELECT encode(content, 'hex') FROM zodan.dump_files WHERE request_id = $1::bigint AND name = $2 AND chunk = $3::bigint", 3,
						 req->id_text, name, chunk)->value[0][0];
}

/*
 * Which of these (names of work directories) are of requests of this database that
 * don't need them any more: rows of a name. Until the end of the transaction nobody
 * runs these requests: what the transaction sees may be older than they are.
 */
ZodanRows *
zodan_journal_dumps_done(List *names)
{
	return zodan_spi_execute("WITH d AS MATERIALIZED"
							 " (SELECT d FROM unnest($1::text[]) AS d"
							 "   WHERE d ~ format('^[0-9]{1,18}_%s_[0-9a-f]{8}$', (SELECT oid FROM pg_database WHERE datname = current_database()))"
							 "     AND NOT EXISTS (SELECT FROM zodan.request_state s"
							 "                      WHERE s.request_id::text = split_part(d, '_', 1) AND left(s.token::text, 8) = split_part(d, '_', 3)"
							 "                        AND (s.state NOT IN ('done', 'failed', 'cancelled')"
							 "                             OR EXISTS (SELECT FROM zodan.dump_files f WHERE f.request_id = s.request_id))))"
							 " SELECT d FROM d WHERE pg_try_advisory_xact_lock($2::int, (split_part(d, '_', 1)::bigint % 2147483648)::int)", 2,
							 zodan_array_literal(names), psprintf("%d", ZODAN_LOCK_RUNNER));
}

void
zodan_journal_forget_dump(const ZodanRequest *req)
{
	zodan_spi_execute("DELETE FROM zodan.dump_files WHERE request_id = $1::bigint", 1, req->id_text);
}

/*
 * What a node was when it was looked at last: NULL if it wasn't. Its WAL has got at
 * least as far as the positions that were found on it.
 */
ZodanServer *
zodan_journal_server(const ZodanRequest *req, const char *node)
{
	ZodanServer *server = palloc(sizeof(ZodanServer));
	ZodanRows  *rows = zodan_spi_execute("SELECT system_identifier, database_oid, timeline, greatest(lsn,"
										 "       (SELECT greatest(max(b.slot_lsn), max(b.consistent_lsn)) FROM zodan.positions b"
										 "         WHERE b.request_id = $1::bigint AND b.node = $2)), node_entry"
										 "  FROM zodan.servers WHERE request_id = $1::bigint AND node = $2", 2, req->id_text, node);

	if (rows->nrows == 0)
		return NULL;
	server->system_identifier = rows->value[0][0];
	server->database_oid = rows->value[0][1];
	server->timeline = rows->value[0][2];
	server->lsn = rows->value[0][3];
	server->node_entry = rows->value[0][4];
	return server;
}

/*
 * Stores what nodes (char *) are now (ZodanServer, in the same order): all of
 * them, or, if the server crashes, none. Which of them are stored tells what was
 * looked at.
 */
void
zodan_journal_set_servers(const ZodanRequest *req, const List *nodes, const List *servers)
{
	List	   *identifiers = NIL;
	List	   *databases = NIL;
	List	   *timelines = NIL;
	List	   *lsns = NIL;
	List	   *entries = NIL;
	ListCell   *cell;

	foreach(cell, servers)
	{
		ZodanServer *server = lfirst(cell);

		identifiers = lappend(identifiers, server->system_identifier);
		databases = lappend(databases, server->database_oid);
		timelines = lappend(timelines, server->timeline);
		lsns = lappend(lsns, server->lsn);
		entries = lappend(entries, server->node_entry ? server->node_entry : "");
	}
	zodan_spi_execute("INSERT INTO zodan.servers (request_id, node, system_identifier, database_oid, timeline, lsn, node_entry)"
					  " SELECT $1::bigint, s.node, s.system_identifier, s.database_oid, s.timeline, s.lsn, nullif(s.node_entry, '')"
					  "   FROM unnest($2::text[], $3::bigint[], $4::oid[], $5::int[], $6::pg_lsn[], $7::text[])"
					  "     AS s (node, system_identifier, database_oid, timeline, lsn, node_entry)"
					  " ON CONFLICT (request_id, node) DO UPDATE SET system_identifier = excluded.system_identifier,"
					  "    database_oid = excluded.database_oid, timeline = excluded.timeline, lsn = excluded.lsn,"
					  "    node_entry = excluded.node_entry", 7,
					  req->id_text, zodan_array_literal(nodes), zodan_array_literal(identifiers), zodan_array_literal(databases),
					  zodan_array_literal(timelines), zodan_array_literal(lsns), zodan_array_literal(entries));
}

/*
 * Notes how far the WAL of a node has got, which can't be less later.
 */
void
zodan_journal_note_lsn(const ZodanRequest *req, const char *node, const char *lsn)
{
	zodan_spi_execute("UPDATE zodan.servers SET lsn = greatest(lsn, $3::pg_lsn) WHERE request_id = $1::bigint AND node = $2", 3,
					  req->id_text, node, lsn);
}

/*
 * Has a phase come to its end?
 */
bool
zodan_journal_any_phase_done(const ZodanRequest *req)
{
	return zodan_spi_execute("SELECT 1 FROM zodan.checkpoints WHERE request_id = $1::bigint AND state = 'done' LIMIT 1", 1,
							 req->id_text)->nrows == 1;
}

/*
 * Forgets which phases were done: none can be gone on with.
 */
void
zodan_journal_forget_phases(const ZodanRequest *req)
{
	zodan_spi_execute("DELETE FROM zodan.checkpoints WHERE request_id = $1::bigint", 1, req->id_text);
}

/*
 * Stores a position. column: one of the columns of zodan.positions.
 */
void
zodan_journal_set_position(const ZodanRequest *req, ZodanMoment moment, const char *node, const char *column, const char *lsn)
{
	zodan_spi_one(psprintf("INSERT INTO zodan.positions (request_id, moment, snapshot, node, %s)"
						   " VALUES ($1::bigint, $2, $3::int, $4, $5::pg_lsn)"
						   " ON CONFLICT (request_id, moment, snapshot, node) DO UPDATE SET %s = excluded.%s",
						   column, column, column), 5,
				  req->id_text, moment.name, psprintf("%d", moment.snapshot), node, lsn);
}

/*
 * The positions of a node at a moment; all are NULL if none is stored.
 */
ZodanPosition *
zodan_journal_position(const ZodanRequest *req, ZodanMoment moment, const char *node)
{
	ZodanPosition *position = palloc0(sizeof(ZodanPosition));
	ZodanRows  *rows = zodan_spi_execute("SELECT slot_lsn, marker_lsn, window_lsn, consistent_lsn, resume_lsn"
										 "  FROM zodan.positions"
										 " WHERE request_id = $1::bigint AND moment = $2 AND snapshot = $3::int AND node = $4", 4,
										 req->id_text, moment.name, psprintf("%d", moment.snapshot), node);

	if (rows->nrows)
		*position = (ZodanPosition)
	{
		rows->value[0][0], rows->value[0][1], rows->value[0][2], rows->value[0][3], rows->value[0][4]
	};
	return position;
}

/*
 * Forgets what was noted for a moment, but not where the slots began.
 */
void
zodan_journal_forget_positions(const ZodanRequest *req, ZodanMoment moment)
{
	zodan_spi_execute("UPDATE zodan.positions"
					  "   SET marker_lsn = NULL, window_lsn = NULL, consistent_lsn = NULL, resume_lsn = NULL"
					  " WHERE request_id = $1::bigint AND moment = $2 AND snapshot = $3::int", 3,
					  req->id_text, moment.name, psprintf("%d", moment.snapshot));
}

/*
 * The number for the next snapshot of the source.
 */
int
zodan_journal_next_snapshot(const ZodanRequest *req)
{
	return (int) zodan_spi_int64(zodan_spi_one("SELECT coalesce(max(snapshot), 0) + 1 FROM zodan.positions"
											   " WHERE request_id = $1::bigint AND moment = 'snapshot'", 1, req->id_text)->value[0][0]);
}

/*
 * Forgets what an earlier attempt of the phase has found.
 */
void
zodan_journal_forget_check_failures(const ZodanRequest *req, const char *phase)
{
	zodan_spi_execute("DELETE FROM zodan.check_failures WHERE request_id = $1::bigint AND phase = $2", 2,
					  req->id_text, phase);
}

/*
 * Stores one thing that a check has found, and an event. transient: it may go away by
 * itself.
 */
void
zodan_journal_check_failure(const ZodanRequest *req, const char *phase, const char *check, const char *node,
							const char *found, const char *expected, const char *todo, bool transient)
{
	zodan_spi_one("INSERT INTO zodan.check_failures"
				  "       (request_id, phase, check_name, node, found, expected, what_to_do, transient)"
				  " VALUES ($1::bigint, $2, $3, $4, $5, $6, $7, $8::boolean)", 8,
				  req->id_text, phase, check, node, found, expected, todo, transient ? "t" : "f");
	zodan_journal_event(req, "error", node,
						psprintf("%s: found %s, expected %s; %s", check, found, expected, todo));
}

/*
 * All failed checks in a line each, NULL if none; how many they are, and how
 * many of them may go away by themselves.
 */
char *
zodan_journal_check_summary(const ZodanRequest *req, int *count, int *transient)
{
	char	  **v = zodan_spi_one("SELECT count(*), string_agg(format('%s: %s: found %s, expected %s', node,"
								  "                                   check_name, found, expected), E'\\n' ORDER BY id),"
								  "       count(*) FILTER (WHERE transient)"
								  "  FROM zodan.check_failures WHERE request_id = $1::bigint", 1,
								  req->id_text)->value[0];

	*count = (int) zodan_spi_int64(v[0]);
	*transient = (int) zodan_spi_int64(v[2]);
	return v[1];
}
