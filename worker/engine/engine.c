/*
 * engine.c
 *		What the replication engines have in common: the shape of their
 *		catalogs, which differ by the schema's name only. In the statements
 *		below {e} stands for that.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "engine/engine.h"

#include "remote/change.h"
#include "remote/query.h"

#include "utils/builtins.h"

/* how long the reader of a slot is waited for */
#define READER_LEAVES_MS	10000
#define READER_POLL_MS		500

/* how long a worker has to be running, while its subscription is down, to count as lost */
#define LOST_AFTER			"2 s"

static const char *const skip_statement =
#include "sql/engine_skip_until.h"
		   ;

static const ZodanEngine *const engines[] = {&zodan_engine_spock, &zodan_engine_pglogical};

/*
 * The engine of that name; NULL: there is none.
 */
const ZodanEngine *
zodan_engine_named(const char *name)
{
	for (int i = 0; i < lengthof(engines); i++)
		if (strcmp(engines[i]->name, name) == 0)
			return engines[i];
	return NULL;
}

/*
 * The engine whose extension is in the database, one with a local node being
 * preferred; NULL: none.
 */
const ZodanEngine *
zodan_engine_find(ZodanConn *conn)
{
	const ZodanEngine *found = NULL;

	for (int i = 0; i < lengthof(engines); i++)
	{
		if (!zodan_query_value(conn, "SELECT 1 FROM pg_catalog.pg_extension WHERE extname = $1", 1, engines[i]->name))
			continue;
		if (zodan_query_value(conn, zodan_engine_sql(engines[i], "SELECT 1 FROM {e}.local_node"), 0))
			return engines[i];
		if (!found)
			found = engines[i];
	}
	return found;
}

/*
 * The text with the engine's name for each {e}, palloc'd.
 */
char *
zodan_engine_sql(const ZodanEngine *engine, const char *text)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (const char *c = text; *c; c++)
	{
		if (strncmp(c, "{e}", 3) == 0)
		{
			appendStringInfoString(&buf, engine->name);
			c += 2;
		}
		else
			appendStringInfoChar(&buf, *c);
	}
	return buf.data;
}

/*
 * Does a node know a node of that name?
 */
bool
zodan_engine_node_exists(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	return zodan_query_value(conn, zodan_engine_sql(engine, "SELECT 1 FROM {e}.node WHERE node_name = $1"),
							 1, name) != NULL;
}

/*
 * Does a node know any node but itself?
 */
bool
zodan_engine_knows_others(const ZodanEngine *engine, ZodanConn *conn)
{
	return zodan_query_value(conn, zodan_engine_sql(engine, "SELECT 1 FROM {e}.node WHERE node_id NOT IN (SELECT node_id FROM {e}.local_node) LIMIT 1"), 0) != NULL;
}

/*
 * The name of the node that the database of conn is; NULL: it's none.
 */
char *
zodan_engine_local_node(const ZodanEngine *engine, ZodanConn *conn)
{
	return zodan_query_value(conn, zodan_engine_sql(engine, "SELECT n.node_name FROM {e}.local_node l JOIN {e}.node n USING (node_id)"), 0);
}

/*
 * Makes the database of conn a node. info is JSON.
 */
void
zodan_engine_node_create(const ZodanEngine *engine, ZodanConn *conn, const char *name, const char *dsn,
						 const char *location, const char *country, const char *info)
{
	PQclear(zodan_change_make(conn, engine->node_create, name, dsn, location, country, info));
}

/*
 * Drops a node's entry. The engine doesn't as long as a slot there is in use,
 * and the reader of one whose subscription has just been dropped, or was just
 * being set up, takes a moment to leave.
 */
void
zodan_engine_node_drop(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	ZodanDeadline deadline = zodan_wait_deadline(READER_LEAVES_MS);
	int			poll_ms = 20;

	for (;;)
	{
		ZodanCall	call = {.conn = conn,.change = engine->node_drop,.params = {name}};

		zodan_change_all(&call, 1);
		PQclear(call.result);
		if (!call.error)
			return;
		if (call.sqlstate != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE && call.sqlstate != ERRCODE_OBJECT_IN_USE)
			zodan_remote_raise(&call);
		if (zodan_wait_passed(deadline))
		{
			/* it may yet do so */
			call.transient = true;
			zodan_remote_raise(&call);
		}
		zodan_wait_sleep(&conn->session->waiter, poll_ms);
		poll_ms = Min(poll_ms * 2, READER_POLL_MS);
	}
}

/*
 * Has a node a subscription of that name?
 */
