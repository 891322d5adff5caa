/*
 * verify.c
 *		The phases check_replication, compare_rows and settle_rows: whether all nodes
 *		have the same rows, while all of them are written to.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/verify.h"

#include "base/failpoint.h"
#include "copy/throttle.h"
#include "utils/memutils.h"
#include "verify/blocks.h"
#include "verify/suspects.h"

/* so many suspects aren't collected any further before they are looked at */
#define SUSPECTS_AT_ONCE	5000

/* so many rows of a table differ that the rest of it isn't compared */
#define DIFFERING_MAX		10000

/* how long to wait before rows that have changed are looked at again: first, at most */
#define AGAIN_FIRST_MS		200
#define AGAIN_LAST_MS		10000

/* What is compared, and how fast */
typedef struct Comparison
{
	ZodanMesh  *mesh;
	ZodanThrottle throttle;
	ZodanDeadline next_look;	/* when the throttle and the display are to be looked after */
	int64		size;			/* of the tables that are left: bytes, */
	int64		size_done;		/* and of those of them that are done */
} Comparison;

/*
 * The nodes that are compared: all, each of which must have answered.
 */
static ZodanMesh *
open_mesh(ZodanJob *job)
{
	ZodanMesh  *mesh;

	zodan_cluster_require(job, true);
	mesh = zodan_mesh_open(job);
	zodan_mesh_pin(mesh);
	return mesh;
}

/*
 * Phase: all nodes are there, and the tables to compare are listed.
 */
void
zodan_verify_check(ZodanJob *job)
{
	ZodanMesh  *mesh = open_mesh(job);

	zodan_tables_list(job);
	zodan_journal_event(job->req, "info", NULL, psprintf("%d nodes: %s", mesh->nnodes, zodan_cluster_names(job)));
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
	if (differing < DIFFERING_MAX)
		return true;
	zodan_journal_event(job->req, "warning", NULL, psprintf("table %s: at least %d rows differ; the rest of the table is not compared", table->name, differing));
	return false;
}

/*
 * Compares what is left of a table.
 */
static void
compare_table(Comparison *c, ZodanVerified *table)
{
	ZodanJob   *job = c->mesh->job;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "block", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	int			suspects = 0;
	bool		more = true;

	zodan_tables_begin(job->req, table);
	while (more)
	{
		int64		bytes;
		int			found;

		MemoryContextReset(context);
		look_after(c, table);
		if (zodan_throttle_budget(&c->throttle) == 0)
		{
			zodan_wait_sleep(&job->session.waiter, 20);
			continue;
		}
		ZODAN_FAILPOINT(job->req, "block", table->relname);
		more = zodan_blocks_next(c->mesh, table, &bytes, &found);
		zodan_throttle_spend(&c->throttle, bytes);
		suspects += found;
		if (suspects < SUSPECTS_AT_ONCE && more)
			continue;
		suspects = 0;
		more = settle_table(c, table) && more;
	}
	zodan_tables_compared(job->req, table);
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
}

/*
 * Phase: the rows of all tables.
 */
void
zodan_verify_compare(ZodanJob *job)
{
	Comparison	c = {.mesh = open_mesh(job)};
	List	   *tables = zodan_tables_left(job->req);
	ListCell   *cell;

	zodan_throttle_start(&c.throttle);
	foreach(cell, tables)
		c.size += ((ZodanVerified *) lfirst(cell))->bytes_total;
	foreach(cell, tables)
	{
		ZodanVerified *table = lfirst(cell);

		if (!table->compared)
			compare_table(&c, table);
		c.size_done += table->bytes_total;
	}
}

/*
 * What the verification has found, for the request's end: an error if rows differ.
 */
static void
tell_result(ZodanJob *job)
{
	char	  **v = zodan_spi_one("SELECT v.rows, v.tables, v.differing, v.undecided,"
								  "       (SELECT string_agg(format('%s of table %I.%I', n, nspname, relname), ', ' ORDER BY n DESC, nspname, relname)"
								  "          FROM (SELECT d.nspname, d.relname, count(DISTINCT d.key) AS n FROM zodan.differences d"
								  "                 WHERE d.request_id = v.request_id GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 3) AS t),"
								  "       (SELECT string_agg(DISTINCT d.node, ', ') FROM zodan.differences d WHERE d.request_id = v.request_id)"
								  "  FROM zodan.verifications v WHERE v.request_id = $1::bigint", 1, job->req->id_text)->value[0];

	if (zodan_spi_int64(v[3]) > 0)
		zodan_journal_event(job->req, "warning", NULL,
							psprintf("%s rows kept changing until verify_timeout, or a transaction that may have changed them did not end: nothing can be said about them; zodan.verify_suspects names them",
									 v[3]));
	zodan_job_detail(job, 1, psprintf("%s rows of %s tables compared on %d nodes: %s differ, %s undecided", v[0], v[1], job->nmembers, v[2], v[3]));
	if (zodan_spi_int64(v[2]) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("%s rows differ from those of node \"%s\" on: %s (%s)", v[2], job->req->src_node_name, v[5], v[4]),
				 errhint("SELECT * FROM zodan.differences WHERE request_id = %s names them. Repair them by the means of the engine, then file the request again.",
						 job->req->id_text)));
}

/*
 * Phase: rows that had changed whenever they were looked at. They are looked at
 * again until all are decided or verify_timeout has passed.
 */
void
zodan_verify_settle(ZodanJob *job)
{
	ZodanMesh  *mesh = open_mesh(job);
	ZodanDeadline deadline = zodan_wait_deadline(zodan_request_verify_ms(job->req));
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
		zodan_job_detail(job, 0, psprintf("%d rows keep changing: they are looked at again", left));
		zodan_wait_sleep(&job->session.waiter, Min(pause, zodan_wait_left(deadline)));
		pause = Min(pause * 2, AGAIN_LAST_MS);
	}
	tell_result(job);
}
