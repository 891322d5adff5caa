/*
 * cluster.c
 *		The nodes that a request is about: who they are, the sessions on them,
 *		and the lock that keeps others away.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/cluster.h"

#include "base/dsn.h"
#include "base/locks.h"
#include "cluster/names.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "remote/query.h"
#include "utils/builtins.h"

#define PREDECESSOR_MS	10000
#define ABSENT_MS		2000

static const char *const members_query =
#include "sql/cluster_members.h"
		   ;

static void
set_conn(ZodanJob *job, ZodanConn *conn, const char *node, const char *dsn)
{
	conn->node = node;
	conn->dsn = dsn;
	conn->session = &job->session;
	conn->need_password = !job->req->by_superuser;
}

/*
 * How many nodes the request is about: a verification has no new one.
 */
static int
nnodes(const ZodanJob *job)
{
	return job->nmembers + (job->req->new_node_name ? 1 : 0);
}

/*
 * Asks the source which nodes there are. The new node, which is known there
 * from some point of a join on, isn't one of them.
 */
static void
find_members(ZodanJob *job)
{
	ZodanMember source = job->members[0];
	PGresult   *result;

	result = zodan_query(&source.conn, zodan_engine_sql(job->engine, psprintf(members_query, job->engine->commit_label)),
						 1, job->req->new_node_name);
	job->nmembers = Max(PQntuples(result), 1);
	job->members = palloc0(sizeof(ZodanMember) * job->nmembers);
	job->members[0] = source;
	for (int i = 0; i < PQntuples(result); i++)
	{
		ZodanMember *m = &job->members[i];

		/* the source goes by the name that was asked for; the checks compare it */
		m->name = i == 0 ? job->req->src_node_name : zodan_query_field(result, i, 0);
		m->catalog_dsn = zodan_query_field(result, i, 1);
		if (PQgetvalue(result, i, 2)[0] != 't')
		{
			char	   *dsn = zodan_request_option(job->req, "peer_dsns", m->name);

			m->slot_for_source = zodan_query_field(result, i, 3);
			m->origin_on_source = zodan_query_field(result, i, 4);
			m->commit_label = zodan_query_field(result, i, 5);
			set_conn(job, &m->conn, m->name, dsn ? dsn : m->catalog_dsn ? m->catalog_dsn : "");
		}
		else
			m->conn.node = m->name;
		if (m->catalog_dsn)
			zodan_dsn_remember(&job->session.secrets, m->catalog_dsn);
	}
	PQclear(result);
}

/*
 * Connects to the node that goes, if no DSN was given, by one that an existing node
 * has, the source's first.
 */
static void
find_new_node(ZodanJob *job)
{
	ZodanConn  *conn = &job->new_conn;
	char	   *dsn = NULL;

	for (int i = 0; i < job->nmembers && !dsn; i++)
		if (job->members[i].conn.pg && zodan_engine_find(&job->members[i].conn) == job->engine)
			dsn = zodan_engine_node_dsn(job->engine, &job->members[i].conn, job->req->new_node_name);
	set_conn(job, conn, job->req->new_node_name, dsn);
	conn->error = "no node knows its connection string";
	if (dsn)
		zodan_remote_connect_all(&conn, 1);
}

/*
 * The sets that are taken from each node. Existing subscriptions tell; the
 * only node of a cluster offers all that it has.
 */
static void
find_sets(ZodanJob *job)
{
	ZodanConn  *source = &ZODAN_SOURCE(job)->conn;
	const char *wanted = zodan_request_option_array(job->req, "replication_sets");

	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];
		ZodanConn  *subscriber = source;

		m->sets = wanted;
		if (m->sets)
			continue;
		if (i == 0)
		{
			subscriber = NULL;
			for (int k = 1; k < job->nmembers && !subscriber; k++)
				if (job->members[k].conn.pg)
					subscriber = &job->members[k].conn;
		}
		if (subscriber)
			m->sets = zodan_query_value(subscriber, zodan_engine_sql(job->engine,
																	 "SELECT s.sub_replication_sets FROM {e}.subscription s"
																	 "  JOIN {e}.node n ON n.node_id = s.sub_origin WHERE n.node_name = $1"),
										1, m->name);
		if (!m->sets && i == 0)
			m->sets = zodan_engine_sets(job->engine, source);
	}
}

/*
 * Connects to all nodes that the request is about. One that can't be reached
 * has an error instead of a connection. job->engine is NULL if the source has
 * none, or can't be reached: then its peers aren't known.
 */
