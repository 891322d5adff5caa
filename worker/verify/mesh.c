/*
 * mesh.c
 *		The nodes whose rows are compared, and the streams between them: what was
 *		committed on one of them before a marker has arrived on all when each has
 *		confirmed the markers of all others.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "verify/mesh.h"

#include "remote/query.h"

/*
 * Adds the stream from a node to another one: its slot, as the subscriber knows it
 * (name of the provider, slot, is it enabled).
 */
static void
add_stream(ZodanMesh *mesh, ZodanConn *provider, const char *provider_name, ZodanConn *subscriber, const PGresult *subscriptions)
{
	for (int row = 0; row < PQntuples(subscriptions); row++)
	{
		if (strcmp(PQgetvalue(subscriptions, row, 0), provider_name) != 0 || PQgetvalue(subscriptions, row, 2)[0] != 't')
			continue;
		mesh->streams[mesh->nstreams++] = (ZodanConfirm)
		{
			.provider = provider,.subscriber = subscriber->node,.slot = zodan_query_field(subscriptions, row, 1)
		};
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("node \"%s\" has no enabled subscription to node \"%s\"", subscriber->node, provider->node),
			 errhint("Rows can be compared where every node replicates from every other one: enable or create the subscription, then file the request again. A node that is joining or leaving does not do so yet, or any more: wait until that has ended.")));
}

/*
 * What the text of a row depends on, besides what every session starts with; and an
 * error where rows would be left out without one.
 */
static void
pin_settings(ZodanMesh *mesh)
{
	ZodanCall	pin = {.sql = "SELECT pg_catalog.set_config('lc_monetary', 'C', false), pg_catalog.set_config('row_security', 'off', false)"};

	zodan_mesh_clear(mesh, zodan_mesh_ask(mesh, &pin));
}

/*
 * Lists the nodes: all members, or the source and the new node, and behind these the
 * other members, from which their rows may come.
 */
static void
list_nodes(ZodanMesh *mesh, bool with_new)
{
	ZodanJob   *job = mesh->job;

	mesh->nodes = palloc(sizeof(ZodanConn *) * (job->nmembers + 1));
	for (int i = 0; i < job->nmembers; i++)
	{
		mesh->nodes[mesh->nall++] = &job->members[i].conn;
		if (i == 0 && with_new)
			mesh->nodes[mesh->nall++] = &job->new_conn;
	}
	mesh->nnodes = with_new ? 2 : mesh->nall;
}

/*
 * Finds the nodes whose rows are compared, and the streams by which rows come to them;
 * raises an error if one does not replicate from another. The rows are those of all
 * members, or, with_new, those of the source and the new node.
 */
ZodanMesh *
zodan_mesh_open(ZodanJob *job, bool with_new)
{
	ZodanMesh  *mesh = palloc0(sizeof(ZodanMesh));
	char	   *name_query = zodan_engine_sql(job->engine, "SELECT n.node_name FROM {e}.node n JOIN {e}.local_node l ON l.node_id = n.node_id");
	ZodanCall	query = {.sql = zodan_engine_sql(job->engine,
												 "SELECT n.node_name, s.sub_slot_name, s.sub_enabled FROM {e}.subscription s"
												 "  JOIN {e}.node n ON n.node_id = s.sub_origin ORDER BY s.sub_enabled DESC, s.sub_id")};
	ZodanCall  *calls;

	mesh->job = job;
	list_nodes(mesh, with_new);
	mesh->streams = palloc(sizeof(ZodanConfirm) * mesh->nall * mesh->nall);
	calls = zodan_mesh_ask(mesh, &query);
	for (int from = 0; from < mesh->nall; from++)
	{
		char	   *name = zodan_query_value(mesh->nodes[from], name_query, 0);

		if (!name)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\": its database is not a node", mesh->nodes[from]->node),
					 errhint("Look where its connection string in the catalog of node \"%s\" leads.", mesh->nodes[0]->node)));
		if (strcmp(name, mesh->nodes[from]->node) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\": the connection string leads to node \"%s\"", mesh->nodes[from]->node, name),
					 errhint(from == 0 ? "Correct src_node_name or src_dsn, and file the request again." :
							 "Give a connection string that leads to the node from here by the option peer_dsns, and file the request again.")));
		for (int to = 0; to < mesh->nnodes; to++)
			if (to != from)
				add_stream(mesh, mesh->nodes[from], name, mesh->nodes[to], calls[to].result);
	}
	zodan_mesh_clear(mesh, calls);
	pin_settings(mesh);
	return mesh;
}

/*
 * Runs a statement on the nodes whose rows are compared, side by side, however long it
 * takes; returns its calls, one for each node, for zodan_mesh_clear().
 */
ZodanCall *
zodan_mesh_ask(ZodanMesh *mesh, const ZodanCall *call)
{
	ZodanCall  *calls = palloc(sizeof(ZodanCall) * mesh->nnodes);

	for (int i = 0; i < mesh->nnodes; i++)
	{
		calls[i] = *call;
		calls[i].conn = mesh->nodes[i];
	}
	zodan_remote_run(calls, mesh->nnodes, ZODAN_NO_TIMEOUT);
	zodan_remote_raise_any(calls, mesh->nnodes);
	return calls;
}

void
zodan_mesh_clear(ZodanMesh *mesh, ZodanCall *calls)
{
	for (int i = 0; i < mesh->nnodes; i++)
		PQclear(calls[i].result);
	pfree(calls);
}

/*
 * Writes a marker on every node, also on those whose rows aren't compared.
 */
void
zodan_mesh_mark(ZodanMesh *mesh)
{
	XLogRecPtr *lsns = palloc(sizeof(XLogRecPtr) * mesh->nall);

	zodan_markers_write(mesh->nodes, mesh->nall, lsns);
	for (int s = 0; s < mesh->nstreams; s++)
		for (int i = 0; i < mesh->nall; i++)
			if (mesh->streams[s].provider == mesh->nodes[i])
				mesh->streams[s].lsn = lsns[i];
	pfree(lsns);
}

/*
 * Waits until each node whose rows are compared has confirmed the last markers of all
 * others.
 */
void
zodan_mesh_wait(ZodanMesh *mesh)
{
	zodan_markers_wait_confirmed(mesh->streams, mesh->nstreams, zodan_job_report, mesh->job);
}
