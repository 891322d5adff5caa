/*
 * remove.c
 *		The phases of remove_node.
 *
 * What the node has on each of the others is listed as effects, as if this
 * request had made it, and then undone as in a rollback: see undo.c.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/remove.h"

#include "base/array.h"
#include "base/dsn.h"
#include "cluster/claim.h"
#include "cluster/fence.h"
#include "cluster/names.h"
#include "cluster/removal.h"
#include "cluster/servers.h"
#include "cluster/subscriptions.h"
#include "engine/markers.h"
#include "engine/wal.h"
#include "phases/undo.h"
#include "remote/query.h"

/* how long it's looked whether something is written on the node and arrives */
#define ARRIVES_MS	10000

/* how many commits must arrive: one may seem to by chance */
#define ENOUGH_WRITES	2

#define FORCE_HINT	"If what was written on it may be lost, cancel the request and file it again with the option force."

static const char *const subscriptions_to =
"SELECT s.sub_name, s.sub_slot_name, s.sub_enabled FROM {e}.subscription s"
"  JOIN {e}.node n ON n.node_id = s.sub_origin WHERE n.node_name = $1";

/* where the origins of these stand; filled in */
static const char *const origins_of =
"SELECT DISTINCT p FROM (SELECT pg_catalog.pg_replication_origin_progress(s.sub_slot_name, false)::text FROM (%s) AS s"
"  JOIN pg_catalog.pg_replication_origin o ON o.roname = s.sub_slot_name) AS x (p) WHERE p IS NOT NULL AND p <> ALL ($2::text[])";

static const char *const slots_query =
#include "sql/remove_slots.h"
		   ;

/*
 * Is the node that goes reached, and is it that node of itself?
 */
static bool
is_local(ZodanJob *job)
{
	char	   *local = job->new_conn.pg && zodan_engine_find(&job->new_conn) == job->engine ?
		zodan_engine_local_node(job->engine, &job->new_conn) : NULL;

	return local && strcmp(local, job->req->new_node_name) == 0;
}

/*
 * Does a node that can be reached know the one that goes?
 */
static bool
is_known(ZodanJob *job)
{
	for (int i = 0; i < job->nmembers; i++)
		if (job->members[i].conn.pg && zodan_engine_node_exists(job->engine, &job->members[i].conn, job->req->new_node_name))
			return true;
	return false;
}

/*
 * Adds the streams by which a member gets what is written on the node to the
 * *n that are in waits, and returns them all.
 */
static ZodanConfirm *
add_streams_to(ZodanJob *job, ZodanMember *m, ZodanConfirm *waits, int *n)
{
	PGresult   *result = zodan_query(&m->conn, zodan_engine_sql(job->engine, subscriptions_to), 1, job->req->new_node_name);
	int			before = *n;

	waits = repalloc(waits, sizeof(ZodanConfirm) * (*n + PQntuples(result) + 1));

	for (int i = 0; i < PQntuples(result); i++)
	{
		const char *slot = PQgetvalue(result, i, 1);
		bool		enabled = PQgetvalue(result, i, 2)[0] == 't';
		bool		has_slot = zodan_query_value(&job->new_conn, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", 1, slot) != NULL;

		/* that of a join which has not come to its end has nothing to send */
		if (!enabled && has_slot && !zodan_claim_of_other(job))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("subscription \"%s\" of node \"%s\" to node \"%s\" is disabled: what was written there would be missing",
							PQgetvalue(result, i, 0), m->name, job->req->new_node_name),
					 errhint("Enable it, and file the request again. " FORCE_HINT)));
		if (!enabled)
			continue;
		if (!has_slot)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\" subscribes to node \"%s\", where its slot \"%s\" is gone: it can't get what was written there",
							m->name, job->req->new_node_name, slot),
					 errhint(FORCE_HINT)));
		waits[(*n)++] = (ZodanConfirm)
		{
			.provider = &job->new_conn,.subscriber = m->name,.slot = pstrdup(slot)
		};
	}
	if (*n == before)
		zodan_journal_event(job->req, "warning", m->name, psprintf("node %s has no enabled subscription to node %s, so nothing more is sent to it",
																   m->name, job->req->new_node_name));
	PQclear(result);
	return waits;
}

/*
 * Adds where the members' origins of the node stand to the positions (char *) that
 * are known already.
 */
