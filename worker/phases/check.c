/*
 * check.c
 *		The phases check_versions and check_prerequisites.
 *
 * A check is a row of a table: a statement that is run on the nodes it is
 * about and returns a row (found, expected, what to do, and maybe whether it
 * may go away by itself) for each thing that is wrong. So every failure is found
 * and listed, on all nodes, in one go; the first phase only ends the request
 * where the second could say nothing.
 */
#include "phases/check.h"

#include "base/dsn.h"
#include "base/retry.h"
#include "cluster/claim.h"
#include "cluster/kept.h"
#include "copy/copy.h"
#include "copy/schema.h"
#include "engine/wal.h"
#include "queue/queue.h"
#include "remote/query.h"
#include "utils/builtins.h"

/* how often what may go away by itself is checked again: that takes some minutes */
#define CHECKED_AGAIN	10

/* which nodes a check is about */
#define ON_SOURCE	0x1
#define ON_PEERS	0x2
#define ON_NEW		0x4
#define ON_MEMBERS	(ON_SOURCE | ON_PEERS)
#define ON_ALL		(ON_MEMBERS | ON_NEW)

typedef struct Check
{
	const char *name;
	int			nodes;
	const char *from_source;	/* its value is p.source, as json; or NULL */
	const char *sql;			/* {e} the engine, {status}, {node_id}, ...: see expand() */
} Check;

/* what every check can refer to */
static const char *const parameters =
"WITH p AS (SELECT $1::text AS node, $2::text AS new_node, $3::text[] AS slots, $4::text[] AS origins,"
" $5::int AS need_slots, $6::int AS need_origins, $7::int AS need_senders, $8::int AS need_workers,"
" $9::json AS source, $10::text[] AS members, $11::text AS plugin, $12::text AS foreign_schemas,"
" $13::text[] AS sets) ";

static const Check version_checks[] = {
	{
		"postgresql_version", ON_ALL, NULL,
		"SELECT 'PostgreSQL ' || current_setting('server_version'), 'PostgreSQL 15.13 or newer', 'Upgrade the server.'"
		" FROM p WHERE current_setting('server_version_num')::int < 150013"
	},
	{
		"postgresql_major", ON_NEW,
		"SELECT pg_catalog.to_json(current_setting('server_version_num')::int / 10000)",
		"SELECT 'PostgreSQL ' || current_setting('server_version'), format('PostgreSQL %s or newer, as on the source', source),"
		" 'Install that version on the new node.'"
		" FROM p WHERE current_setting('server_version_num')::int / 10000 < source::text::int"
	},
	{
		"engine_version", ON_ALL,
		"SELECT pg_catalog.to_json(pg_catalog.string_to_array(extversion, '.')) FROM pg_catalog.pg_extension WHERE extname = '{e}'",
		"SELECT coalesce('{e} ' || x.extversion, 'no extension {e}'), format('{e} %s.%s.%s, or another patch level; on the new node not an older one', source ->> 0, source ->> 1, source ->> 2),"
		" 'Install that version and CREATE EXTENSION {e}, or ALTER EXTENSION {e} UPDATE.'"
		" FROM p LEFT JOIN pg_catalog.pg_extension x ON x.extname = '{e}'"
		" WHERE x.extversion IS NULL"
		"    OR split_part(x.extversion, '.', 1) <> source ->> 0 OR split_part(x.extversion, '.', 2) <> source ->> 1"
		"    OR (node = new_node AND (substring(split_part(x.extversion, '.', 3) FROM '^\\d+'))::int < (substring(source ->> 2 FROM '^\\d+'))::int)"
	},
};

