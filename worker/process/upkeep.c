/*
 * upkeep.c
 *		What has to be done from time to time: old requests are purged, a
 *		launcher is started where there is none, and the joined nodes are
 *		checked.
 *
 * The nodes are checked by a process of its own, since nodes may take their time
 * to answer. What it finds is no error here, so each question to a node is
 * asked in a way that raises none. It has no passwords but those that the
 * engine keeps on a node for the way to the others.
 *
 * A node is healthy when its subscriptions to all others replicate, their slots
 * and its own are in use and hold no more WAL than zodan.max_retained_wal, and
 * a marker on each provider is confirmed within zodan.max_lag. For so long an
 * unhealthy node is checked again and again, too, before that counts:
 * an engine starts its workers again after an error, which takes seconds.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "process/upkeep.h"

#include "base/dsn.h"
#include "base/locks.h"
#include "base/settings.h"
#include "copy/work.h"
#include "engine/engine.h"
#include "postmaster/interrupt.h"
#include "process/launcher.h"
#include "queue/nodes.h"
#include "queue/queue.h"
#include "queue/request.h"
#include "remote/query.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

/* one statement's bound, and the pauses between two checks */
#define ANSWER_MS		10000
#define FIRST_PAUSE_MS	100
#define LAST_PAUSE_MS	5000

static const char *const subscriptions_query =
#include "sql/upkeep_subscriptions.h"
		   ;

/* A marker on a provider, which the reader of a slot must confirm in time */
typedef struct Marker
{
	const char *slot;
	char	   *lsn;
	ZodanDeadline deadline;
} Marker;

/* A node that is checked */
typedef struct Watched
{
	const char *id;
	const ZodanEngine *engine;
	ZodanConn	conn;
	const char *unfinished;		/* names that requests under way have to do with: an array literal */
	List	   *markers;
	const char *state;			/* as it was found last; NULL: it wasn't checked */
	StringInfoData problem;
	bool		settled;		/* needn't be checked again */
	bool		waiting;		/* for a marker whose time hasn't run out */
} Watched;

/* ---------- what is found ---------- */

static void
found(Watched *node, const char *problem)
{
	node->state = ZODAN_NODE_UNHEALTHY;
	appendStringInfo(&node->problem, "%s%s", node->problem.len ? "; " : "", problem);
}

/*
 * The node can't be asked for want of a password, which may not be its fault.
 */
static void
cannot_check(Watched *node, const char *why)
{
	node->state = ZODAN_NODE_UNKNOWN;
	node->settled = true;
	appendStringInfo(&node->problem,
					 "%s, and none is kept: UPDATE zodan.nodes SET check_dsn = '...' WHERE id = %s, with a passfile, a service or a client certificate",
					 why, node->id);
}

/*
 * The result of a statement; NULL if it has failed, which is a problem of the
 * node.
 */
static PGresult *
ask(Watched *node, ZodanConn *conn, const char *sql, int nparams,...)
{
	ZodanCall	call = {.conn = conn,.sql = sql,.nparams = nparams};
	va_list		args;

	va_start(args, nparams);
	for (int i = 0; i < nparams; i++)
		call.params[i] = va_arg(args, const char *);
	va_end(args);
	zodan_remote_run(&call, 1, ZODAN_USUAL_TIMEOUT);
	if (call.error)
		found(node, psprintf("node \"%s\": %s", conn->node, call.error));
	return call.result;
}

/* ---------- slots ---------- */

/*
 * Slots that fulfil a condition, which may have parameters from $3 on. $1: the
 * bound of what one may hold, in MB; $2: a marker that it must have confirmed,
 * or NULL.
 */
#define SLOTS_WHERE \
	"SELECT slot_name, active, coalesce(wal_status, 'lost') = 'lost'," \
	"       CASE WHEN $1::int8 > 0 AND held > $1::int8 * 1048576 THEN pg_catalog.pg_size_pretty(held) END," \
	"       confirmed_flush_lsn >= $2::pg_catalog.pg_lsn" \
	"  FROM pg_catalog.pg_replication_slots," \
	"       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn) AS w(held)" \
	" WHERE "

static char *
retained_bound(void)
{
	return psprintf("%d", zodan_max_retained_wal);
}

/*
 * Is a slot, a row of the above, as it should be? It may be out of use if its
 * reader is known to be.
 */
static void
judge_slot(Watched *node, const ZodanConn *conn, const PGresult *slots, int row, bool in_use)
{
	char	   *name = psprintf("slot \"%s\" on node \"%s\"", PQgetvalue(slots, row, 0), conn->node);

	if (PQgetvalue(slots, row, 2)[0] == 't')
		found(node, psprintf("%s has lost WAL that its reader needs", name));
	else if (in_use && PQgetvalue(slots, row, 1)[0] != 't')
		found(node, psprintf("%s is not in use", name));
	if (!PQgetisnull(slots, row, 3))
		found(node, psprintf("%s holds %s of WAL", name, PQgetvalue(slots, row, 3)));
}

