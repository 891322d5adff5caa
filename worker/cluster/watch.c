/*
 * watch.c
 *		What a request's slots cost the nodes until it has ended: the WAL that
 *		they make them keep. And whether the nodes have kept it.
 *
 * Past zodan.max_retained_wal the request says so, once, and is cancelled if
 * zodan.on_max_retained_wal says that: a join can be filed again, a full disk
 * stops production. A slot that has lost its WAL (max_slot_wal_keep_size)
 * makes all that rests on it worthless: see zodan_watch_slots().
 *
 * The sessions are this file's own, since those of the phases are in the
 * middle of something. A node that doesn't answer is passed over: whoever
 * needs it will say so.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/watch.h"

#include "base/array.h"
#include "base/settings.h"
#include "cluster/claim.h"
#include "utils/memutils.h"

#define WATCH_MS		5000
#define ANSWER_MS		5000

#define ROOM_HINT		"When the nodes have room for the WAL, file the request again."

#define MEGABYTE		(INT64CONST(1024) * 1024)

/* A node on which the request has slots */
typedef struct Watched
{
	ZodanConn	conn;
	List	   *slots;			/* their names */
	List	   *made;			/* those of them that were there */
} Watched;

/* All of them, and when they are to be looked at again */
typedef struct ZodanWatch
{
	Watched    *nodes;
	int			n;
	ZodanDeadline next;
} ZodanWatch;

static ZodanWatch *
of(ZodanJob *job)
{
	if (!job->watch)
		job->watch = MemoryContextAllocZero(TopMemoryContext, sizeof(ZodanWatch));
	return job->watch;
}

/* $1: slots of the request; that of stream.c has a name of its own kind; $2: whether it may get a marker; $3: those that were made */
static const char *const watch_query =
"SELECT pg_catalog.string_agg(slot_name, ', ') FILTER (WHERE wal_status = 'lost'),"
"       coalesce(pg_catalog.max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)), 0)::bigint,"
"       pg_catalog.pg_current_wal_flush_lsn(),"
"       (SELECT pg_catalog.pg_logical_emit_message(true, m.slot_name::text, '')"
"          FROM pg_catalog.pg_replication_slots m"
"         WHERE m.slot_name = ANY ($1::text[]) AND m.slot_name LIKE 'zodan\\_start\\_%' AND m.database = pg_catalog.current_database() AND $2::bool),"
"       (SELECT pg_catalog.string_agg(s, ', ') FROM pg_catalog.unnest($3::text[]) AS s"
"         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots g WHERE g.slot_name = s))"
"  FROM pg_catalog.pg_replication_slots WHERE slot_name = ANY ($1::text[])";

/*
 * The place of a node among those that are watched; NULL: it can't be, having
 * no session.
 */
static Watched *
find_watched(ZodanJob *job, const char *node)
{
	ZodanWatch *watch = of(job);
	ZodanConn  *conn = zodan_cluster_session(job, node);
	MemoryContext context;

	for (int i = 0; i < watch->n; i++)
		if (strcmp(watch->nodes[i].conn.node, node) == 0)
			return &watch->nodes[i];
	if (!conn)
		return NULL;
	context = MemoryContextSwitchTo(TopMemoryContext);
	if (!watch->nodes)
		watch->nodes = palloc0(sizeof(Watched) * (job->nmembers + 1));
	watch->nodes[watch->n].conn = zodan_connection_another(conn);
	MemoryContextSwitchTo(context);
	return &watch->nodes[watch->n++];
}

/*
 * Is the node asked? It has slots, or is the new one.
 */
static bool
is_asked(ZodanJob *job, const Watched *node)
{
	return node->slots != NIL || strcmp(node->conn.node, job->req->new_node_name) == 0;
}

/*
 * Lists the request's slots by node, and the new node, whether or not it has some.
 */
static void
list_slots(ZodanJob *job)
{
	ZodanWatch *watch = of(job);
	List	   *effects = zodan_effects_live(job->req);
	ListCell   *cell;

	for (int i = 0; i < watch->n; i++)
		watch->nodes[i].slots = watch->nodes[i].made = NIL;
	foreach(cell, effects)
	{
		ZodanEffect *effect = lfirst(cell);
		Watched    *w;

		if (strcmp(effect->kind, EFFECT_SLOT) != 0)
			continue;
		w = find_watched(job, effect->node);
		if (!w)
			continue;
		w->slots = lappend(w->slots, effect->name);
		if (strcmp(effect->state, "done") == 0)
			w->made = lappend(w->made, effect->name);
	}
	find_watched(job, job->req->new_node_name);
}

