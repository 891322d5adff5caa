/*
 * claim.c
 *		The request's claim on its new node, and what the nodes are.
 *
 * The journal says what was done; only the nodes say what is. Between two looks
 * at them anything may have happened: the coordinator was away for a week, was
 * restored from a backup or has failed over, and by now the new node is somebody
 * else's, with users' rows. So a join leaves its mark in the new node's database
 * before it makes anything, and looks at it before it makes or drops anything on
 * any node.
 *
 * The mark is a setting of the database, zodan.claim = 'TOKEN/NUMBER/LIMIT'. It
 * goes when the database is dropped, isn't replicated, and takes nothing on the
 * node. The limit is the database's connection limit from before the join. The
 * number says how often the request has intended something. The journal counts
 * that in the transaction that stores the intent; then the node is told; then
 * it's done. So on the node
 *
 *	the same number, or that of the intent before	is what the journal knows of
 *	a lower one		was told before the node was restored to an earlier moment
 *	a higher number		was written by a request of a later journal: ours is one
 *						that was restored, or a standby that was behind
 *	another token, or no mark	the node isn't this request's any more
 *
 * The statement that opens the node takes the mark away: an open node never has
 * one.
 *
 * Of each node it's known which server and database it is, on which timeline,
 * and how far its WAL was flushed. Positions and snapshots of a server that was
 * promoted, or restored to an earlier moment, are worth nothing, nor is what was
 * made there: the join begins anew. One that is another server or database is
 * left alone.
 */
#include "claim.h"

#include "utils/builtins.h"

static const char *const reset = "pg_catalog.format('ALTER DATABASE %I RESET zodan.claim', pg_catalog.current_database())";

static const char *const server_query =
"SELECT c.system_identifier, d.oid, CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN"
"       ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()), 8))::bit(32)::int END,"
"       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_flush_lsn() END"
"  FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/*
 * Only joins claim their node: a removal takes what is there.
 */
static bool
claims(ZodanJob *job)
{
	return strcmp(job->req->operation, "add_node") == 0;
}

static bool
is_live(const ZodanEffect *effect)
{
	return effect->state && (strcmp(effect->state, "intent") == 0 || strcmp(effect->state, "done") == 0);
}

static ZodanEffect *
find_claim(ZodanJob *job)
{
	return zodan_find_effect(job->req->new_node_name, EFFECT_CLAIM, job->new_dbname);
}

/*
 * Was the intent stored to open the node? Then it may have no mark any more.
 */
static bool
is_opened(ZodanJob *job)
{
	return is_live(zodan_find_effect(job->req->new_node_name, EFFECT_OPEN, job->new_dbname));
}

/*
 * Is the mark this request's? Then its number is stored in *number.
 */
static bool
is_ours(ZodanJob *job, const char *mark, int64 *number)
{
	size_t		n = strlen(job->req->token);

	if (!mark || strncmp(mark, job->req->token, n) != 0 || mark[n] != '/')
		return false;
	*number = strtoll(mark + n + 1, NULL, 10);
	return true;
}

/* ---------- what the nodes are ---------- */

/*
 * Asks all nodes that could be reached; those that could not are NULL. The new
 * node comes behind the members.
 */
static ZodanServer **
ask_servers(ZodanJob *job)
{
	int			n = job->nmembers + 1;
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * n);
	ZodanServer **servers = palloc0(sizeof(ZodanServer *) * n);

	for (int i = 0; i < n; i++)
	{
		calls[i].conn = i < job->nmembers ? &job->members[i].conn : &job->new_conn;
		calls[i].sql = server_query;
		calls[i].sent = calls[i].finished = calls[i].conn->pg == NULL;
	}
	zodan_call_all(calls, n, zodan_statement_timeout());
	zodan_raise_any(calls, n);
	for (int i = 0; i < n; i++)
	{
		if (!calls[i].result)
			continue;
		servers[i] = palloc(sizeof(ZodanServer));
		servers[i]->system_identifier = zodan_field(calls[i].result, 0, 0);
		servers[i]->database_oid = zodan_field(calls[i].result, 0, 1);
		servers[i]->timeline = zodan_field(calls[i].result, 0, 2);
		servers[i]->lsn = zodan_field(calls[i].result, 0, 3);
		PQclear(calls[i].result);
		if (!servers[i]->lsn)
			ereport(ERROR,
					(errcode(ERRCODE_CANNOT_CONNECT_NOW),
					 errmsg("node \"%s\" is a standby", calls[i].conn->node),
					 errhint("The request goes on when it is promoted, or the connection string leads to the primary.")));
	}
	return servers;
}