bool
zodan_engine_sub_exists(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	return zodan_query_value(conn, zodan_engine_sql(engine, "SELECT 1 FROM {e}.subscription WHERE sub_name = $1"),
							 1, name) != NULL;
}

/*
 * Has it one that is enabled?
 */
bool
zodan_engine_sub_enabled(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	return zodan_query_value(conn, zodan_engine_sql(engine, "SELECT 1 FROM {e}.subscription WHERE sub_name = $1 AND sub_enabled"),
							 1, name) != NULL;
}

/*
 * Makes subscriptions, on different nodes side by side, each disabled and such
 * that enabling it only starts to stream.
 *
 * Making one connects from the subscriber to the provider and back: what goes
 * wrong there is raised; that they can't connect, which has no SQLSTATE of its
 * own, as a transient error if transient is true.
 */
void
zodan_engine_sub_create_disabled(const ZodanEngine *engine, ZodanSubscription *subs, int nsubs, bool transient)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * Max(nsubs * ZODAN_MAX_SUB_STEPS, 1));
	int			n = 0;

	/* one transaction a node: with each the engine looks after all databases of the server */
	for (int i = 0; i < nsubs; i++)
		for (int step = 0; step < ZODAN_MAX_SUB_STEPS && engine->sub_create[step].text; step++)
			calls[n++] = (ZodanCall)
		{
			.conn = subs[i].subscriber,.change = engine->sub_create[step],
				.params = {subs[i].name, subs[i].provider_dsn, subs[i].sets, subs[i].forward}
		};
	zodan_change_all(calls, n);
	for (int i = 0; i < n; i++)
		calls[i].transient = transient && calls[i].error && calls[i].sqlstate == ERRCODE_INTERNAL_ERROR && strstr(calls[i].error, "could not connect");
	zodan_remote_raise_any(calls, n);
	for (int i = 0; i < n; i++)
		PQclear(calls[i].result);

	/* the positions of a join hang on these names, and on the state being "ready" */
	memset(calls, 0, sizeof(ZodanCall) * nsubs);
	for (int i = 0; i < nsubs; i++)
	{
		calls[i].conn = subs[i].subscriber;
		calls[i].sql = zodan_engine_sql(engine,
										"SELECT 1 FROM {e}.subscription s JOIN {e}.local_sync_status y ON y.sync_subid = s.sub_id"
										" WHERE s.sub_name = $1 AND s.sub_slot_name = $2 AND NOT s.sub_enabled"
										"   AND y.sync_relname IS NULL AND y.sync_status = 'r'"
										"   AND pg_catalog.pg_replication_origin_oid(s.sub_slot_name) IS NOT NULL");
		calls[i].nparams = 2;
		calls[i].params[0] = subs[i].name;
		calls[i].params[1] = subs[i].slot;
	}
	zodan_query_all(calls, nsubs);
	for (int i = 0; i < nsubs; i++)
	{
		if (PQntuples(calls[i].result) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\": subscription \"%s\" was made, but is not disabled and ready",
							subs[i].subscriber->node, subs[i].name),
					 errhint("Cancel the request, and report this with the server log of that node.")));
		PQclear(calls[i].result);
	}
	pfree(calls);
}

/*
 * Wakes the engine's manager on a node. When it has started a worker, it
 * sleeps for a second, unless woken, before it sees that the worker runs, and
 * for so long keeps the lock that making, enabling and disabling need.
 *
 * Changing a subscription wakes it and needs no such lock; it would also end
 * the subscription's worker, so the one named here must be disabled, else
 * nothing happens.
 */
void
zodan_engine_sub_wake_manager(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	ZodanCall	calls[lengthof(engine->sub_touch)];

	for (int i = 0; i < lengthof(calls); i++)
		calls[i] = (ZodanCall)
	{
		.conn = conn,.change = engine->sub_touch[i],.params = {name}
	};
	zodan_change_all(calls, lengthof(calls));
	zodan_remote_raise_any(calls, lengthof(calls));
	for (int i = 0; i < lengthof(calls); i++)
		PQclear(calls[i].result);
}

/*
 * Enables subscriptions, on different nodes side by side: a call's connection
 * says on which node, its first parameter which (an array literal of names).
 * Those that are enabled are left alone.
 */
void
zodan_engine_sub_enable(const ZodanEngine *engine, ZodanCall *calls, int ncalls)
{
	for (int i = 0; i < ncalls; i++)
		calls[i].change = engine->sub_enable;
	zodan_change_all(calls, ncalls);
	zodan_remote_raise_any(calls, ncalls);
	for (int i = 0; i < ncalls; i++)
		PQclear(calls[i].result);
}

