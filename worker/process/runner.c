/*
 * runner.c
 *		The process that runs one request.
 *
 * It takes the request's lock, runs the phases that aren't done, notes each,
 * and leaves. An error is classified, written down, and ends the process: the
 * launcher starts another when it's time. So there is no state in here that
 * a crash could take away, and none that an error could leave behind.
 *
 * Which states there are, and what leads from one to another, is in states.c.
 *
 * A request that is cancelled is "cancelling" until another runner has it, which
 * undoes it.
 *
 * While a request waits to be tried again because a node can't be reached, a
 * runner is started every few seconds that only probes the node. It leaves
 * no trace unless it has found one of those that were missing: then the
 * attempt begins at once, and that runner makes it. One is started for a join
 * that is paused or has failed, too, and checks its slots: see watch.c.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "process/runner.h"

#include "access/xact.h"
#include "base/dsn.h"
#include "base/failpoint.h"
#include "base/retry.h"
#include "base/settings.h"
#include "cluster/claim.h"
#include "cluster/own.h"
#include "cluster/removal.h"
#include "cluster/servers.h"
#include "cluster/watch.h"
#include "copy/lists.h"
#include "copy/marks.h"
#include "copy/schema.h"
#include "copy/snapshots.h"
#include "copy/work.h"
#include "phases/phases.h"
#include "phases/undo.h"
#include "postmaster/interrupt.h"
#include "process/roll_back.h"
#include "queue/nodes.h"
#include "queue/queue.h"
#include "queue/states.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

/* errors by which a phase under way is left when that is asked for */
#define ERRCODE_ZODAN_CANCEL	MAKE_SQLSTATE('Z', 'D', '0', '0', '1')
#define ERRCODE_ZODAN_PAUSE		MAKE_SQLSTATE('Z', 'D', '0', '0', '2')
#define ERRCODE_ZODAN_RESTART	MAKE_SQLSTATE('Z', 'D', '0', '0', '4')

/* how long a probe may wait for a node */
#define PROBE_MS		2000

/* The request that is run */
typedef struct Runner
{
	ZodanJob   *job;
	MemoryContext context;		/* what outlives an error */
	MemoryContext tick_context;
	bool		looking;		/* look_around() is under way */
} Runner;

/*
 * Has anybody asked for something else?
 */
static void
check_asked(const ZodanJob *job)
{
	char	   *asked = zodan_request_asked(job->req);

	if (!asked)
		return;
	ereport(ERROR,
			(errcode(strcmp(asked, "cancel") == 0 ? ERRCODE_ZODAN_CANCEL :
					 strcmp(asked, "pause") == 0 ? ERRCODE_ZODAN_PAUSE : ERRCODE_ZODAN_RESTART),
			 errmsg("%s was requested", asked)));
}

/*
 * What is to be looked at about once a second while the process waits, and
 * between the phases, as long as the request goes forward.
 */
static void
look_around(void *arg)
{
	Runner	   *runner = arg;
	ZodanJob   *job = runner->job;
	MemoryContext context;

	/* to look is to wait, too */
	if (runner->looking || job->direction != ZODAN_FORWARD)
		return;
	runner->looking = true;
	context = MemoryContextSwitchTo(runner->tick_context);
	zodan_settings_reload();
	if (job->locked)
		zodan_watch_slots(job);
	check_asked(job);
	zodan_cluster_watch(job);
	MemoryContextSwitchTo(context);
	MemoryContextReset(runner->tick_context);
	runner->looking = false;
}

static void
log_remote_statement(void *job, const char *node, const char *statement)
{
	zodan_journal_event(((ZodanJob *) job)->req, "debug", node, statement);
}

/*
 * Sets the phase under way, and which part of the whole it is.
 */
static void
enter_phase(ZodanJob *job, int phase, int bit)
{
	int			before = 0;
	int			all = 0;

	for (int i = 0; i < zodan_phases_count; i++)
	{
		if (!(zodan_phases_table[i].operations & bit))
			continue;
		all += zodan_phases_table[i].share;
		if (i < phase)
			before += zodan_phases_table[i].share;
	}
	job->req->phase = zodan_phases_table[phase].name;
	job->phase_start = 100.0 * before / all;
	job->phase_share = 100.0 * zodan_phases_table[phase].share / all;
}