static const char *
name_of(ZodanJob *job, int i)
{
	return i < job->nmembers ? job->members[i].name : job->req->new_node_name;
}

static bool
is_same_server(const ZodanServer *a, const ZodanServer *b)
{
	return strcmp(a->system_identifier, b->system_identifier) == 0 && strcmp(a->database_oid, b->database_oid) == 0;
}

/*
 * What has become of a server since it was looked at; NULL: nothing.
 */
static char *
describe_history(const char *node, const ZodanServer *was, const ZodanServer *is)
{
	if (strcmp(was->timeline, is->timeline) != 0)
		return psprintf("node \"%s\" was promoted or restored: it is on timeline %s now, and was on %s", node, is->timeline, was->timeline);
	if (zodan_parse_lsn(is->lsn) < zodan_parse_lsn(was->lsn))
		return psprintf("node \"%s\" was restored to an earlier moment: its WAL ends at %s now, and had reached %s", node, is->lsn, was->lsn);
	return NULL;
}

/*
 * Does the request have anything on the node that rests on its history? On the
 * source and on the new node all does; on a peer it's where its slot begins.
 */
static bool
rests_on(ZodanJob *job, int i)
{
	List	   *effects = zodan_live_effects();
	ListCell   *cell;

	if (i == 0 || i == job->nmembers)
		return effects != NIL;
	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);

		if (strcmp(effect->kind, EFFECT_SLOT) == 0 && strcmp(effect->node, name_of(job, i)) == 0)
			return true;
	}
	return false;
}

/*
 * The sessions that are opened from now on find the same server and database,
 * and those on the new node the claim, or they fail.
 */
static void
guard_sessions(ZodanJob *job, ZodanServer *const *servers)
{
	for (int i = 0; i <= job->nmembers; i++)
	{
		ZodanConn  *conn = i < job->nmembers ? &job->members[i].conn : &job->new_conn;
		StringInfoData sql;

		if (!servers[i])
			continue;
		initStringInfo(&sql);
		appendStringInfo(&sql, "SELECT CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d"
						 " WHERE d.datname = pg_catalog.current_database() AND c.system_identifier = %s AND d.oid = %s)"
						 " THEN 'its connection string leads to another server or database than before'",
						 servers[i]->system_identifier, servers[i]->database_oid);
		if (i == job->nmembers && is_live(find_claim(job)) && !is_opened(job))
			appendStringInfo(&sql, " WHEN pg_catalog.split_part(" ZODAN_MARK ", '/', 1) IS DISTINCT FROM %s"
							 " THEN 'it is not this request''s any more'", quote_literal_cstr(job->req->token));
		appendStringInfoString(&sql, " END");
		conn->guard = sql.data;
	}
}

/*
 * Raises an error if an existing node is another server than before.
 */
static void
require_same_members(ZodanJob *job, ZodanServer *const *servers)
{
	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanServer *was = servers[i] ? zodan_get_server(name_of(job, i)) : NULL;

		if (was && !is_same_server(was, servers[i]))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\": its connection string leads to another server or database than before", name_of(job, i)),
					 errdetail("The system identifier is %s and the database's OID %s; they were %s and %s.",
							   servers[i]->system_identifier, servers[i]->database_oid, was->system_identifier, was->database_oid),
					 errhint("If the node has moved there, cancel the request, with keep => true if the other server is gone.")));
	}
}

/* ---------- the mark ---------- */

static char *
read_mark(ZodanJob *job)
{
	return zodan_value(&job->new_conn, "SELECT " ZODAN_MARK, 0);
}

/*
 * Why the node isn't this request's any more.
 */
static char *
describe_loss(ZodanJob *job, const char *mark)
{
	return psprintf("node \"%s\" is not this request's any more: its database has %s", job->req->new_node_name,
					mark ? psprintf("the mark of another request (%s)", mark) :
					"no mark of this request, having been made anew, opened or removed since");
}

static char *
describe_past(ZodanJob *job)
{
	return psprintf("node \"%s\" knows a later state of this request than the coordinator's tables: they were restored, or are a standby's that was behind",
					job->req->new_node_name);
}

