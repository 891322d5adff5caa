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

static List *views = NIL;		/* all that are open */
static ZodanView *current = NULL;	/* for tables that are begun now */
static ZodanView *opening = NULL;
static char waits_for[512] = "";

static void
close_view(ZodanView *view)
{
	zodan_connection_close(&view->snapshot.conn);
	views = list_delete_ptr(views, view);
	if (view == current)
		current = NULL;
	pfree(view);
}

static int64
age_of(const ZodanView *view)
{
	return (zodan_wait_clock() - view->snapshot.since) / 1000;
}

/*
 * Begins to open a snapshot: the one of the subscription's own slot, or, if
 * that has been used up, one of a temporary slot.
 */
static void
begin(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	bool		first = !zodan_journal_position(0, source->name)->consistent_lsn;
	ZodanEffect *slot;

	opening = MemoryContextAllocZero(TopMemoryContext, sizeof(ZodanView));
	opening->number = first ? 0 : zodan_journal_next_snapshot();

	/* a slot whose consistent point isn't known was made for nothing */
	if (first)
	{
		slot = zodan_claim_effect(job, source->name, EFFECT_SLOT, source->slot_first);
		if (slot->state)
			zodan_slots_drop(&source->conn, source->slot_first);
	}
	opening->snapshot.conn = source->conn;
	opening->snapshot.conn.pg = NULL;
	zodan_slots_export(&opening->snapshot,
						 first ? source->slot_first :
						 zodan_names_helper_slot(job, &source->conn, psprintf("copy%d", opening->number)),
						 !first, job->engine->plugin);
}

/*
 * No more tables are begun under the current snapshot.
 */
static void
retire_current(void)
{
	ZodanView  *view = current;

	current = NULL;
	if (view && view->users == 0)
		close_view(view);
}

/*
 * Gives up the one that is being opened. Its server would go on waiting for
 * transactions, and wouldn't notice that nobody is there any more.
 */
static void
drop_opening(ZodanJob *job)
{
	if (opening)
	{
		PQclear(zodan_query(&ZODAN_SOURCE(job)->conn, "SELECT pg_catalog.pg_terminate_backend($1::int)", 1,
							psprintf("%d", PQbackendPID(opening->snapshot.conn.pg))));
		zodan_connection_close(&opening->snapshot.conn);
		pfree(opening);
	}
	opening = NULL;
	waits_for[0] = '\0';
}

/*
 * The one that was being opened is there: it is the current one from now on.
 */
static void
adopt(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	char	   *lsn = zodan_lsn_format(opening->snapshot.consistent);
	MemoryContext context;

	zodan_journal_set_position(opening->number, source->name, "consistent_lsn", lsn);
	if (opening->number == 0)
		zodan_effects_set(source->name, EFFECT_SLOT, source->slot_first, "done", lsn);
	zodan_journal_event("info", source->name, psprintf("snapshot %d: what was committed before %s is in it", opening->number, lsn));
	retire_current();
	context = MemoryContextSwitchTo(TopMemoryContext);
	views = lappend(views, opening);
	MemoryContextSwitchTo(context);
	current = opening;
	current->adopted = zodan_wait_clock();
	opening = NULL;
	waits_for[0] = '\0';
}

static void
note_wait(const char *detail)
{
	strlcpy(waits_for, detail, sizeof(waits_for));
}

/*
 * Opens a snapshot unless there is one, and waits for it.
 */
ZodanView *
zodan_snapshots_open(ZodanJob *job)
{
	ZodanSocket socket;

	if (current)
		return current;
	begin(job);
	while (!zodan_slots_exported(&opening->snapshot, &ZODAN_SOURCE(job)->conn, true, zodan_job_report))
	{
		zodan_snapshots_socket(&socket);
		zodan_wait_sockets(&socket, 1, opening->snapshot.next_report);
		/* the fewer transactions lie between the last marker and the first snapshot the better */
		if (opening->number == 0)
			zodan_markers_write_named(&ZODAN_SOURCE(job)->conn, zodan_names_start_slot(job));
	}
	adopt(job);
	return current;
}

/*
 * For tables that are yet to be begun: opens the next snapshot when it's time
 * and one is wanted now, without waiting; what was begun goes on in any case.
 * Nothing else gets anywhere meanwhile if the caller is impatient.
 */
void
zodan_snapshots_prepare(ZodanJob *job, bool wanted, bool impatient)
{
	int64		max_ms = zodan_snapshot_max_age * INT64CONST(1000);
	/* not that of its begin: opening it may have taken longer than it may be used */
	int64		used_ms = current ? (zodan_wait_clock() - current->adopted) / 1000 : 0;

	if (opening)
	{
		if (zodan_slots_exported(&opening->snapshot, &ZODAN_SOURCE(job)->conn, impatient, note_wait))
			adopt(job);
	}
	else if (wanted && (!current || used_ms > max_ms - max_ms / 4))
		begin(job);
	if (current && (zodan_wait_clock() - current->adopted) / 1000 > max_ms)
		retire_current();
}

/*
 * The snapshot for a table that is begun now; NULL: there is none yet.
 */
ZodanView *
zodan_snapshots_current(void)
{
	return current;
}

/*
 * Is there one for tables that are yet to be begun, or is it being opened?
 */
bool
zodan_snapshots_coming(void)
{
	return current || opening;
}

/*
 * No more tables are begun.
 */
void
zodan_snapshots_retire(ZodanJob *job)
{
	retire_current();
	drop_opening(job);
}

/*
 * A group of tables has been copied under it.
 */
void
zodan_snapshots_release(ZodanView *view)
{
	if (--view->users == 0 && view != current)
		close_view(view);
}

/*
 * Fills in the socket that the opening of a snapshot waits for; returns how
 * many those are, 0 or 1.
 */
int
zodan_snapshots_socket(ZodanSocket *socket)
{
	if (!opening)
		return 0;
	socket->fd = PQsocket(opening->snapshot.conn.pg);
	socket->events = WL_SOCKET_READABLE;
	return 1;
}

/*
 * For how long vacuum has been held back on the source, in milliseconds; 0: it
 * isn't.
 */
int64
zodan_snapshots_age(void)
{
	int64		oldest = opening ? age_of(opening) : 0;
	ListCell   *cell;

	foreach(cell, views)
		oldest = Max(oldest, age_of(lfirst(cell)));
	return oldest;
}

/*
 * What the opening of a snapshot waits for; NULL: nothing.
 */
const char *
zodan_snapshots_waits_for(void)
{
	return waits_for[0] ? waits_for : NULL;
}

/*
 * After an error: has a session been ended that held one? Whoever reads under
 * it gets errors of any kind. None can be used any more afterwards.
 */
bool
zodan_snapshots_is_lost(void)
{
	bool		lost = false;
	ListCell   *cell;

	foreach(cell, views)
	{
		ZodanCall	call = {.conn = &((ZodanView *) lfirst(cell))->snapshot.conn,.sql = "SELECT 1"};

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
	while (views != NIL)
		close_view(linitial(views));
}
