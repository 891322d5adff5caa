/*
 * wal.c
 *		What a node's WAL tells of commits: where they come from, and where those
 *		of our own markers are.
 *
 * It's read with the function of pg_walinspect's library, backwards, since the
 * latest such commit is what's wanted.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "engine/wal.h"

#include "base/lsn.h"

/* how the source's WAL is read: backwards, in pieces that grow */
#define WAL_PIECE_FIRST	(512 * 1024)
#define WAL_PIECE_LAST	(16 * 1024 * 1024)

/* how far before a piece the changes of its commits are looked for at first */
#define WAL_BACK	(1024 * 1024)

/* and how far at most, if that tells nothing of a commit */
#define WAL_BACK_LAST	(256 * 1024 * 1024)

/*
 * The function of pg_walinspect: the source needs the library, not the extension.
 */
static const char *const wal_function =
"CREATE FUNCTION zodan_wal_records(IN pg_catalog.pg_lsn, IN pg_catalog.pg_lsn,"
" OUT start_lsn pg_catalog.pg_lsn, OUT end_lsn pg_catalog.pg_lsn, OUT prev_lsn pg_catalog.pg_lsn,"
" OUT xid pg_catalog.xid, OUT resource_manager text, OUT record_type text, OUT record_length int4,"
" OUT main_data_length int4, OUT fpi_length int4, OUT description text, OUT block_ref text)"
" RETURNS SETOF record AS '$libdir/pg_walinspect', 'pg_get_wal_records_info' LANGUAGE C STRICT";

static const char *const labels_query =
#include "sql/wal_labels.h"
		   ;

/*
 * The last commit in [$1, $2) of a transaction that has written a marker with the
 * name $3.
 */
static const char *const mark_query =
"WITH r AS MATERIALIZED (SELECT * FROM zodan_wal_records($1::pg_catalog.pg_lsn, $2::pg_catalog.pg_lsn))"
" SELECT pg_catalog.max(c.start_lsn) FROM r c JOIN r m ON m.xid::text = c.xid::text AND c.xid::text <> '0'"
"  WHERE c.resource_manager = 'Transaction' AND c.record_type LIKE 'COMMIT%'"
"    AND m.resource_manager = 'LogicalMessage' AND pg_catalog.strpos(m.description, 'prefix \"' || $3 || '\"') > 0";

/*
 * Does a commit record begin or end at each of the positions $2 that lie behind $1, and
 * are those at least $3? Filled in: how far before each, and behind it, the
 * record is looked for.
 */
static const char *const commits_query =
"WITH p AS MATERIALIZED (SELECT DISTINCT p FROM pg_catalog.unnest($2::pg_catalog.pg_lsn[]) AS p WHERE p OPERATOR(pg_catalog.>) $1::pg_catalog.pg_lsn),"
" known AS MATERIALIZED (SELECT p FROM p WHERE p OPERATOR(pg_catalog.<=) pg_catalog.pg_current_wal_flush_lsn())"
" SELECT (SELECT pg_catalog.count(*) FROM p) OPERATOR(pg_catalog.=) pg_catalog.count(*) AND pg_catalog.count(*) OPERATOR(pg_catalog.>=) $3::bigint"
"  FROM known WHERE EXISTS (SELECT FROM zodan_wal_records($1::pg_catalog.pg_lsn OPERATOR(pg_catalog.+) greatest(0, (known.p OPERATOR(pg_catalog.-) $1::pg_catalog.pg_lsn) OPERATOR(pg_catalog.-) %d),"
"                                                         least(known.p OPERATOR(pg_catalog.+) %d::numeric, pg_catalog.pg_current_wal_flush_lsn())) r"
"                            WHERE r.resource_manager = 'Transaction' AND r.record_type LIKE 'COMMIT%%' AND (r.end_lsn = known.p OR r.start_lsn = known.p))";

/*
 * A commit record with this label was found: whose is it?
 */
static void
note_commit(ZodanResume *peers, int npeers, const char *label, XLogRecPtr lsn)
{
	for (int i = 0; i < npeers; i++)
		for (int k = 0; k < lengthof(peers[i].ids); k++)
			if (peers[i].ids[k] &&
				(strcmp(peers[i].ids[k], label) == 0 || strcmp(peers[i].ids[k], "*") == 0))
			{
				peers[i].found = true;
				peers[i].lsn = Max(peers[i].lsn, lsn);
			}
}

/*
 * Runs a statement, if there is one, in a transaction that has the function, and
 * takes all of that back: were it committed, it would stay when the node crashes.
 * The schema is none that anybody else sees. It isn't pg_temp, which the session
 * would keep.
 */
static void
with_function(ZodanCall *call)
{
	const char *schema = psprintf("zodan_wal_%s", call->conn->session->process);
	ZodanCall	calls[] = {
		{.sql = psprintf("BEGIN; CREATE SCHEMA %s; SET LOCAL search_path = %s", schema, schema)},
		{.sql = wal_function},
		*call,
		{.sql = "ROLLBACK",.go_on = true}
	};

	if (!call->sql)
		calls[2].sql = "SELECT";
	for (int i = 0; i < lengthof(calls); i++)
		calls[i].conn = call->conn;
	zodan_remote_run(calls, lengthof(calls), ZODAN_USUAL_TIMEOUT);
	*call = calls[2];
	for (int i = 0; i < lengthof(calls); i++)
		if (i != 2)
			PQclear(calls[i].result);
}

