/*
 * servers.c
 *		Which server and database each of a request's nodes is, on which timeline,
 *		and how far its WAL was flushed.
 *
 * Positions and snapshots of a server that was promoted, or restored to an earlier
 * moment, are worth nothing, nor is what was made there. One that is another server
 * or database than before is left alone.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/servers.h"

#include "base/dsn.h"
#include "base/lsn.h"
#include "remote/query.h"
#include "utils/builtins.h"

/* filled in: the entry for the node that goes */
static const char *const server_query =
"SELECT c.system_identifier, d.oid, CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN"
"       ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()), 8))::bit(32)::int END,"
"       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_flush_lsn() END, %s"
"  FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/* what tells a node's entry for another one from a later one */
static const char *const node_entry =
"(SELECT pg_catalog.concat_ws('/', n.xmin, (SELECT pg_catalog.string_agg(i.xmin::text, ',' ORDER BY i.if_id) FROM {e}.node_interface i WHERE i.if_nodeid = n.node_id))"
"   FROM {e}.node n WHERE n.node_name = $1)";

/*
 * Asks all nodes that could be reached; those that could not are NULL. The new
 * node comes behind the members.
 */
ZodanServer **
zodan_servers_ask(ZodanJob *job)
{
	int			n = job->nmembers + 1;
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * n);
	ZodanServer **servers = palloc0(sizeof(ZodanServer *) * n);

	for (int i = 0; i < n; i++)
	{
		calls[i].conn = i < job->nmembers ? &job->members[i].conn : &job->new_conn;
		calls[i].sql = psprintf(server_query, "NULL");
		if (i < job->nmembers && strcmp(job->req->operation, "remove_node") == 0)
		{
			calls[i].sql = psprintf(server_query, zodan_engine_sql(job->engine, node_entry));
			calls[i].nparams = 1;
			calls[i].params[0] = job->req->new_node_name;
		}
		calls[i].sent = calls[i].finished = calls[i].conn->pg == NULL;
	}
	zodan_query_all(calls, n);
	for (int i = 0; i < n; i++)
	{
		if (!calls[i].result)
			continue;
		servers[i] = palloc(sizeof(ZodanServer));
		servers[i]->system_identifier = zodan_query_field(calls[i].result, 0, 0);
		servers[i]->database_oid = zodan_query_field(calls[i].result, 0, 1);
		servers[i]->timeline = zodan_query_field(calls[i].result, 0, 2);
		servers[i]->lsn = zodan_query_field(calls[i].result, 0, 3);
		servers[i]->node_entry = zodan_query_field(calls[i].result, 0, 4);
		PQclear(calls[i].result);
		if (!servers[i]->lsn)
			ereport(ERROR,
					(errcode(ERRCODE_CANNOT_CONNECT_NOW),
					 errmsg("node \"%s\" is a standby", calls[i].conn->node),
					 errhint("The request goes on when it is promoted, or the connection string leads to the primary.")));
	}
	return servers;
}

bool
zodan_servers_same(const ZodanServer *a, const ZodanServer *b)
{
	return strcmp(a->system_identifier, b->system_identifier) == 0 && strcmp(a->database_oid, b->database_oid) == 0;
}

/*
 * What has become of a server since it was looked at; NULL: nothing.
 */
char *
zodan_servers_history(const char *node, const ZodanServer *was, const ZodanServer *is)
{
	if (strcmp(was->timeline, is->timeline) != 0)
		return psprintf("node \"%s\" was promoted or restored: it is on timeline %s now, and was on %s", node, is->timeline, was->timeline);
	if (zodan_lsn_parse(is->lsn, node, "its flush position") < zodan_lsn_parse(was->lsn, node, "its stored flush position"))
		return psprintf("node \"%s\" was restored to an earlier moment: its WAL ends at %s now, and had reached %s", node, is->lsn, was->lsn);
	return NULL;
}