static const Check prerequisite_checks[] = {
	{
		"superuser", ON_ALL, NULL,
		"SELECT 'role ' || current_user, 'a superuser', 'Use a DSN with a superuser: positions are set by functions that only they may call.'"
		" FROM p WHERE NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
	},
	{
		"node_identity", ON_MEMBERS, NULL,
		"SELECT coalesce('node ' || n.node_name, 'no node'), 'node ' || node, 'Correct the node''s name or its DSN.'"
		" FROM p LEFT JOIN {e}.local_node l ON true LEFT JOIN {e}.node n ON n.node_id = l.node_id"
		" WHERE n.node_name IS DISTINCT FROM node"
	},
	{
		"already_a_node", ON_NEW, NULL,
		"SELECT 'node ' || n.node_name, 'a database that is not a node yet', 'Correct new_node_dsn, or drop the node there first.'"
		" FROM {e}.local_node l JOIN {e}.node n USING (node_id)"
	},
	{
		"new_node_subscriptions", ON_NEW, NULL,
		"SELECT 'subscription ' || sub_name, 'none', 'Drop it on the new node.' FROM {e}.subscription"
	},
	{
		"new_node_sets", ON_NEW, NULL,
		"SELECT 'replication set ' || set_name, 'none', 'Drop it on the new node.' FROM {e}.replication_set"
	},
	{
		"new_node_tables", ON_NEW, NULL,
		"SELECT format('table %I.%I', n.nspname, c.relname), 'an empty database', 'Drop the table, or use another database: its rows would mix with the source''s.'"
		"  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, p"
		" WHERE c.relkind IN ('r', 'p', 'f', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
		"   AND n.nspname <> ALL (foreign_schemas::text[])"
		"   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass"
		"                      AND d.objid = c.oid AND d.deptype = 'e')"
		" UNION ALL"
		" SELECT format('rows in %s', c.oid::regclass), 'an empty table', 'Empty it: the source''s rows take their place.'"
		"  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, p"
		" WHERE c.relkind = 'r' AND n.nspname = ANY (foreign_schemas::text[]) AND n.nspname <> ALL ('{uncopied}'::text[])"
		"   AND pg_catalog.pg_relation_size(c.oid) > 0"
		" ORDER BY 1 LIMIT 20"
	},
	{
		"name_in_use", ON_MEMBERS, NULL,
		"SELECT format('node %s (id %s)', n.node_name, n.node_id),"
		"       format('no node %s, and none with its id %s', new_node, {node_id}),"
		"       CASE WHEN n.node_name = new_node THEN 'Remove that node from the cluster, or choose another name.'"
		"            ELSE 'Choose another name for the new node.' END"
		"  FROM {e}.node n, p WHERE n.node_name = new_node OR n.node_id::text = {node_id}"
	},
	{
		"leftover_slots", ON_ALL, NULL,
		"SELECT 'slot ' || s.slot_name, 'none of that name', format('SELECT pg_drop_replication_slot(%L) on this node.', s.slot_name)"
		"  FROM pg_catalog.pg_replication_slots s, p WHERE s.slot_name = ANY (slots)"
	},
	{
		"leftover_origins", ON_ALL, NULL,
		"SELECT 'origin ' || o.roname, 'none of that name', format('SELECT pg_replication_origin_drop(%L) on this node.', o.roname)"
		"  FROM pg_catalog.pg_replication_origin o, p WHERE o.roname = ANY (origins)"
	},
	{
		"roles", ON_NEW,
		"SELECT coalesce(pg_catalog.json_agg(r), '[]') FROM (SELECT r.rolname, r.rolcanlogin,"
		"   CASE WHEN r.rolcanlogin THEN pg_catalog.concat_ws(' ', {role}) END AS attributes"
		"  FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_'"
		"   AND (r.rolcanlogin OR EXISTS (SELECT FROM pg_catalog.pg_shdepend d"
		"          WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = r.oid"
		"            AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))))) AS r",
		"SELECT CASE WHEN r.oid IS NULL THEN format('no role %I', s.rolname) ELSE format('role %I: %s', s.rolname, concat_ws(' ', {role})) END,"
		"       CASE WHEN r.oid IS NULL OR s.attributes IS NULL THEN 'the role that the source has' ELSE s.attributes END,"
		"       'Make the role on the new node as it is on the source (pg_dumpall --roles-only).'"
		"  FROM p, json_to_recordset(source) AS s(rolname name, rolcanlogin bool, attributes text)"
		"  LEFT JOIN pg_catalog.pg_roles r ON r.rolname = s.rolname"
		" WHERE r.oid IS NULL OR s.attributes <> concat_ws(' ', {role})"
	},
	{
		"encoding", ON_NEW, "SELECT pg_catalog.to_json(current_setting('server_encoding'))",
		"SELECT current_setting('server_encoding'), source #>> '{}', 'Create the new node''s database with the source''s encoding.'"
		"  FROM p WHERE current_setting('server_encoding') <> source #>> '{}'"
	},
	{
		"extensions", ON_NEW,
		"SELECT coalesce(pg_catalog.json_agg(extname), '[]') FROM pg_catalog.pg_extension WHERE extname NOT IN ('zodan_bgw', 'pg_cron')",
		"SELECT 'no extension ' || x, 'every extension of the source being available', 'Install its package on the new node.'"
		"  FROM p, json_array_elements_text(source) AS x"
		" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_available_extensions a WHERE a.name = x)"
	},
	{
		"plpgsql", ON_SOURCE | ON_NEW, NULL,
		"SELECT 'no language plpgsql', 'language plpgsql', 'CREATE EXTENSION plpgsql in this database: the copy uses it.'"
		" FROM p WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_language WHERE lanname = 'plpgsql')"
	},
	{
		"schema_in_use", ON_NEW,
		"SELECT coalesce(pg_catalog.json_agg(DISTINCT n.nspname), '[]') FROM {e}.replication_set_table t"
		"  JOIN pg_catalog.pg_class c ON c.oid = t.set_reloid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
		" WHERE n.nspname <> 'public'",
		"SELECT 'schema ' || n.nspname, 'no schema that has replicated tables on the source',"
		"       'Drop the schema on the new node: it would be left out of the copy, tables and all.'"
		"  FROM p, json_array_elements_text(source) AS x JOIN pg_catalog.pg_namespace n ON n.nspname = x"
		" WHERE n.nspname <> ALL (foreign_schemas::text[])"
	},
	{
		"engine_settings", ON_NEW,
		"SELECT coalesce(pg_catalog.json_object_agg(name, setting), '{}') FROM pg_catalog.pg_settings"
		" WHERE name LIKE '{e}.%' AND name NOT LIKE '%.temp_directory'",
		"SELECT format('%s = %s', g.name, g.setting), format('%s = %s, as on the source', s.key, s.value),"
		"       'Make the setting the same on both.'"
		"  FROM p, json_each_text(source) AS s JOIN pg_catalog.pg_settings g ON g.name = s.key"
		" WHERE g.setting <> s.value"
	},
	{
		"automatic_ddl", ON_ALL, NULL,
		"SELECT x.found, 'off', 'Turn it off on all nodes, and change no tables until the node has joined.'"
		"  FROM (SELECT format('%s = %s', name, setting) AS found FROM pg_catalog.pg_settings"
		"         WHERE name = '{ddl}' AND setting <> 'off'"
		"        UNION ALL"
		"        SELECT format('%s for role %s, database %s', c, coalesce(r.rolname, 'any'), coalesce(d.datname, 'any'))"
		"          FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole"
		"          LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS c"
		"         WHERE c LIKE '{ddl}=%' AND c !~* '=(off|false|no|0|f|n)$'"
		"           AND (d.datname IS NULL OR d.datname = current_database())) AS x"
	},
	{
		"subscriptions", ON_MEMBERS, NULL,
		"SELECT 'no subscription to node ' || m, 'every node subscribing to every other', 'Create the missing subscription, or remove a node that is gone.', false"
		"  FROM p, unnest(members) AS m WHERE m <> node"
		"   AND NOT EXISTS (SELECT FROM {e}.subscription s JOIN {e}.node n ON n.node_id = s.sub_origin WHERE n.node_name = m)"
		" UNION ALL"
		" SELECT format('subscription %s is %s', s.sub_name, CASE WHEN s.sub_enabled THEN coalesce(t.status, 'unknown') ELSE 'disabled' END),"
		"        'replicating', 'Enable it, or look for the errors of its worker in the server log of this node.', s.sub_enabled"
		"   FROM {e}.subscription s LEFT JOIN ({status}) AS t(name, status) ON t.name = s.sub_name"
		"  WHERE NOT s.sub_enabled OR t.status IS DISTINCT FROM 'replicating'"
		" UNION ALL"
		" SELECT format('%s subscriptions to node %s: %s', count(*), n.node_name, string_agg(s.sub_name, ', ' ORDER BY s.sub_name)),"
		"        'one subscription to each node', 'Add the replication sets of all to one of them, and drop the others.', false"
		"   FROM {e}.subscription s JOIN {e}.node n ON n.node_id = s.sub_origin GROUP BY n.node_name HAVING count(*) > 1"
		" UNION ALL"
		" SELECT format('subscription %s with forward_origins %s', s.sub_name, s.sub_forward_origins), 'forward_origins {}',"
		"        'Make the subscription again with forward_origins {}: every node gets each change from where it was made.', false"
		"   FROM {e}.subscription s WHERE s.sub_forward_origins <> '{}'"
	},
	{
		"tables_of_sets", ON_PEERS, "SELECT coalesce(pg_catalog.json_agg(x.name), '[]') FROM ({published}) AS x(name, sets) WHERE x.sets && {source_sets}",
		"SELECT DISTINCT 'replicated table ' || x.name, 'no table that the source does not replicate',"
		"       'Add the table to the same replication set on the source, or remove it here: its rows are copied from the source.'"
		"  FROM p, ({published}) AS x(name, sets)"
		" WHERE x.sets && p.sets AND NOT EXISTS (SELECT FROM json_array_elements_text(source) AS s WHERE s = x.name)"
	},
	{
		"shared_streams", ON_MEMBERS, NULL,
		"SELECT 'slot ' || s.slot_name, 'a name that does not end in an underscore and digits',"
		"       'Make its subscription again under another name: the engine splits one stream among slots so named.'"
		"  FROM pg_catalog.pg_replication_slots s, p"
		" WHERE s.plugin = p.plugin AND s.database = current_database() AND s.slot_name ~ '{trapped}'"
	},
	{
		"setting", ON_ALL, NULL,
		"SELECT format('%s = %s', g.name, g.setting), format('%s = %s', x.name, x.wanted), format('Set %s = %s and restart the server.', x.name, x.wanted)"
		"  FROM (VALUES ('wal_level', 'logical'), ('track_commit_timestamp', 'on')) AS x(name, wanted)"
		"  JOIN pg_catalog.pg_settings g ON g.name = x.name WHERE g.setting <> x.wanted"
	},
	{
		/* a join's slots are read late, some never */
		"idle_slots", ON_SOURCE | ON_NEW, NULL,
		"SELECT format('idle_replication_slot_timeout = %s', current_setting(name)), '0', 'Set idle_replication_slot_timeout = 0 until the node has joined, and reload the server.'"
		"  FROM pg_catalog.pg_settings WHERE name = 'idle_replication_slot_timeout' AND setting <> '0'"
	},
	{
		"capacity", ON_ALL, NULL,
		"SELECT format('%s = %s, %s of them in use', x.name, x.total, x.used), format('%s more to be free', x.need),"
		"       format('Set %s to %s or more and restart the server.', x.name, x.used + x.need)"
		"  FROM (SELECT 'max_replication_slots' AS name, current_setting('max_replication_slots')::int AS total,"
		"               (SELECT count(*) FROM pg_catalog.pg_replication_slots) AS used, need_slots AS need FROM p"
		"        UNION ALL"
		"        SELECT g.name, g.setting::int, (SELECT count(*) FROM pg_catalog.pg_replication_origin_status), need_origins"
		"          FROM p, pg_catalog.pg_settings g WHERE g.name = CASE WHEN current_setting('server_version_num')::int < 180000"
		"                 THEN 'max_replication_slots' ELSE 'max_active_replication_origins' END"
		"        UNION ALL"
		"        SELECT 'max_wal_senders', current_setting('max_wal_senders')::int,"
		"               (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walsender'), need_senders FROM p"
		"        UNION ALL"
		"        SELECT 'max_worker_processes', current_setting('max_worker_processes')::int,"
		"               (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type NOT IN"
		"                  ('client backend', 'walsender', 'checkpointer', 'background writer', 'walwriter', 'archiver', 'startup',"
		"                   'walreceiver', 'autovacuum launcher', 'autovacuum worker', 'logger', 'slotsync worker',"
		"                   'walsummarizer', 'io worker', 'standalone backend')), need_workers FROM p) AS x"
		" WHERE x.total - x.used < x.need"
	},
	/* pg_dump locks all tables in one transaction; pg_restore may make, and an undo drops, all relations in one */
	{
		"locks", ON_SOURCE | ON_NEW,
		"SELECT pg_catalog.json_build_object('tables', count(*) FILTER (WHERE relkind IN ('r', 'p', 'f', 'v', 'm')), 'relations', count(*))"
		"  FROM pg_catalog.pg_class WHERE oid >= 16384",
		"SELECT format('room for %s locks (max_locks_per_transaction = %s)', x.locks * x.backends, x.locks),"
		"       format('room for %s, as many as there are %s', x.need, x.what),"
		"       format('Set max_locks_per_transaction to %s or more and restart the server.', (x.need + x.backends - 1) / x.backends)"
		"  FROM (SELECT current_setting('max_locks_per_transaction')::bigint AS locks,"
		"               (SELECT sum(setting::bigint)::bigint FROM pg_catalog.pg_settings"
		"                 WHERE name IN ('max_connections', 'max_prepared_transactions', 'max_worker_processes', 'max_wal_senders', 'autovacuum_worker_slots')"
		"                    OR (name = 'autovacuum_max_workers' AND current_setting('server_version_num')::int < 180000)) AS backends,"
		"               (source ->> CASE WHEN node = new_node THEN 'relations' ELSE 'tables' END)::bigint AS need,"
		"               CASE WHEN node = new_node THEN 'tables, indexes, views and sequences on the source' ELSE 'tables and views' END AS what"
		"          FROM p) AS x"
		" WHERE x.locks * x.backends < x.need"
	},
	{
		"output_plugin_libraries", ON_ALL, NULL,
		"SELECT format('output_plugin_libraries = %s', quote_literal(g.setting)), 'a list with ' || plugin,"
		"       format('Add %s to output_plugin_libraries and reload the server.', plugin)"
		"  FROM p, pg_catalog.pg_settings g WHERE g.name = 'output_plugin_libraries' AND NOT EXISTS"
		"       (SELECT FROM regexp_split_to_table(g.setting, ',') AS x WHERE trim(x, ' \"') IN (plugin, '$libdir/' || plugin))"
	},
	{
		"commit_labels", ON_SOURCE, NULL,
		"SELECT format('node %s has the id %s, which is also that of origin %s', n.node_name, n.node_id, o.roname),"
		"       'ids that tell the nodes'' commits apart', 'Use another node as the source.'"
		"  FROM {e}.node n JOIN pg_catalog.pg_replication_origin o ON o.roident::text = {label}"
		"  JOIN {e}.subscription s ON s.sub_slot_name = o.roname WHERE s.sub_origin <> n.node_id"
	},
};