/*
 * Can the node's WAL be read? If not, stores why in the call, whose connection
 * is that to the node.
 */
bool
zodan_wal_readable(ZodanCall *call)
{
	with_function(call);
	PQclear(call->result);
	return !call->error;
}

/*
 * Asks about a piece of the WAL, by a query with three parameters.
 */
static PGresult *
read_wal(ZodanConn *source, const char *query, const char *first, const char *second, const char *third)
{
	ZodanCall	call = {.conn = source,.sql = query,.nparams = 3,.params = {first, second, third}};

	with_function(&call);
	zodan_remote_raise_any(&call, 1);
	return call.result;
}

/*
 * Finds, for each peer, where the new node must go on with the peer's own
 * changes: the largest of its marker and the positions that the source's
 * commit records in [window, consistent) carry for it.
 *
 * The WAL is read backwards, since the latest such record is what's wanted.
 * A piece ends where the first record of the one behind it starts, so no
 * record is cut in two.
 */
void
zodan_wal_resume_points(ZodanConn *source, XLogRecPtr window, XLogRecPtr consistent,
						ZodanResume *peers, int npeers)
{
	XLogRecPtr	end = consistent;
	uint64		piece = WAL_PIECE_FIRST;
	uint64		back = WAL_BACK;

	if (npeers == 0)
		return;
	for (int i = 0; i < npeers; i++)
		peers[i].found = false;

	while (end > window)
	{
		XLogRecPtr	start = end - window > piece ? end - piece : window;
		XLogRecPtr	from = start - window > back ? start - back : window;
		XLogRecPtr	first = InvalidXLogRecPtr;
		bool		unclear = false;
		bool		all = true;
		PGresult   *result = read_wal(source, labels_query, zodan_lsn_format(from), zodan_lsn_format(start),
									  zodan_lsn_format(end));

		for (int row = 0; row < PQntuples(result); row++)
			if (PQgetisnull(result, row, 0))
			{
				if (!PQgetisnull(result, row, 1))
					first = zodan_lsn_parse(PQgetvalue(result, row, 1), source->node, "the label of a commit");
				unclear = PQgetvalue(result, row, 2)[0] == 't';
			}

		/* changes before the window belong to commits that don't matter */
		if (unclear && from > window)
		{
			PQclear(result);
			back *= 4;
			continue;
		}
		for (int row = 0; row < PQntuples(result); row++)
			if (!PQgetisnull(result, row, 0))
				note_commit(peers, npeers, PQgetvalue(result, row, 0),
							zodan_lsn_parse(PQgetvalue(result, row, 1), source->node, "the label of a commit"));
		PQclear(result);

		for (int i = 0; i < npeers; i++)
			all = all && peers[i].found;
		if (all || start == window)
			return;
		piece = Min(piece * 2, WAL_PIECE_LAST);
		if (first == InvalidXLogRecPtr)
			piece *= 2;			/* it all lies within one record */
		else
			end = first;
	}
}

/*
 * Are the positions (the literal of an array of pg_lsn) that lie behind one of the node's
 * own, from, those of its commits, and are they at least so many? A subscriber takes the
 * end of a commit's record for its position, but for what it commits by itself after a
 * transaction that was empty, whose record begins there. The WAL must be there from from
 * on; records are shorter than what is looked at first, but for those that list very many
 * subtransactions.
 */
bool
zodan_wal_are_commits(ZodanConn *conn, const char *from, const char *positions, int at_least)
{
	bool		are = false;

	for (int64 back = WAL_BACK; !are && back <= WAL_BACK_LAST; back *= 16)
	{
		PGresult   *result = read_wal(conn, psprintf(commits_query, (int) back, (int) back), from, positions, psprintf("%d", at_least));

		are = PQgetvalue(result, 0, 0)[0] == 't';
		PQclear(result);
	}
	return are;
}

/*
 * The last commit of a marker with a name that starts in [window, before): a
 * slot that is moved there sends this transaction first, which changes
 * nothing, and then all that committed later. InvalidXLogRecPtr: there is none.
 */
XLogRecPtr
zodan_wal_last_marker(ZodanConn *conn, const char *name, XLogRecPtr window, XLogRecPtr before)
{
	XLogRecPtr	end = before;
	uint64		piece = WAL_PIECE_FIRST;

	while (end > window)
	{
		XLogRecPtr	start = end - window > piece ? end - piece : window;
		XLogRecPtr	commit = InvalidXLogRecPtr;
		PGresult   *result = read_wal(conn, mark_query, zodan_lsn_format(start), zodan_lsn_format(end), name);

		if (!PQgetisnull(result, 0, 0))
			commit = zodan_lsn_parse(PQgetvalue(result, 0, 0), conn->node, "the position of a marker");
		PQclear(result);
		if (commit != InvalidXLogRecPtr || start == window)
			return commit;
		/* so that a marker isn't parted from its commit */
		end = start + WAL_PIECE_FIRST / 2;
		piece = Min(piece * 2, WAL_PIECE_LAST);
	}
	return InvalidXLogRecPtr;
}