static void
reach(ZodanJob *job)
{
	ZodanRequest *req = job->req;
	ZodanMember *source;
	ZodanConn  *ends[2];
	ZodanConn **conns;

	job->members = palloc0(sizeof(ZodanMember));
	job->nmembers = 1;
	source = ZODAN_SOURCE(job);
	source->name = req->src_node_name;
	set_conn(job, &source->conn, req->src_node_name, req->src_dsn);
	set_conn(job, &job->new_conn, req->new_node_name, req->new_node_dsn);

	ends[0] = &source->conn;
	ends[1] = &job->new_conn;
	zodan_remote_connect_all(ends, req->new_node_dsn ? 2 : 1);
	if (!source->conn.pg)
		return;
	job->engine = zodan_engine_find(&source->conn);
	if (!job->engine)
		return;

	find_members(job);
	conns = palloc(sizeof(ZodanConn *) * job->nmembers);
	for (int i = 0; i < ZODAN_NPEERS(job); i++)
		conns[i] = &ZODAN_PEERS(job)[i].conn;
	zodan_remote_connect_all(conns, ZODAN_NPEERS(job));
	pfree(conns);
	if (req->new_node_name && !req->new_node_dsn)
		find_new_node(job);
}

/*
 * Leaves the members alone whose databases have lost the engine, or have another one:
 * nothing can be asked there, as if they couldn't be reached.
 */
static void
leave_out_strangers(ZodanJob *job)
{
	for (int i = 1; i < job->nmembers; i++)
	{
		ZodanConn  *conn = &job->members[i].conn;

		if (!conn->pg || zodan_engine_find(conn) == job->engine)
			continue;
		zodan_connection_close(conn);
		conn->error = psprintf("its database does not have the extension %s any more", job->engine->name);
	}
}

/*
 * Connects to all nodes and finds out what they are: what is known only from
 * one that can't be reached is NULL.
 */
void
zodan_cluster_open(ZodanJob *job)
{
	ZodanRequest *req = job->req;
	ZodanMember *source;

	reach(job);
	if (!job->engine)
		return;
	zodan_request_set_engine(job->req, job->engine->name);
	/* the checks of a join name them */
	if (strcmp(req->operation, "remove_node") == 0 || strcmp(req->operation, "verify") == 0)
		leave_out_strangers(job);
	source = ZODAN_SOURCE(job);
	if (job->new_conn.pg)
		job->new_dbname = pstrdup(PQdb(job->new_conn.pg));
	else if (strcmp(req->operation, "remove_node") == 0)
	{
		/* a guess, for the names of what it may have left on the others */
		job->new_dbname = job->new_conn.dsn ? zodan_dsn_value(job->new_conn.dsn, "dbname") : "";
		if (!job->new_dbname[0])
			job->new_dbname = pstrdup(PQdb(source->conn.pg));
	}
	if (job->new_conn.pg && req->force && zodan_query_value(&job->new_conn, "SELECT 1 WHERE pg_catalog.pg_is_in_recovery()", 0))
	{
		zodan_connection_close(&job->new_conn);
		job->new_conn.error = "it is a standby";
	}
	find_sets(job);

	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];

		if (m->conn.pg)
			m->dbname = pstrdup(PQdb(m->conn.pg));
		if (job->new_dbname)
			zodan_names_subscription(job, job->new_dbname, m->name, req->new_node_name, "sub", &m->sub_in, &m->slot_in);
		if (m->dbname && req->new_node_name)
			zodan_names_subscription(job, m->dbname, req->new_node_name, m->name, "sub", &m->sub_out, &m->slot_out);
	}
	source->sub_first = source->sub_in;
	source->slot_first = source->slot_in;
	if (ZODAN_NPEERS(job) > 0 && job->new_dbname)
		zodan_names_subscription(job, job->new_dbname, source->name, req->new_node_name, "catchup",
								 &source->sub_first, &source->slot_first);
}

/*
 * The connection of member i, the new node coming behind the last.
 */
static ZodanConn *
conn_of(ZodanJob *job, int i)
{
	return i < job->nmembers ? &job->members[i].conn : &job->new_conn;
}

/*
 * The existing node of that name; NULL: there is none in the cluster.
 */
ZodanMember *
zodan_cluster_member(ZodanJob *job, const char *name)
{
	for (int i = 0; i < job->nmembers; i++)
		if (strcmp(job->members[i].name, name) == 0)
			return &job->members[i];
	return NULL;
}

/*
 * The session on the node of that name; NULL: there is none, since the node
 * can't be reached, or isn't known any more.
 */