/*
 * Changes the database's settings if its mark is this request's and not of a
 * higher number; else raises an error, with nothing changed. statement: an
 * expression for EXECUTE. first: there may be no mark yet.
 */
static void
change_if_ours(ZodanJob *job, const char *statement, const char *number, bool first)
{
	ZodanCall	call = {.conn = &job->new_conn};
	StringInfoData body;
	int64		theirs;

	initStringInfo(&body);
	appendStringInfo(&body,
					 "DECLARE mark text := " ZODAN_MARK ";"
					 " BEGIN IF pg_catalog.split_part(mark, '/', 1) = %s AND pg_catalog.split_part(mark, '/', 2)::bigint <= %s%s"
					 " THEN EXECUTE %s;"
					 " ELSE RAISE EXCEPTION USING ERRCODE = 'ZD005', MESSAGE = coalesce(mark, 'none'); END IF; END",
					 quote_literal_cstr(job->req->token), number, first ? " OR mark IS NULL" : "", statement);
	call.sql = psprintf("DO %s", quote_literal_cstr(body.data));
	zodan_call_all(&call, 1, zodan_statement_timeout());
	if (call.error && call.sqlstate == ERRCODE_ZODAN_OVERTAKEN)
	{
		bool		past = is_ours(job, call.error, &theirs);

		ereport(ERROR,
				(errcode(past ? ERRCODE_ZODAN_PAST : ERRCODE_ZODAN_OVERTAKEN),
				 errmsg("%s", past ? describe_past(job) : describe_loss(job, strcmp(call.error, "none") == 0 ? NULL : call.error)),
				 past ? errhint(ZODAN_BEGINS_ANEW) : 0));
	}
	zodan_raise_any(&call, 1);
	PQclear(call.result);
}

/*
 * Tells the new node how often the request has intended something, which is to
 * be done next. An error if the node isn't ours.
 */
static void
tell_node(ZodanJob *job, const char *number)
{
	ZodanEffect *claim = find_claim(job);
	int64		theirs;

	if (!is_live(claim))
		elog(ERROR, "an effect without a claim");
	/* the statement that opens it may have been the last that was done */
	if (is_opened(job))
	{
		char	   *mark = read_mark(job);

		if (mark && !is_ours(job, mark, &theirs))
			ereport(ERROR,
					(errcode(ERRCODE_ZODAN_OVERTAKEN), errmsg("%s", describe_loss(job, mark))));
		return;
	}
	change_if_ours(job, psprintf("pg_catalog.format('ALTER DATABASE %%I SET zodan.claim = %%L', pg_catalog.current_database(), %s ||"
								 " coalesce(nullif(pg_catalog.split_part(mark, '/', 3), ''), (SELECT datconnlimit::text"
								 " FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())))",
								 quote_literal_cstr(psprintf("%s/%s/", job->req->token, number))),
				   number, strcmp(claim->state, "intent") == 0);
	if (strcmp(claim->state, "intent") == 0)
		zodan_effect_result(claim->node, claim->kind, claim->name, "done", NULL);
	zodan_set_told(number);
}

/*
 * An error unless the new node is still ours: before something is made or
 * dropped, on any node, that no intent is stored for.
 */
void
zodan_claim_require(ZodanJob *job)
{
	if (claims(job) && is_live(find_claim(job)))
		tell_node(job, zodan_intents(true));
}

/*
 * The same before a phase. Notes how far the nodes' WAL has come: it can't be
 * less later.
 */
void
zodan_claim_begin_phase(ZodanJob *job)
{
	ZodanServer **servers;

	if (!claims(job) || !is_live(find_claim(job)))
		return;
	zodan_claim_require(job);
	servers = ask_servers(job);
	for (int i = 0; i <= job->nmembers; i++)
		if (servers[i])
			zodan_set_server(name_of(job, i), servers[i]);
}

/*
 * Stores the intent to make something on a node, as zodan_effect_intent(), and
 * makes sure that the new node is ours, and knows of it. The first thing that a
 * join intends is its claim.
 */
ZodanEffect *
zodan_claim_effect(ZodanJob *job, const char *node, const char *kind, const char *name)
{
	ZodanEffect *before;

	if (claims(job) && !is_live(find_claim(job)))
	{
		zodan_effect_intent(job->req->new_node_name, EFFECT_CLAIM, job->new_dbname);
		tell_node(job, zodan_intents(false));
	}
	before = zodan_effect_intent(node, kind, name);
	if (claims(job))
		tell_node(job, zodan_intents(false));
	return before;
}

