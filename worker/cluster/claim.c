/*
 * claim.c
 *		The request's claim on its new node.
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
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/claim.h"

#include "cluster/names.h"
#include "cluster/own.h"
#include "cluster/removal.h"
#include "cluster/servers.h"
#include "remote/query.h"
#include "utils/builtins.h"

static const char *const reset = "pg_catalog.format('ALTER DATABASE %I RESET zodan.claim', pg_catalog.current_database())";

/*
 * Only joins claim their node: a removal takes what is there.
 */
static bool
claims(ZodanJob *job)
{
	return strcmp(job->req->operation, "add_node") == 0;
}

static ZodanEffect *
find_claim(ZodanJob *job)
{
	return zodan_effects_find(job->req, job->req->new_node_name, EFFECT_CLAIM, job->new_dbname);
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

/*
 * Does the request have anything on the node that rests on its history? On the
 * source and on the new node all does; on a peer it's where its slot begins.
 */
static bool
rests_on(ZodanJob *job, int i)
{
	List	   *effects = zodan_effects_live(job->req);
	ListCell   *cell;

	if (i == 0 || i == job->nmembers)
		return effects != NIL;
	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);

		if (strcmp(effect->kind, EFFECT_SLOT) == 0 && strcmp(effect->node, ZODAN_NODE_NAME(job, i)) == 0)
			return true;
	}
	return false;
}

/* ---------- the mark ---------- */

static char *
read_mark(ZodanJob *job)
{
	return zodan_query_value(&job->new_conn, "SELECT " ZODAN_MARK, 0);
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
	zodan_remote_run(&call, 1, ZODAN_USUAL_TIMEOUT);
	if (call.error && call.sqlstate == ERRCODE_ZODAN_OVERTAKEN)
	{
		bool		past = is_ours(job, call.error, &theirs);

		ereport(ERROR,
				(errcode(past ? ERRCODE_ZODAN_PAST : ERRCODE_ZODAN_OVERTAKEN),
				 errmsg("%s", past ? describe_past(job) : describe_loss(job, strcmp(call.error, "none") == 0 ? NULL : call.error)),
				 past ? errhint(ZODAN_STARTS_AGAIN) : 0));
	}
	zodan_remote_raise_any(&call, 1);
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

	if (!zodan_effects_is_live(claim))
		elog(ERROR, "an effect without a claim");
	/* the statement that opens it may have been the last that was done */
	if (job->req->opening)
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
		zodan_effects_set(job->req, claim->node, claim->kind, claim->name, "done", NULL);
	zodan_effects_set_told(job->req, number);
}

/*
 * An error unless the new node is still ours: before something is made or
 * dropped, on any node, that no intent is stored for.
 */
void
zodan_claim_require(ZodanJob *job)
{
	if (claims(job) && zodan_effects_is_live(find_claim(job)))
		tell_node(job, zodan_effects_intents(job->req, true));
}

/*
 * The same before a phase. Notes how far the nodes' WAL has come: it can't be
 * less later.
 */
void
zodan_claim_begin_phase(ZodanJob *job)
{
	if (!claims(job) || !zodan_effects_is_live(find_claim(job)))
		return;
	zodan_claim_require(job);
	zodan_servers_store(job, zodan_servers_ask(job));
}

/*
 * Stores the intent to make something on a node, as zodan_effects_intend(), and
 * makes sure that the new node is ours, and knows of it. The first thing that a
 * join intends is its claim.
 */
ZodanEffect *
zodan_claim_effect(ZodanJob *job, const char *node, const char *kind, const char *name)
{
	ZodanEffect *before;

	if (claims(job) && !zodan_effects_is_live(find_claim(job)))
	{
		zodan_effects_intend(job->req, job->req->new_node_name, EFFECT_CLAIM, job->new_dbname);
		tell_node(job, zodan_effects_intents(job->req, false));
	}
	before = zodan_effects_intend(job->req, node, kind, name);
	if (claims(job))
		tell_node(job, zodan_effects_intents(job->req, false));
	return before;
}

/*
 * The same for enabling a subscription that the request has made: returns what
 * ZodanEffect.running was before.
 */
