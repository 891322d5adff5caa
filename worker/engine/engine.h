/*
 * engine.h
 *		What differs between the replication engines: SQL texts.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_ENGINE_H
#define ZODAN_ENGINE_H

#include "remote/remote.h"

#define ZODAN_MAX_SUB_STEPS	4

/* the name of the slot of a subscription whose worker nobody is to start: there is none */
#define ZODAN_SEALED	"zodan_sealed"

typedef struct ZodanEngine
{
	const char *name;			/* the extension's, and its schema's */
	const char *plugin;			/* the output plugin */
	const char *foreign_schemas;	/* array literal: schemas whose structure isn't copied */
	const char *uncopied_schemas;	/* those of them whose rows aren't copied either, being each node's own */
	ZodanChange node_create;	/* name, dsn, location, country, info */
	ZodanChange node_drop;		/* name */
	/* name, provider's dsn, sets, origins to forward; all steps in one transaction */
	ZodanChange sub_create[ZODAN_MAX_SUB_STEPS];
	ZodanChange sub_enable;		/* array literal of names; leaves those alone that are enabled, for their
								 * workers would be ended */
	ZodanChange sub_disable;	/* name */
	ZodanChange sub_drop;		/* name */
	ZodanChange sub_touch[2];	/* name: change it unless it's enabled, and change it back; in one transaction */
	const char *sub_status;		/* no parameter: rows of name and status */
	const char *slot_name;		/* database, provider, subscription */
	const char *set_create;		/* the columns of a set, by name: see engine.c */
	const char *set_alter;
	const char *set_add_table;
	const char *set_add_sequence;
	const char *table_info;		/* a FROM item: of relation t.set_reloid in the sets $1 */
	const char *node_id;		/* expression: the id that the node p.new_node would get */
	bool		truncates_heirs;	/* a TRUNCATE that it applies also empties the tables that inherit */
	const char *commit_label;	/* expression: what else labels node n's commits, or NULL */
	bool		labels_by_origin;	/* a forwarded commit is labelled with an id of its first origin's */
	int			states_per_origin;	/* places that an origin may take on its server */
	bool		alone_on_server;	/* two nodes of a cluster can't be on one server, whose origins they would share */
	bool		loses_workers;	/* may take an apply worker that runs for dead: see zodan_engine_sub_lost() */
	const char *ddl_setting;	/* replicates DDL by itself, and must be off; or NULL */
	const char *exceptions;		/* rows that were discarded; or NULL */
	const char *last_exceptions;	/* query: some of them, as text without values of rows */
	const char *trapped_slots;	/* pattern of slot names that share one stream; or NULL */
} ZodanEngine;

/* A subscription to make */
typedef struct ZodanSubscription
{
	ZodanConn  *subscriber;
	const char *name;
	const char *provider_dsn;
	const char *sets;			/* array literal */
	const char *forward;		/* array literal: {} or {all} */
	const char *slot;
} ZodanSubscription;

extern const ZodanEngine zodan_engine_spock;
extern const ZodanEngine zodan_engine_pglogical;

extern const ZodanEngine *zodan_engine_named(const char *name);
extern const ZodanEngine *zodan_engine_find(ZodanConn *conn);
extern void zodan_engine_keep_ddl(const ZodanEngine *engine, ZodanConn *conn);
extern char *zodan_engine_sql(const ZodanEngine *engine, const char *text);

extern bool zodan_engine_node_exists(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern void zodan_engine_node_create(const ZodanEngine *engine, ZodanConn *conn, const char *name,
									 const char *dsn, const char *location, const char *country,
									 const char *info);
extern void zodan_engine_node_drop(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern char *zodan_engine_node_dsn(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern bool zodan_engine_knows_others(const ZodanEngine *engine, ZodanConn *conn);
extern char *zodan_engine_local_node(const ZodanEngine *engine, ZodanConn *conn);
extern bool zodan_engine_sub_exists(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern bool zodan_engine_sub_enabled(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern void zodan_engine_sub_create_disabled(const ZodanEngine *engine, ZodanSubscription *subs, int nsubs, bool transient);
extern void zodan_engine_sub_enable(const ZodanEngine *engine, ZodanCall *calls, int ncalls);
extern void zodan_engine_sub_disable(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern void zodan_engine_sub_drop(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern void zodan_engine_sub_wake_manager(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern bool zodan_engine_sub_started(const ZodanEngine *engine, ZodanConn *conn, const char *names, int *running);
extern char *zodan_engine_sub_lost(const ZodanEngine *engine, ZodanConn *conn);
extern void zodan_engine_sub_end_workers(const ZodanEngine *engine, ZodanConn *conn);
extern void zodan_engine_sub_seal(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern void zodan_engine_sub_unseal(const ZodanEngine *engine, ZodanConn *conn, const char *name, const char *slot);
extern bool zodan_engine_sub_sealed(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern void zodan_engine_sub_gate(const ZodanEngine *engine, ZodanConn *gate);
extern bool zodan_engine_sub_at_gate(const ZodanEngine *engine, ZodanConn *conn, const char *name, const ZodanConn *gate);
extern void zodan_engine_sub_forget_passed(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern bool zodan_engine_sub_skips(const ZodanEngine *engine, ZodanConn *conn, const char *name);
extern void zodan_engine_sub_skip_until(const ZodanEngine *engine, ZodanConn *conn, const char *name,
										const char *tables);
extern char *zodan_engine_sets(const ZodanEngine *engine, ZodanConn *conn);
extern void zodan_engine_sets_mirror(const ZodanEngine *engine, ZodanConn *from, ZodanConn *to,
									 const char *skipped_schemas);

#endif							/* ZODAN_ENGINE_H */
