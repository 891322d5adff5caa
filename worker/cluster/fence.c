/*
 * fence.c
 *		Keeps users out of a node's database.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/fence.h"

#include "cluster/claim.h"
#include "remote/query.h"

/*
 * Lets only superusers into the node's database. For a new one until the join
 * is done: nothing that is written there before its slots exist would ever
 * leave it. For one that goes: nor would what is written there once it's gone.
 */
void
zodan_fence_raise(ZodanJob *job)
{
	static const char *const end_others =
		"SELECT pg_catalog.pg_terminate_backend(a.pid)"
		"  FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid"
		" WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend'"
		"   AND NOT r.rolsuper";
	ZodanConn  *conn = &job->new_conn;
	ZodanDeadline deadline = zodan_session_deadline(&job->session);
	ZodanEffect *fence = zodan_claim_effect(job, job->req->new_node_name, EFFECT_FENCE, job->new_dbname);

	/* what it was must be known before it's changed */
	if (!fence->result)
		zodan_effects_set(job->req, fence->node, fence->kind, fence->name, "intent",
						  zodan_query_value(conn, "SELECT datconnlimit FROM pg_catalog.pg_database"
											" WHERE datname = pg_catalog.current_database()", 0));
	PQclear(zodan_query(conn, psprintf("ALTER DATABASE %s CONNECTION LIMIT 0", zodan_query_quote(job->new_dbname)), 0));
	/* whoever is in already, until they have gone: one may be about to commit */
	while (zodan_query_value(conn, end_others, 0))
	{
		if (zodan_wait_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("node \"%s\": sessions in database \"%s\" do not end", conn->node, job->new_dbname),
					 errhint("pg_stat_activity on that node shows them; the request looks again by itself.")));
		zodan_wait_sleep(&job->session.waiter, 20);
	}
	fence = zodan_effects_find(job->req, fence->node, fence->kind, fence->name);
	zodan_effects_set(job->req, fence->node, fence->kind, fence->name, "done", fence->result);
}