static const char *const role_attributes =
"CASE WHEN r.rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,"
"CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN NOT r.rolinherit THEN 'NOINHERIT' END,"
"CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,"
"CASE WHEN r.rolreplication THEN 'REPLICATION' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,"
"CASE WHEN r.rolconnlimit <> -1 THEN 'CONNECTION LIMIT ' || r.rolconnlimit END,"
"'IN ROLE ' || (SELECT string_agg(DISTINCT quote_ident(g.rolname), ', ') FROM pg_catalog.pg_auth_members m"
"               JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid)";

/* what a node offers to others: tables, and the sets that each is in */
static const char *const published =
"SELECT format('%%I.%%I', n.nspname, c.relname), array_agg(s.set_name::text)"
"  FROM %s.replication_set_table t JOIN %s.replication_set s USING (set_id)"
"  JOIN %s.local_node l ON l.node_id = s.set_nodeid"
"  JOIN pg_catalog.pg_class c ON c.oid = t.set_reloid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
" GROUP BY n.nspname, c.relname";

/*
 * The text with its placeholders filled in; NULL if what it is about is
 * nothing that the engine has.
 */
static char *
expand(ZodanJob *job, const char *text)
{
	const ZodanEngine *engine = job->engine;
	const char *sets = ZODAN_SOURCE(job)->sets;
	const char *const names[] = {"{e}", "{status}", "{node_id}", "{ddl}", "{trapped}", "{label}", "{role}",
	"{published}", "{source_sets}", "{uncopied}"};
	const char *const values[] = {engine->name, engine->sub_status, engine->node_id, engine->ddl_setting,
		engine->trapped_slots, engine->commit_label, role_attributes,
		psprintf(published, engine->name, engine->name, engine->name),
		psprintf("%s::text[]", quote_literal_cstr(sets ? sets : "{}")), engine->uncopied_schemas};
	StringInfoData buf;

	initStringInfo(&buf);
	while (*text)
	{
		int			i;

		for (i = 0; i < lengthof(names); i++)
			if (strncmp(text, names[i], strlen(names[i])) == 0)
				break;
		if (i == lengthof(names))
		{
			appendStringInfoChar(&buf, *text++);
			continue;
		}
		if (!values[i])
			return NULL;
		appendStringInfoString(&buf, values[i]);
		text += strlen(names[i]);
	}
	return buf.data;
}