static List *
add_positions(ZodanJob *job, List *positions)
{
	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];
		PGresult   *result;

		if (!m->conn.pg)
			continue;
		result = zodan_query(&m->conn, zodan_engine_sql(job->engine, psprintf(origins_of, subscriptions_to)), 2,
							 job->req->new_node_name, zodan_array_literal(positions));
		for (int k = 0; k < PQntuples(result); k++)
			positions = lappend(positions, zodan_query_field(result, k, 0));
		PQclear(result);
	}
	return positions;
}

/*
 * Does what is written on the node arrive at a member? The member's origin moves to
 * the ends of transactions that the node has committed meanwhile: in another cluster's
 * node of that name none ends there, even if that is a copy of this one. Not even a
 * marker moves an origin, so somebody has to write on the node while this looks. NULL:
 * it does; else what speaks against it.
 */
static const char *
describe_silence(ZodanJob *job)
{
	ZodanConn  *conn = &job->new_conn;
	ZodanCall	readable = {.conn = conn};
	ZodanDeadline deadline = zodan_wait_deadline(ARRIVES_MS);
	char	   *first = zodan_query_value(conn, "SELECT pg_catalog.pg_current_wal_insert_lsn()", 0);
	List	   *positions = add_positions(job, NIL);
	int			before = list_length(positions);

	if (!zodan_wal_readable(&readable))
		return psprintf("whether what is written there arrives can't be shown, since its WAL can't be read: %s", readable.error);
	for (;;)
	{
		int			n = list_length(positions);

		positions = add_positions(job, positions);
		if (list_length(positions) > n &&
			zodan_wal_are_commits(conn, first, zodan_array_literal(list_copy_tail(positions, before)), ENOUGH_WRITES))
			return NULL;
		if (zodan_wait_passed(deadline))
			return "nothing that was written there within the last seconds has arrived at one";
		zodan_wait_sleep(&job->session.waiter, 100);
	}
}

/*
 * Is what was reached the node of this cluster? There may be another of its name
 * elsewhere, or the connection string may lead to just any database: an address that
 * the cluster knows may be somebody else's by now. So the node must know a member by a
 * connection string that leads there, and a member that knows it must know it by one
 * that leads to it; or what is written there arrives at a member. A database that is no
 * node, or a node that knows no other, can only be given. Where either knows the other
 * it must be that one. NULL: so it is; else what speaks against it.
 */
static char *
describe_foreign(ZodanJob *job, bool is_node)
{
	const char *name = job->req->new_node_name;
	const char *silence;
	bool		by_itself = job->req->gave_dsn && !(is_node && zodan_engine_knows_others(job->engine, &job->new_conn));
	bool		proven = false;

	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];
		char	   *known;
		ZodanLeads	back;
		ZodanLeads	there;

		if (!m->conn.pg)
			continue;
		back = is_node ? zodan_servers_leads_to(job, zodan_engine_node_dsn(job->engine, &job->new_conn, m->name), &m->conn) : ZODAN_LEADS_NOWHERE;
		if (back == ZODAN_LEADS_ELSEWHERE)
			return psprintf("it knows another node \"%s\" than this cluster has", m->name);
		known = zodan_engine_node_dsn(job->engine, &m->conn, name);
		there = zodan_servers_leads_to(job, known, &job->new_conn);
		if (there == ZODAN_LEADS_ELSEWHERE)
			return psprintf("node \"%s\" knows another node \"%s\"", m->name, name);
		if (there == ZODAN_LEADS_THERE || (known && zodan_dsn_same_target(known, job->new_conn.dsn)))
			proven |= by_itself || back == ZODAN_LEADS_THERE;
		else
			proven |= !known && back == ZODAN_LEADS_THERE;
	}
	if (proven)
		return NULL;
	if (!is_node)
		return job->req->gave_dsn ? "no node knows it by a connection string that leads there from here" : "it is no node, and was found in a node's catalog";
	silence = describe_silence(job);
	return silence ? psprintf("it knows no node by a connection string that leads there from here, and %s", silence) : NULL;
}

static void
refuse_unknown(ZodanJob *job)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("there is no node \"%s\" in the cluster of node \"%s\", which has: %s", job->req->new_node_name,
					job->req->src_node_name, zodan_cluster_names(job))));
}

/*
 * Phase: it is what the request says, and somebody knows it.
 */