/*
 * Asks each node that has slots of ours, and the new node. If that is ours, which
 * is stored in *holds, the source has to write another marker from which a stream
 * may begin: see stream.c. Returns the calls, one for each of the nodes; those
 * without a result were not answered.
 */
static ZodanCall *
ask_nodes(ZodanJob *job, ZodanHolds *holds)
{
	ZodanWatch *watch = of(job);
	Watched    *new_node;
	ZodanConn **missing;
	ZodanCall  *calls;
	int			n = 0;

	list_slots(job);
	missing = palloc(sizeof(ZodanConn *) * Max(watch->n, 1));
	calls = palloc0(sizeof(ZodanCall) * Max(watch->n, 1));
	for (int i = 0; i < watch->n; i++)
		if (is_asked(job, &watch->nodes[i]) && !watch->nodes[i].conn.pg)
			missing[n++] = &watch->nodes[i].conn;
	if (n > 0)
		zodan_remote_connect_all(missing, n);
	new_node = find_watched(job, job->req->new_node_name);
	*holds = zodan_claim_holds(job, new_node ? &new_node->conn : NULL, ANSWER_MS);
	for (int i = 0; i < watch->n; i++)
	{
		calls[i].conn = &watch->nodes[i].conn;
		calls[i].sql = watch_query;
		calls[i].nparams = 3;
		calls[i].params[0] = zodan_array_literal(watch->nodes[i].slots);
		calls[i].params[1] = *holds == ZODAN_HOLDS ? "true" : "false";
		calls[i].params[2] = zodan_array_literal(watch->nodes[i].made);
		calls[i].sent = calls[i].finished = !is_asked(job, &watch->nodes[i]);
	}
	zodan_remote_run(calls, watch->n, ANSWER_MS);
	for (int i = 0; i < watch->n; i++)
	{
		if (calls[i].error)
			zodan_connection_close(calls[i].conn);
		else if (*holds == ZODAN_HOLDS && calls[i].result)
			zodan_journal_note_lsn(job->req, calls[i].conn->node, PQgetvalue(calls[i].result, 0, 2));
	}
	return calls;
}

/*
 * Returns what a node, whose name is stored in *node, says of a slot of the
 * request's that has lost its WAL; NULL: no node says so.
 */
static char *
describe_lost(const ZodanWatch *watch, const ZodanCall *calls, const char **node)
{
	for (int i = 0; i < watch->n; i++)
		if (calls[i].result && !PQgetisnull(calls[i].result, 0, 0))
		{
			*node = calls[i].conn->node;
			return psprintf("node \"%s\" has removed WAL that slot %s still needed", *node,
							PQgetvalue(calls[i].result, 0, 0));
		}
	return NULL;
}

/*
 * The same of a slot that is gone, as after the promotion of a standby that had none
 * of them.
 */
static char *
describe_gone(const ZodanWatch *watch, const ZodanCall *calls)
{
	for (int i = 0; i < watch->n; i++)
		if (calls[i].result && !PQgetisnull(calls[i].result, 0, 4))
			return psprintf("node \"%s\" does not have slot %s any more, which the join needs", calls[i].conn->node,
							PQgetvalue(calls[i].result, 0, 4));
	return NULL;
}

/*
 * Notes how much the slots hold, and tells when that has got too much, or no
 * longer is. Returns why the request is to be cancelled; NULL: it isn't.
 */
static char *
judge_retained(ZodanJob *job, const ZodanCall *calls)
{
	const ZodanWatch *watch = of(job);
	int64		bound = zodan_max_retained_wal * MEGABYTE;
	int64		most = 0;
	const char *where = job->req->src_node_name;
	char	   *problem = NULL;
	bool		over;

	for (int i = 0; i < watch->n; i++)
	{
		int64		held = calls[i].result ? strtoll(PQgetvalue(calls[i].result, 0, 1), NULL, 10) : 0;

		if (held > most)
		{
			most = held;
			where = calls[i].conn->node;
		}
	}
	over = bound > 0 && most > bound;
	if (!zodan_request_note_retained(job->req, most, over))
		return NULL;
	if (over)
		problem = psprintf("slots of request " INT64_FORMAT " make node %s keep " INT64_FORMAT
						   " MB of WAL, more than zodan.max_retained_wal", job->req->id, where, most / MEGABYTE);
	zodan_journal_event(job->req, over ? "warning" : "info", where, over ? problem :
						"the slots hold less WAL than zodan.max_retained_wal again");
	zodan_request_alert(job->req, where, problem);
	return over && zodan_on_max_retained_wal == ZODAN_WAL_CANCEL ? problem : NULL;
}

