/*
 * undo.c
 *		Undoes what a request has made: its effects.
 *
 * Each kind of effect has one way to be undone, which also does where nothing
 * is left to undo; so a rollback that was interrupted just starts again.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/undo.h"

#include "cluster/claim.h"
#include "copy/lists.h"
#include "copy/marks.h"
#include "copy/schema.h"
#include "engine/origins.h"
#include "remote/query.h"

/*
 * What is said of an effect that is gone: a removal takes them away going forward.
 */
static const char *
taken_back(ZodanJob *job)
{
	return job->direction == ZODAN_FORWARD ? "dropped" : "rolled back";
}

/*
 * The engine also drops the slot, where the catalog's connection string leads to: that
 * of a node that wasn't reached may lead to another one by now.
 */
static void
undo_subscription(ZodanJob *job, ZodanConn *conn, ZodanEffect *effect)
{
	if (conn != &job->new_conn && !job->new_conn.pg)
		zodan_engine_sub_seal(job->engine, conn, effect->name);
	else if (effect->result)
		zodan_engine_sub_unseal(job->engine, conn, effect->name, effect->result);
	zodan_engine_sub_drop(job->engine, conn, effect->name);
	if (effect->result)
		zodan_origins_drop(conn, effect->result);
}

/*
 * Undoes the structure, if what can be told from what was there. *fence is true if
 * the node must stay fenced otherwise. Returns NULL, or why it stays.
 */
static char *
undo_schema(ZodanJob *job, ZodanEffect *effect, bool *fence)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *volatile depends = NULL;
	volatile bool dropped = true;

	*fence = false;
	PG_TRY();
	{
		/* without a list of what was there nothing was made, as far as the journal knows */
		dropped = (effect->result && zodan_schema_drop(job)) || !zodan_schema_has_tables(job);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST)
			PG_RE_THROW();
		FlushErrorState();
		depends = psprintf("%s%s%s", error->message, error->detail ? ": " : "", error->detail ? error->detail : "");
		PQclear(zodan_query(&job->new_conn, "ROLLBACK", 0));
	}
	PG_END_TRY();
	*fence = !dropped;
	return dropped ? depends : psprintf("node \"%s\": what was copied can't be told from what was there: the coordinator's tables, which were restored or are a standby's that was behind, have no dump of the structure",
										effect->node);
}

static void
undo_effect(ZodanJob *job, ZodanConn *conn, ZodanEffect *effect)
{
	if (strcmp(effect->kind, EFFECT_SUBSCRIPTION) == 0)
		undo_subscription(job, conn, effect);
	else if (strcmp(effect->kind, EFFECT_SLOT) == 0)
		zodan_slots_drop(conn, effect->name);
	else if (strcmp(effect->kind, EFFECT_ORIGIN) == 0)
		zodan_origins_drop(conn, effect->name);
	else if (strcmp(effect->kind, EFFECT_NODE) == 0)
		zodan_engine_node_drop(job->engine, conn, effect->name);
	else if (strcmp(effect->kind, EFFECT_MARKS) == 0)
	{
		zodan_schema_drop_last(job);
		zodan_marks_drop(job, effect->name);
	}
	else if (strcmp(effect->kind, EFFECT_FENCE) == 0)
	{
		if (effect->result)
			PQclear(zodan_query(conn, psprintf("ALTER DATABASE %s CONNECTION LIMIT %s",
											   zodan_query_quote(effect->name), effect->result), 0));
	}
	else if (strcmp(effect->kind, EFFECT_CLAIM) == 0)
		zodan_claim_drop(job);
}

/* what is undone before what; from OF_DATABASE on it's the node's own, and stays when that is removed */
static const char *const order[] = {EFFECT_SUBSCRIPTION, EFFECT_SLOT, EFFECT_ORIGIN, EFFECT_NODE,
EFFECT_MARKS, EFFECT_SCHEMA, EFFECT_FENCE, EFFECT_CLAIM};
#define OF_DATABASE		5

/*
 * Undoes what can be of a kind, latest first, and adds the nodes where that's
 * impossible for the time being to waiting. Returns what keeps something from
 * being undone until a user has acted; NULL: nothing does. *fence: the fence has to
 * stay then, too.
 */
static char *
undo_kind(ZodanJob *job, const char *kind, StringInfo waiting, bool *fence)
{
	List	   *effects = zodan_effects_live(job->req);
	ListCell   *cell;

	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);
		ZodanConn  *conn = zodan_cluster_session(job, effect->node);

		if (strcmp(effect->kind, kind) != 0)
			continue;
		/* a node that is lost keeps what it has */
		if (!conn && job->req->force && strcmp(effect->node, job->req->new_node_name) == 0)
		{
			zodan_effects_leave(job->req, effect->node, effect->kind, effect->name);
			continue;
		}
		if (!conn)
		{
			appendStringInfo(waiting, "%s%s %s of node %s", waiting->len ? ", " : "", effect->kind, effect->name, effect->node);
			continue;
		}
		if (strcmp(effect->kind, EFFECT_CLAIM) != 0)
			zodan_claim_require(job);
		if (strcmp(effect->kind, EFFECT_SCHEMA) == 0)
		{
			char	   *depends = undo_schema(job, effect, fence);

			if (depends)
				return depends;
		}
		else
			undo_effect(job, conn, effect);
		zodan_effects_undone(job->req, effect->node, effect->kind, effect->name);
		zodan_journal_event(job->req, "info", effect->node, psprintf("%s %s %s", effect->kind, effect->name, taken_back(job)));
	}
	return NULL;
}

/*
 * Raises a transient error if something is left, or may be, on nodes that
 * can't be reached.
 */
static void
require_all_undone(ZodanJob *job, StringInfo waiting)
{
	const char *missing = zodan_cluster_missing(job);

	if (waiting->len == 0 && !missing)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
			 errmsg("%s", missing ? missing : "a node is not known to the source any more"),
			 waiting->len ? errdetail("Left are: %s.", waiting->data) : 0,
			 errhint("Everything else is %s; the request goes on when the node can be reached.", taken_back(job))));
}

/*
 * Undoes all that is left, and says what: first what the engine has, whose
 * replication sets hold on to the tables, then the structure, the fence and the
 * claim. Returns why the structure stays, and with it the claim; NULL if it doesn't.
 * Then *fence says whether the fence stays, too.
 */
char *
zodan_undo(ZodanJob *job, bool *fence)
{
	StringInfoData waiting;
	char	   *stays = NULL;

	*fence = false;

	initStringInfo(&waiting);
	for (int i = 0; i < lengthof(order); i++)
	{
		char	   *keeps;

		/* the claim says that the rest is ours */
		if (strcmp(order[i], EFFECT_CLAIM) == 0)
		{
			if (waiting.len > 0)
				require_all_undone(job, &waiting);
			if (stays)
				break;
		}
		if (strcmp(order[i], EFFECT_FENCE) == 0 && *fence)
			continue;
		keeps = undo_kind(job, order[i], &waiting, fence);
		stays = keeps ? keeps : stays;
	}
	return stays;
}

/*
 * Undoes what the engine has, on all nodes: the structure and the fence stay.
 * A node that could not be looked at may have something, too.
 */
void
zodan_undo_objects(ZodanJob *job)
{
	StringInfoData waiting;
	bool		fence;

	initStringInfo(&waiting);
	for (int i = 0; i < OF_DATABASE; i++)
		undo_kind(job, order[i], &waiting, &fence);
	require_all_undone(job, &waiting);
}
