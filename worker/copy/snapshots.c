/*
 * snapshots.c
 *		The snapshots of the source under which tables are copied.
 *
 * As long as one is open, vacuum can't remove what has died since on the
 * source. So none is used for longer than zodan.snapshot_max_age: tables that
 * are begun later are copied under the next one, of a temporary slot. That is
 * made when a lane is about to want it, while others go on with the one before,
 * since it has to wait for the transactions that write on the source. Tables
 * under way, of which each part must be read under the same snapshot, are
 * brought to their end, and so are those that need the same one: see units.c.
 *
 * The position of each table then is that of its own snapshot: see plan.c.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/snapshots.h"

#include "base/lsn.h"
#include "base/settings.h"
#include "cluster/claim.h"
#include "cluster/names.h"
#include "engine/markers.h"
#include "remote/query.h"
#include "utils/memutils.h"

/* how long a session is waited for, after an error, that holds a snapshot */
#define ANSWER_MS	1000

/* Those of a request */
typedef struct ZodanSnapshots
{
	List	   *open;			/* all that are open */
	ZodanSnapshot *current;		/* for tables that are begun now */
	ZodanSnapshot *opening;
	int			last;			/* number of the one that was begun last */
	char		waits_for[512]; /* what the opening waits for; empty: nothing */
} ZodanSnapshots;

static ZodanSnapshots *
of(ZodanJob *job)
{
	if (!job->snapshots)
		job->snapshots = MemoryContextAllocZero(TopMemoryContext, sizeof(ZodanSnapshots));
	return job->snapshots;
}

static void
close_snapshot(ZodanSnapshots *all, ZodanSnapshot *snapshot)
{
	zodan_connection_close(&snapshot->export.conn);
	all->open = list_delete_ptr(all->open, snapshot);
	if (snapshot == all->current)
		all->current = NULL;
	pfree(snapshot);
}

static int64
age_of(const ZodanSnapshot *snapshot)
{
	return (zodan_wait_clock() - snapshot->export.since) / 1000;
}

/*
 * Begins to open a snapshot: the one of the subscription's own slot, or, if
 * that has been used up, one of a temporary slot.
 */
static void
begin(ZodanJob *job)
{
	ZodanSnapshots *all = of(job);
	ZodanSnapshot *opening;
	ZodanMember *source = ZODAN_SOURCE(job);
	bool		first = !zodan_journal_position(job->req, ZODAN_SNAPSHOT(0), source->name)->consistent_lsn;
	ZodanEffect *slot;

	all->opening = opening = MemoryContextAllocZero(TopMemoryContext, sizeof(ZodanSnapshot));
	/* the session of one that was given up may still hold its slot */
	if (!first)
		all->last = opening->number = Max(zodan_journal_next_snapshot(job->req), all->last + 1);

	/* a slot whose consistent point isn't known was made for nothing */
	if (first)
	{
		slot = zodan_claim_effect(job, source->name, EFFECT_SLOT, source->slot_first);
		if (slot->state)
			zodan_slots_drop(&source->conn, source->slot_first);
	}
	opening->export.conn = zodan_connection_another(&source->conn);
	zodan_slots_export(&opening->export,
					   first ? source->slot_first :
					   zodan_names_helper_slot(job, &source->conn, psprintf("copy%d", opening->number)),
					   !first, job->engine->plugin);
}

/*
 * No more tables are begun under the current snapshot.
 */
static void
retire_current(ZodanSnapshots *all)
{
	ZodanSnapshot *snapshot = all->current;

	all->current = NULL;
	if (snapshot && snapshot->users == 0)
		close_snapshot(all, snapshot);
}

/*
 * Gives up the one that is being opened. Its server would go on waiting for
 * transactions, and wouldn't notice that nobody is there any more.
 */
static void
drop_opening(ZodanJob *job)
{
	ZodanSnapshots *all = of(job);

	if (all->opening)
	{
		PQclear(zodan_query(&ZODAN_SOURCE(job)->conn, "SELECT pg_catalog.pg_terminate_backend($1::int)", 1,
							psprintf("%d", PQbackendPID(all->opening->export.conn.pg))));
		zodan_connection_close(&all->opening->export.conn);
		pfree(all->opening);
	}
	all->opening = NULL;
	all->waits_for[0] = '\0';
}

/*
 * The one that was being opened is there: it is the current one from now on.
 */
static void
adopt(ZodanJob *job)
{
	ZodanSnapshots *all = of(job);
	ZodanSnapshot *opening = all->opening;
	ZodanMember *source = ZODAN_SOURCE(job);
	char	   *lsn = zodan_lsn_format(opening->export.consistent);
	MemoryContext context;

	zodan_journal_set_position(job->req, ZODAN_SNAPSHOT(opening->number), source->name, "consistent_lsn", lsn);
	if (opening->number == 0)
		zodan_effects_set(job->req, source->name, EFFECT_SLOT, source->slot_first, "done", lsn);
	zodan_journal_event(job->req, "info", source->name, psprintf("snapshot %d: what was committed before %s is in it", opening->number, lsn));
	retire_current(all);
	context = MemoryContextSwitchTo(TopMemoryContext);
	all->open = lappend(all->open, opening);
	MemoryContextSwitchTo(context);
	all->current = opening;
	opening->adopted = zodan_wait_clock();
	all->opening = NULL;
	all->waits_for[0] = '\0';
}

