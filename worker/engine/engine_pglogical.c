/*
 * engine_pglogical.c
 *		What is pglogical's own (2.4).
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "engine/engine.h"

const ZodanEngine zodan_engine_pglogical = {
	.name = "pglogical",
	.plugin = "pglogical_output",
	.foreign_schemas = "{pglogical,pglogical_origin}",
	.uncopied_schemas = "{pglogical,pglogical_origin}",

	.node_create = {"SELECT pglogical.create_node($1, $2)", 2},
	.node_drop = {"SELECT pglogical.drop_node($1, true)", 1},

	/* it can't be made disabled, nor without asking for an initial synchronization */
	.sub_create = {
		{"SELECT pglogical.create_subscription(subscription_name := $1, provider_dsn := $2,"
			" replication_sets := $3::text[], synchronize_structure := false,"
		" synchronize_data := false, forward_origins := $4::text[])", 4},
		{"SELECT pglogical.alter_subscription_disable($1, false)", 1},
		{"UPDATE pglogical.local_sync_status SET sync_status = 'r' WHERE sync_subid ="
		" (SELECT sub_id FROM pglogical.subscription WHERE sub_name = $1)", 1},
		{"SELECT pg_catalog.pg_replication_origin_create(s.sub_slot_name)"
		" FROM pglogical.subscription s WHERE sub_name = $1", 1},
	},
	.sub_disable = {"SELECT pglogical.alter_subscription_disable($1, false)", 1},
	.sub_enable = {"SELECT pglogical.alter_subscription_enable(sub_name, false) FROM pglogical.subscription"
	" WHERE sub_name = ANY ($1::pg_catalog.name[]) AND NOT sub_enabled", 1},
	.sub_touch = {
		{"SELECT pglogical.alter_subscription_add_replication_set(sub_name, 'zodan') FROM pglogical.subscription"
		" WHERE sub_name = $1 AND NOT sub_enabled", 1},
		{"SELECT pglogical.alter_subscription_remove_replication_set(sub_name, 'zodan') FROM pglogical.subscription"
		" WHERE sub_name = $1 AND NOT sub_enabled", 1},
	},
	.sub_drop = {"SELECT pglogical.drop_subscription($1, true)", 1},
	.sub_status = "SELECT subscription_name, status FROM pglogical.show_subscription_status()",
	.slot_name = "SELECT pglogical.pglogical_gen_slot_name($1, $2, $3)",

	.set_create = "pglogical.create_replication_set(x.set_name, x.replicate_insert,"
	" x.replicate_update, x.replicate_delete, x.replicate_truncate)",
	.set_alter = "pglogical.alter_replication_set(x.set_name, x.replicate_insert,"
	" x.replicate_update, x.replicate_delete, x.replicate_truncate)",
	.set_add_table = "pglogical.replication_set_add_table(x.set_name, x.relation::regclass, false,"
	" x.columns, x.row_filter)",
	.set_add_sequence = "pglogical.replication_set_add_sequence(x.set_name, x.relation::regclass, false)",
	.table_info = "pglogical.show_repset_table_info(t.set_reloid, $1::text[])",

	.node_id = "pg_catalog.hashtext(p.new_node)::pg_catalog.oid::text",
	.truncates_heirs = true,
	.commit_label = "NULL",
	.states_per_origin = 1,
	.alone_on_server = true,
	.loses_workers = true,
	.ddl_setting = NULL,
	.exceptions = NULL,
	.last_exceptions = NULL,
	.trapped_slots = NULL,
};