char *
zodan_claim_running(ZodanJob *job, const char *node, const char *sub)
{
	char	   *before = zodan_effects_intend_running(job->req, node, sub);

	if (claims(job))
		tell_node(job, zodan_effects_intents(job->req, false));
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

	if (!claims(job) || (job->new_dbname && !zodan_effects_is_live(find_claim(job))))
		return ZODAN_HOLDS;
	if (!conn || !conn->pg)
		return ZODAN_UNKNOWN;
	zodan_remote_run(&call, 1, timeout_ms);
	if (call.error)
		return ZODAN_UNKNOWN;
	holds = is_ours(job, zodan_query_field(call.result, 0, 0), &number) &&
		number <= zodan_spi_int64(zodan_effects_intents(job->req, false)) ? ZODAN_HOLDS : ZODAN_HOLDS_NOT;
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

	if (job->req->fence)
		zodan_effects_assume(job->req, node, EFFECT_FENCE, job->new_dbname, pstrdup(strrchr(mark, '/') + 1));
	zodan_effects_assume(job->req, node, EFFECT_NODE, node, NULL);
	zodan_effects_assume(job->req, node, EFFECT_SCHEMA, job->new_dbname, NULL);
	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];

		zodan_effects_assume(job->req, m->name, EFFECT_NODE, node, NULL);
		zodan_effects_assume(job->req, m->name, EFFECT_SLOT, m->slot_in, NULL);
		zodan_effects_assume(job->req, node, EFFECT_SLOT, m->slot_out, NULL);
		zodan_effects_assume(job->req, node, EFFECT_SUBSCRIPTION, m->sub_in, m->slot_in);
		zodan_effects_assume(job->req, m->name, EFFECT_SUBSCRIPTION, m->sub_out, m->slot_out);
	}
	zodan_effects_assume(job->req, source->name, EFFECT_SLOT, source->slot_first, NULL);
	zodan_effects_assume(job->req, node, EFFECT_SUBSCRIPTION, source->sub_first, source->slot_first);
	zodan_effects_assume(job->req, source->name, EFFECT_SLOT, zodan_names_start_slot(job), NULL);
	zodan_effects_assume(job->req, source->name, EFFECT_SLOT, zodan_names_helper_slot(job, &source->conn, "wal"), NULL);
	zodan_effects_assume(job->req, node, EFFECT_SLOT, zodan_names_helper_slot(job, &job->new_conn, "wal"), NULL);
	zodan_effects_assume(job->req, node, EFFECT_MARKS, zodan_names_marks_schema(job), NULL);
	origins = zodan_query(&job->new_conn, "SELECT roname FROM pg_catalog.pg_replication_origin"
						  " WHERE pg_catalog.starts_with(roname, $1)", 1, zodan_names_lane_origins(job));
	for (int i = 0; i < PQntuples(origins); i++)
		zodan_effects_assume(job->req, node, EFFECT_ORIGIN, PQgetvalue(origins, i, 0), NULL);
	PQclear(origins);
	/* the last one: with it all is known that there is to undo */
	zodan_effects_assume(job->req, node, EFFECT_CLAIM, job->new_dbname, NULL);
}

/*
 * An error unless the new node, which the request has claimed, is still the server and
 * database that it was, and knows of the request what the journal does.
 */
static void
require_as_told(ZodanJob *job, const ZodanServer *server, const char *mark)
{
	ZodanServer *was = zodan_journal_server(job->req, job->req->new_node_name);
	int64		number;

	if (was && !zodan_servers_same(was, server))
		ereport(ERROR,
				(errcode(ERRCODE_ZODAN_OVERTAKEN),
				 errmsg("node \"%s\" is not this request's any more: its connection string leads to another server or database than before",
						job->req->new_node_name)));
	/* before this attempt counts for itself */
	if (is_ours(job, mark, &number) && number > zodan_spi_int64(zodan_effects_intents(job->req, false)))
		ereport(ERROR,
				(errcode(ERRCODE_ZODAN_PAST), errmsg("%s", describe_past(job)), errhint(ZODAN_STARTS_AGAIN)));
	if (is_ours(job, mark, &number) && number < zodan_effects_told(job->req))
		ereport(ERROR,
				(errcode(ERRCODE_ZODAN_PAST),
				 errmsg("node \"%s\" was restored to an earlier moment: it doesn't know what it was told last", job->req->new_node_name),
				 errhint(ZODAN_STARTS_AGAIN)));
}

/*
 * An error if a node has gone back in time, and the request has something there that
 * rests on its history.
 */
