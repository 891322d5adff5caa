/*
 * phase_register.c
 *		The phase register_node: the new node is fenced and made a node, and the
 *		subscriptions between it and the others are made, disabled.
 */
#include "phase.h"

#include "own.h"

/* how often it's tried again where nodes can't reach each other: that takes some minutes */
#define UNREACHABLE_AGAIN	10

/*
 * Lets only superusers into the node's database. For a new one until the join
 * is done: nothing that is written there before its slots exist would ever
 * leave it. For one that goes: nor would what is written there once it's gone.
 */
void
zodan_fence(ZodanJob *job)
{
	static const char *const end_others =
	"SELECT pg_catalog.pg_terminate_backend(a.pid)"
	"  FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid"
	" WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend'"
	"   AND NOT r.rolsuper";
	ZodanConn  *conn = &job->new_conn;
	ZodanDeadline deadline = zodan_deadline(zodan_statement_timeout());
	ZodanEffect *fence = zodan_claim_effect(job, job->req->new_node_name, EFFECT_FENCE, job->new_dbname);

	/* what it was must be known before it's changed */
	if (!fence->result)
		zodan_effect_result(fence->node, fence->kind, fence->name, "intent",
							zodan_value(conn, "SELECT datconnlimit FROM pg_catalog.pg_database"
										" WHERE datname = pg_catalog.current_database()", 0));
	PQclear(zodan_query(conn, psprintf("ALTER DATABASE %s CONNECTION LIMIT 0", zodan_quote(job->new_dbname)), 0));
	/* whoever is in already, until they have gone: one may be about to commit */
	while (zodan_value(conn, end_others, 0))
	{
		if (zodan_deadline_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("node \"%s\": sessions in database \"%s\" do not end", conn->node, job->new_dbname),
					 errhint("pg_stat_activity on that node shows them; the request looks again by itself.")));
		zodan_sleep(20);
	}
	fence = zodan_find_effect(fence->node, fence->kind, fence->name);
	zodan_effect_result(fence->node, fence->kind, fence->name, "done", fence->result);
}

static void
create_node(ZodanJob *job)
{
	ZodanRequest *req = job->req;
	ZodanEffect *node = zodan_claim_effect(job, req->new_node_name, EFFECT_NODE, req->new_node_name);

	if (node->state && strcmp(node->state, "done") == 0)
		return;
	if (!zodan_node_exists(job->engine, &job->new_conn, req->new_node_name))
		zodan_node_create(job->engine, &job->new_conn, req->new_node_name, req->new_node_dsn,
						  req->location, req->country, req->info);
	/* rows that are discarded from now on are the join's */
	zodan_effect_result(node->node, node->kind, node->name, "done",
						job->engine->exceptions ? zodan_value(&job->new_conn, job->engine->exceptions, 0) : NULL);
}

/*
 * Adds a subscription to those to make, unless it's there.
 */
static void
want_subscription(ZodanJob *job, ZodanSubscription *subs, int *nsubs, ZodanSubscription sub)
{
	ZodanEffect *effect = zodan_find_effect(sub.subscriber->node, EFFECT_SUBSCRIPTION, sub.name);

	/* one that was there before is somebody else's, and isn't to be undone */
	if (!effect->state && zodan_sub_exists(job->engine, sub.subscriber, sub.name))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("node \"%s\" has a subscription \"%s\" that this request hasn't made", sub.subscriber->node, sub.name),
				 errhint("Drop it there, if nobody needs it, or remove the node first.")));
	effect = zodan_claim_effect(job, sub.subscriber->node, EFFECT_SUBSCRIPTION, sub.name);

	if (effect->state && strcmp(effect->state, "done") == 0)
		return;
	if (effect->state && zodan_sub_exists(job->engine, sub.subscriber, sub.name))
		zodan_own_note_subscription(job, &sub);
	else
		subs[(*nsubs)++] = sub;
}

/*
 * Makes the subscriptions of all members to the new node, and its to them.
 * That proves that they can reach each other: better known now than after
 * hours of copying.
 *
 * The new node catches up by a subscription to the source that takes what the
 * source has from others, too: so all comes in the order in which the source
 * has seen it. At the cut another one, of the source's own changes, takes its
 * place. See docs/how-a-join-works.md.
 */
static void
create_subscriptions(ZodanJob *job)
{
	ZodanSubscription *subs = palloc(sizeof(ZodanSubscription) * job->nmembers * 2);
	int			nsubs = 0;

	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];
		bool		forward = i == 0 && ZODAN_NPEERS(job) > 0;

		want_subscription(job, subs, &nsubs, (ZodanSubscription)
						  {
							  &job->new_conn, i == 0 ? m->sub_first : m->sub_in, m->catalog_dsn, m->sets,
							  forward ? "{all}" : "{}", i == 0 ? m->slot_first : m->slot_in
						  });
		want_subscription(job, subs, &nsubs, (ZodanSubscription)
						  {
							  &m->conn, m->sub_out, job->req->new_node_dsn, ZODAN_SOURCE(job)->sets, "{}", m->slot_out
						  });
	}
	zodan_sub_create_disabled(job->engine, subs, nsubs, zodan_checkpoint_attempts(job->phase) <= UNREACHABLE_AGAIN);
	for (int i = 0; i < nsubs; i++)
		zodan_own_note_subscription(job, &subs[i]);
}

/*
 * Makes the subscription that follows the one by which the new node has caught
 * up.
 */
void
zodan_subscribe_to_source(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanSubscription sub;
	int			nsubs = 0;

	want_subscription(job, &sub, &nsubs, (ZodanSubscription)
					  {
						  &job->new_conn, source->sub_in, source->catalog_dsn, source->sets, "{}", source->slot_in
					  });
	/* they could connect before */
	zodan_sub_create_disabled(job->engine, &sub, nsubs, true);
	if (nsubs > 0)
		zodan_own_note_subscription(job, &sub);
}

/*
 * Phase: see the head of this file.
 */
void
zodan_register_node(ZodanJob *job)
{
	if (job->req->fence)
		zodan_fence(job);
	create_node(job);
	create_subscriptions(job);
	zodan_job_detail(job, 1, psprintf("node %s is registered%s", job->req->new_node_name,
									  job->req->fence ? "; only superusers can connect to it until the join is done" : ""));
}
