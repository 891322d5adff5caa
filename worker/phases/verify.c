/*
 * verify.c
 *		The phases check_replication and verify_rows: whether nodes have the same
 *		rows, while all of them are written to. In a join these are the source and
 *		the new node, or else all members of the cluster.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/verify.h"

#include "base/failpoint.h"
#include "copy/throttle.h"
#include "remote/query.h"
#include "utils/memutils.h"
#include "verify/blocks.h"
#include "verify/suspects.h"

static const char *const not_compared_query =
#include "sql/verify_not_compared.h"
		   ;

/* so many suspects aren't collected any further before they are looked at */
#define SUSPECTS_AT_ONCE	5000

/* of a sample: from how many places of each table; when it ends; in all */
#define SAMPLE_BLOCKS		4
#define SAMPLE_MS			60000
#define SAMPLE_KEYLESS		(64 * 1024 * 1024)	/* bytes of a table that is read as a whole */

/* how long to wait before rows that have changed are looked at again: first, at most */
#define AGAIN_FIRST_MS		200
#define AGAIN_LAST_MS		10000

/* What is compared, and how fast */
typedef struct Comparison
{
	ZodanMesh  *mesh;
	ZodanThrottle throttle;
	ZodanDeadline next_look;	/* when the throttle and the display are to be looked after */
	ZodanDeadline end;			/* of a sample; or never */
	int64		size;			/* of the tables that are left: bytes, */
	int64		size_done;		/* and of those of them that are done */
} Comparison;

/*
 * Tells of tables that other members replicate, and the source doesn't: nothing can be
 * said about their rows.
 */
static void
tell_not_compared(ZodanJob *job)
{
	char	   *compared = zodan_spi_one("SELECT coalesce(array_agg(format('%I.%I', nspname, relname)), '{}') FROM zodan.verify_tables WHERE request_id = $1::bigint", 1,
										 job->req->id_text)->value[0][0];

	for (int i = 1; i < job->nmembers; i++)
	{
		ZodanMember *m = &job->members[i];
		char	   *tables = zodan_query_value(&m->conn, zodan_engine_sql(job->engine, not_compared_query), 2, m->sets, compared);

		if (tables)
			zodan_journal_event(job->req, "warning", m->name, psprintf("tables that node %s does not replicate are not compared: %s", job->req->src_node_name, tables));
	}
}

/*
 * Phase: all nodes are there, and replicate from each other.
 */
void
zodan_verify_check(ZodanJob *job)
{
	zodan_cluster_require(job, true);
	if (job->nmembers < 2)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("node \"%s\" knows no other node: there is nothing to compare it with", job->req->src_node_name)));
	zodan_mesh_open(job, false);
	zodan_tables_list(job);
	tell_not_compared(job);
	zodan_journal_event(job->req, "info", NULL, psprintf("%d nodes: %s", job->nmembers, zodan_cluster_names(job)));
}

/*
 * Sets the rate, and shows how far it is, about once a second.
 */
static void
look_after(Comparison *c, const ZodanVerified *table)
{
	ZodanJob   *job = c->mesh->job;
	char	   *reason;

	if (!zodan_wait_passed(c->next_look))
		return;
	c->next_look = zodan_wait_deadline(1000);
	zodan_throttle_set(&c->throttle, zodan_request_copy_rate(job->req));
	zodan_throttle_watch(&c->throttle, job);
	reason = zodan_throttle_reason(&c->throttle);
	zodan_job_detail(job, (c->size_done + table->bytes_total * Min(1.0, table->rows / (double) Max(table->rows_expected, 1))) / Max(c->size, 1),
					 psprintf("table %s: " INT64_FORMAT " rows compared%s%s", table->name, table->rows, reason ? ", " : "", reason ? reason : ""));
}

/*
 * Looks at the suspects of a table; false: so many of its rows differ that the rest
 * isn't compared.
 */
static bool
settle_table(Comparison *c, const ZodanVerified *table)
{
	ZodanJob   *job = c->mesh->job;
	int			differing;

	zodan_suspects_settle(c->mesh, table);
	differing = zodan_suspects_differing(job->req, table);
	if (differing < ZODAN_DIFFERING_MAX)
		return true;
	zodan_journal_event(job->req, "warning", NULL, psprintf("table %s: at least %d rows differ; the rest of the table is not compared", table->name, differing));
	return false;
}

/*
 * Compares the next block of a table, as soon as the throttle allows it; false: there
 * is no other.
 */
static bool
compare_block(Comparison *c, ZodanVerified *table, int *suspects)
{
	ZodanJob   *job = c->mesh->job;
	int64		bytes;
	int			found;
	bool		more;

	for (;;)
	{
		look_after(c, table);
		if (zodan_throttle_budget(&c->throttle) > 0)
			break;
		zodan_wait_sleep(&job->session.waiter, 20);
	}
	ZODAN_FAILPOINT(job->req, "block", table->last_key ? "next" : "first");
	more = zodan_blocks_next(c->mesh, table, &bytes, &found);
	zodan_throttle_spend(&c->throttle, bytes);
	*suspects += found;
	return more;
}

/*
 * Compares what is left of a table.
 */
static void
compare_table(Comparison *c, ZodanVerified *table)
{
	int			suspects = 0;
	bool		more = true;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "block", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);

	zodan_tables_begin(c->mesh->job->req, table);
	while (more)
	{
		more = compare_block(c, table, &suspects);
		if (!more || suspects >= SUSPECTS_AT_ONCE)
		{
			suspects = 0;
			more = settle_table(c, table) && more;
		}
		MemoryContextReset(context);
	}
	ZODAN_FAILPOINT(c->mesh->job->req, "block", "last");
	zodan_tables_compared(c->mesh->job->req, table);
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
}