static char *
array_literal(ZodanJob *job, size_t field)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < job->nmembers; i++)
	{
		const char *value = *(const char *const *) ((const char *) &job->members[i] + field);

		appendStringInfoString(&buf, i ? ",\"" : "{\"");
		for (const char *c = value ? value : ""; *c; c++)
		{
			if (*c == '"' || *c == '\\')
				appendStringInfoChar(&buf, '\\');
			appendStringInfoChar(&buf, *c);
		}
		appendStringInfoChar(&buf, '"');
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

/*
 * What the join will add to a node. An origin of Spock's may take a second
 * place after a crash. The source has more slots for a while: that by which the
 * new node catches up, that where its stream may begin, and temporary ones that
 * keep WAL, or snapshots: one for each lane of the copy, the current one, and
 * the next.
 */
static void
set_parameters(ZodanJob *job, ZodanCall *call, ZodanMember *m)
{
	int			n = job->nmembers;
	bool		source = m == ZODAN_SOURCE(job);
	int			per_origin = job->engine->states_per_origin;
	int			on_source = 4 + zodan_copy_lanes(job);

	call->nparams = 13;
	call->params[0] = m ? m->name : job->req->new_node_name;
	call->params[1] = job->req->new_node_name;
	call->params[2] = m ? psprintf("{%s,%s}", m->slot_in ? m->slot_in : "-", source && m->slot_first ? m->slot_first : "-") :
		array_literal(job, offsetof(ZodanMember, slot_out));
	call->params[3] = m ? psprintf("{%s}", m->slot_out ? m->slot_out : "-") : array_literal(job, offsetof(ZodanMember, slot_in));
	if (!m && ZODAN_SOURCE(job)->slot_first)
		call->params[3] = psprintf("{%s,%s", ZODAN_SOURCE(job)->slot_first, call->params[3] + 1);
	call->params[4] = psprintf("%d", m ? (source ? on_source : 1) : n);
	call->params[5] = psprintf("%d", m ? per_origin : (n + 1) * per_origin + zodan_copy_lanes(job));
	call->params[6] = psprintf("%d", m ? (source ? on_source - 1 : 1) : n);
	call->params[7] = psprintf("%d", m ? 1 : n + 1);
	call->params[9] = array_literal(job, offsetof(ZodanMember, name));
	call->params[10] = job->engine->plugin;
	call->params[11] = job->engine->foreign_schemas;
	call->params[12] = m && m->sets ? m->sets : "{}";
}

/*
 * Runs the checks, each on all nodes that it is about and that can be reached,
 * the nodes side by side.
 */
static void
run_checks(ZodanJob *job, const Check *checks, int nchecks)
{
	ZodanCall  *calls = palloc0(sizeof(ZodanCall) * nchecks * (job->nmembers + 1));
	const Check **whose = palloc(sizeof(Check *) * nchecks * (job->nmembers + 1));
	int			n = 0;

	for (int c = 0; c < nchecks; c++)
	{
		const Check *check = &checks[c];
		char	   *sql = expand(job, check->sql);
		char	   *from_source = NULL;

		if (!sql)
			continue;
		if (check->from_source)
			from_source = zodan_query_value(&ZODAN_SOURCE(job)->conn, expand(job, check->from_source), 0);
		for (int i = 0; i <= job->nmembers; i++)
		{
			ZodanMember *m = i < job->nmembers ? &job->members[i] : NULL;
			int			which = !m ? ON_NEW : i == 0 ? ON_SOURCE : ON_PEERS;
			ZodanConn  *conn = m ? &m->conn : &job->new_conn;

			if (!(check->nodes & which) || !conn->pg)
				continue;
			set_parameters(job, &calls[n], m);
			calls[n].params[8] = from_source;
			calls[n].conn = conn;
			calls[n].sql = psprintf("%s%s", parameters, sql);
			calls[n].go_on = true;
			whose[n++] = check;
		}
	}
	zodan_remote_run(calls, n, ZODAN_USUAL_TIMEOUT);
	for (int i = 0; i < n; i++)
	{
		PGresult   *result = calls[i].result;

		/* no such table: the engine isn't there, which has been listed */
		if (calls[i].error && calls[i].sqlstate != ERRCODE_UNDEFINED_TABLE &&
			calls[i].sqlstate != ERRCODE_INVALID_SCHEMA_NAME)
			zodan_journal_check_failure(job->req, job->req->phase, whose[i]->name, calls[i].conn->node, calls[i].error,
								"an answer", "Correct what the message says.", zodan_retry_is_transient(calls[i].sqlstate));
		for (int row = 0; result && row < PQntuples(result); row++)
			zodan_journal_check_failure(job->req, job->req->phase, whose[i]->name, calls[i].conn->node,
								zodan_dsn_redact_text(&job->session.secrets, PQgetvalue(result, row, 0)),
								zodan_dsn_redact_text(&job->session.secrets, PQgetvalue(result, row, 1)), PQgetvalue(result, row, 2),
								PQnfields(result) > 3 && PQgetvalue(result, row, 3)[0] == 't');
		PQclear(result);
	}
	pfree(calls);
	pfree(whose);
}

/*
 * A server that isn't there, or isn't ready yet, may come back; what one says
 * of the database or the password stays as it is.
 */
static void
check_connection(ZodanJob *job, ZodanConn *conn, const char *field)
{
	if (!conn->pg)
		zodan_journal_check_failure(job->req, job->req->phase, "connection", conn->node, conn->error, "a connection",
							psprintf("Start the server or correct %s; its database must exist.", field),
							zodan_retry_is_transient(conn->sqlstate));
	else if (atoi(zodan_query_value(conn, "SELECT pg_catalog.pg_backend_pid()", 0)) != PQbackendPID(conn->pg))
		zodan_journal_check_failure(job->req, job->req->phase, "connection", conn->node, "a connection pooler", "a connection to the server itself",
							psprintf("Correct %s: it must lead to the server.", field), false);
}

static void
check_connections(ZodanJob *job)
{
	check_connection(job, &ZODAN_SOURCE(job)->conn, "src_dsn");
	for (int i = 0; i < ZODAN_NPEERS(job); i++)
		check_connection(job, &ZODAN_PEERS(job)[i].conn,
						 psprintf("the DSN in the source's catalog, or give one in options.peer_dsns.\"%s\"", ZODAN_PEERS(job)[i].name));
	check_connection(job, &job->new_conn, "new_node_dsn");
}

/*
 * Ends the request if anything was found so far. Unless only the checks were
 * asked for, a node that isn't there is waited for, as everywhere; what else may
 * go away by itself is looked at some times more: a node that was restarted a
 * moment ago needs a while to get its subscriptions going.
 * last: nothing else is looked at later; else what isn't transient waits for that.
 */
static void
raise_failures(ZodanJob *job, bool last)
{
	int			count;
	int			transient;
	char	   *summary = zodan_journal_check_summary(job->req, &count, &transient);
	bool		again = count > 0 && count == transient && strcmp(job->req->operation, "check") != 0 &&
		(!zodan_cluster_complete(job) || zodan_journal_phase_transient(job->req, job->req->phase) <= CHECKED_AGAIN);

	job->session.transient |= again;
	if (again || (last && count > 0))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%d %s failed:\n%s", count, count == 1 ? "check has" : "checks have", summary),
				 errhint("SELECT node, check_name, found, expected, what_to_do FROM zodan.check_failures WHERE request_id = " INT64_FORMAT "; %s.",
						 job->req->id, again ? "they may go away by themselves, and are checked again; else cancel the request" : "correct them and file the request again")));
}

