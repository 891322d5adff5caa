/*
 * launcher.c
 *		The process that looks after the queue: it claims what is due, starts a
 *		runner for each, and sleeps on its latch.
 *
 * There is one launcher for a database at most: it holds an advisory lock
 * there, by which it can be found, too. It is started with the server where
 * the library is preloaded, else by zodan.start().
 *
 * Whether a request is run by somebody is seen by its lock, so a launcher that
 * comes after a crash needs to know nothing of what its predecessor did. Only
 * between the start of a runner and its taking that lock the launcher itself
 * has to remember it.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "process/launcher.h"

#include "access/xact.h"
#include "base/array.h"
#include "base/locks.h"
#include "base/settings.h"
#include "base/wait.h"
#include "postmaster/interrupt.h"
#include "queue/queue.h"
#include "queue/request.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define RESTART_S	5

/* A runner that was started and has not ended */
typedef struct Started
{
	int64		request_id;
	bool		probe;			/* only probes the request */
	BackgroundWorkerHandle *handle;
} Started;

static List *started = NIL;

/*
 * Fills in what all of our processes are registered with; kind is the end of
 * its name. It isn't started again.
 */
void
zodan_launcher_describe_worker(BackgroundWorker *worker, const char *kind, const char *function)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker->bgw_name, BGW_MAXLEN, "zodan_bgw %s", kind);
	snprintf(worker->bgw_type, BGW_MAXLEN, "zodan_bgw %s", kind);
	strlcpy(worker->bgw_library_name, "zodan_bgw", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
}

/*
 * Forgets the runners that have ended.
 */
static void
reap(void)
{
	ListCell   *cell;

	foreach(cell, started)
	{
		Started    *s = lfirst(cell);
		pid_t		pid;

		if (GetBackgroundWorkerPid(s->handle, &pid) == BGWH_STOPPED)
		{
			started = foreach_delete_current(started, cell);
			pfree(s->handle);
			pfree(s);
		}
	}
}

/*
 * Starts a runner; false if there's no place for one, which the next look at
 * the queue mends.
 */
static bool
start_runner(int64 request_id, bool probe)
{
	ZodanRunnerArgs args = {.database = MyDatabaseId,.request_id = request_id,.probe = probe};
	BackgroundWorker worker;
	Started    *s;

	zodan_launcher_describe_worker(&worker, "runner", "zodan_runner_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "zodan_bgw: request " INT64_FORMAT, request_id);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &args, sizeof(args));

	s = MemoryContextAllocZero(TopMemoryContext, sizeof(Started));
	s->request_id = request_id;
	s->probe = probe;
	if (!RegisterDynamicBackgroundWorker(&worker, &s->handle))
	{
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("zodan_bgw: no background worker is free for request " INT64_FORMAT, request_id),
				 errhint("Increase max_worker_processes and restart the server.")));
		pfree(s);
		return false;
	}
	started = lappend(started, s);
	return true;
}

/*
 * The requests that a runner was started for, an array literal; with probes,
 * also those that somebody only probes, which doesn't keep an attempt
 * waiting.
 */
static char *
busy(bool probes)
{
	List	   *ids = NIL;
	ListCell   *cell;

	foreach(cell, started)
	{
		Started    *s = lfirst(cell);

		if (probes || !s->probe)
			ids = lappend(ids, psprintf(INT64_FORMAT, s->request_id));
	}
	return zodan_array_literal(ids);
}

static void
start_all(ZodanRows *due, bool probe)
{
	MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);

	bool		full = false;

	for (int i = 0; i < due->nrows; i++)
	{
		int64		id = strtoll(due->value[i][0], NULL, 10);

		full = full || !start_runner(id, probe);
		if (full && !probe)
			zodan_queue_not_started(id);
	}
	MemoryContextSwitchTo(context);
}

/*
 * Starts what is due. Looking at a request takes a moment, and mustn't wait for
 * runners to end: there is one place more for it.
 */
static void
serve_queue(void)
{
	if (list_length(started) < zodan_max_runners)
		start_all(zodan_queue_take(zodan_max_runners - list_length(started), busy(false)), false);
	if (list_length(started) <= zodan_max_runners)
		start_all(zodan_queue_take_probes(zodan_max_runners + 1 - list_length(started), busy(true)), true);
}

/*
 * Entry point of the launcher. database: its oid; 0: the one that
 * zodan.database names.
 */
void
zodan_launcher_main(Datum database)
{
	MemoryContext cycle;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (DatumGetObjectId(database) != InvalidOid)
		BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database), InvalidOid, 0);
	else
		BackgroundWorkerInitializeConnection(zodan_database, NULL, 0);
	zodan_spi_pin_settings();

	/* an exit code of 0 means that we aren't wanted again */
	if (!zodan_queue_lock_process(ZODAN_LOCK_LAUNCHER))
		proc_exit(0);

	cycle = AllocSetContextCreate(TopMemoryContext, "zodan launcher", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		int64		sleep_ms = zodan_poll_interval;

		MemoryContextSwitchTo(cycle);
		MemoryContextReset(cycle);
		reap();
		if (zodan_queue_installed())
		{
			int64		due_ms;

			serve_queue();
			due_ms = zodan_queue_next_due_ms();
			if (due_ms >= 0)
				sleep_ms = Min(sleep_ms, Max(due_ms, 10));
		}
		zodan_wait_latch(sleep_ms);
		zodan_settings_reload();
	}
}

/*
 * Fills in what a launcher is registered with; for database see
 * zodan_launcher_main().
 */
void
zodan_launcher_describe(BackgroundWorker *worker, Oid database)
{
	zodan_launcher_describe_worker(worker, "launcher", "zodan_launcher_main");
	worker->bgw_restart_time = RESTART_S;
	worker->bgw_main_arg = ObjectIdGetDatum(database);
}

/*
 * Starts a process, or raises an error that says for what there was no place.
 */
BackgroundWorkerHandle *
zodan_launcher_start_worker(BackgroundWorker *worker, const char *what)
{
	BackgroundWorkerHandle *handle;

	worker->bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker is free for %s", what),
				 errhint("Increase max_worker_processes and restart the server.")));
	return handle;
}

/*
 * Starts a launcher for the current database, and returns whether there was
 * none.
 */
bool
zodan_launcher_start(void)
{
	BackgroundWorker worker;
	pid_t		pid;

	if (zodan_queue_launcher_pid() != 0)
		return false;
	zodan_launcher_describe(&worker, MyDatabaseId);
	if (WaitForBackgroundWorkerStartup(zodan_launcher_start_worker(&worker, "the launcher"), &pid) != BGWH_STARTED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("the launcher did not start"),
				 errhint("Look into the server's log.")));
	return true;
}

/* ---------- waking ---------- */

static bool wake_registered = false;
static int	wake_pid = 0;

static void
wake_at_commit(XactEvent event, void *arg)
{
	PGPROC	   *proc;

	(void) arg;
	if (wake_pid == 0 ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE))
		return;
	if (event == XACT_EVENT_COMMIT)
	{
		proc = BackendPidGetProc(wake_pid);
		if (proc)
			SetLatch(&proc->procLatch);
	}
	wake_pid = 0;
}

/*
 * If the current transaction commits, the launcher looks at the queue at
 * once. Without a launcher nothing happens.
 */
void
zodan_launcher_wake_at_commit(void)
{
	wake_pid = zodan_queue_launcher_pid();
	if (!wake_registered)
		RegisterXactCallback(wake_at_commit, NULL);
	wake_registered = true;
}
