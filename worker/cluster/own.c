/*
 * own.c
 *		What a join has on the existing nodes that is provably its own.
 *
 * When the new node isn't the request's any more, or can't be asked, what the
 * request has made on the other nodes may have been dropped, and made again by
 * somebody else, under the same name. A subscription of the request's is told from
 * a later one by the replication origin that was made in the same transaction.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/own.h"

#include "cluster/names.h"
#include "cluster/servers.h"
#include "engine/origins.h"
#include "remote/query.h"

/*
 * The node may have been added again, from another server, while the one that has
 * our mark was away: then an existing node's subscription to it isn't the one that
 * the request has made. Returns what tells that; NULL: nothing does. forward: what
 * it has made must be there, too.
 */
char *
zodan_own_foreign(ZodanJob *job, ZodanMember *m, bool forward)
{
	ZodanEffect *sub;
	char	   *dsn;

	if (!m->conn.pg || !m->sub_out)
		return NULL;
	sub = zodan_effects_find(job->req, m->name, EFFECT_SUBSCRIPTION, m->sub_out);
	if (!zodan_effects_is_live(sub))
		return NULL;
	if (sub->identity)
	{
		char	   *is = zodan_origins_identity(&m->conn, sub->result);

		if (is ? strcmp(is, sub->identity) != 0 : forward)
			return psprintf("node \"%s\" has %s subscription \"%s\" than this request has made: node \"%s\" was added again or removed since",
							m->name, is ? "another" : "no such", m->sub_out, job->req->new_node_name);
	}
	dsn = zodan_engine_node_dsn(job->engine, &m->conn, job->req->new_node_name);
	if (dsn && strcmp(dsn, job->req->new_node_dsn) != 0)
		return psprintf("node \"%s\" knows node \"%s\" by another connection string than this request's: it was added again since",
						m->name, job->req->new_node_name);
	return NULL;
}

/*
 * Stores what tells a subscription of an existing node's from a later one of its
 * name: the origin that was made in the same transaction.
 */
void
zodan_own_note_subscription(ZodanJob *job, const ZodanSubscription *sub)
{
	zodan_effects_set(job->req, sub->subscriber->node, EFFECT_SUBSCRIPTION, sub->name, "done", sub->slot);
	if (sub->subscriber != &job->new_conn)
		zodan_effects_set_identity(job->req, sub->subscriber->node, EFFECT_SUBSCRIPTION, sub->name,
								   zodan_origins_identity(sub->subscriber, sub->slot));
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
		if (effect->running)
			return false;
		if (strcmp(effect->kind, EFFECT_SUBSCRIPTION) == 0 && effect->identity && effect->result)
		{
			char	   *identity = zodan_origins_identity(&m->conn, effect->result);

			made = identity && strcmp(identity, effect->identity) == 0 &&
				!zodan_query_value(&m->conn, "SELECT 1 WHERE pg_catalog.pg_replication_origin_progress($1, false) OPERATOR(pg_catalog.>) '0/0'", 1, effect->result) &&
				!(job->new_conn.pg && zodan_query_value(&job->new_conn, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", 1, effect->result)) &&
				zodan_engine_sub_exists(job->engine, &m->conn, effect->name) &&
				!zodan_engine_sub_enabled(job->engine, &m->conn, effect->name);
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
	return !zodan_query_value(conn, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", 1, slot);
}

/*
 * Drops what the request has left on existing nodes where it is provably its own and
 * nobody uses it, though the new node can't tell whether it is ours.
 */
void
zodan_own_drop_proven(ZodanJob *job)
{
	List	   *effects = zodan_effects_live(job->req);
	ZodanServer **servers = zodan_servers_ask(job);
	ListCell   *cell;

	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];
		ZodanServer *was = zodan_journal_server(job->req, m->name);
		bool		same = was && servers[i] && zodan_servers_same(was, servers[i]);
		bool		untouched = same && is_untouched(job, m, effects);

		foreach(cell, effects)
		{
			ZodanEffect *effect = lfirst(cell);
			bool		dropped = false;

			if (strcmp(effect->node, m->name) != 0)
				continue;
			if (strcmp(effect->kind, EFFECT_SLOT) == 0 && same && (untouched || zodan_names_is_helper(job, effect->name)))
				dropped = drop_idle_slot(&m->conn, effect->name);
			else if (strcmp(effect->kind, EFFECT_SUBSCRIPTION) == 0 && untouched)
			{
				/* or the engine would drop a slot of that name wherever the new node's address leads to */
				if (!job->new_conn.pg)
					zodan_engine_sub_seal(job->engine, &m->conn, effect->name);
				zodan_engine_sub_drop(job->engine, &m->conn, effect->name);
				zodan_origins_drop(&m->conn, effect->result);
				dropped = true;
			}
			if (!dropped)
				continue;
			zodan_effects_undone(job->req, effect->node, effect->kind, effect->name);
			zodan_journal_event(job->req, "info", effect->node, psprintf("%s %s rolled back", effect->kind, effect->name));
		}
	}
}

/*
 * May something of the effect's kind and name be on its node, an existing one?
 */
static bool
may_be_there(ZodanJob *job, const ZodanEffect *effect)
{
	ZodanConn  *conn = zodan_cluster_session(job, effect->node);

	if (!conn)
		return true;
	if (strcmp(effect->kind, EFFECT_SLOT) == 0)
		return zodan_query_value(conn, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", 1, effect->name) != NULL;
	if (strcmp(effect->kind, EFFECT_SUBSCRIPTION) == 0)
		return zodan_engine_sub_exists(job->engine, conn, effect->name);
	if (strcmp(effect->kind, EFFECT_NODE) == 0)
		return zodan_engine_node_exists(job->engine, conn, effect->name);
	return strcmp(effect->kind, EFFECT_ORIGIN) == 0 && zodan_origins_identity(conn, effect->name) != NULL;
}

/*
 * The new node isn't ours any more. What is provably the request's on the others is
 * dropped; all else stays, and is noted as left: see zodan_effects_left(). What is on
 * the new node is somebody else's, whoever has made it. A removal has made nothing.
 */
void
zodan_own_abandon(ZodanJob *job)
{
	List	   *effects;
	ListCell   *cell;
	bool		made = strcmp(job->req->operation, "add_node") == 0;

	if (made)
		zodan_own_drop_proven(job);
	effects = zodan_effects_live(job->req);
	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);
		bool		on_new = strcmp(effect->node, job->req->new_node_name) == 0;

		if (made && !on_new && !may_be_there(job, effect))
		{
			zodan_effects_undone(job->req, effect->node, effect->kind, effect->name);
			continue;
		}
		zodan_effects_leave(job->req, effect->node, effect->kind, effect->name);
		if (!made || !on_new)
			zodan_journal_event(job->req, "warning", effect->node, psprintf("%s %s may be there, and somebody else's by now: it stays", effect->kind, effect->name));
	}
}