ZodanConn *
zodan_cluster_session(ZodanJob *job, const char *node)
{
	for (int i = nnodes(job) - 1; i >= 0; i--)
		if (strcmp(conn_of(job, i)->node, node) == 0)
			return conn_of(job, i)->pg ? conn_of(job, i) : NULL;
	return NULL;
}

/*
 * Raises a transient error if a session has been lost. Called while something
 * else is waited for, which need not have anything to do with that node.
 */
void
zodan_cluster_watch(ZodanJob *job)
{
	for (int i = 0; job->members && i < nnodes(job); i++)
	{
		ZodanConn  *conn = conn_of(job, i);

		if (zodan_connection_is_lost(conn))
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("node \"%s\": %s", conn->node, zodan_connection_error(conn))));
	}
}

/*
 * After an error: the names of the nodes that have no session, or whose
 * session has been lost or doesn't answer, and in *dsns their connection strings,
 * NULL where they aren't known. One of the latter also is *lost; NULL: there is
 * none.
 */
List *
zodan_cluster_absent(ZodanJob *job, const char **lost, List **dsns)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * (job->nmembers + 1));
	bool	   *had_session = palloc0(sizeof(bool) * (job->nmembers + 1));
	List	   *absent = NIL;

	*lost = NULL;
	*dsns = NIL;
	if (!job->members)
		return NIL;
	for (int i = 0; i < nnodes(job); i++)
	{
		calls[i].conn = conn_of(job, i);
		calls[i].sql = "SELECT 1";
		had_session[i] = calls[i].conn->pg != NULL;
	}
	zodan_remote_run(calls, nnodes(job), ABSENT_MS);
	for (int i = 0; i < nnodes(job); i++)
	{
		/* one whose statement has failed does answer */
		if (!calls[i].error || calls[i].sqlstate == ERRCODE_IN_FAILED_SQL_TRANSACTION)
			continue;
		absent = lappend(absent, pstrdup(calls[i].conn->node));
		*dsns = lappend(*dsns, calls[i].conn->dsn ? pstrdup(calls[i].conn->dsn) : NULL);
		if (had_session[i])
			*lost = calls[i].conn->node;
	}
	return absent;
}

/*
 * Which of the existing nodes can't be reached, and why; NULL: none.
 */
char *
zodan_cluster_missing(ZodanJob *job)
{
	for (int i = 0; i < job->nmembers; i++)
		if (!job->members[i].conn.pg)
			return psprintf("could not connect to node \"%s\": %s", job->members[i].name, job->members[i].conn.error);
	return NULL;
}

/*
 * Are there sessions on all nodes?
 */
bool
zodan_cluster_complete(ZodanJob *job)
{
	return job->engine && job->new_conn.pg && !zodan_cluster_missing(job);
}

/*
 * Raises a transient error unless every node has been reached or, if not all,
 * the source.
 */
void
zodan_cluster_require(ZodanJob *job, bool all)
{
	ZodanConn  *source = &ZODAN_SOURCE(job)->conn;
	char	   *missing = NULL;

	if (!source->pg)
		missing = zodan_cluster_missing(job);
	else if (!job->engine)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("node \"%s\": neither Spock nor pglogical is installed in its database",
						job->req->src_node_name)));
	else if (all)
	{
		missing = zodan_cluster_missing(job);
		if (job->req->new_node_name && !job->new_conn.pg)
			missing = psprintf("could not connect to node \"%s\": %s", job->new_conn.node, job->new_conn.error);
	}
	if (missing)
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("%s", missing),
				 errhint("The request goes on when the node can be reached.%s",
						 strcmp(job->req->operation, "remove_node") == 0 ?
						 " If the node that is removed is lost for good, cancel the request and file it again with the option force." : "")));
}

/*
 * Runs a statement on all nodes that could be reached, side by side; returns
 * its calls, one for each, and in *ncalls how many.
 */
static ZodanCall *
ask_all(ZodanJob *job, const ZodanCall *call, int *ncalls)
{
	ZodanCall  *calls = palloc(sizeof(ZodanCall) * (job->nmembers + 1));

	*ncalls = 0;
	for (int i = 0; i <= job->nmembers; i++)
	{
		if (!conn_of(job, i)->pg)
			continue;
		calls[*ncalls] = *call;
		calls[(*ncalls)++].conn = conn_of(job, i);
	}
	zodan_query_all(calls, *ncalls);
	return calls;
}

/*
 * Ends what an earlier runner of this request, or a child process of it, may
 * still be doing on the nodes.
 */