/*
 * The nodes are ours from here on: they are locked, and what was done before
 * still counts.
 */
static void
lock_cluster(ZodanJob *job)
{
	zodan_cluster_require(job, !job->req->force);
	zodan_cluster_lock(job);
	zodan_claim_begin(job);
	zodan_marks_require(job);
	job->locked = true;
}

/*
 * What the request was for is there, or gone: upkeep checks what is there.
 */
static void
note_membership(ZodanJob *job)
{
	ZodanRequest *req = job->req;

	if (strcmp(req->operation, "add_node") == 0)
		zodan_nodes_joined(job->req, req->new_node_name, job->engine->name, req->new_node_dsn, req->by_superuser);
	else if (strcmp(req->operation, "remove_node") == 0)
	{
		ZodanRows  *older = zodan_queue_older(job->req);

		zodan_nodes_left(req->new_node_name, job->new_conn.dsn);
		for (int i = 0; i < older->nrows; i++)
		{
			char	  **v = older->value[i];
			const char *dsn = job->new_conn.dsn;

			if (zodan_spi_is_true(v[2]) || (dsn && v[1] ? zodan_dsn_same_target(dsn, v[1]) : zodan_spi_is_true(v[3])))
				zodan_queue_settle(job->req, v[0]);
		}
	}
}

static void
run_phases(Runner *runner)
{
	ZodanJob   *job = runner->job;
	int			bit = zodan_phases_operation_bit(job->req->operation);

	zodan_cluster_open(job);
	zodan_removal_prepare(job);
	/* what the checks would find in the middle of another request is none of its failures */
	if (!zodan_phases_only_look(job->req->operation) && zodan_cluster_complete(job))
		lock_cluster(job);
	for (int i = 0; i < zodan_phases_count; i++)
	{
		const ZodanPhase *phase = &zodan_phases_table[i];

		if (!(phase->operations & bit))
			continue;
		look_around(runner);
		if (!zodan_journal_phase_begin(job->req, phase->name))
		{
			check_asked(job);
			continue;
		}
		enter_phase(job, i, bit);
		ZODAN_FAILPOINT(job->req, "begin", NULL);
		zodan_job_detail(job, 0, phase->comment);
		zodan_journal_event(job->req, "info", NULL, phase->comment);

		/* the checks list what can't be reached; what changes anything needs all */
		if (!job->locked && !(phase->operations & ZODAN_PHASE_LOOKS))
			lock_cluster(job);
		if (job->locked)
			zodan_claim_begin_phase(job);
		/* the checks want to know what it is without us */
		if (job->new_conn.pg && !(phase->operations & ZODAN_PHASE_LOOKS))
			zodan_engine_keep_ddl(job->engine, &job->new_conn);
		phase->run(job);
		ZODAN_FAILPOINT(job->req, "end", NULL);
		zodan_journal_phase_done(job->req, phase->name);
		ZODAN_FAILPOINT(job->req, "checkpoint", NULL);
	}
	note_membership(job);
	zodan_journal_event(job->req, "info", NULL, "done");
	zodan_request_end(job->req, "running", EVENT_DONE, true);
}

/*
 * An error of a request whose slot has lost its WAL, or is gone, is about that, whatever it
 * says, and no retry can mend it: what rests on the slot is rolled back, and the
 * request starts from the beginning.
 */
static bool
restart_if_lost(ZodanJob *job)
{
	const char *hint;
	char	   *lost = job->locked ? zodan_watch_lost_slot(job, &hint) : NULL;

	if (!lost)
		return false;
	zodan_journal_event(job->req, "error", NULL, lost);
	zodan_request_roll_back_for(job->req, "restart", lost, hint);
	return true;
}

/*
 * The request has failed, for good unless somebody steps in.
 */