/*
 * Another request may have the new node, by whatever name and connection string.
 */
static void
check_claim(ZodanJob *job)
{
	char	   *mark = job->new_conn.pg ? zodan_claim_of_other(job) : NULL;
	char	   *rival;

	if (!mark)
		return;
	rival = zodan_queue_request_of(pnstrdup(mark, strcspn(mark, "/")));
	zodan_journal_check_failure(job->req, job->req->phase, "claimed", job->new_conn.node,
						rival ? psprintf("the mark of %s", rival) : psprintf("the mark of another coordinator's request (%s)", mark),
						"a database that no other request adds to a cluster",
						rival ? "Wait for that request, or cancel it." :
						psprintf("Wait for that request or cancel it, on its coordinator. If that is gone for good, remove the node by zodan.remove_node(); if it was removed, ALTER DATABASE %s RESET zodan.claim.",
								 zodan_query_quote(job->new_dbname)), false);
}

/*
 * What the new node has must not have the name of something that is to be made.
 */
static void
check_objects(ZodanJob *job)
{
	ZodanConn  *source = &ZODAN_SOURCE(job)->conn;
	char	   *own;
	PGresult   *result;

	if (!source->pg || !job->new_conn.pg)
		return;
	own = zodan_schema_own_schemas(job);
	result = zodan_kept_conflicts(source, zodan_kept_objects(&job->new_conn), own ? own : "{}", job->engine->foreign_schemas);
	for (int i = 0; i < PQntuples(result); i++)
		zodan_journal_check_failure(job->req, job->req->phase, "new_node_objects", job->new_conn.node, PQgetvalue(result, i, 0),
							"nothing of that name but on the source", "Drop it on the new node: the join makes it, as it is on the source.", false);
	PQclear(result);
}