void
zodan_remove_check(ZodanJob *job)
{
	const char *name = job->req->new_node_name;
	char	   *there = NULL;
	char	   *foreign = NULL;

	if (job->engine && !zodan_cluster_missing(job) && !job->new_conn.pg && !is_known(job))
		refuse_unknown(job);
	zodan_cluster_require(job, !job->req->force);
	if (job->new_conn.pg)
		there = zodan_engine_find(&job->new_conn) == job->engine ? zodan_engine_local_node(job->engine, &job->new_conn) : NULL;
	if (!there && !is_known(job))
		refuse_unknown(job);
	if (there && strcmp(there, name) != 0)
		foreign = psprintf("node \"%s\"", there);
	else if (job->new_conn.pg && !zodan_removal_is_proven(job))
	{
		foreign = describe_foreign(job, there != NULL);
		if (foreign)
			foreign = psprintf("a %s that isn't shown to be this cluster's: %s", there ? "node of that name" : "database", foreign);
	}
	/* a lost node's address may be another one's by now, and no other can be given */
	if (foreign && job->req->force && !(there && job->req->gave_dsn))
	{
		zodan_journal_event(job->req, "warning", name, psprintf("nothing is done on what the connection string of node %s leads to: %s", name, foreign));
		zodan_connection_close(&job->new_conn);
		job->new_conn.error = "its connection string isn't shown to lead to the node of this cluster";
	}
	else if (foreign)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the connection string of node \"%s\" leads to %s", name, foreign),
				 errhint("Give the right one as node_dsn. If it is the node, write rows there in several transactions while it is checked. Nothing has been changed.")));
	zodan_removal_store(job);
	if (job->new_conn.dsn && !foreign)
		zodan_request_set_node_dsn(job->req, job->new_conn.dsn);
	if (job->req->force)
		zodan_journal_event(job->req, "warning", name, psprintf("node %s is removed by force: what was written there and has not arrived elsewhere is lost%s",
																name, job->new_conn.pg ? "" : psprintf("; what it has of the cluster stays there: %s", job->new_conn.error)));
	zodan_job_detail(job, 1, psprintf("node %s can be removed; these stay: %s", name, zodan_cluster_names(job)));
}

/*
 * Phase: nothing more is written on the node, and the others have all that
 * was.
 */
void
zodan_remove_drain(ZodanJob *job)
{
	ZodanConn  *conn = &job->new_conn;
	ZodanConfirm *waits;
	XLogRecPtr	marker;
	char	   *prepared;
	int			n = 0;

	if (job->req->force)
	{
		zodan_job_detail(job, 1, "not waited for, as the option force says");
		return;
	}
	waits = palloc(sizeof(ZodanConfirm));
	for (int i = 0; i < job->nmembers; i++)
		waits = add_streams_to(job, &job->members[i], waits, &n);
	if (!is_local(job))
	{
		zodan_job_detail(job, 1, psprintf("not waited for, since the database of node %s is not a node", conn->node));
		return;
	}
	if (job->req->fence)
		zodan_fence_raise(job);
	prepared = zodan_query_value(conn, "SELECT pg_catalog.string_agg(gid, ', ') FROM pg_catalog.pg_prepared_xacts"
								 " WHERE database = pg_catalog.current_database()", 0);
	if (prepared)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("node \"%s\" has prepared transactions, which nobody would get: %s", conn->node, prepared),
				 errhint("Commit them or roll them back; the request looks again by itself.")));

	zodan_markers_write(&conn, 1, &marker);
	for (int i = 0; i < n; i++)
		waits[i].lsn = marker;
	zodan_markers_wait_confirmed(waits, n, zodan_job_report, job);
	zodan_job_detail(job, 1, psprintf("%s have all that was written on node %s", zodan_cluster_names(job), conn->node));
}

/*
 * Notes something that is to go.
 */
static void
list_object(ZodanJob *job, const char *node, const char *kind, const char *name, const char *result)
{
	zodan_claim_effect(job, node, kind, name);
	zodan_effects_set(job->req, node, kind, name, "done", result);
}

/*
 * Notes the slots of a member that a join has made for the node: those of exactly
 * the names that a join gives them, which nobody uses. Where the node itself can't
 * tell what it has read from (blind), there may be others. If every member could be
 * asked, and reads none of them, one whose subscription's name ends in the node's is
 * taken for its; with a member missing it could be that one's, and a name is no
 * proof. What is left is pointed at.
 */