static void
require_history(ZodanJob *job, ZodanServer **servers)
{
	for (int i = 0; i <= job->nmembers; i++)
	{
		ZodanServer *was = zodan_journal_server(job->req, ZODAN_NODE_NAME(job, i));
		char	   *why = was && servers[i] && !job->req->opening ? zodan_servers_history(ZODAN_NODE_NAME(job, i), was, servers[i]) : NULL;

		/* a standby that was behind may lack what was made there a moment ago */
		if (why && (rests_on(job, i) || (i < job->nmembers && zodan_own_foreign(job, &job->members[i], true))))
			ereport(ERROR,
					(errcode(ERRCODE_ZODAN_PAST), errmsg("%s", why), errhint(ZODAN_STARTS_AGAIN)));
	}
}

/*
 * An error if an existing node shows that the new node was added again since.
 */
static void
require_not_added_again(ZodanJob *job)
{
	for (int i = 0; i < job->nmembers; i++)
	{
		char	   *foreign = zodan_own_foreign(job, &job->members[i], true);

		if (foreign)
			ereport(ERROR,
					(errcode(ERRCODE_ZODAN_OVERTAKEN), errmsg("%s", foreign)));
	}
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
	{
		char	   *lost = zodan_removal_begin(job);

		if (lost)
			ereport(ERROR,
					(errcode(ERRCODE_ZODAN_OVERTAKEN), errmsg("%s", lost)));
		return;
	}
	servers = zodan_servers_ask(job);
	zodan_servers_require_same(job, servers, job->nmembers);
	mark = read_mark(job);
	if (zodan_effects_is_live(find_claim(job)))
	{
		require_as_told(job, servers[job->nmembers], mark);
		tell_node(job, zodan_effects_intents(job->req, true));
	}
	else if (is_ours(job, mark, &number))
	{
		/* it was rolled back, as far as the journal knows: what is there was, on a standby that was behind */
		assume_all(job, mark);
		ereport(ERROR,
				(errcode(ERRCODE_ZODAN_PAST), errmsg("%s", describe_past(job)), errhint(ZODAN_STARTS_AGAIN)));
	}
	require_history(job, servers);
	require_not_added_again(job);
	zodan_servers_store(job, servers);
	zodan_servers_guard(job, servers, zodan_effects_is_live(find_claim(job)) && !job->req->opening);
}

/* ---------- undoing ---------- */

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
		return zodan_removal_begin(job);
	if (!job->new_conn.pg)
	{
		/* slots that fill the disks of others don't have to wait */
		zodan_own_drop_proven(job);
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("could not connect to node \"%s\": %s", job->new_conn.node, job->new_conn.error),
				 errhint("What is provably this request's, and not in use, is rolled back now; everything else when the node can be asked whether it is still this request's. If it is gone for good, SELECT zodan.cancel("
						 INT64_FORMAT ", keep => true), and remove it by zodan.remove_node() with force => true.", job->req->id)));
	}
	servers = zodan_servers_ask(job);
	was = zodan_journal_server(job->req, job->req->new_node_name);
	if (was && !zodan_servers_same(was, servers[job->nmembers]))
		return psprintf("node \"%s\" is not this request's any more: its connection string leads to another server or database than before",
						job->req->new_node_name);
	mark = read_mark(job);
	if (!is_ours(job, mark, &number))
	{
		/* it was to be the first thing, or the last: nothing else is there */
		if (!mark && list_length(zodan_effects_live(job->req)) == (zodan_effects_is_live(find_claim(job)) ? 1 : 0))
			return NULL;
		return describe_loss(job, mark);
	}
	for (int i = 0; i < job->nmembers; i++)
	{
		char	   *foreign = zodan_own_foreign(job, &job->members[i], false);

		if (foreign)
			return foreign;
	}
	zodan_servers_require_same(job, servers, job->nmembers);
	if (number > zodan_spi_int64(zodan_effects_intents(job->req, false)))
	{
		zodan_journal_event(job->req, "warning", job->req->new_node_name, describe_past(job));
		assume_all(job, mark);
		zodan_effects_set_intents(job->req, psprintf(INT64_FORMAT, number));
	}
	tell_node(job, zodan_effects_intents(job->req, true));
	zodan_servers_guard(job, servers, zodan_effects_is_live(find_claim(job)) && !job->req->opening);
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
	change_if_ours(job, sql.data, zodan_effects_intents(job->req, true), false);
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
		change_if_ours(job, reset, zodan_effects_intents(job->req, true), false);
	else
		PQclear(zodan_query(&job->new_conn, psprintf("DO %s", quote_literal_cstr(psprintf("BEGIN EXECUTE %s; END", reset))), 0));
}