/*
 * Everything that a join needs besides versions that go together, on the nodes
 * that can be reached.
 */
static void
look_at_prerequisites(ZodanJob *job)
{
	ZodanConn  *conns[] = {&ZODAN_SOURCE(job)->conn, &job->new_conn};

	run_checks(job, prerequisite_checks, lengthof(prerequisite_checks));
	check_claim(job);
	check_objects(job);
	for (int i = 0; i < job->nmembers; i++)
		if (job->engine->alone_on_server && job->new_conn.pg && job->members[i].conn.pg &&
			zodan_query_same_server(&job->new_conn, &job->members[i].conn, false))
			zodan_journal_check_failure(job->req, job->req->phase, "same_server", job->new_conn.node, psprintf("the server of node %s", job->members[i].name),
								"a server of its own", "Use another server: the nodes' replication origins would be in each other's way.", false);
	for (int i = 0; i < lengthof(conns); i++)
	{
		ZodanCall	call = {.conn = conns[i]};

		if (call.conn->pg && !zodan_wal_readable(&call))
			zodan_journal_check_failure(job->req, job->req->phase, "pg_walinspect", call.conn->node, call.error,
								"the library of pg_walinspect", "Install the server's contrib modules on this node.",
								zodan_retry_is_transient(call.sqlstate));
	}
}

