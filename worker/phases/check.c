/*
 * check.c
 *		The phases check_versions and check_prerequisites.
 *
 * A check is a row of a table: a statement, sql/check_NAME.sql, that is run on
 * the nodes it is about and returns a row (found, expected, what to do, and
 * maybe whether it may go away by itself) for each thing that is wrong. So every
 * failure is found and listed, on all nodes, in one go; the first phase only
 * ends the request where the second could say nothing.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/check.h"

#include "base/dsn.h"
#include "base/retry.h"
#include "cluster/claim.h"
#include "cluster/kept.h"
#include "copy/lanes.h"
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
	const char *sql;			/* with p and placeholders: see sql/check_parameters.sql */
} Check;

static const char *const parameters =
#include "sql/check_parameters.h"
		   ;

static const Check version_checks[] = {
	{
		"postgresql_version", ON_ALL, NULL,
#include "sql/check_postgresql_version.h"
	},
	{
		"postgresql_major", ON_NEW,
		"SELECT pg_catalog.to_json(current_setting('server_version_num')::int / 10000)",
#include "sql/check_postgresql_major.h"
	},
	{
		"engine_version", ON_ALL,
		"SELECT pg_catalog.to_json(pg_catalog.string_to_array(extversion, '.')) FROM pg_catalog.pg_extension WHERE extname = '{e}'",
#include "sql/check_engine_version.h"
	},
};

static const Check prerequisite_checks[] = {
	{
		"superuser", ON_ALL, NULL,
#include "sql/check_superuser.h"
	},
	{
		"node_identity", ON_MEMBERS, NULL,
#include "sql/check_node_identity.h"
	},
	{
		"already_a_node", ON_NEW, NULL,
#include "sql/check_already_a_node.h"
	},
	{
		"new_node_subscriptions", ON_NEW, NULL,
#include "sql/check_new_node_subscriptions.h"
	},
	{
		"new_node_sets", ON_NEW, NULL,
#include "sql/check_new_node_sets.h"
	},
	{
		"new_node_tables", ON_NEW, NULL,
#include "sql/check_new_node_tables.h"
	},
	{
		"name_in_use", ON_MEMBERS, NULL,
#include "sql/check_name_in_use.h"
	},
	{
		"leftover_slots", ON_ALL, NULL,
#include "sql/check_leftover_slots.h"
	},
	{
		"leftover_origins", ON_ALL, NULL,
#include "sql/check_leftover_origins.h"
	},
	{
		"roles", ON_NEW,
#include "sql/check_roles_source.h"
		,
#include "sql/check_roles.h"
	},
	{
		"encoding", ON_NEW,
		"SELECT pg_catalog.to_json(current_setting('server_encoding'))",
#include "sql/check_encoding.h"
	},
	{
		"extensions", ON_NEW,
		"SELECT coalesce(pg_catalog.json_agg(extname), '[]') FROM pg_catalog.pg_extension WHERE extname NOT IN ('zodan_bgw', 'pg_cron')",
#include "sql/check_extensions.h"
	},
	{
		"plpgsql", ON_SOURCE | ON_NEW, NULL,
#include "sql/check_plpgsql.h"
	},
	{
		"schema_in_use", ON_NEW,
#include "sql/check_schema_in_use_source.h"
		,
#include "sql/check_schema_in_use.h"
	},
	{
		"engine_settings", ON_NEW,
#include "sql/check_engine_settings_source.h"
		,
#include "sql/check_engine_settings.h"
	},
	{
		"automatic_ddl", ON_ALL, NULL,
#include "sql/check_automatic_ddl.h"
	},
	{
		"subscriptions", ON_MEMBERS, NULL,
#include "sql/check_subscriptions.h"
	},
	{
		"tables_of_sets", ON_PEERS,
		"SELECT coalesce(pg_catalog.json_agg(x.name), '[]') FROM ({published}) AS x(name, sets) WHERE x.sets && {source_sets}",
#include "sql/check_tables_of_sets.h"
	},
	{
		"triggers", ON_SOURCE, NULL,
#include "sql/check_triggers.h"
	},
	{
		"shared_streams", ON_MEMBERS, NULL,
#include "sql/check_shared_streams.h"
	},
	{
		"setting", ON_ALL, NULL,
#include "sql/check_setting.h"
	},
	{
		"idle_slots", ON_SOURCE | ON_NEW, NULL,
#include "sql/check_idle_slots.h"
	},
	{
		"capacity", ON_ALL, NULL,
#include "sql/check_capacity.h"
	},
	{
		"locks", ON_SOURCE | ON_NEW,
#include "sql/check_locks_source.h"
		,
#include "sql/check_locks.h"
	},
	{
		"output_plugin_libraries", ON_ALL, NULL,
#include "sql/check_output_plugin_libraries.h"
	},
	{
		"exception_logging", ON_ALL, NULL,
#include "sql/check_exception_logging.h"
	},
	{
		"commit_labels", ON_SOURCE, NULL,
#include "sql/check_commit_labels.h"
	},
};

static const char *const role_attributes =
#include "sql/check_role_attributes.h"
		   ;

static const char *const published =
#include "sql/check_published.h"
		   ;

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
set_parameters(ZodanJob *job, ZodanCall *call, ZodanMember *m, const char *accepted_triggers)
{
	int			n = job->nmembers;
	bool		source = m == ZODAN_SOURCE(job);
	int			per_origin = job->engine->states_per_origin;
	int			on_source = 4 + zodan_lanes_count(job);

	call->nparams = 14;
	call->params[0] = m ? m->name : job->req->new_node_name;
	call->params[1] = job->req->new_node_name;
	call->params[2] = m ? psprintf("{%s,%s}", m->slot_in ? m->slot_in : "-", source && m->slot_first ? m->slot_first : "-") :
		array_literal(job, offsetof(ZodanMember, slot_out));
	call->params[3] = m ? psprintf("{%s}", m->slot_out ? m->slot_out : "-") : array_literal(job, offsetof(ZodanMember, slot_in));
	if (!m && ZODAN_SOURCE(job)->slot_first)
		call->params[3] = psprintf("{%s,%s", ZODAN_SOURCE(job)->slot_first, call->params[3] + 1);
	call->params[4] = psprintf("%d", m ? (source ? on_source : 1) : n);
	call->params[5] = psprintf("%d", m ? per_origin : (n + 1) * per_origin + zodan_lanes_count(job));
	call->params[6] = psprintf("%d", m ? (source ? on_source - 1 : 1) : n);
	call->params[7] = psprintf("%d", m ? 1 : n + 1);
	call->params[9] = array_literal(job, offsetof(ZodanMember, name));
	call->params[10] = job->engine->plugin;
	call->params[11] = job->engine->foreign_schemas;
	call->params[12] = m && m->sets ? m->sets : "{}";
	call->params[13] = accepted_triggers;
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
	const char *accepted_triggers = zodan_request_option_array(job->req, "accept_triggers");
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
			set_parameters(job, &calls[n], m, accepted_triggers ? accepted_triggers : "{}");
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