static void
list_slots_by_name(ZodanJob *job, ZodanMember *m, bool blind)
{
	List	   *claimed = NIL;
	PGresult   *result;
	char	   *own;

	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *reader = &job->members[i];

		if (reader == m || !reader->conn.pg)
			continue;
		result = zodan_query(&reader->conn, zodan_engine_sql(job->engine, subscriptions_to), 1, m->name);
		for (int k = 0; k < PQntuples(result); k++)
			claimed = lappend(claimed, zodan_query_field(result, k, 1));
		PQclear(result);
	}

	/* this one may have been the join's source */
	own = zodan_array_literal(list_make2(unconstify(char *, m->slot_in), unconstify(char *, m->slot_first ? m->slot_first : m->slot_in)));
	result = zodan_query(&m->conn, slots_query, 9,
						 job->engine->plugin, zodan_array_literal(claimed), own, blind ? "true" : "false",
						 zodan_names_helper_slots(m, &m->conn, "start"), zodan_names_helper_slots(m, &m->conn, "wal"),
						 blind && !zodan_cluster_missing(job) ? "true" : "false",
						 zodan_query_value(&m->conn, job->engine->slot_name, 3, job->new_dbname, m->name, ""), job->req->new_node_name);
	for (int i = 0; i < PQntuples(result); i++)
	{
		const char *slot = PQgetvalue(result, i, 0);

		if (PQgetvalue(result, i, 1)[0] == 't')
			list_object(job, m->name, EFFECT_SLOT, slot, NULL);
		else if (!zodan_effects_find(job->req, m->name, EFFECT_SLOT, slot)->state)
			zodan_journal_event(job->req, "warning", m->name, psprintf("slot %s is read by no node that could be asked; if it was node %s's, drop it: SELECT pg_drop_replication_slot('%s')",
																	   slot, job->req->new_node_name, slot));
	}
	PQclear(result);
}

/*
 * Notes the slots by which the node kept its own WAL while it joined, if they are
 * left. The member may have been the join's source.
 */
static void
list_own_slot(ZodanJob *job, ZodanMember *m)
{
	ZodanConn  *conn = &job->new_conn;
	PGresult   *result;

	if (!conn->pg)
		return;
	result = zodan_query(conn, "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE starts_with(slot_name, $1) AND NOT active",
						 1, zodan_names_helper_slots(m, conn, "wal"));
	for (int i = 0; i < PQntuples(result); i++)
		list_object(job, conn->node, EFFECT_SLOT, PQgetvalue(result, i, 0), NULL);
	PQclear(result);
}

/*
 * Notes what a join that didn't come to its end has left under names that have its
 * token, which the new node's mark tells: slots everywhere, origins on that node.
 */
static void
list_of_join(ZodanJob *job, const char *mark)
{
	char	   *end = psprintf("_[0-9]+_%.8s", mark);
	PGresult   *result;

	for (int i = 0; i <= job->nmembers; i++)
	{
		ZodanConn  *conn = i < job->nmembers ? &job->members[i].conn : &job->new_conn;

		if (!conn->pg)
			continue;
		result = zodan_query(conn, "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE slot_name ~ $1 AND NOT temporary", 1,
							 psprintf("^zodan_[a-z0-9]+_[0-9a-f]+%s$", end));
		for (int k = 0; k < PQntuples(result); k++)
			list_object(job, conn->node, EFFECT_SLOT, PQgetvalue(result, k, 0), NULL);
		PQclear(result);
	}
	result = zodan_query(&job->new_conn, "SELECT $3::text, roname FROM pg_catalog.pg_replication_origin WHERE roname ~ $1"
						 " UNION ALL SELECT $4, nspname FROM pg_catalog.pg_namespace WHERE nspname ~ $2", 4,
						 psprintf("^zodan_copy%s_[0-9]+$", end), psprintf("^zodan_copied%s$", end), EFFECT_ORIGIN, EFFECT_MARKS);
	for (int k = 0; k < PQntuples(result); k++)
		list_object(job, job->new_conn.node, PQgetvalue(result, k, 0), PQgetvalue(result, k, 1), NULL);
	PQclear(result);
}

/*
 * The mark that a join has left in the node's database. That of a database that isn't
 * a node may be of another cluster's join: then nothing here has its token. NULL: there
 * is none, or it stays.
 */