static void
record_failure(const ZodanRequest *req, const char *message, const char *hint)
{
	bool		clean = zodan_effects_live(req) == NIL;
	bool		past = zodan_effects_past_return(req);

	if (!clean)
		hint = psprintf("%s%sWhat the request has made is still there: correct the cause and SELECT zodan.retry(" INT64_FORMAT
						"), or %s by SELECT zodan.cancel(" INT64_FORMAT "%s).",
						hint ? hint : "", hint ? " " : "", req->id, past ? "give it up" : "roll it back", req->id, past ? ", keep => true" : "");
	else if (!hint)
		hint = "Correct the cause and file the request again.";
	zodan_request_set_error(req, message, hint);
	if (!zodan_request_fail(req, "running", clean))
		zodan_request_roll_back_for(req, "cancel", NULL, NULL);
}

/*
 * Writes down what an error means for the request. Errors of all kinds come of
 * a node that is gone, on others as well; so while one is, any may pass.
 * What can't be rolled back, or is rolled back, is tried again in any case.
 */
static void
record_error(ZodanJob *job, ErrorData *error)
{
	bool		forward = job->direction == ZODAN_FORWARD;
	char	   *message = error->detail ? psprintf("%s: %s", error->message, error->detail) : error->message;
	const char *hint = error->hint;
	const char *lost;
	ZodanRequest *req = job->req;
	bool		transient;
	List	   *absent;
	List	   *dsns;

	/* an attempt that hasn't come as far as the lock has looked at no slots */
	if (forward && !job->locked)
		zodan_watch_slots(job);
	if (error->sqlerrcode == ERRCODE_ZODAN_BUSY)
	{
		zodan_request_wait_turn(job->req, zodan_retry_backoff_ms(1), message);
		return;
	}
	if (job->req->phase)
		zodan_journal_phase_error(job->req, job->req->phase, message);
	if (error->sqlerrcode == ERRCODE_ZODAN_PAUSE)
	{
		if (!zodan_request_pause_seen(job->req))
		{
			zodan_request_roll_back_for(job->req, "cancel", NULL, NULL);
			return;
		}
		zodan_journal_event(job->req, "warning", NULL, "paused: the slots that the request has made continue to retain WAL on the existing nodes");
		return;
	}
	zodan_journal_event(job->req, "error", NULL, message);
	absent = zodan_cluster_absent(job, &lost, &dsns);
	if (lost && !hint)
		hint = psprintf("Node \"%s\" does not answer; the request goes on when it does.", lost);
	transient = lost || job->session.transient || zodan_retry_is_transient(error->sqlerrcode) || zodan_snapshots_is_lost(job);
	if (!forward || (transient && (req->max_attempts == 0 || req->attempt < req->max_attempts)))
	{
		int			attempts = job->req->phase ? zodan_journal_phase_attempts(job->req, job->req->phase) : req->attempt;

		zodan_request_retry_after(job->req, zodan_retry_backoff_ms(attempts), message, hint, absent, dsns);
	}
	else if (!restart_if_lost(job))
		record_failure(req, message, error->hint);
}

/*
 * Runs the request that the launcher has claimed.
 */
static void
run_request(Runner *runner)
{
	ZodanJob   *job = runner->job;
	ZodanRequest *req = job->req;

	PG_TRY();
	{
		if (strcmp(req->state, "running") == 0)
			run_phases(runner);
		else
			zodan_roll_back(job, req->state);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(runner->context);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(runner->context);
		job->session.waiter.suspended = true;

		/* our own sessions may be in the middle of anything: another process undoes it */
		if (error->sqlerrcode == ERRCODE_ZODAN_CANCEL || error->sqlerrcode == ERRCODE_ZODAN_RESTART)
		{
			zodan_request_roll_back_for(job->req, error->sqlerrcode == ERRCODE_ZODAN_CANCEL ? "cancel" : "restart", NULL, NULL);
			proc_exit(0);
		}
		if (job->direction == ZODAN_FORWARD && (error->sqlerrcode == ERRCODE_ZODAN_PAST || error->sqlerrcode == ERRCODE_ZODAN_OVERTAKEN))
		{
			zodan_journal_event(job->req, "error", job->req->new_node_name, error->message);
			zodan_request_roll_back_for(job->req, error->sqlerrcode == ERRCODE_ZODAN_PAST ? "restart" : "abandon", error->message, error->hint);
			proc_exit(0);
		}
		record_error(job, error);
		ereport(LOG,
				(errmsg("zodan_bgw: request " INT64_FORMAT ": %s", req->id, error->message),
				 error->detail ? errdetail("%s", error->detail) : 0));
		proc_exit(1);
	}
	PG_END_TRY();
}

