/*
 * roll_back.c
 *		A request is rolled back: what becomes of it and of what it has made.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "process/roll_back.h"

#include "base/failpoint.h"
#include "base/retry.h"
#include "cluster/claim.h"
#include "cluster/own.h"
#include "cluster/removal.h"
#include "copy/work.h"
#include "phases/undo.h"
#include "queue/states.h"
#include "remote/query.h"

static bool
is_removal(ZodanJob *job)
{
	return strcmp(job->req->operation, "remove_node") == 0;
}

/*
 * Ends a request whose effects the user wants to look at.
 */
static void
leave_effects(ZodanJob *job)
{
	List	   *effects = zodan_effects_live(job->req);
	ListCell   *cell;

	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);

		zodan_journal_event(job->req, "warning", effect->node, psprintf("%s %s is left", effect->kind, effect->name));
	}
	zodan_request_set_error(job->req, psprintf("cancelled; %d objects were kept, and slots among them retain WAL", list_length(effects)),
							psprintf("SELECT node, kind, name FROM zodan.effects WHERE request_id = " INT64_FORMAT
									 " AND state IN ('intent', 'done') lists them; %s.", job->req->id,
									 psprintf(zodan_effects_past_return(job->req) ? "zodan.remove_node() removes the node and them, SELECT zodan.cancel(" INT64_FORMAT ") forgets them" :
											  "SELECT zodan.cancel(" INT64_FORMAT ") rolls them back", job->req->id)));
	zodan_request_end(job->req, "rolling_back", EVENT_ROLLED_BACK, false);
}

/*
 * Ends such a request, which was given up: what is left is the node's, which may be in
 * use, or be removed by now.
 */
static void
forget_effects(ZodanJob *job)
{
	List	   *effects = zodan_effects_live(job->req);
	ListCell   *cell;

	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);

		zodan_effects_leave(job->req, effect->node, effect->kind, effect->name);
	}
	zodan_work_forget(job);
	zodan_request_set_error(job->req, psprintf(is_removal(job) ? "cancelled after things of node \"%s\" had been dropped: nothing was rolled back" :
											   "cancelled after node \"%s\" was opened to its users: nothing was rolled back", job->req->new_node_name),
							"If the node is still in the cluster, zodan.remove_node() removes it.");
	zodan_request_end(job->req, "rolling_back", EVENT_ROLLED_BACK, true);
}

/*
 * What to do about a request whose node isn't its own any more.
 */
static const char *
abandoned_hint(ZodanJob *job)
{
	const char *left = zodan_effects_left(job->req);
	ZodanEffect *fence;

	if (!is_removal(job))
		return !left ? "It was left alone, and nothing of the request is left on the other nodes." :
			psprintf("It was left alone. What the request has made, and what may be somebody else's now: %s. Look whether it is still needed, and drop it by hand if it is not.", left);
	fence = zodan_effects_closed(job->req);
	return psprintf("Nothing more was dropped. To remove the node as it is now, file a new request.%s",
					!fence ? "" : psprintf(" The request had closed database %s of node %s: ALTER DATABASE %s CONNECTION LIMIT %s opens it, if it is still closed.",
										   fence->name, fence->node, zodan_query_quote(fence->name), fence->result));
}

/*
 * Ends a request that is rolled back, or lets it start from the beginning, if that was
 * what it was rolled back for and it may have another attempt.
 */
static void
end_undone(ZodanJob *job)
{
	ZodanRequest *req = job->req;
	bool		abandoned = strcmp(req->asked, "abandon") == 0;

	zodan_journal_event(job->req, "info", NULL, "what the request made is rolled back");
	if (strcmp(req->asked, "restart") != 0)
	{
		/* an earlier process may have abandoned it, and not come to the end of that */
		zodan_request_set_error(req, req->reason, abandoned ? abandoned_hint(job) : req->reason_hint);
		zodan_request_end(req, "rolling_back", abandoned ? EVENT_FAIL : EVENT_ROLLED_BACK, true);
		return;
	}
	if (req->max_attempts > 0 && req->attempt >= req->max_attempts)
	{
		zodan_request_set_error(req, req->reason, req->reason_hint ? psprintf("%s Then file the request again.", req->reason_hint) : "File the request again.");
		if (zodan_request_fail(req, "rolling_back", true))
			return;
	}
	else if (zodan_request_restart(req, zodan_retry_backoff_ms(req->attempt)))
	{
		zodan_journal_event(req, "warning", NULL, "the request starts from the beginning");
		return;
	}
	/* it was cancelled meanwhile */
	zodan_request_set_error(req, NULL, NULL);
	zodan_request_end(req, "rolling_back", EVENT_ROLLED_BACK, true);
}