/*
 * The connection string by which a node knows another one; NULL: it doesn't.
 */
char *
zodan_engine_node_dsn(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	return zodan_query_value(conn, zodan_engine_sql(engine,
													"SELECT i.if_dsn FROM {e}.node n JOIN {e}.node_interface i"
													"    ON i.if_nodeid = n.node_id AND i.if_name = n.node_name"
													" WHERE n.node_name = $1"), 1, name);
}

/*
 * What is done in the session stays on its node, where the engine would replicate
 * changes of structure by itself.
 */
void
zodan_engine_keep_ddl(const ZodanEngine *engine, ZodanConn *conn)
{
	if (engine->ddl_setting)
		PQclear(zodan_query(conn, "SELECT pg_catalog.set_config($1, 'off', false)", 1, engine->ddl_setting));
}

/*
 * Disables a subscription; its worker ends a little later.
 */
void
zodan_engine_sub_disable(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	PQclear(zodan_change_make(conn, engine->sub_disable, name));
}

/*
 * Drops a subscription if it's there. The engine drops its slot on the provider,
 * too, if that can be reached, and its origin.
 */
void
zodan_engine_sub_drop(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	if (zodan_engine_sub_exists(engine, conn, name))
		PQclear(zodan_change_make(conn, engine->sub_drop, name));
}

/*
 * Have all of the subscriptions (an array literal of names) a worker, and has
 * the manager seen that, so that it holds no lock? Stores how many have one.
 */
bool
zodan_engine_sub_started(const ZodanEngine *engine, ZodanConn *conn, const char *names, int *running)
{
	PGresult   *result;
	bool		started;

	result = zodan_query(conn, zodan_engine_sql(engine,
												"SELECT count(a.*), count(a.*) = count(*) AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l"
												"                  WHERE l.relation = '{e}.local_node'::pg_catalog.regclass AND l.granted"
												"                    AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid <> pg_catalog.pg_backend_pid()"
												"                    AND l.database = (SELECT oid FROM pg_catalog.pg_database"
												"                                       WHERE datname = pg_catalog.current_database()))"
												"  FROM {e}.subscription s LEFT JOIN pg_catalog.pg_stat_activity a"
												"    ON a.backend_type LIKE '{e} apply %:' || s.sub_id AND a.datname = pg_catalog.current_database()"
												" WHERE s.sub_name = ANY ($1::pg_catalog.name[])"), 1, names);
	*running = atoi(PQgetvalue(result, 0, 0));
	started = PQgetvalue(result, 0, 1)[0] == 't';
	PQclear(result);
	return started;
}

/*
 * A subscription that is down although its apply worker runs: when it starts
 * several in the same moment the engine can give the place of one to another.
 * The one without a place streams on, but can't be told to end any more, and
 * those that are to replace it can't have its origin. NULL: there is none.
 */
char *
zodan_engine_sub_lost(const ZodanEngine *engine, ZodanConn *conn)
{
	if (!engine->loses_workers)
		return NULL;
	return zodan_query_value(conn, zodan_engine_sql(engine, psprintf(
																	 "SELECT s.sub_name FROM {e}.subscription s JOIN (%s) AS x(name, status) ON x.name = s.sub_name"
																	 "  JOIN pg_catalog.pg_stat_activity a"
																	 "    ON a.backend_type LIKE '{e} apply %%:' || s.sub_id AND a.datname = pg_catalog.current_database()"
																	 " WHERE x.status = 'down'"
																	 "   AND a.backend_start < pg_catalog.clock_timestamp() - interval '" LOST_AFTER "' LIMIT 1",
																	 engine->sub_status)), 0);
}

/*
 * Ends all apply workers of a node's database; the engine starts them again
 * within seconds. All, since the end of one that it has lost sight of takes the
 * place of another with it. The lock keeps the manager from starting any before
 * all are gone, which could be lost in the same way, and before what they have
 * applied is flushed: it would be confirmed to the provider as if it were.
 */
void
zodan_engine_sub_end_workers(const ZodanEngine *engine, ZodanConn *conn)
{
	PQclear(zodan_query(conn, zodan_engine_sql(engine,
											   "BEGIN; LOCK TABLE {e}.local_node IN SHARE UPDATE EXCLUSIVE MODE;"
											   " SELECT pg_catalog.pg_terminate_backend(pid, 3000) FROM pg_catalog.pg_stat_activity"
											   " WHERE backend_type LIKE '{e} apply %' AND datname = pg_catalog.current_database();"
											   " SELECT pg_catalog.pg_logical_emit_message(true, 'zodan', 'flush'); COMMIT"), 0));
}

