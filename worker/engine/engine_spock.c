/*
 * engine_spock.c
 *		What is Spock's own (5.x and 6.x).
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "engine/engine.h"

const ZodanEngine zodan_engine_spock = {
	.name = "spock",
	.plugin = "spock_output",
	.foreign_schemas = "{spock,snowflake,lolor,pgedge_ace}",
	.uncopied_schemas = "{spock,snowflake,pgedge_ace}",

	.node_create = {"SELECT spock.node_create(node_name := $1, dsn := $2, location := $3,"
	" country := $4, info := $5::jsonb)", 5},
	.node_drop = {"SELECT spock.node_drop($1, true)", 1},

	/* made disabled it counts as synchronized, and makes its origin itself */
	.sub_create = {
		{"SELECT spock.sub_create(subscription_name := $1, provider_dsn := $2,"
			" replication_sets := $3::text[], synchronize_structure := false,"
			" synchronize_data := false, forward_origins := $4::text[], apply_delay := '0',"
		" force_text_transfer := false, enabled := false, skip_schema := '{}')", 4},
	},
	.sub_disable = {"SELECT spock.sub_disable($1, false)", 1},
	.sub_enable = {"SELECT spock.sub_enable(sub_name, false) FROM spock.subscription"
	" WHERE sub_name = ANY ($1::pg_catalog.name[]) AND NOT sub_enabled", 1},
	.sub_touch = {
		{"SELECT spock.sub_add_repset(sub_name, 'zodan') FROM spock.subscription WHERE sub_name = $1 AND NOT sub_enabled", 1},
		{"SELECT spock.sub_remove_repset(sub_name, 'zodan') FROM spock.subscription WHERE sub_name = $1 AND NOT sub_enabled", 1},
	},
	.sub_drop = {"SELECT spock.sub_drop($1, true)", 1},
	.sub_status = "SELECT subscription_name, status FROM spock.sub_show_status()",
	.slot_name = "SELECT spock.spock_gen_slot_name($1, $2, $3)",

	.set_create = "spock.repset_create(x.set_name, x.replicate_insert, x.replicate_update,"
	" x.replicate_delete, x.replicate_truncate)",
	.set_alter = "spock.repset_alter(x.set_name, x.replicate_insert, x.replicate_update,"
	" x.replicate_delete, x.replicate_truncate)",
	/* the partitions that are in the set are listed, so none is added by itself */
	.set_add_table = "spock.repset_add_table(x.set_name, x.relation::regclass, false, x.columns,"
	" x.row_filter, false)",
	.set_add_sequence = "spock.repset_add_seq(x.set_name, x.relation::regclass, false)",
	.table_info = "spock.repset_show_table(t.set_reloid, $1::text[])",

	.node_id = "(pg_catalog.hashtext(p.new_node) & 65535)::text",
	.truncates_heirs = false,
	.commit_label = "n.node_id::text",
	.labels_by_origin = true,
	.states_per_origin = 2,
	.alone_on_server = false,
	.loses_workers = false,
	.ddl_setting = "spock.enable_ddl_replication",
	.exceptions = "SELECT count(*) FROM spock.exception_log",
	.last_exceptions = "SELECT pg_catalog.string_agg(x, '; ') FROM"
	" (SELECT pg_catalog.format('%s of %s.%s in transaction %s of %s', operation, table_schema, table_name, remote_xid, remote_commit_ts) AS x"
	"    FROM spock.exception_log ORDER BY retry_errored_at DESC, command_counter LIMIT 5) AS l",
	.trapped_slots = "_[0-9]+$",
};
