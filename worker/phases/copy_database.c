/*
 * copy_database.c
 *		The phases copy_schema, copy_data and build_indexes.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/copy_database.h"

#include "base/failpoint.h"
#include "cluster/claim.h"
#include "cluster/kept.h"
#include "copy/copy.h"
#include "copy/lanes.h"
#include "copy/marks.h"
#include "copy/plan.h"
#include "copy/schema.h"
#include "copy/snapshots.h"
#include "copy/stream.h"
#include "engine/origins.h"

/*
 * Phase: the source's structure, without indexes and constraints, and what of
 * it is to be copied.
 */
void
zodan_copy_database_schema(ZodanJob *job)
{
	ZodanEffect *schema = zodan_claim_effect(job, job->req->new_node_name, EFFECT_SCHEMA, job->new_dbname);
	bool		again = schema->result != NULL;
	char	   *skipped = schema->result;

	/* what's there must be noted before anything is added to it */
	if (!skipped)
	{
		char	   *own = zodan_schema_own_schemas(job);

		skipped = own ? own : "{}";
		zodan_journal_set_kept(job->req, zodan_kept_objects(&job->new_conn), zodan_kept_rights(&job->new_conn));
		if (own)
			zodan_journal_event(job->req, "warning", job->req->new_node_name,
								psprintf("schemas that the new node already had are left out: %s", own));
	}
	if (!zodan_schema_dumped(job))
	{
		ZodanSnapshot *snapshot;
		ZodanCall  *plan;

		zodan_stream_prepare(job);
		snapshot = zodan_snapshots_open(job);
		ZODAN_FAILPOINT(job->req, "dump", "snapshot");

		zodan_job_detail(job, 0.3, "dumping the source's structure");
		plan = zodan_plan_ask(job, snapshot->export.name, skipped);
		zodan_schema_dump(job, snapshot->export.name, skipped);
		zodan_plan_store(job->req, plan);
		ZODAN_FAILPOINT(job->req, "dump", "planned");
		zodan_schema_keep(job);
	}
	zodan_effects_set(job->req, schema->node, schema->kind, schema->name, "intent", skipped);
	zodan_job_detail(job, 0.6, "restoring it on the new node");
	zodan_schema_restore_tables(job, zodan_lanes_count(job), again);
	zodan_effects_set(job->req, schema->node, schema->kind, schema->name, "done", skipped);
}

/*
 * Phase: the rows, and what can be built on them meanwhile.
 */
void
zodan_copy_database_rows(ZodanJob *job)
{
	List	   *tables;
	List	   *effects;
	ListCell   *cell;

	tables = zodan_plan_tables(job->req);
	zodan_marks_create(job);
	if (tables != NIL)
	{
		for (int i = 0; i < zodan_lanes_count(job); i++)
		{
			char	   *origin = zodan_lanes_origin(job, i);

			zodan_claim_effect(job, job->req->new_node_name, EFFECT_ORIGIN, origin);
			zodan_origins_create(&job->new_conn, origin);
			zodan_effects_set(job->req, job->req->new_node_name, EFFECT_ORIGIN, origin, "done", NULL);
		}
		zodan_copy_run(job, tables);
	}

	/* a snapshot holds back vacuum on the source, the origins take places on the new node */
	zodan_snapshots_close(job);
	effects = zodan_effects_live(job->req);
	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);

		if (strcmp(effect->kind, EFFECT_ORIGIN) != 0)
			continue;
		zodan_origins_drop(&job->new_conn, effect->name);
		zodan_effects_undone(job->req, effect->node, effect->kind, effect->name);
	}
}

/*
 * Phase: the indexes and keys that are left, triggers and whatever else comes
 * after the rows but foreign keys; sequences.
 */
void
zodan_copy_database_indexes(ZodanJob *job)
{
	bool		again = zodan_journal_phase_attempts(job->req, job->req->phase) > 1;
	int			n;

	zodan_job_detail(job, 0, "restoring what comes after the rows");
	zodan_schema_restore_indexes(job, zodan_lanes_count(job), again);
	zodan_schema_analyze(job);
	n = zodan_schema_copy_sequences(job, zodan_schema_skipped(job));
	zodan_job_detail(job, 1, psprintf("all indexes and keys are there, %d sequences are set", n));
}
