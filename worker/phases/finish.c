/*
 * finish.c
 *		The phases monitor_lag and finish.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/finish.h"

#include "base/settings.h"
#include "cluster/claim.h"
#include "cluster/names.h"
#include "cluster/subscriptions.h"
#include "copy/lists.h"
#include "copy/marks.h"
#include "copy/schema.h"
#include "copy/work.h"
#include "engine/markers.h"
#include "remote/query.h"

/*
 * Phase: the new node keeps up. A marker on each node must be confirmed by
 * the new one within zodan.max_lag.
 */
void
zodan_finish_monitor_lag(ZodanJob *job)
{
	int			n = job->nmembers;
	ZodanDeadline deadline = zodan_session_deadline(&job->session);
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * n);
	XLogRecPtr *lsns = palloc(sizeof(XLogRecPtr) * n);
	ZodanConfirm *waits = palloc0(sizeof(ZodanConfirm) * n);

	for (int i = 0; i < n; i++)
	{
		conns[i] = &job->members[i].conn;
		waits[i].provider = conns[i];
		waits[i].subscriber = job->req->new_node_name;
		waits[i].slot = job->members[i].slot_in;
	}
	for (;;)
	{
		int64		started = zodan_wait_clock();
		int64		lag;

		zodan_markers_write(conns, n, lsns);
		for (int i = 0; i < n; i++)
			waits[i].lsn = lsns[i];
		zodan_markers_wait_confirmed(waits, n, zodan_job_report, job);
		lag = (zodan_wait_clock() - started) / 1000;
		zodan_job_detail(job, 1, psprintf("the new node lags " INT64_FORMAT " ms", lag));
		if (lag < zodan_max_lag)
			return;
		if (zodan_wait_passed(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("node \"%s\" lags " INT64_FORMAT " ms, which is more than zodan.max_lag", job->req->new_node_name, lag),
					 errhint("The request tries again by itself. Look what keeps its apply workers busy, or set zodan.max_lag higher.")));
	}
}

/*
 * A transaction that the engine could not apply and has discarded is a hole
 * that nobody would see otherwise. The values of rows stay where they are.
 */
static void
check_exceptions(ZodanJob *job)
{
	ZodanEffect *node = zodan_effects_find(job->req, job->req->new_node_name, EFFECT_NODE, job->req->new_node_name);
	const char *before = node->result ? node->result : "0";
	char	   *now;

	if (!job->engine->exceptions)
		return;
	now = zodan_query_value(&job->new_conn, job->engine->exceptions, 0);
	if (strcmp(now, before) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("node \"%s\": changes were discarded during the join: %s.exception_log has %s rows, had %s before; the last are %s",
						job->new_conn.node, job->engine->name, now, before, zodan_query_value(&job->new_conn, job->engine->last_exceptions, 0)),
				 errhint("Read %s.exception_log on the new node, then SELECT zodan.cancel(" INT64_FORMAT ") and add the node again.",
						 job->engine->name, job->req->id)));
	if (zodan_query_value(&job->new_conn, psprintf("SELECT 1 WHERE pg_catalog.current_setting('%s.exception_logging', true) = 'none'", job->engine->name), 0))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("node \"%s\": %s.exception_logging is none, so changes may have been discarded during the join", job->new_conn.node, job->engine->name),
				 errhint("SELECT zodan.cancel(" INT64_FORMAT "), set it to 'all' on that node, and add the node again.", job->req->id)));
}

/*
 * Lists all nodes and all subscriptions with their status, in the log of the
 * request; returns how many of the subscriptions are replicating.
 */
static int
list_subscriptions(ZodanJob *job)
{
	char	   *query = zodan_engine_sql(job->engine, psprintf(
															   "SELECT s.sub_name, n.node_name, x.status"
															   "  FROM {e}.subscription s JOIN {e}.node n ON n.node_id = s.sub_origin"
															   "  LEFT JOIN (%s) AS x(name, status) ON x.name = s.sub_name ORDER BY 1",
															   job->engine->sub_status));
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * (job->nmembers + 1));
	int			replicating = 0;

	for (int i = 0; i <= job->nmembers; i++)
	{
		calls[i].conn = i < job->nmembers ? &job->members[i].conn : &job->new_conn;
		calls[i].sql = query;
	}
	zodan_query_all(calls, job->nmembers + 1);
	for (int i = 0; i <= job->nmembers; i++)
	{
		StringInfoData line;

		initStringInfo(&line);
		appendStringInfo(&line, "node %s:", calls[i].conn->node);
		for (int row = 0; row < PQntuples(calls[i].result); row++)
		{
			const char *status = PQgetvalue(calls[i].result, row, 2);

			appendStringInfo(&line, "%s %s from %s is %s", row ? "," : "", PQgetvalue(calls[i].result, row, 0),
							 PQgetvalue(calls[i].result, row, 1), status);
			replicating += strcmp(status, "replicating") == 0;
		}
		zodan_journal_event(job->req, "info", calls[i].conn->node, line.data);
	}
	return replicating;
}

/*
 * Phase: comments and event triggers, the last look, and the new node is
 * opened.
 */
void
zodan_finish(ZodanJob *job)
{
	int			n = job->nmembers + 1;
	int			replicating;
	ZodanEffect *fence = zodan_effects_find(job->req, job->req->new_node_name, EFFECT_FENCE, job->new_dbname);

	/* once others may write there, its sequences and its structure are theirs */
	if (!job->req->opening)
	{
		/* the event triggers that come next would fire for it */
		zodan_marks_drop(job, zodan_names_marks_schema(job));
		zodan_schema_restore_last(job, zodan_journal_phase_attempts(job->req, job->req->phase) > 1);
		check_exceptions(job);
	}
	replicating = list_subscriptions(job);
	if (replicating != n * (n - 1))
	{
		zodan_subscriptions_mend_lost(job, &job->new_conn);
		for (int i = 0; i < job->nmembers; i++)
			zodan_subscriptions_mend_lost(job, &job->members[i].conn);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%d of %d subscriptions are replicating", replicating, n * (n - 1)),
				 errhint("SELECT node, message FROM zodan.events WHERE request_id = " INT64_FORMAT " AND phase = 'finish'; the request looks again by itself.",
						 job->req->id)));
	}
	if (!job->req->opening)
	{
		zodan_schema_copy_sequences(job, zodan_schema_skipped(job));
		/* what was asked instead is seen while this waits */
		while (!zodan_request_intend_open(job->req))
			zodan_wait_sleep(&job->session.waiter, 20);
	}
	/* rows of users may be lost by a rollback from here on */
	job->direction = ZODAN_OPENED;
	zodan_claim_open(job, fence->result);
	zodan_work_forget(job);
	zodan_job_detail(job, 1, psprintf("node %s has joined: %d subscriptions are replicating",
									  job->req->new_node_name, replicating));
}