/*
 * Is the new node ours, as it says in a session of the caller's within timeout_ms?
 * Nothing is raised.
 */
ZodanHolds
zodan_claim_holds(ZodanJob *job, ZodanConn *conn, int64 timeout_ms)
{
	ZodanCall	call = {.conn = conn,.sql = "SELECT " ZODAN_MARK};
	int64		number;
	ZodanHolds	holds;

	if (!claims(job) || (job->new_dbname && !is_live(find_claim(job))))
		return ZODAN_HOLDS;
	if (!conn || !conn->pg)
		return ZODAN_UNKNOWN;
	zodan_call_all(&call, 1, timeout_ms);
	if (call.error)
		return ZODAN_UNKNOWN;
	holds = is_ours(job, zodan_field(call.result, 0, 0), &number) &&
		number <= zodan_to_int64(zodan_intents(false)) ? ZODAN_HOLDS : ZODAN_HOLDS_NOT;
	PQclear(call.result);
	return holds;
}

/*
 * The mark in the new node's database, if it isn't this request's; or NULL.
 */
char *
zodan_claim_of_other(ZodanJob *job)
{
	char	   *mark = read_mark(job);
	int64		number;

	return is_ours(job, mark, &number) ? NULL : mark;
}

/*
 * The node may have been added again, from another server, while the one that has
 * our mark was away: then an existing node's subscription to it isn't the one that
 * the request has made. Returns what tells that; NULL: nothing does. forward: what
 * it has made must be there, too.
 */
static char *
describe_foreign_subscription(ZodanJob *job, ZodanMember *m, bool forward)
{
	ZodanEffect *sub;
	char	   *dsn;

	if (!m->conn.pg || !m->sub_out)
		return NULL;
	sub = zodan_find_effect(m->name, EFFECT_SUBSCRIPTION, m->sub_out);
	if (!is_live(sub))
		return NULL;
	if (sub->identity)
	{
		char	   *is = zodan_origin_identity(&m->conn, sub->result);

		if (is ? strcmp(is, sub->identity) != 0 : forward)
			return psprintf("node \"%s\" has %s subscription \"%s\" than this request has made: node \"%s\" was added again or removed since",
							m->name, is ? "another" : "no such", m->sub_out, job->req->new_node_name);
	}
	dsn = zodan_node_dsn(job->engine, &m->conn, job->req->new_node_name);
	if (dsn && strcmp(dsn, job->req->new_node_dsn) != 0)
		return psprintf("node \"%s\" knows node \"%s\" by another connection string than this request's: it was added again since",
						m->name, job->req->new_node_name);
	return NULL;
}

/*
 * Begins an attempt, the nodes being locked: an error if the new node isn't ours
 * any more, or if what was done before is worth nothing.
 */
void
zodan_claim_begin(ZodanJob *job)
{
	ZodanServer **servers;
	char	   *mark;
	int64		number;

	if (!claims(job))
		return;
	servers = ask_servers(job);
	require_same_members(job, servers);
	mark = read_mark(job);
	if (is_live(find_claim(job)))
	{
		ZodanServer *was = zodan_get_server(job->req->new_node_name);

		if (was && !is_same_server(was, servers[job->nmembers]))
			ereport(ERROR,
					(errcode(ERRCODE_ZODAN_OVERTAKEN),
					 errmsg("node \"%s\" is not this request's any more: its connection string leads to another server or database than before",
							job->req->new_node_name)));
		/* before this attempt counts for itself */
		if (is_ours(job, mark, &number) && number > zodan_to_int64(zodan_intents(false)))
			ereport(ERROR,
					(errcode(ERRCODE_ZODAN_PAST), errmsg("%s", describe_past(job)), errhint(ZODAN_BEGINS_ANEW)));
		if (is_ours(job, mark, &number) && number < zodan_get_told())
			ereport(ERROR,
					(errcode(ERRCODE_ZODAN_PAST),
					 errmsg("node \"%s\" was restored to an earlier moment: it doesn't know what it was told last", job->req->new_node_name),
					 errhint(ZODAN_BEGINS_ANEW)));
		tell_node(job, zodan_intents(true));
	}
	else if (is_ours(job, mark, &number))
	{
		/* or there would be nothing to undo */
		zodan_effect_assume(job->req->new_node_name, EFFECT_CLAIM, job->new_dbname, NULL);
		ereport(ERROR,
				(errcode(ERRCODE_ZODAN_PAST), errmsg("%s", describe_past(job)), errhint(ZODAN_BEGINS_ANEW)));
	}
	for (int i = 0; i <= job->nmembers; i++)
	{
		ZodanServer *was = zodan_get_server(name_of(job, i));
		char	   *why = was && servers[i] && !is_opened(job) ? describe_history(name_of(job, i), was, servers[i]) : NULL;

		/* a standby that was behind may lack what was made there a moment ago */
		if (why && (rests_on(job, i) || (i < job->nmembers && describe_foreign_subscription(job, &job->members[i], true))))
			ereport(ERROR,
					(errcode(ERRCODE_ZODAN_PAST), errmsg("%s", why), errhint(ZODAN_BEGINS_ANEW)));
	}
	for (int i = 0; i < job->nmembers; i++)
	{
		char	   *foreign = describe_foreign_subscription(job, &job->members[i], true);

		if (foreign)
			ereport(ERROR,
					(errcode(ERRCODE_ZODAN_OVERTAKEN), errmsg("%s", foreign)));
	}
	for (int i = 0; i <= job->nmembers; i++)
		if (servers[i])
			zodan_set_server(name_of(job, i), servers[i]);
	guard_sessions(job, servers);
}

