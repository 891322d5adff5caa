/*
 * undo.c
 *		Undoes what a request has made: its effects.
 *
 * Each kind of effect has one way to be undone, which also does where nothing
 * is left to undo; so a rollback that was interrupted just starts again.
 */
#include "phase.h"

#include "schema.h"

static ZodanMember *
member_named(ZodanJob *job, const char *name)
{
	for (int i = 0; i < job->nmembers; i++)
		if (strcmp(job->members[i].name, name) == 0)
			return &job->members[i];
	return NULL;
}

/*
 * Drops a subscription. The engine drops its slot on the provider, too, if
 * that can be reached, and its origin here.
 */
static void
undo_subscription(ZodanJob *job, ZodanConn *conn, ZodanEffect *effect)
{
	if (zodan_sub_exists(job->engine, conn, effect->name))
		PQclear(zodan_query(conn, job->engine->sub_drop, 1, effect->name));
	if (effect->result)
		zodan_origin_drop(conn, effect->result);
}

static void
undo_effect(ZodanJob *job, ZodanEffect *effect)
{
	ZodanMember *m = member_named(job, effect->node);
	ZodanConn  *conn = m ? &m->conn : &job->new_conn;

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

static void
undo_effects(ZodanJob *job, bool of_database)
{
	List	   *effects = zodan_live_effects();
	ListCell   *cell;

	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);

		if (of_database != (strcmp(effect->kind, EFFECT_SCHEMA) == 0 || strcmp(effect->kind, EFFECT_FENCE) == 0))
			continue;
		undo_effect(job, effect);
		zodan_effect_undone(effect->node, effect->kind, effect->name);
		zodan_event("info", effect->node, psprintf("%s %s undone", effect->kind, effect->name));
	}
}

/*
 * Undoes all that is left, and says what: first what the engine has, whose
 * replication sets hold on to the tables, then the structure and the fence.
 */
void
zodan_undo(ZodanJob *job)
{
	undo_effects(job, false);
	undo_effects(job, true);
}
