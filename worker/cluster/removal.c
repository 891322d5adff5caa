/*
 * removal.c
 *		Which node a removal is about.
 *
 * A removal has no mark on its node, which may be gone. What it goes by is stored
 * when it looks first: which server each node is, and which entry each existing node
 * has for the one that goes. The checks prove that what was reached as that node is
 * the cluster's, and store it, too. A later attempt that finds anything else does
 * nothing.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/removal.h"

#include "cluster/servers.h"

static bool
is_removal(ZodanJob *job)
{
	return strcmp(job->req->operation, "remove_node") == 0;
}

static char *
local_node(ZodanJob *job, ZodanConn *conn)
{
	return zodan_engine_find(conn) == job->engine ? zodan_engine_local_node(job->engine, conn) : NULL;
}

static void
require_source(ZodanJob *job)
{
	char	   *local = local_node(job, &ZODAN_SOURCE(job)->conn);

	if (!local || strcmp(local, job->req->src_node_name) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("src_dsn leads to %s, not to node \"%s\"", local ? psprintf("node \"%s\"", local) : "a database that is not a node",
						job->req->src_node_name)));
}

/*
 * An error if what was reached as an existing node is one of another cluster: the
 * source's connection string for it may lead elsewhere from here. A node that knows
 * others but the source isn't of its cluster; one that knows none, or isn't a node,
 * has nothing of it. The nodes are locked: another request may be about to remove it.
 */
static void
require_member(ZodanJob *job, ZodanMember *m)
{
	const char *source = job->req->src_node_name;
	char	   *local = local_node(job, &m->conn);
	char	   *why = NULL;

	if (!local)
		return;
	if (strcmp(local, m->name) != 0)
		why = psprintf("node \"%s\"", local);
	else if (!zodan_engine_node_exists(job->engine, &m->conn, source) && zodan_engine_knows_others(job->engine, &m->conn))
		why = psprintf("one that doesn't know node \"%s\"", source);
	else if (!zodan_request_option(job->req, "peer_dsns", m->name) &&
			 zodan_servers_leads_to(job, zodan_engine_node_dsn(job->engine, &m->conn, source), &ZODAN_SOURCE(job)->conn) == ZODAN_LEADS_ELSEWHERE)
		why = psprintf("one that knows another node \"%s\"", source);
	if (why)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the connection string of node \"%s\" leads to %s", m->name, why),
				 errhint("Nothing was done there. Give the right one in options.peer_dsns.")));
}

/*
 * Compares the nodes that can be reached with what is stored of them. Returns why
 * the node isn't the request's to remove any more; NULL: it is. An error if another
 * one isn't what it was; or if one is reached for the first time, and isn't of this
 * cluster.
 */
static char *
compare(ZodanJob *job, ZodanServer **servers)
{
	int			n = job->nmembers;
	ZodanServer *was = servers[n] ? zodan_journal_server(job->req, job->req->new_node_name) : NULL;
	bool		checked = zodan_journal_any_phase_done(job->req);
	char	   *added;

	zodan_servers_require_same(job, servers, n);
	for (int i = 1; i < n; i++)
		if (servers[i] && (!checked || !zodan_journal_server(job->req, job->members[i].name)))
			require_member(job, &job->members[i]);
	added = zodan_servers_added_again(job, servers);
	if (added)
		return added;
	if (was && !zodan_servers_same(was, servers[n]) && job->direction != ZODAN_FORWARD)
		return psprintf("the connection string of node \"%s\" leads to another server or database than before", job->req->new_node_name);
	if (was && !zodan_servers_same(was, servers[n]) && job->req->force)
	{
		zodan_connection_close(&job->new_conn);
		job->new_conn.error = "its connection string leads to another server or database than before";
		servers[n] = NULL;
	}
	zodan_servers_require_same(job, servers, n + 1);
	return NULL;
}

/*
 * Is what was reached as the node that goes what the checks have proven to be it?
 */
bool
zodan_removal_is_proven(ZodanJob *job)
{
	ZodanServer *was = zodan_journal_server(job->req, job->req->new_node_name);
	ZodanServer *is = zodan_servers_ask(job)[job->nmembers];

	return was && is && zodan_servers_same(was, is);
}

/*
 * Stores what the nodes are, that which goes being proven: for the checks.
 */
void
zodan_removal_store(ZodanJob *job)
{
	ZodanServer **servers = zodan_servers_ask(job);
	char	   *lost = compare(job, servers);

	if (lost)
		ereport(ERROR,
				(errcode(ERRCODE_ZODAN_OVERTAKEN), errmsg("%s", lost)));
	zodan_servers_store(job, servers);
}

/*
 * Begins an attempt, or one to roll back, before anything is waited for or locked:
 * stores what the existing nodes are when one of them is reached first. While a node is
 * down, or another request has the lock, the node may be removed and added again. What
 * the checks couldn't prove to be the node isn't touched, not even by the lock.
 */
void
zodan_removal_prepare(ZodanJob *job)
{
	ZodanServer **servers;

	if (!is_removal(job) || !job->engine)
		return;
	if (zodan_journal_any_phase_done(job->req))
	{
		if (job->new_conn.pg && !zodan_journal_server(job->req, job->req->new_node_name))
		{
			zodan_connection_close(&job->new_conn);
			job->new_conn.error = "it was not proven to be the node of this cluster when the request was checked";
		}
		return;
	}
	if (zodan_journal_server(job->req, ZODAN_SOURCE(job)->name))
		return;
	require_source(job);
	servers = zodan_servers_ask(job);
	servers[job->nmembers] = NULL;
	zodan_servers_store(job, servers);
}

/*
 * Which node was promoted or restored since the checks, and how; NULL: none.
 */
static char *
find_history(ZodanJob *job, ZodanServer *const *servers, const char **node)
{
	for (int i = 0; i <= job->nmembers; i++)
	{
		ZodanServer *was = servers[i] ? zodan_journal_server(job->req, ZODAN_NODE_NAME(job, i)) : NULL;
		char	   *history = was ? zodan_servers_history(ZODAN_NODE_NAME(job, i), was, servers[i]) : NULL;

		*node = ZODAN_NODE_NAME(job, i);
		if (history)
			return history;
	}
	return NULL;
}

/*
 * Begins an attempt, or one to roll back, the nodes being locked. Returns why the node
 * isn't the request's to remove any more; NULL: it is. A node that was promoted or
 * restored may have been written since it was drained, or lack what it had: unless
 * something has been dropped already, it's checked and drained again.
 */
char *
zodan_removal_begin(ZodanJob *job)
{
	ZodanServer **servers = zodan_servers_ask(job);
	ZodanServer **first;		/* those that couldn't be reached before */
	char	   *lost = compare(job, servers);
	const char *node;
	char	   *history;

	if (lost)
		return lost;
	history = job->req->force || job->direction != ZODAN_FORWARD ? NULL : find_history(job, servers, &node);
	if (history && zodan_journal_any_phase_done(job->req) && zodan_effects_are_all(job->req, EFFECT_FENCE))
	{
		zodan_journal_event(job->req, "warning", node, psprintf("%s: the nodes are checked and drained again", history));
		zodan_journal_forget_phases(job->req);
		return NULL;
	}
	first = palloc0(sizeof(ZodanServer *) * (job->nmembers + 1));
	for (int i = 0; i < job->nmembers; i++)
		if (servers[i] && !zodan_journal_server(job->req, job->members[i].name))
			first[i] = servers[i];
	zodan_servers_store(job, first);
	zodan_servers_guard(job, servers, false);
	return NULL;
}