/* ---------- what is provably the request's ---------- */

/*
 * Stores what tells a subscription of an existing node's from a later one of its
 * name: the origin that was made in the same transaction.
 */
void
zodan_claim_note_subscription(ZodanJob *job, const ZodanSubscription *sub)
{
	zodan_effect_result(sub->subscriber->node, EFFECT_SUBSCRIPTION, sub->name, "done", sub->slot);
	if (sub->subscriber != &job->new_conn)
		zodan_effect_identity(sub->subscriber->node, EFFECT_SUBSCRIPTION, sub->name,
							  zodan_origin_identity(sub->subscriber, sub->slot));
}

/*
 * Is the member's subscription to the new node still the one that the request has
 * made, and has it never run, whatever the journal knows of that? Then nobody has
 * added the node there since.
 */
static bool
is_untouched(ZodanJob *job, ZodanMember *m, List *effects)
{
	ListCell   *cell;
	bool		made = false;

	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);

		if (strcmp(effect->node, m->name) != 0)
			continue;
		if (strcmp(effect->kind, EFFECT_RUNNING) == 0)
			return false;
		if (strcmp(effect->kind, EFFECT_SUBSCRIPTION) == 0 && effect->identity && effect->result)
		{
			char	   *identity = zodan_origin_identity(&m->conn, effect->result);

			made = identity && strcmp(identity, effect->identity) == 0 &&
				!zodan_value(&m->conn, "SELECT 1 WHERE pg_catalog.pg_replication_origin_progress($1, false) OPERATOR(pg_catalog.>) '0/0'", 1, effect->result) &&
				!(job->new_conn.pg && zodan_value(&job->new_conn, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", 1, effect->result)) &&
				zodan_sub_exists(job->engine, &m->conn, effect->name) &&
				!zodan_sub_enabled(job->engine, &m->conn, effect->name);
		}
	}
	return made;
}

/*
 * Drops a slot that nobody uses; false: somebody does.
 */
static bool
drop_idle_slot(ZodanConn *conn, const char *slot)
{
	PQclear(zodan_query(conn, "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots"
						" WHERE slot_name = $1 AND NOT active", 1, slot));
	return !zodan_value(conn, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", 1, slot);
}

/*
 * Drops what the request has left on existing nodes where it is provably its own and
 * nobody uses it, though the new node can't tell whether it is ours.
 */
static void
drop_proven(ZodanJob *job)
{
	List	   *effects = zodan_live_effects();
	ListCell   *cell;

	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];
		ZodanServer *was = zodan_get_server(m->name);
		ZodanServer *is = m->conn.pg ? ask_servers(job)[i] : NULL;
		bool		same = was && is && is_same_server(was, is);
		bool		untouched = same && is_untouched(job, m, effects);

		foreach(cell, effects)
		{
			ZodanEffect *effect = lfirst(cell);
			bool		dropped = false;

			if (strcmp(effect->node, m->name) != 0)
				continue;
			if (strcmp(effect->kind, EFFECT_SLOT) == 0 && same && (untouched || zodan_is_passing(job, effect->name)))
				dropped = drop_idle_slot(&m->conn, effect->name);
			else if (strcmp(effect->kind, EFFECT_SUBSCRIPTION) == 0 && untouched)
			{
				zodan_sub_drop(job->engine, &m->conn, effect->name);
				zodan_origin_drop(&m->conn, effect->result);
				dropped = true;
			}
			if (!dropped)
				continue;
			zodan_effect_undone(effect->node, effect->kind, effect->name);
			zodan_event("info", effect->node, psprintf("%s %s undone", effect->kind, effect->name));
		}
	}
}