/*
 * Compares some blocks of a table.
 */
static void
sample_table(Comparison *c, ZodanVerified *table)
{
	List	   *keys = zodan_blocks_sample(c->mesh, table, SAMPLE_BLOCKS);
	int			suspects = 0;
	ListCell   *cell;

	/* an earlier process may have stored the end of a block of its own */
	table->last_key = NULL;
	zodan_tables_begin(c->mesh->job->req, table);
	foreach(cell, keys)
	{
		table->last_key = lfirst(cell);
		compare_block(c, table, &suspects);
	}
	settle_table(c, table);
	zodan_tables_compared(c->mesh->job->req, table);
}

/*
 * Compares the rows of the tables that are left, or some of them.
 */
static void
compare_tables(ZodanMesh *mesh)
{
	ZodanJob   *job = mesh->job;
	bool		sample = strcmp(job->req->verify, "sample") == 0;
	Comparison	c = {.mesh = mesh,.end = zodan_wait_deadline(sample ? SAMPLE_MS : -1)};
	List	   *tables = zodan_tables_left(job->req);
	ListCell   *cell;
	int			skipped = 0;

	zodan_throttle_start(&c.throttle);
	foreach(cell, tables)
		c.size += ((ZodanVerified *) lfirst(cell))->bytes_total;
	foreach(cell, tables)
	{
		ZodanVerified *table = lfirst(cell);

		/* what has no key is read as a whole */
		if (sample && (zodan_wait_passed(c.end) || (!table->key && table->bytes_total > SAMPLE_KEYLESS)))
			skipped++;
		else if (!table->compared)
			(sample ? sample_table : compare_table) (&c, table);
		c.size_done += table->bytes_total;
	}
	if (skipped > 0)
		zodan_journal_event(job->req, "warning", NULL, psprintf("%d of %d tables are not in the sample: the minute for it was over, or they are large and have no key",
																skipped, list_length(tables)));
}

/*
 * What the verification has found, for the request's end: an error if rows differ.
 */
static void
tell_result(ZodanMesh *mesh)
{
	ZodanJob   *job = mesh->job;
	char	   *result;
	char	  **v = zodan_spi_one("SELECT v.rows, v.tables_compared, v.differing, v.undecided,"
								  "       (SELECT string_agg(format('%s of table %I.%I', n, nspname, relname), ', ' ORDER BY n DESC, nspname, relname)"
								  "          FROM (SELECT d.nspname, d.relname, count(DISTINCT d.key) AS n FROM zodan.differences d"
								  "                 WHERE d.request_id = v.request_id GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 3) AS t),"
								  "       (SELECT string_agg(DISTINCT d.node, ', ') FROM zodan.differences d WHERE d.request_id = v.request_id)"
								  "  FROM zodan.verifications v WHERE v.request_id = $1::bigint", 1, job->req->id_text)->value[0];

	if (zodan_spi_int64(v[3]) > 0)
		zodan_journal_event(job->req, "warning", NULL,
							psprintf("%s rows kept changing until verify_timeout, or a transaction that may have changed them did not end: nothing can be said about them; zodan.verify_suspects names them",
									 v[3]));
	result = psprintf("%s rows of %s tables compared on %d nodes: %s differ, %s undecided", v[0], v[1], mesh->nnodes, v[2], v[3]);
	zodan_journal_event(job->req, "info", NULL, result);
	zodan_job_detail(job, 1, result);
	if (zodan_spi_int64(v[2]) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("%s rows differ from those of node \"%s\" on: %s (%s)", v[2], job->req->src_node_name, v[5], v[4]),
				 errhint("SELECT * FROM zodan.differences WHERE request_id = %s names them. Repair them, so that the repair is not replicated.",
						 job->req->id_text)));
}

/*
 * Looks again at rows that had changed whenever they were looked at, until all are
 * decided or verify_timeout has passed.
 */
static void
settle_all(ZodanMesh *mesh)
{
	ZodanJob   *job = mesh->job;
	ZodanDeadline deadline = zodan_wait_deadline(job->req->verify_timeout);
	int64		pause = AGAIN_FIRST_MS;

	for (;;)
	{
		List	   *tables = zodan_tables_left(job->req);
		ListCell   *cell;
		int			left = 0;

		foreach(cell, tables)
			left += zodan_suspects_settle(mesh, lfirst(cell));
		list_free(tables);
		if (left == 0 || zodan_wait_passed(deadline))
			break;
		zodan_job_detail(job, 1, psprintf("%d rows keep changing: they are looked at again", left));
		zodan_wait_sleep(&job->session.waiter, Min(pause, zodan_wait_left(deadline)));
		pause = Min(pause * 2, AGAIN_LAST_MS);
	}
}

/*
 * Phase: the rows are compared, if the request says so. What an earlier attempt has
 * found may have been repaired since.
 */
void
zodan_verify_rows(ZodanJob *job)
{
	ZodanMesh  *mesh;

	if (strcmp(job->req->verify, "none") == 0)
		return;
	zodan_cluster_require(job, true);
	mesh = zodan_mesh_open(job, strcmp(job->req->operation, "add_node") == 0);
	zodan_tables_list(job);
	zodan_suspects_reopen(job->req);
	compare_tables(mesh);
	settle_all(mesh);
	tell_result(mesh);
}