/*
 * Ends a request whose node isn't its own any more: why.
 */
static void
abandon(ZodanJob *job, const char *why)
{
	zodan_own_abandon(job);
	zodan_work_forget(job);
	if (strcmp(job->req->asked, "abandon") != 0)
		zodan_journal_event(job->req, "error", job->req->new_node_name, why);
	zodan_request_set_error(job->req, why, abandoned_hint(job));
	zodan_request_end(job->req, "rolling_back", EVENT_FAIL, true);
}

static void
refuse_opened(ZodanJob *job)
{
	zodan_request_set_error(job->req, psprintf("node \"%s\" has been opened to its users, so the join can't be rolled back", job->req->new_node_name),
							psprintf("SELECT zodan.retry(" INT64_FORMAT ") brings it to its end. If the node never comes back, SELECT zodan.cancel(" INT64_FORMAT
									 ", keep => true), then remove it by zodan.remove_node() with force => true.", job->req->id, job->req->id));
	zodan_request_end(job->req, "rolling_back", EVENT_FAIL, false);
}

/*
 * Ends a request of which something on the new node can't be rolled back: what that
 * is. fence: is the node still closed to its users?
 */
static void
stop_short(ZodanJob *job, const char *stays, bool fence)
{
	zodan_request_set_error(job->req, stays, psprintf(fence ? "Everything else is rolled back. Drop the new node's database and create it again, or drop all tables there; then SELECT zodan.cancel(" INT64_FORMAT ")." :
													  "Everything else is rolled back, and the node is open again. Drop what depends on it, then SELECT zodan.cancel(" INT64_FORMAT ").",
													  job->req->id));
	/* it can only be undone from here on */
	zodan_journal_forget_phases(job->req);
	zodan_request_end(job->req, "rolling_back", EVENT_FAIL, false);
}

/*
 * Ends a request of which nothing may be, or is to be, rolled back, without a look at
 * the nodes. made: does it have anything there? False: it is to be rolled back.
 */
static bool
end_as_it_is(ZodanJob *job, bool made)
{
	bool		abandoned = strcmp(job->req->asked, "abandon") == 0;

	/* that can't be asked for before it was kept */
	if (zodan_effects_past_return(job->req) && !job->req->keep && strcmp(job->req->asked, "cancel") == 0)
		forget_effects(job);
	/* it isn't ours, whatever it is by now */
	else if (is_removal(job) && abandoned)
		abandon(job, job->req->reason);
	/* one that isn't the request's any more is left alone anyway */
	else if (job->req->opening && !job->req->keep && !abandoned)
		refuse_opened(job);
	else if (made && job->req->keep)
		leave_effects(job);
	else
		return false;
	return true;
}

/*
 * Rolls back what the request has made on the nodes. False: not all of it, for a reason
 * that ends the request.
 */
static bool
undo_effects(ZodanJob *job)
{
	char	   *lost;
	char	   *stays;
	bool		fence;

	zodan_cluster_open(job);
	zodan_removal_prepare(job);
	zodan_cluster_require(job, false);
	zodan_cluster_lock(job);
	lost = zodan_claim_begin_undo(job);
	if (lost)
	{
		abandon(job, lost);
		return false;
	}
	if (job->req->opening)
	{
		refuse_opened(job);
		return false;
	}
	if (job->new_conn.pg)
		zodan_engine_keep_ddl(job->engine, &job->new_conn);
	stays = zodan_undo(job, &fence);
	if (stays)
		stop_short(job, stays, fence);
	return !stays;
}

/*
 * Undoes the request, from whatever state it is in.
 */
void
zodan_roll_back(ZodanJob *job, const char *state)
{
	bool		made = zodan_effects_live(job->req) != NIL;

	if (strcmp(state, "rolling_back") != 0)
		zodan_request_roll_back(job->req, state);
	job->req->phase = NULL;
	job->direction = ZODAN_BACK;
	if (end_as_it_is(job, made))
		return;
	if (made && !undo_effects(job))
		return;
	ZODAN_FAILPOINT(job->req, "rolled_back", NULL);
	/* also where an earlier attempt came as far as this: the next dump is another one */
	zodan_work_forget(job);
	end_undone(job);
}