/* ---------- undoing ---------- */

/*
 * The journal is from the past: what it doesn't know of may be there, under names
 * that can be computed, on all nodes. If that ends in the middle it's begun again:
 * the number isn't known before it has come to its end.
 */
static void
assume_all(ZodanJob *job, const char *mark)
{
	const char *node = job->req->new_node_name;
	ZodanMember *source = ZODAN_SOURCE(job);
	char	   *missing = zodan_cluster_missing(job);
	PGresult   *origins;

	if (missing)
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("%s", missing),
				 errhint("The coordinator's tables are from the past, so all nodes are needed to find what the request has made.")));

	zodan_effect_assume(node, EFFECT_CLAIM, job->new_dbname, NULL);
	if (job->req->fence)
		zodan_effect_assume(node, EFFECT_FENCE, job->new_dbname, pstrdup(strrchr(mark, '/') + 1));
	zodan_effect_assume(node, EFFECT_NODE, node, NULL);
	zodan_effect_assume(node, EFFECT_SCHEMA, job->new_dbname, NULL);
	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];

		zodan_effect_assume(m->name, EFFECT_NODE, node, NULL);
		zodan_effect_assume(m->name, EFFECT_SLOT, m->slot_in, NULL);
		zodan_effect_assume(node, EFFECT_SLOT, m->slot_out, NULL);
		zodan_effect_assume(node, EFFECT_SUBSCRIPTION, m->sub_in, m->slot_in);
		zodan_effect_assume(m->name, EFFECT_SUBSCRIPTION, m->sub_out, m->slot_out);
	}
	zodan_effect_assume(source->name, EFFECT_SLOT, source->slot_first, NULL);
	zodan_effect_assume(node, EFFECT_SUBSCRIPTION, source->sub_first, source->slot_first);
	zodan_effect_assume(source->name, EFFECT_SLOT, zodan_start_slot(job), NULL);
	zodan_effect_assume(source->name, EFFECT_SLOT, zodan_passing_slot(job, &source->conn, "wal"), NULL);
	zodan_effect_assume(node, EFFECT_SLOT, zodan_passing_slot(job, &job->new_conn, "wal"), NULL);
	zodan_effect_assume(node, EFFECT_MARKS, zodan_marks_schema(job), NULL);
	origins = zodan_query(&job->new_conn, "SELECT roname FROM pg_catalog.pg_replication_origin"
						  " WHERE pg_catalog.starts_with(roname, $1)", 1, zodan_lane_origins(job));
	for (int i = 0; i < PQntuples(origins); i++)
		zodan_effect_assume(node, EFFECT_ORIGIN, PQgetvalue(origins, i, 0), NULL);
	PQclear(origins);
}

/*
 * Begins an attempt to undo the request, the nodes that can be reached being
 * locked: returns NULL, or why that isn't its to do any more. An error if the new
 * node can't be asked.
 */