static void
end_predecessors(ZodanJob *job)
{
	ZodanDeadline deadline = zodan_wait_deadline(PREDECESSOR_MS);
	ZodanCall	query = {.nparams = 5};

	query.sql = "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a"
		" WHERE a.datname = pg_catalog.current_database()"
		"   AND (a.application_name = $1 OR EXISTS"
		"        (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'"
		"            AND l.classid = $2::pg_catalog.oid AND l.objid = $3::pg_catalog.oid AND l.objsubid = 2))"
		"   AND NOT EXISTS"
		"        (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'"
		"            AND l.classid = $4::pg_catalog.oid AND l.objid = $5::pg_catalog.oid AND l.objsubid = 2)";
	query.params[0] = job->session.child;
	query.params[1] = psprintf("%d", ZODAN_LOCK_SESSION);
	query.params[2] = job->session.token;
	query.params[3] = psprintf("%d", ZODAN_LOCK_PROCESS);
	query.params[4] = job->session.process;
	for (;;)
	{
		int			n;
		ZodanCall  *calls = ask_all(job, &query, &n);
		ZodanConn  *left = NULL;

		for (int i = 0; i < n; i++)
		{
			if (PQntuples(calls[i].result) > 0)
				left = calls[i].conn;
			PQclear(calls[i].result);
		}
		if (!left)
			return;
		if (zodan_wait_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("node \"%s\": a session of an earlier attempt of this request does not end", left->node),
					 errhint("It may be waiting for another node, and cannot be ended before that answers: pg_locks and pg_stat_activity there show what for. The request tries again by itself.")));
		zodan_wait_sleep(&job->session.waiter, 20);
	}
}

/*
 * Takes the lock that only one request may hold on each node at a time, on
 * all that could be reached. It is held by our sessions, so it ends with us.
 * Where two of them are in one database, by a wrong DSN, one of them has it.
 */
void
zodan_cluster_lock(ZodanJob *job)
{
	ZodanCall	query = {.nparams = 3};
	ZodanCall	others = {.nparams = 3};
	ZodanCall  *calls;
	ZodanCall  *changing;
	int			n;

	query.sql = "SELECT pg_catalog.pg_try_advisory_lock($1::int, 0) OR EXISTS"
		" (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_locks own USING (pid, database)"
		"   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2"
		"     AND l.classid = $1::pg_catalog.oid AND l.objid = 0"
		"     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
		"     AND own.locktype = 'advisory' AND own.objsubid = 2"
		"     AND own.classid = $2::pg_catalog.oid AND own.objid = $3::pg_catalog.oid)";
	query.params[0] = psprintf("%d", ZODAN_LOCK_CLUSTER);
	query.params[1] = psprintf("%d", ZODAN_LOCK_PROCESS);
	query.params[2] = job->session.process;

	/* a change may still be under way of a request whose other sessions have ended */
	others.sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l"
		"   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2"
		"     AND l.classid = $1::pg_catalog.oid AND l.objid = 1"
		"     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
		"     AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks own WHERE own.pid = l.pid AND own.locktype = 'advisory'"
		"                        AND own.objsubid = 2 AND own.classid = $2::pg_catalog.oid AND own.objid = $3::pg_catalog.oid))";
	memcpy(others.params, query.params, sizeof(others.params));

	end_predecessors(job);
	calls = ask_all(job, &query, &n);
	changing = ask_all(job, &others, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *who;

		if (PQgetvalue(calls[i].result, 0, 0)[0] == 't' && PQgetvalue(changing[i].result, 0, 0)[0] != 't')
			continue;
		who = zodan_query_value(calls[i].conn, "SELECT pg_catalog.format('%s of %s', a.application_name,"
								"         coalesce(a.client_addr::text, 'the node itself'))"
								"  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)"
								" WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1::pg_catalog.oid"
								"   AND a.datname = pg_catalog.current_database()"
								"   AND l.objid IN (0, 1) AND l.objsubid = 2 AND a.pid <> pg_catalog.pg_backend_pid()", 1, query.params[0]);
		ereport(ERROR,
				(errcode(ERRCODE_ZODAN_BUSY),
				 errmsg("waits for another request, which is changing node \"%s\": %s", calls[i].conn->node,
						who ? who : "it has just ended")));
	}
}

/*
 * The names of the existing nodes, for messages.
 */
char *
zodan_cluster_names(ZodanJob *job)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < job->nmembers; i++)
		appendStringInfo(&buf, "%s%s", i ? ", " : "", job->members[i].name);
	return buf.data;
}