static char *
find_mark(ZodanJob *job)
{
	const char *name = job->req->new_node_name;
	char	   *mark = job->new_conn.pg ? zodan_claim_of_other(job) : NULL;
	char	   *end;

	if (!mark || is_local(job) || zodan_effects_find(job->req, name, EFFECT_NODE, name)->state)
		return mark;
	end = psprintf("_%.8s", mark);
	if (zodan_effects_any_ends(job->req, end))
		return mark;
	for (int i = 0; i < job->nmembers; i++)
		if (job->members[i].conn.pg &&
			zodan_query_value(&job->members[i].conn, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE pg_catalog.right(slot_name, $2::int) = $1 LIMIT 1",
							  2, end, psprintf("%d", (int) strlen(end))))
			return mark;
	zodan_journal_event(job->req, "warning", name,
						psprintf("the database of node %s has the mark of a request that isn't shown to be of this cluster. If that request is given up, ALTER DATABASE %s RESET zodan.claim removes the mark",
								 name, zodan_query_quote(job->new_dbname)));
	return NULL;
}

/*
 * Notes all that is to go, what depends on others last. A member that can't
 * be reached is looked at by a later attempt.
 */
static void
list_objects(ZodanJob *job, const char *mark)
{
	const char *name = job->req->new_node_name;
	bool		is_node = is_local(job);

	/* it may have been dropped by an earlier attempt */
	bool		was_node = is_node || zodan_effects_find(job->req, name, EFFECT_NODE, name)->state;
	PGresult   *result;

	if (mark)
		list_of_join(job, mark);
	for (int i = 0; i < job->nmembers; i++)
		if (job->members[i].conn.pg && zodan_engine_node_exists(job->engine, &job->members[i].conn, name))
			list_object(job, job->members[i].name, EFFECT_NODE, name, NULL);
	if (is_node)
		list_object(job, name, EFFECT_NODE, name, NULL);

	if (is_node)
	{
		result = zodan_query(&job->new_conn, zodan_engine_sql(job->engine,
															  "SELECT s.sub_name, s.sub_slot_name, n.node_name FROM {e}.subscription s"
															  "  JOIN {e}.node n ON n.node_id = s.sub_origin"), 0);
		for (int i = 0; i < PQntuples(result); i++)
		{
			const char *sub = PQgetvalue(result, i, 0);
			const char *slot = PQgetvalue(result, i, 1);
			const char *provider = PQgetvalue(result, i, 2);

			/* of a join that was cancelled with all that it had made */
			if (strcmp(slot, ZODAN_SEALED) == 0)
				slot = zodan_query_value(&job->new_conn, job->engine->slot_name, 3, job->new_dbname, provider, sub);
			if (zodan_cluster_member(job, provider))
				list_object(job, provider, EFFECT_SLOT, slot, NULL);
			else
				zodan_journal_event(job->req, "warning", name,
									psprintf("node %s subscribes to %s, which isn't a node of this cluster: if slot %s is there, drop it there", name, provider, slot));
			list_object(job, name, EFFECT_SUBSCRIPTION, sub, slot);
		}
		PQclear(result);
	}
	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];

		if (!m->conn.pg)
			continue;
		list_slots_by_name(job, m, !was_node);
		list_own_slot(job, m);
		result = zodan_query(&m->conn, zodan_engine_sql(job->engine, subscriptions_to), 1, name);
		for (int k = 0; k < PQntuples(result); k++)
		{
			if (job->new_conn.pg)
				list_object(job, name, EFFECT_SLOT, PQgetvalue(result, k, 1), NULL);
			list_object(job, m->name, EFFECT_SUBSCRIPTION, PQgetvalue(result, k, 0), PQgetvalue(result, k, 1));
		}
		PQclear(result);
	}
}

/*
 * Phase: all that is between the node and the others goes.
 */
void
zodan_remove_drop(ZodanJob *job)
{
	ZodanEffect *fence = zodan_effects_find(job->req, job->req->new_node_name, EFFECT_FENCE, job->new_dbname);
	char	   *mark = find_mark(job);

	list_objects(job, mark);
	zodan_undo_objects(job);
	if (mark)
		zodan_claim_drop(job);
	if (fence->result)
		zodan_journal_event(job->req, "warning", fence->node,
							psprintf("database %s of node %s, which is alone now, stays closed to all but superusers; its connection limit was %s: ALTER DATABASE %s CONNECTION LIMIT %s opens it",
									 fence->name, fence->node, fence->result, zodan_query_quote(fence->name), fence->result));
	zodan_job_detail(job, 1, psprintf("node %s has been removed; these stay: %s", job->req->new_node_name, zodan_cluster_names(job)));
}
