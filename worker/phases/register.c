/*
 * register.c
 *		The phase register_node: the new node is fenced and made a node, and the
 *		subscriptions between it and the others are made, disabled.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/register.h"

#include "cluster/claim.h"
#include "cluster/fence.h"
#include "cluster/subscriptions.h"
#include "remote/query.h"

static void
create_node(ZodanJob *job)
{
	ZodanRequest *req = job->req;
	ZodanEffect *node = zodan_claim_effect(job, req->new_node_name, EFFECT_NODE, req->new_node_name);

	if (node->state && strcmp(node->state, "done") == 0)
		return;
	if (!zodan_engine_node_exists(job->engine, &job->new_conn, req->new_node_name))
		zodan_engine_node_create(job->engine, &job->new_conn, req->new_node_name, req->new_node_dsn,
								 req->location, req->country, req->info);
	/* rows that are discarded from now on are the join's */
	zodan_effects_set(job->req, node->node, node->kind, node->name, "done",
					  job->engine->exceptions ? zodan_query_value(&job->new_conn, job->engine->exceptions, 0) : NULL);
}

/*
 * Phase: see the head of this file.
 */
void
zodan_register_node(ZodanJob *job)
{
	if (job->req->fence)
		zodan_fence_raise(job);
	create_node(job);
	zodan_subscriptions_create(job);
	zodan_job_detail(job, 1, psprintf("node %s is registered%s", job->req->new_node_name,
									  job->req->fence ? "; only superusers can connect to it until the join is done" : ""));
}