/*
 * Reads the request that this process is about. A statement on a node may
 * take timeout_ms; 0: what the request says.
 */
static ZodanJob *
load_job(int64 request_id, int64 timeout_ms)
{
	ZodanJob   *job = palloc0(sizeof(ZodanJob));

	job->req = zodan_request_load(request_id);
	job->req->waiter = &job->session.waiter;
	zodan_session_init(&job->session, psprintf("request " INT64_FORMAT, request_id), job->req->session_token,
					   timeout_ms ? timeout_ms : job->req->sync_timeout);
	return job;
}

/*
 * Looks for the nodes that the request waits for; returns the name of one that
 * can be reached, or NULL.
 */
static char *
find_missing(ZodanJob *job)
{
	ZodanRows  *missing = zodan_request_unreachable(job->req);
	ZodanConn  *sessions = palloc0(sizeof(ZodanConn) * Max(missing->nrows, 1));
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * Max(missing->nrows, 1));
	char	   *found = NULL;
	int			n = 0;

	for (int i = 0; i < missing->nrows; i++)
	{
		if (!missing->value[i][1])
			continue;
		sessions[n].node = missing->value[i][0];
		sessions[n].dsn = missing->value[i][1];
		sessions[n].session = &job->session;
		sessions[n].need_password = !job->req->by_superuser;
		conns[n] = &sessions[n];
		n++;
	}
	zodan_remote_connect_all(conns, n);
	for (int i = 0; i < n; i++)
	{
		if (sessions[i].pg)
			found = pstrdup(sessions[i].node);
		zodan_connection_close(&sessions[i]);
	}
	return found;
}

/*
 * Probes a request that has no attempt now: its slots, if nobody works on it, or
 * else the nodes that it waits for. Returns the name of one that can be reached;
 * NULL: it isn't to be run.
 */
static char *
probe(ZodanJob *job)
{
	char	   *volatile found = NULL;

	PG_TRY();
	{
		if (strcmp(job->req->state, "paused") == 0 || strcmp(job->req->state, "failed") == 0 || strcmp(job->req->state, "cancelled") == 0)
		{
			zodan_cluster_open(job);
			zodan_watch_idle(job);
		}
		else
			found = find_missing(job);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* something broke meanwhile: the next probe will tell, or the next attempt */
		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		FlushErrorState();
		ereport(LOG,
				(errmsg("zodan_bgw: could not probe request " INT64_FORMAT ": %s", job->req->id, error->message),
				 error->detail ? errdetail("%s", error->detail) : 0));
		proc_exit(0);
	}
	PG_END_TRY();
	return found;
}

/*
 * Entry point of a runner.
 */
void
zodan_runner_main(Datum arg)
{
	ZodanRunnerArgs args;
	Runner		runner = {0};
	char	   *found = NULL;

	(void) arg;
	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(args.database, InvalidOid, 0);
	zodan_spi_pin_settings();

	runner.context = AllocSetContextCreate(TopMemoryContext, "zodan runner", ALLOCSET_DEFAULT_SIZES);
	runner.tick_context = AllocSetContextCreate(TopMemoryContext, "zodan tick", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(runner.context);
	if (args.probe && !(found = probe(load_job(args.request_id, PROBE_MS))))
		proc_exit(0);
	if (!zodan_request_lock(args.request_id))
		proc_exit(0);
	if (found && !zodan_queue_take_reached(args.request_id))
		proc_exit(0);

	runner.job = load_job(args.request_id, 0);
	if (found)
		zodan_journal_event(runner.job->req, "info", found, psprintf("node %s can be reached again", found));
	runner.job->session.waiter.tick = look_around;
	runner.job->session.waiter.arg = &runner;
	if (runner.job->req->verb)
	{
		runner.job->session.log = log_remote_statement;
		runner.job->session.log_arg = runner.job;
	}
	run_request(&runner);
	proc_exit(0);
}
