/*
 * foreign_keys.c
 *		The source's foreign keys, which are added to the new node before its
 *		first apply worker runs, and checked when it has caught up.
 *
 * Where tables were copied under different snapshots, they are added only when
 * all of them have been brought to the same point: until then a TRUNCATE of two
 * tables, one of which is past it, empties the other alone, which a key that
 * refers to it would refuse.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/foreign_keys.h"

#include "lib/stringinfo.h"
#include "remote/query.h"

/* One of the source's; all names quoted */
typedef struct ForeignKey
{
	const char *table;
	const char *references;
	const char *name;
	const char *definition;
	bool		validated;
	bool		partitioned;	/* the table that has it */
} ForeignKey;

/* pauses before tables are tried to be locked again, before rows are looked for again */
#define LOCK_RETRY_MS		5
#define VIOLATION_RETRY_MS	1000

static const char *const keys_query =
#include "sql/foreign_keys.h"
		   ;

/*
 * Returns the source's foreign keys, and in *n how many there are. Those of
 * partitions that come with their table's are not among them.
 */
static ForeignKey *
foreign_keys(ZodanJob *job, const char *skipped_schemas, int *n)
{
	PGresult   *result;
	ForeignKey *keys;

	result = zodan_query(&ZODAN_SOURCE(job)->conn, keys_query, 2, skipped_schemas, job->engine->foreign_schemas);
	*n = PQntuples(result);
	keys = palloc(sizeof(ForeignKey) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		keys[i] = (ForeignKey)
	{
		.table = zodan_query_field(result, i, 0),.references = zodan_query_field(result, i, 1),
			.name = zodan_query_field(result, i, 2),.definition = zodan_query_field(result, i, 3),
			.validated = PQgetvalue(result, i, 4)[0] == 't',.partitioned = PQgetvalue(result, i, 5)[0] == 't'
	};
	PQclear(result);
	/* on a node that replicates DDL by itself, this must stay here */
	if (*n > 0 && job->engine->ddl_setting)
		PQclear(zodan_query(&job->new_conn, "SELECT pg_catalog.set_config($1, 'off', false)", 1,
							job->engine->ddl_setting));
	return keys;
}

/*
 * A check of existing rows follows later: so nothing but the key itself is
 * made here. A table that is partitioned can't have one of that kind.
 */
static bool
is_checked_at_once(const ForeignKey *key)
{
	return key->validated && key->partitioned;
}

static char *
add_statement(const ForeignKey *key)
{
	return psprintf("ALTER TABLE %s ADD CONSTRAINT %s %s%s", key->table, key->name, key->definition,
					key->validated && !key->partitioned ? " NOT VALID" : "");
}

static bool
has_foreign_key(ZodanJob *job, const ForeignKey *key)
{
	return zodan_query_value(&job->new_conn, "SELECT 1 FROM pg_catalog.pg_constraint"
							 " WHERE conrelid = $1::pg_catalog.regclass AND conname = (pg_catalog.parse_ident($2))[1] AND contype = 'f'",
							 2, key->table, key->name) != NULL;
}

/*
 * Adds the source's foreign keys to the new node, without looking at the rows
 * that are there. Locks tables as the apply workers do, and so must run before
 * there are any: a worker and this could wait for each other, and Spock drops
 * a transaction that a deadlock has ended.
 */
void
zodan_foreign_keys_add(ZodanJob *job, const char *skipped_schemas)
{
	int			n;
	ForeignKey *keys = foreign_keys(job, skipped_schemas, &n);

	for (int i = 0; i < n; i++)
	{
		ForeignKey *key = &keys[i];

		if (!is_checked_at_once(key) && !has_foreign_key(job, key))
			PQclear(zodan_query(&job->new_conn, add_statement(key), 0));
	}
}

/*
 * Lets go of tables whoever holds them without need.
 */
static void
cancel_autovacuum(ZodanJob *job, const ForeignKey *key)
{
	PQclear(zodan_query(&job->new_conn,
						"SELECT pg_catalog.pg_cancel_backend(a.pid)"
						"  FROM pg_catalog.pg_stat_activity a"
						" WHERE a.backend_type = 'autovacuum worker'"
						"   AND EXISTS (SELECT FROM pg_catalog.pg_locks l"
						"                WHERE l.pid = a.pid AND l.relation IN"
						"                      (SELECT $1::pg_catalog.regclass UNION SELECT $2::pg_catalog.regclass"
						"                       UNION SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.regclass)"
						"                       UNION SELECT relid FROM pg_catalog.pg_partition_tree($2::pg_catalog.regclass)))",
						2, key->table, key->references));
}

/*
 * Runs statements about one foreign key in one transaction, beginning with
 * those that lock tables. Apply workers are at work meanwhile: so all locks are
 * taken first, and none is waited for. While changes are still on their way,
 * rows may be there before those that they refer to: then it's tried again.
 */
static void
run_locked(ZodanJob *job, const ForeignKey *key, const char *statements)
{
	ZodanDeadline deadline = zodan_session_deadline(&job->session);

	/* several statements sent as one are one transaction; what comes of it is no news for the log */
	char	   *sql = psprintf("SET LOCAL log_min_messages = fatal; %s", statements);

	for (;;)
	{
		ZodanCall	call = {.conn = &job->new_conn,.sql = sql};

		zodan_remote_run(&call, 1, ZODAN_NO_TIMEOUT);
		if (!call.error)
		{
			PQclear(call.result);
			return;
		}
		if (zodan_wait_passed(deadline))
			zodan_remote_raise(&call);
		if (call.sqlstate == ERRCODE_LOCK_NOT_AVAILABLE)
		{
			cancel_autovacuum(job, key);
			zodan_wait_sleep(&job->session.waiter, LOCK_RETRY_MS);
		}
		else if (call.sqlstate == ERRCODE_FOREIGN_KEY_VIOLATION)
		{
			zodan_job_report(job, psprintf("foreign key %s of %s waits for rows that are on their way: %s",
										   key->name, key->table, call.error));
			zodan_wait_sleep(&job->session.waiter, VIOLATION_RETRY_MS);
		}
		else
			zodan_remote_raise(&call);
	}
}

/*
 * Adds those of the source's foreign keys to the new node that aren't there
 * yet, and checks all but those that the source hasn't checked either; returns
 * how many it has.
 */
int
zodan_foreign_keys_check(ZodanJob *job, const char *skipped_schemas)
{
	int			n;
	ForeignKey *keys = foreign_keys(job, skipped_schemas, &n);

	for (int i = 0; i < n; i++)
	{
		ForeignKey *key = &keys[i];

		if (!has_foreign_key(job, key))
			run_locked(job, key, psprintf("LOCK TABLE %s, %s IN SHARE ROW EXCLUSIVE MODE NOWAIT; %s",
										  key->table, key->references, add_statement(key)));
		if (key->validated && !is_checked_at_once(key))
			run_locked(job, key, psprintf("LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;"
										  " LOCK TABLE %s IN ROW SHARE MODE NOWAIT; ALTER TABLE %s VALIDATE CONSTRAINT %s",
										  key->table, key->references, key->table, key->name));
	}
	return n;
}