/*
 * All nodes answer, and their versions go together.
 */
void
zodan_check_versions(ZodanJob *job)
{
	char	   *tools;

	zodan_journal_forget_check_failures(job->req, job->req->phase);
	check_connections(job);
	if (!job->engine)
	{
		if (ZODAN_SOURCE(job)->conn.pg)
			zodan_journal_check_failure(job->req, job->req->phase, "engine_version", ZODAN_SOURCE(job)->name, "neither",
								"the extension spock or pglogical", "Name a node of the cluster as the source.", false);
		raise_failures(job, true);
	}
	run_checks(job, version_checks, lengthof(version_checks));
	if (job->new_conn.pg)
	{
		tools = zodan_schema_check_tools(job, job->new_conn.version);
		if (tools)
			zodan_journal_check_failure(job->req, job->req->phase, "programs", "the coordinator", tools,
								psprintf("pg_dump and pg_restore of PostgreSQL %d, as the new node is", job->new_conn.version / 10000),
								"Install them and set zodan.bindir to their directory.", false);
	}
	/* it isn't run again once it is done; without all nodes it isn't done, and what else is wrong is told now */
	if (!zodan_cluster_complete(job))
		look_at_prerequisites(job);
	raise_failures(job, !zodan_cluster_complete(job));
	zodan_job_detail(job, 1, psprintf("%s; existing nodes: %s", job->engine->name, zodan_cluster_names(job)));
}

/*
 * Phase: everything else that a join needs.
 */
void
zodan_check_prerequisites(ZodanJob *job)
{
	zodan_journal_forget_check_failures(job->req, job->req->phase);
	/* one that was there for check_versions may not be now */
	check_connections(job);
	look_at_prerequisites(job);
	raise_failures(job, true);
	zodan_job_detail(job, 1, "all checks passed");
}