/*
 * A worker first reads what its subscription's slot is, then the state of its
 * synchronization, and only then connects. So whoever holds the gate, from
 * zodan_engine_sub_gate() until the end of that transaction, has every worker that is
 * started wait there, with the slot's name in mind.
 */
void
zodan_engine_sub_gate(const ZodanEngine *engine, ZodanConn *gate)
{
	PQclear(zodan_query(gate, "BEGIN", 0));
	PQclear(zodan_query(gate, zodan_engine_sql(engine, "LOCK TABLE {e}.local_sync_status IN SHARE MODE"), 0));
}

/*
 * Does the worker of a subscription wait at the gate?
 */
bool
zodan_engine_sub_at_gate(const ZodanEngine *engine, ZodanConn *conn, const char *name, const ZodanConn *gate)
{
	return zodan_query_value(conn, zodan_engine_sql(engine,
													"SELECT 1 FROM {e}.subscription s JOIN pg_catalog.pg_stat_activity a"
													"    ON a.backend_type LIKE '{e} apply %:' || s.sub_id AND a.datname = pg_catalog.current_database()"
													" WHERE s.sub_name = $1 AND $2::int = ANY (pg_catalog.pg_blocking_pids(a.pid))"),
							 2, name, psprintf("%d", PQbackendPID(gate->pg))) != NULL;
}

/*
 * Seals a subscription: a worker that runs, or waits at the gate, isn't
 * concerned, but none can start any more, for there is no slot, and no origin,
 * of the name that it finds.
 */
void
zodan_engine_sub_seal(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	PQclear(zodan_query(conn, zodan_engine_sql(engine,
											   "UPDATE {e}.subscription SET sub_slot_name = '" ZODAN_SEALED "' WHERE sub_name = $1"), 1, name));
}

/*
 * Takes the seal off, if there is one; slot is its slot's name.
 */
void
zodan_engine_sub_unseal(const ZodanEngine *engine, ZodanConn *conn, const char *name, const char *slot)
{
	PQclear(zodan_query(conn, zodan_engine_sql(engine,
											   "UPDATE {e}.subscription SET sub_slot_name = $2"
											   " WHERE sub_name = $1 AND sub_slot_name = '" ZODAN_SEALED "'"), 2, name, slot));
}

/*
 * Is the subscription sealed? See zodan_engine_sub_seal().
 */
bool
zodan_engine_sub_sealed(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	return zodan_query_value(conn, zodan_engine_sql(engine,
													"SELECT 1 FROM {e}.subscription WHERE sub_name = $1 AND sub_slot_name = '" ZODAN_SEALED "'"),
							 1, name) != NULL;
}

/*
 * Forgets the states of tables that a subscription doesn't skip any more. Its
 * worker, which looks up each one that it does after each transaction, reads
 * them all whenever it changes one.
 */
void
zodan_engine_sub_forget_passed(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	PQclear(zodan_query(conn, zodan_engine_sql(engine,
											   "DELETE FROM {e}.local_sync_status y USING {e}.subscription s"
											   " WHERE s.sub_id = y.sync_subid AND s.sub_name = $1"
											   "   AND y.sync_relname IS NOT NULL AND y.sync_status = 'r'"), 1, name));
}

/*
 * Does a subscription still skip changes of some table?
 */
bool
zodan_engine_sub_skips(const ZodanEngine *engine, ZodanConn *conn, const char *name)
{
	return zodan_query_value(conn, zodan_engine_sql(engine,
													"SELECT 1 FROM {e}.local_sync_status y JOIN {e}.subscription s ON s.sub_id = y.sync_subid"
													" WHERE s.sub_name = $1 AND y.sync_status <> 'r' LIMIT 1"), 1, name) != NULL;
}

/*
 * Tells a subscription that doesn't run which tables it has to skip up to
 * which position, whatever it was told before: tables is a JSON array of
 * {nspname, relname, lsn}. It skips partitioned tables up to the last of these:
 * truncating one would empty all its partitions, wherever they stand, and the
 * partitions are named with it.
 */
void
zodan_engine_sub_skip_until(const ZodanEngine *engine, ZodanConn *conn, const char *name, const char *tables)
{
	PQclear(zodan_query(conn, zodan_engine_sql(engine, skip_statement), 2, name, tables));
}

/*
 * The sets that a node provides, as the literal of an array.
 */
