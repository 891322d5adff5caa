/*
 * undo.c
 *		Undoes what a request has made: its effects.
 *
 * Each kind of effect has one way to be undone, which also does where nothing
 * is left to undo; so a rollback that was interrupted just starts again.
 */
#include "phase.h"

#include "schema.h"

static void
undo_subscription(ZodanJob *job, ZodanConn *conn, ZodanEffect *effect)
{
	if (effect->result)
		zodan_sub_unseal(job->engine, conn, effect->name, effect->result);
	zodan_sub_drop(job->engine, conn, effect->name);
	if (effect->result)
		zodan_origin_drop(conn, effect->result);
}

static void
undo_effect(ZodanJob *job, ZodanConn *conn, ZodanEffect *effect)
{
	if (strcmp(effect->kind, EFFECT_SUBSCRIPTION) == 0)
		undo_subscription(job, conn, effect);
	else if (strcmp(effect->kind, EFFECT_SLOT) == 0)
		zodan_slot_drop(conn, effect->name);
	else if (strcmp(effect->kind, EFFECT_ORIGIN) == 0)
		zodan_origin_drop(conn, effect->name);
	else if (strcmp(effect->kind, EFFECT_NODE) == 0)
		zodan_node_drop(job->engine, conn, effect->name);
	else if (strcmp(effect->kind, EFFECT_SCHEMA) == 0)
	{
		/* without a list of what was there nothing was made */
		if (effect->result && !zodan_schema_drop(job))
			zodan_event("warning", effect->node,
						psprintf("the structure that was copied stays: its dump in directory zodan/" INT64_FORMAT
								 " of the coordinator's data directory is gone; drop database %s there and create it again",
								 job->req->id, effect->name));
	}
	else if (strcmp(effect->kind, EFFECT_FENCE) == 0)
	{
		if (effect->result)
			PQclear(zodan_query(conn, psprintf("ALTER DATABASE %s CONNECTION LIMIT %s",
											   zodan_quote(effect->name), effect->result), 0));
	}
	else if (strcmp(effect->kind, EFFECT_RUNNING) != 0 && strcmp(effect->kind, EFFECT_OPEN) != 0)
		elog(ERROR, "effect of unknown kind \"%s\"", effect->kind);
}

/*
 * Undoes what can be, and adds the nodes where that's impossible for the time
 * being to waiting.
 */
static void
undo_effects(ZodanJob *job, bool of_database, StringInfo waiting)
{
	List	   *effects = zodan_live_effects();
	ListCell   *cell;

	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);
		ZodanConn  *conn = zodan_cluster_session(job, effect->node);

		if (of_database != (strcmp(effect->kind, EFFECT_SCHEMA) == 0 || strcmp(effect->kind, EFFECT_FENCE) == 0))
			continue;
		if (!conn)
		{
			appendStringInfo(waiting, "%s%s %s of node %s", waiting->len ? ", " : "", effect->kind, effect->name, effect->node);
			continue;
		}
		undo_effect(job, conn, effect);
		zodan_effect_undone(effect->node, effect->kind, effect->name);
		zodan_event("info", effect->node, psprintf("%s %s undone", effect->kind, effect->name));
	}
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
			 errhint("Everything else is undone; the request goes on when the node can be reached.")));
}

/*
 * Undoes all that is left, and says what: first what the engine has, whose
 * replication sets hold on to the tables, then the structure and the fence.
 */
void
zodan_undo(ZodanJob *job)
{
	StringInfoData waiting;

	initStringInfo(&waiting);
	undo_effects(job, false, &waiting);
	undo_effects(job, true, &waiting);
	if (waiting.len > 0)
		require_all_undone(job, &waiting);
}

/*
 * Undoes what the engine has, on all nodes: the structure and the fence stay.
 * A node that could not be looked at may have something, too.
 */
void
zodan_undo_objects(ZodanJob *job)
{
	StringInfoData waiting;

	initStringInfo(&waiting);
	undo_effects(job, false, &waiting);
	require_all_undone(job, &waiting);
}