/*
 * Has the request slots that it alone is answerable for? The slots that
 * remove_node knows of were there before; and once the new node is open, what
 * was made is its users'.
 */
static bool
is_answerable(ZodanJob *job)
{
	return strcmp(job->req->operation, "add_node") == 0 && !job->req->opening;
}

static void
forget_answers(const ZodanWatch *watch, ZodanCall *calls)
{
	for (int i = 0; i < watch->n; i++)
		PQclear(calls[i].result);
	pfree(calls);
}

/*
 * Looks at the request's slots, unless that was done a moment ago. Asks for
 * the request's end where a slot has lost its WAL, or where the WAL that they
 * hold is more than the operator wants to risk.
 */
void
zodan_watch_slots(ZodanJob *job)
{
	ZodanCall  *calls;
	ZodanHolds	holds;
	const char *node;
	char	   *lost;
	char	   *over;

	if (!zodan_wait_passed(of(job)->next) || !is_answerable(job))
		return;
	calls = ask_nodes(job, &holds);
	lost = describe_lost(of(job), calls, &node);
	if (lost)
	{
		if (holds != ZODAN_HOLDS_NOT && zodan_request_ask(job->req, "restart", lost, ZODAN_LOST_HINT))
			zodan_journal_event(job->req, "error", node, lost);
	}
	else if ((over = judge_retained(job, calls)) != NULL && holds != ZODAN_HOLDS_NOT)
		zodan_request_ask(job->req, "cancel", over, ROOM_HINT);
	forget_answers(of(job), calls);
	of(job)->next = zodan_wait_deadline(WATCH_MS);
}

/*
 * The same for a request that nobody works on. Where a slot has lost its WAL
 * that is told; what is to be done about the request stays its user's choice.
 */
void
zodan_watch_idle(ZodanJob *job)
{
	ZodanCall  *calls;
	ZodanHolds	holds;
	const char *node;
	char	   *lost;
	char	   *over;

	if (!is_answerable(job))
		return;
	calls = ask_nodes(job, &holds);
	lost = describe_lost(of(job), calls, &node);
	if (lost)
	{
		if (zodan_request_note_broken(job->req, lost, psprintf("SELECT zodan.cancel(" INT64_FORMAT "), which rolls back what it has made. If it is resumed, it starts from the beginning.",
															   job->req->id)))
		{
			zodan_journal_event(job->req, "error", node, lost);
			zodan_request_alert(job->req, node, lost);
			/* so that it's told, too, when that is over */
			zodan_request_note_retained(job->req, 0, true);
		}
	}
	else if ((over = judge_retained(job, calls)) != NULL && holds != ZODAN_HOLDS_NOT)
		zodan_request_cancel_idle(job->req, over, ROOM_HINT);
	forget_answers(of(job), calls);
}

/*
 * Has a slot of the request's lost its WAL, or is it gone? Returns what is known of
 * that, with a hint, or NULL. To be asked when something has failed, whatever state the
 * request's other sessions are in.
 */
char *
zodan_watch_lost_slot(ZodanJob *job, const char **hint)
{
	ZodanCall  *calls;
	ZodanHolds	holds;
	const char *node;
	char	   *lost;

	if (!is_answerable(job))
		return NULL;
	for (int i = 0; i < of(job)->n; i++)
		zodan_connection_close(&of(job)->nodes[i].conn);
	calls = ask_nodes(job, &holds);
	lost = describe_lost(of(job), calls, &node);
	*hint = lost ? ZODAN_LOST_HINT : "A promoted standby has only the slots that were synchronized to it. Whoever else drops slots must leave those of joins alone.";
	if (!lost)
		lost = describe_gone(of(job), calls);
	forget_answers(of(job), calls);
	return lost;
}