char *
zodan_engine_sets(const ZodanEngine *engine, ZodanConn *conn)
{
	return zodan_query_value(conn, zodan_engine_sql(engine,
													"SELECT pg_catalog.array_agg(r.set_name ORDER BY r.set_name)"
													"  FROM {e}.replication_set r JOIN {e}.local_node l ON l.node_id = r.set_nodeid"), 0);
}

/*
 * Makes the sets of one node those of another: the sets with what they
 * replicate, their tables with column lists and row filters, their sequences.
 * Relations in skipped_schemas (an array literal) stay out. What is there
 * already is left alone, so that this can be done again.
 */
void
zodan_engine_sets_mirror(const ZodanEngine *engine, ZodanConn *from, ZodanConn *to,
						 const char *skipped_schemas)
{
	char	   *sets;
	char	   *tables;
	char	   *sequences;

	sets = zodan_query_value(from, zodan_engine_sql(engine,
													"SELECT coalesce(pg_catalog.json_agg(r), '[]')"
													"  FROM {e}.replication_set r JOIN {e}.local_node l ON l.node_id = r.set_nodeid"), 0);
	tables = zodan_query_value(from, zodan_engine_sql(engine,
													  "SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('set_name', r.set_name,"
													  "         'relation', pg_catalog.format('%I.%I', n.nspname, c.relname), 'columns', t.set_att_list,"
													  "         'row_filter', pg_catalog.pg_get_expr(t.set_row_filter, t.set_reloid))), '[]')"
													  "  FROM {e}.replication_set r JOIN {e}.local_node l ON l.node_id = r.set_nodeid"
													  "  JOIN {e}.replication_set_table t USING (set_id)"
													  "  JOIN pg_catalog.pg_class c ON c.oid = t.set_reloid"
													  "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
													  " WHERE n.nspname <> ALL ($1::text[])"), 1, skipped_schemas);
	sequences = zodan_query_value(from, zodan_engine_sql(engine,
														 "SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('set_name', r.set_name,"
														 "         'relation', pg_catalog.format('%I.%I', n.nspname, c.relname))), '[]')"
														 "  FROM {e}.replication_set r JOIN {e}.local_node l ON l.node_id = r.set_nodeid"
														 "  JOIN {e}.replication_set_seq t USING (set_id)"
														 "  JOIN pg_catalog.pg_class c ON c.oid = t.set_seqoid"
														 "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
														 " WHERE n.nspname <> ALL ($1::text[])"), 1, skipped_schemas);

#define SETS_ARE "pg_catalog.json_to_recordset($1::json) AS x(set_name name, replicate_insert bool," \
		" replicate_update bool, replicate_delete bool, replicate_truncate bool)"
#define LOCAL_SETS "{e}.replication_set r JOIN {e}.local_node l ON l.node_id = r.set_nodeid"
	PQclear(zodan_query(to, zodan_engine_sql(engine, psprintf(
															  "SELECT %s FROM " SETS_ARE
															  " WHERE NOT EXISTS (SELECT FROM " LOCAL_SETS " WHERE r.set_name = x.set_name)",
															  engine->set_create)), 1, sets));
	PQclear(zodan_query(to, zodan_engine_sql(engine, psprintf(
															  "SELECT %s FROM " SETS_ARE
															  " WHERE EXISTS (SELECT FROM " LOCAL_SETS " WHERE r.set_name = x.set_name"
															  "   AND (r.replicate_insert, r.replicate_update, r.replicate_delete, r.replicate_truncate)"
															  "    <> (x.replicate_insert, x.replicate_update, x.replicate_delete, x.replicate_truncate))",
															  engine->set_alter)), 1, sets));
	PQclear(zodan_query(to, zodan_engine_sql(engine, psprintf(
															  "SELECT %s FROM pg_catalog.json_to_recordset($1::json)"
															  "         AS x(set_name name, relation text, columns text[], row_filter text)"
															  " WHERE NOT EXISTS (SELECT FROM " LOCAL_SETS " JOIN {e}.replication_set_table t USING (set_id)"
															  "                    WHERE r.set_name = x.set_name AND t.set_reloid = x.relation::regclass)",
															  engine->set_add_table)), 1, tables));
	PQclear(zodan_query(to, zodan_engine_sql(engine, psprintf(
															  "SELECT %s FROM pg_catalog.json_to_recordset($1::json) AS x(set_name name, relation text)"
															  " WHERE NOT EXISTS (SELECT FROM " LOCAL_SETS " JOIN {e}.replication_set_seq t USING (set_id)"
															  "                    WHERE r.set_name = x.set_name AND t.set_seqoid = x.relation::regclass)",
															  engine->set_add_sequence)), 1, sequences));
#undef LOCAL_SETS
#undef SETS_ARE
}