/*
 * The sessions that are opened from now on find the same server and database,
 * and those on the new node the claim if it's claimed, or they fail.
 */
void
zodan_servers_guard(ZodanJob *job, ZodanServer *const *servers, bool claimed)
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
		if (i == job->nmembers && claimed)
			appendStringInfo(&sql, " WHEN pg_catalog.split_part(" ZODAN_MARK ", '/', 1) IS DISTINCT FROM %s"
							 " THEN 'it is not this request''s any more'", quote_literal_cstr(job->req->token));
		appendStringInfoString(&sql, " END");
		conn->guard = sql.data;
	}
}

/*
 * Raises an error if one of the first n nodes is another server than before.
 */
void
zodan_servers_require_same(ZodanJob *job, ZodanServer *const *servers, int n)
{
	for (int i = 0; i < n; i++)
	{
		ZodanServer *was = servers[i] ? zodan_journal_server(job->req, ZODAN_NODE_NAME(job, i)) : NULL;

		if (was && !zodan_servers_same(was, servers[i]))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\": its connection string leads to another server or database than before", ZODAN_NODE_NAME(job, i)),
					 errdetail("The system identifier is %s and the database's OID %s; they were %s and %s.",
							   servers[i]->system_identifier, servers[i]->database_oid, was->system_identifier, was->database_oid),
					 errhint("If the node has moved there, cancel the request, with keep => true if the other server is gone.")));
	}
}

/*
 * Are both rows of an entry other ones? An update makes one of them another.
 */
static bool
is_new_entry(const char *was, const char *is)
{
	size_t		node_was = strcspn(was, "/");
	size_t		node_is = strcspn(is, "/");

	return (node_was != node_is || strncmp(was, is, node_is) != 0) && strcmp(was + node_was, is + node_is) != 0;
}

/*
 * Has the node that goes been added again since a removal looked first? Then an
 * existing node has another entry for it, or has one again: a message, or NULL.
 */
char *
zodan_servers_added_again(ZodanJob *job, ZodanServer *const *servers)
{
	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanServer *was = servers[i] ? zodan_journal_server(job->req, job->members[i].name) : NULL;

		if (was && servers[i]->node_entry && (!was->node_entry || is_new_entry(was->node_entry, servers[i]->node_entry)))
			return psprintf("node \"%s\" was added again after this request was checked: node \"%s\" has a new entry for it",
							job->req->new_node_name, job->members[i].name);
	}
	return NULL;
}

/*
 * Stores what the nodes are that could be reached.
 */
void
zodan_servers_store(ZodanJob *job, ZodanServer *const *servers)
{
	List	   *nodes = NIL;
	List	   *reached = NIL;

	for (int i = 0; i <= job->nmembers; i++)
	{
		if (!servers[i])
			continue;
		nodes = lappend(nodes, unconstify(char *, ZODAN_NODE_NAME(job, i)));
		reached = lappend(reached, servers[i]);
	}
	zodan_journal_set_servers(job->req, nodes, reached);
}

/*
 * Where does a connection string, or NULL, lead, compared with a session?
 */
ZodanLeads
zodan_servers_leads_to(ZodanJob *job, const char *dsn, const ZodanConn *there)
{
	ZodanConn	conn = {.node = there->node,.dsn = dsn,.session = &job->session,.need_password = !job->req->by_superuser};
	ZodanConn  *conns = &conn;
	ZodanLeads	result;

	if (!dsn)
		return ZODAN_LEADS_NOWHERE;
	zodan_dsn_remember(&job->session.secrets, dsn);
	zodan_remote_connect_all(&conns, 1);
	if (!conn.pg)
		return ZODAN_LEADS_NOWHERE;
	result = zodan_query_same_server(&conn, there, true) ? ZODAN_LEADS_THERE : ZODAN_LEADS_ELSEWHERE;
	zodan_connection_close(&conn);
	return result;
}
