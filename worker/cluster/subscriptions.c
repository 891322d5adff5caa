/*
 * subscriptions.c
 *		The subscriptions between the new node and the others.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/subscriptions.h"

#include "base/array.h"
#include "cluster/claim.h"
#include "cluster/own.h"

/* how often it's tried again where nodes can't reach each other: that takes some minutes */
#define UNREACHABLE_AGAIN	10

/*
 * Adds a subscription to those to make, unless it's there.
 */
static void
want_subscription(ZodanJob *job, ZodanSubscription *subs, int *nsubs, ZodanSubscription sub)
{
	ZodanEffect *effect = zodan_effects_find(job->req, sub.subscriber->node, EFFECT_SUBSCRIPTION, sub.name);

	/* one that was there before is somebody else's, and isn't to be undone */
	if (!effect->state && zodan_engine_sub_exists(job->engine, sub.subscriber, sub.name))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("node \"%s\" has a subscription \"%s\" that this request hasn't made", sub.subscriber->node, sub.name),
				 errhint("Drop it there, if nobody needs it, or remove the node first.")));
	effect = zodan_claim_effect(job, sub.subscriber->node, EFFECT_SUBSCRIPTION, sub.name);

	if (effect->state && strcmp(effect->state, "done") == 0)
		return;
	if (effect->state && zodan_engine_sub_exists(job->engine, sub.subscriber, sub.name))
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
void
zodan_subscriptions_create(ZodanJob *job)
{
	ZodanSubscription *subs = palloc(sizeof(ZodanSubscription) * job->nmembers * 2);
	int			nsubs = 0;

	for (int i = 0; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];
		bool		forward = i == 0 && ZODAN_NPEERS(job) > 0;

		want_subscription(job, subs, &nsubs, (ZodanSubscription)
						  {&job->new_conn, i == 0 ? m->sub_first : m->sub_in, m->catalog_dsn, m->sets,
						   forward ? "{all}" : "{}", i == 0 ? m->slot_first : m->slot_in});
		want_subscription(job, subs, &nsubs, (ZodanSubscription)
						  {&m->conn, m->sub_out, job->req->new_node_dsn, ZODAN_SOURCE(job)->sets, "{}", m->slot_out});
	}
	zodan_engine_sub_create_disabled(job->engine, subs, nsubs, zodan_journal_phase_attempts(job->req, job->req->phase) <= UNREACHABLE_AGAIN);
	for (int i = 0; i < nsubs; i++)
		zodan_own_note_subscription(job, &subs[i]);
}

/*
 * Makes the subscription that follows the one by which the new node has caught
 * up.
 */
void
zodan_subscriptions_follow_source(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	ZodanSubscription sub;
	int			nsubs = 0;

	want_subscription(job, &sub, &nsubs, (ZodanSubscription)
					  {&job->new_conn, source->sub_in, source->catalog_dsn, source->sets, "{}", source->slot_in});
	/* they could connect before */
	zodan_engine_sub_create_disabled(job->engine, &sub, nsubs, true);
	if (nsubs > 0)
		zodan_own_note_subscription(job, &sub);
}

/*
 * Enables subscriptions of the new node; returns their names, the literal of
 * an array.
 */
char *
zodan_subscriptions_enable(ZodanJob *job, const char **subs, int nsubs)
{
	const char *node = job->req->new_node_name;
	ZodanCall	call = {.conn = &job->new_conn};
	List	   *names = NIL;
	char	   *literal;

	for (int i = 0; i < nsubs; i++)
	{
		zodan_claim_running(job, node, subs[i]);
		names = lappend(names, unconstify(char *, subs[i]));
	}
	literal = zodan_array_literal(names);
	call.params[0] = literal;
	zodan_engine_sub_enable(job->engine, &call, 1);
	for (int i = 0; i < nsubs; i++)
		zodan_effects_set_running(job->req, node, subs[i]);
	return literal;
}

/*
 * As a subscription there doesn't replicate: if the engine has lost sight of an
 * apply worker on that node, which enabling a subscription there may have done,
 * has all of them started again, for nobody else would. That holds up what they
 * apply for some seconds, and nobody's writes.
 */
void
zodan_subscriptions_mend_lost(ZodanJob *job, ZodanConn *conn)
{
	char	   *sub = zodan_engine_sub_lost(job->engine, conn);

	if (!sub)
		return;
	zodan_journal_event(job->req, "warning", conn->node,
						psprintf("%s has lost sight of the apply worker of subscription \"%s\"; all apply workers there are started again",
								 job->engine->name, sub));
	zodan_engine_sub_end_workers(job->engine, conn);
}