/*
 * The slots by which the others read from the node.
 */
static void
check_own_slots(Watched *node)
{
	const char *no_marker = NULL;
	PGresult   *slots = ask(node, &node->conn,
							SLOTS_WHERE "plugin = $3 AND database = pg_catalog.current_database()"
							"   AND slot_name <> ALL ($4::text[]) ORDER BY 1", 4,
							retained_bound(), no_marker, node->engine->plugin, node->unfinished);

	for (int row = 0; slots && row < PQntuples(slots); row++)
		judge_slot(node, &node->conn, slots, row, true);
	PQclear(slots);
}

/*
 * The marker that a slot's reader has to confirm: it is written when the slot
 * is checked first. NULL if that has failed.
 */
static Marker *
marker_for(Watched *node, ZodanConn *provider, const char *slot)
{
	Marker	   *marker;
	ListCell   *cell;
	PGresult   *result;

	foreach(cell, node->markers)
	{
		marker = lfirst(cell);
		if (strcmp(marker->slot, slot) == 0)
			return marker;
	}
	result = ask(node, provider, "SELECT pg_catalog.pg_logical_emit_message(true, 'zodan', 'marker')", 0);
	if (!result)
		return NULL;
	marker = palloc(sizeof(Marker));
	marker->slot = pstrdup(slot);
	marker->lsn = zodan_query_field(result, 0, 0);
	marker->deadline = zodan_wait_deadline(zodan_max_lag);
	node->markers = lappend(node->markers, marker);
	PQclear(result);
	return marker;
}

/*
 * The slot of one of the node's subscriptions, on the provider. Without runs,
 * it's known that nobody reads it.
 */
static void
check_slot_of(Watched *node, ZodanConn *provider, const char *sub, const char *slot, bool runs)
{
	Marker	   *marker = runs ? marker_for(node, provider, slot) : NULL;
	PGresult   *slots = ask(node, provider, SLOTS_WHERE "slot_name = $3", 3,
							retained_bound(), marker ? marker->lsn : NULL, slot);

	if (!slots)
		return;
	if (PQntuples(slots) == 0)
		found(node, psprintf("node \"%s\" has no slot \"%s\" for subscription \"%s\"", provider->node, slot, sub));
	else
	{
		judge_slot(node, provider, slots, 0, runs);
		if (marker && PQgetvalue(slots, 0, 4)[0] != 't')
		{
			if (zodan_wait_passed(marker->deadline))
				found(node, psprintf("subscription \"%s\" lags more than %d ms behind node \"%s\"", sub, zodan_max_lag, provider->node));
			else
				node->waiting = true;
		}
	}
	PQclear(slots);
}

/* ---------- nodes ---------- */

/*
 * The node's subscription to another one, a row of check_subscriptions().
 */
static void
check_subscription(Watched *node, const PGresult *subs, int row)
{
	ZodanConn	provider = {.node = PQgetvalue(subs, row, 0),.session = node->conn.session};
	ZodanConn  *conns = &provider;
	const char *sub = PQgetvalue(subs, row, 1);
	const char *status = PQgetvalue(subs, row, 3);
	bool		enabled = PQgetvalue(subs, row, 2)[0] == 't';
	bool		runs = enabled && strcmp(status, "replicating") == 0;

	if (PQgetisnull(subs, row, 1))
	{
		found(node, psprintf("no subscription to node \"%s\"", provider.node));
		return;
	}
	if (!runs)
		found(node, psprintf("subscription \"%s\" is %s", sub, enabled ? status : "disabled"));
	provider.dsn = zodan_nodes_peer_dsn(node->id, provider.node);
	if (!provider.dsn)
		provider.dsn = PQgetvalue(subs, row, 5);
	zodan_remote_connect_all(&conns, 1);
	if (provider.pg)
		check_slot_of(node, &provider, sub, PQgetvalue(subs, row, 4), runs);
	else
		found(node, psprintf("could not connect to node \"%s\": %s", provider.node, provider.error));
	zodan_connection_close(&provider);
}

static void
check_subscriptions(Watched *node)
{
	PGresult   *subs = ask(node, &node->conn, zodan_engine_sql(node->engine, psprintf(subscriptions_query, node->engine->sub_status)),
						   1, node->unfinished);

	for (int row = 0; subs && row < PQntuples(subs); row++)
		check_subscription(node, subs, row);
	PQclear(subs);
}

/*
 * Is it the node that it should be, and does no request change it just now?
 */