static void
note_wait(void *arg, const char *detail)
{
	ZodanSnapshots *all = arg;

	strlcpy(all->waits_for, detail, sizeof(all->waits_for));
}

/*
 * Opens a snapshot unless there is one, and waits for it.
 */
ZodanSnapshot *
zodan_snapshots_open(ZodanJob *job)
{
	ZodanSnapshots *all = of(job);
	ZodanSocket socket;

	if (all->current)
		return all->current;
	begin(job);
	while (!zodan_slots_exported(&all->opening->export, &ZODAN_SOURCE(job)->conn, true, zodan_job_report, job))
	{
		zodan_snapshots_socket(job, &socket);
		zodan_wait_sockets(&job->session.waiter, &socket, 1, all->opening->export.next_report);
		/* the fewer transactions lie between the last marker and the first snapshot the better */
		if (all->opening->number == 0)
			zodan_markers_write_named(&ZODAN_SOURCE(job)->conn, zodan_names_start_slot(job));
	}
	adopt(job);
	return all->current;
}

/*
 * For tables that are yet to be begun: opens the next snapshot when it's time
 * and one is wanted now, without waiting; what was begun goes on in any case.
 * Nothing else gets anywhere meanwhile if the caller is impatient.
 */
void
zodan_snapshots_prepare(ZodanJob *job, bool wanted, bool impatient)
{
	ZodanSnapshots *all = of(job);
	int64		max_ms = zodan_snapshot_max_age * INT64CONST(1000);

	/* not that of its begin: opening it may have taken longer than it may be used */
	int64		used_ms = all->current ? (zodan_wait_clock() - all->current->adopted) / 1000 : 0;

	if (all->opening)
	{
		if (zodan_slots_exported(&all->opening->export, &ZODAN_SOURCE(job)->conn, impatient, note_wait, all))
			adopt(job);
	}
	else if (wanted && (!all->current || used_ms > max_ms - max_ms / 4))
		begin(job);
	if (all->current && (zodan_wait_clock() - all->current->adopted) / 1000 > max_ms)
		retire_current(all);
}

/*
 * The snapshot for a table that is begun now; NULL: there is none yet.
 */
ZodanSnapshot *
zodan_snapshots_current(ZodanJob *job)
{
	return of(job)->current;
}

/*
 * Is there one for tables that are yet to be begun, or is it being opened?
 */
bool
zodan_snapshots_coming(ZodanJob *job)
{
	return of(job)->current || of(job)->opening;
}

/*
 * The current one is of no use to any table that is yet to be begun.
 */
void
zodan_snapshots_outdate(ZodanJob *job)
{
	retire_current(of(job));
}

/*
 * No more tables are begun.
 */
void
zodan_snapshots_retire(ZodanJob *job)
{
	retire_current(of(job));
	drop_opening(job);
}

/*
 * A group of tables has been copied under it.
 */
void
zodan_snapshots_release(ZodanJob *job, ZodanSnapshot *snapshot)
{
	if (--snapshot->users == 0 && snapshot != of(job)->current)
		close_snapshot(of(job), snapshot);
}

/*
 * Fills in the socket that the opening of a snapshot waits for; returns how
 * many those are, 0 or 1.
 */
int
zodan_snapshots_socket(ZodanJob *job, ZodanSocket *socket)
{
	ZodanSnapshot *opening = of(job)->opening;

	if (!opening)
		return 0;
	socket->fd = PQsocket(opening->export.conn.pg);
	socket->events = WL_SOCKET_READABLE;
	return 1;
}

/*
 * For how long vacuum has been held back on the source, in milliseconds; 0: it
 * isn't.
 */
int64
zodan_snapshots_age(ZodanJob *job)
{
	ZodanSnapshots *all = of(job);
	int64		oldest = all->opening ? age_of(all->opening) : 0;
	ListCell   *cell;

	foreach(cell, all->open)
		oldest = Max(oldest, age_of(lfirst(cell)));
	return oldest;
}

/*
 * What the opening of a snapshot waits for; NULL: nothing.
 */
const char *
zodan_snapshots_waits_for(ZodanJob *job)
{
	return of(job)->waits_for[0] ? of(job)->waits_for : NULL;
}

/*
 * After an error: has a session been ended that held one? Whoever reads under
 * it gets errors of any kind. None can be used any more afterwards.
 */
bool
zodan_snapshots_is_lost(ZodanJob *job)
{
	bool		lost = false;
	ListCell   *cell;

	foreach(cell, of(job)->open)
	{
		ZodanCall	call = {.conn = &((ZodanSnapshot *) lfirst(cell))->export.conn,.sql = "SELECT 1"};

		zodan_remote_run(&call, 1, ANSWER_MS);
		lost |= call.error != NULL;
	}
	return lost;
}

/*
 * Closes all of them.
 */
void
zodan_snapshots_close(ZodanJob *job)
{
	drop_opening(job);
	while (of(job)->open != NIL)
		close_snapshot(of(job), linitial(of(job)->open));
}