char *
zodan_claim_begin_undo(ZodanJob *job)
{
	ZodanServer **servers;
	ZodanServer *was;
	char	   *mark;
	int64		number;

	if (!claims(job))
		return NULL;
	if (!job->new_conn.pg)
	{
		/* slots that fill the disks of others don't have to wait */
		drop_proven(job);
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("could not connect to node \"%s\": %s", job->new_conn.node, job->new_conn.error),
				 errhint("What is provably this request's, and not in use, is undone; all else when the node can be asked whether it is still this request's. If it is gone for good, SELECT zodan.cancel("
						 INT64_FORMAT ", keep => true), and remove it by zodan.remove_node() with force => true.", job->req->id)));
	}
	servers = ask_servers(job);
	was = zodan_get_server(job->req->new_node_name);
	if (was && !is_same_server(was, servers[job->nmembers]))
		return psprintf("node \"%s\" is not this request's any more: its connection string leads to another server or database than before",
						job->req->new_node_name);
	mark = read_mark(job);
	if (!is_ours(job, mark, &number))
	{
		/* it was to be the first thing, or the last: nothing else is there */
		if (!mark && list_length(zodan_live_effects()) == (is_live(find_claim(job)) ? 1 : 0))
			return NULL;
		return describe_loss(job, mark);
	}
	for (int i = 0; i < job->nmembers; i++)
	{
		char	   *foreign = describe_foreign_subscription(job, &job->members[i], false);

		if (foreign)
			return foreign;
	}
	require_same_members(job, servers);
	if (number > zodan_to_int64(zodan_intents(false)))
	{
		zodan_event("warning", job->req->new_node_name, describe_past(job));
		assume_all(job, mark);
		zodan_set_intents(psprintf(INT64_FORMAT, number));
	}
	tell_node(job, zodan_intents(true));
	guard_sessions(job, servers);
	return NULL;
}

/*
 * Opens the database and takes the mark away, in one statement: the last one
 * that is done on the new node. connection_limit: NULL if there is no fence.
 */
void
zodan_claim_open(ZodanJob *job, const char *connection_limit)
{
	int64		number;
	StringInfoData sql;

	/* an earlier attempt may have come as far as this */
	if (!is_ours(job, read_mark(job), &number))
		return;
	initStringInfo(&sql);
	appendStringInfoString(&sql, reset);
	if (connection_limit)
		appendStringInfo(&sql, "; EXECUTE pg_catalog.format('ALTER DATABASE %%I CONNECTION LIMIT %s', pg_catalog.current_database())",
						 connection_limit);
	change_if_ours(job, sql.data, zodan_intents(true), false);
}

/*
 * Takes the mark away, all else being undone. Of a node that is removed the mark
 * may be anybody's.
 */
void
zodan_claim_drop(ZodanJob *job)
{
	if (!read_mark(job))
		return;
	if (claims(job))
		change_if_ours(job, reset, zodan_intents(true), false);
	else
		PQclear(zodan_query(&job->new_conn, psprintf("DO %s", quote_literal_cstr(psprintf("BEGIN EXECUTE %s; END", reset))), 0));
}

/* ---------- what an overtaken request leaves ---------- */

/*
 * May something of the effect's kind and name be on an existing node? What is on the
 * new node is somebody else's, whoever has made it.
 */
static bool
may_be_there(ZodanJob *job, const ZodanEffect *effect)
{
	ZodanConn  *conn = NULL;

	if (strcmp(effect->node, job->req->new_node_name) == 0)
		return false;
	for (int i = 0; i < job->nmembers; i++)
		if (strcmp(job->members[i].name, effect->node) == 0)
			conn = &job->members[i].conn;
	if (!conn || !conn->pg)
		return true;
	if (strcmp(effect->kind, EFFECT_SLOT) == 0)
		return zodan_value(conn, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", 1, effect->name) != NULL;
	if (strcmp(effect->kind, EFFECT_SUBSCRIPTION) == 0)
		return zodan_sub_exists(job->engine, conn, effect->name);
	if (strcmp(effect->kind, EFFECT_NODE) == 0)
		return zodan_node_exists(job->engine, conn, effect->name);
	return strcmp(effect->kind, EFFECT_ORIGIN) == 0 && zodan_origin_identity(conn, effect->name) != NULL;
}

/*
 * The new node isn't ours any more. What is provably the request's on the others is
 * dropped; all else is noted as left, and stays. Returns what that is, NULL if it's
 * nothing.
 */
char *
zodan_claim_abandon(ZodanJob *job)
{
	List	   *effects;
	StringInfoData left;
	ListCell   *cell;

	initStringInfo(&left);
	drop_proven(job);
	effects = zodan_live_effects();
	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);

		zodan_effect_left(effect->node, effect->kind, effect->name);
		if (!may_be_there(job, effect))
			continue;
		appendStringInfo(&left, "%s%s %s of node %s", left.len ? ", " : "", effect->kind, effect->name, effect->node);
		zodan_event("warning", effect->node, psprintf("%s %s is there, and may be somebody else's by now: it stays", effect->kind, effect->name));
	}
	return left.len ? left.data : NULL;
}