static bool
may_check(Watched *node)
{
	PGresult   *result = ask(node, &node->conn, zodan_engine_sql(node->engine,
																 "SELECT (SELECT n.node_name FROM {e}.local_node l JOIN {e}.node n USING (node_id)),"
																 "       EXISTS (SELECT FROM pg_catalog.pg_locks k"
																 "                WHERE k.locktype = 'advisory' AND k.granted AND k.classid = $1::pg_catalog.oid"
																 "                  AND k.objid = 0 AND k.objsubid = 2"
																 "                  AND k.database = (SELECT oid FROM pg_catalog.pg_database"
																 "                                     WHERE datname = pg_catalog.current_database()))"),
							 1, psprintf("%d", ZODAN_LOCK_CLUSTER));
	const char *name;

	if (!result)
		return false;
	name = PQgetvalue(result, 0, 0);
	if (PQgetvalue(result, 0, 1)[0] == 't')
	{
		node->state = NULL;
		node->settled = true;
	}
	else if (strcmp(name, node->conn.node) != 0)
		found(node, name[0] ? psprintf("its connection string leads to node \"%s\"", name) : "its database is not a node");
	else
		return true;
	return false;
}

/*
 * Checks a node, which is connected unless that has failed.
 */
static void
check_node(Watched *node)
{
	node->state = ZODAN_NODE_HEALTHY;
	node->waiting = false;
	resetStringInfo(&node->problem);
	if (node->conn.lacks_password)
		cannot_check(node, "the server asks for a password");
	else if (!node->conn.pg)
		found(node, psprintf("could not connect: %s", node->conn.error));
	else if (may_check(node))
	{
		check_subscriptions(node);
		check_own_slots(node);
	}
	zodan_connection_close(&node->conn);
}

/*
 * Checks all nodes that have to be checked, again; returns whether no more
 * than the time for a node to recover is to be waited for. Last: that is over.
 */
static bool
check_nodes(List *nodes, bool last)
{
	ZodanConn **conns = palloc(sizeof(ZodanConn *) * list_length(nodes));
	ListCell   *cell;
	int			n = 0;
	const char *unfinished = zodan_nodes_unfinished();
	bool		settled = true;

	foreach(cell, nodes)
	{
		Watched    *node = lfirst(cell);

		if (!node->settled)
			conns[n++] = &node->conn;
	}
	zodan_remote_connect_all(conns, n);
	foreach(cell, nodes)
	{
		Watched    *node = lfirst(cell);

		if (node->settled)
			continue;
		node->unfinished = unfinished;
		check_node(node);
		if (!node->waiting && (last || node->problem.len == 0))
			node->settled = true;
		settled = settled && node->settled;
	}
	pfree(conns);
	return settled;
}

/*
 * The nodes, none of them checked yet.
 */
static List *
list_nodes(ZodanSession *session)
{
	ZodanRows  *rows = zodan_nodes_list();
	List	   *nodes = NIL;

	for (int i = 0; i < rows->nrows; i++)
	{
		Watched    *node = palloc0(sizeof(Watched));

		node->id = rows->value[i][0];
		node->conn.session = session;
		node->conn.node = rows->value[i][1];
		node->engine = zodan_engine_named(rows->value[i][2]);
		node->conn.dsn = rows->value[i][3];
		initStringInfo(&node->problem);
		/* an operator's: see zodan_nodes_joined() */
		if (zodan_dsn_value(node->conn.dsn, "password")[0])
			cannot_check(node, "its connection string has a password");
		nodes = lappend(nodes, node);
	}
	return nodes;
}

/*
 * Entry point of the process that checks the nodes. arg: its database.
 */
void
zodan_upkeep_main(Datum arg)
{
	ZodanDeadline deadline;
	ZodanSession session;
	int64		pause = FIRST_PAUSE_MS;
	List	   *nodes;
	ListCell   *cell;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	zodan_spi_pin_settings();
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext, "zodan upkeep", ALLOCSET_DEFAULT_SIZES));
	if (!zodan_queue_lock_process(ZODAN_LOCK_UPKEEP))
		proc_exit(0);

	zodan_session_init(&session, "upkeep", 0, ANSWER_MS);
	nodes = list_nodes(&session);
	deadline = zodan_wait_deadline(zodan_max_lag);
	while (!check_nodes(nodes, zodan_wait_passed(deadline)))
	{
		zodan_wait_sleep(&session.waiter, pause);
		pause = Min(pause * 2, LAST_PAUSE_MS);
	}
	foreach(cell, nodes)
	{
		Watched    *node = lfirst(cell);

		if (node->state)
			zodan_nodes_seen(node->id, node->state, node->problem.len ? node->problem.data : NULL);
	}
	proc_exit(0);
}

/*
 * Does all of it; the nodes are being checked when this returns.
 */
ZodanUpkeep
zodan_upkeep_run(void)
{
	ZodanUpkeep done = {0};
	BackgroundWorker worker;

	done.launcher_started = zodan_launcher_start();
	done.nodes = zodan_nodes_count();
	if (done.nodes > 0)
	{
		zodan_launcher_describe_worker(&worker, "upkeep", "zodan_upkeep_main");
		worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
		pfree(zodan_launcher_start_worker(&worker, "upkeep"));
	}
	zodan_work_sweep();
	if (zodan_retention > 0)
		done.requests_purged = zodan_queue_purge(zodan_retention);
	return done;
}
