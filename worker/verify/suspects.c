/*
 * suspects.c
 *		Rows that weren't the same on all nodes when they were read: which of them
 *		differ for good?
 *
 * Each is read on all nodes, a marker is written on each, and when all have confirmed
 * all of them it is read again. If no node's version has changed meanwhile, what any
 * node had committed before its marker is in it everywhere. If it differs now, that is
 * done once more, since the nodes are not read at the same moment: a node that had no
 * such row each time may have got one and lost it in between, and another one may have
 * been read before that had arrived there. What was so before the second marker has
 * arrived by the third look. If nothing has changed by then, either, the rows differ
 * until somebody changes them. Otherwise they are looked at again later.
 *
 * A transaction may be on its way to other nodes before its own shows what it has
 * written, until it has left the list of those that run there. It holds a lock on the
 * table as long: where one that was there when the marker had been written is there
 * before the second look, nothing can be said about rows that this node doesn't have, or
 * that somebody has changed or locked there.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "verify/suspects.h"

#include "base/array.h"
#include "base/failpoint.h"
#include "remote/query.h"
#include "utils/memutils.h"

/* how many are looked at together */
#define AT_ONCE			500

static const char *const look_query =
#include "sql/suspects_look.h"
		   ;

static const char *const copies_query =
#include "sql/suspects_copies.h"
		   ;

static const char *const writers_query =
#include "sql/suspects_writers.h"
		   ;

/* What a node has of a suspect; all is NULL if it has no such row */
typedef struct Look
{
	char	   *version;
	char	   *value;			/* the same where the rows are */
	char	   *hashes;			/* of its columns, an array; NULL: not known */
	bool		changing;		/* by a transaction that is under way, maybe */
} Look;

#define OF_TABLE	"request_id = $1::bigint AND nspname = $2 AND relname = $3"

/*
 * Reads suspects on all nodes: [node][number of the key].
 */
static Look **
look(ZodanMesh *mesh, const ZodanVerified *t, const List *keys)
{
	ZodanCall	call = {.nparams = 1,.params = {zodan_array_literal(keys)}};
	Look	  **looks = palloc(sizeof(Look *) * mesh->nnodes);
	ZodanCall  *calls;

	call.sql = t->key ? psprintf(look_query, t->hashes, t->row, t->name, t->match, t->filter) :
		psprintf(copies_query, t->row, t->name, t->filter);
	calls = zodan_mesh_ask(mesh, &call);
	for (int i = 0; i < mesh->nnodes; i++)
	{
		looks[i] = palloc0(sizeof(Look) * list_length(keys));
		for (int row = 0; row < PQntuples(calls[i].result); row++)
		{
			Look	   *found = &looks[i][atoi(PQgetvalue(calls[i].result, row, 0)) - 1];

			found->version = zodan_query_field(calls[i].result, row, 1);
			found->value = zodan_query_field(calls[i].result, row, 2);
			found->hashes = zodan_query_field(calls[i].result, row, 3);
			found->changing = PQgetvalue(calls[i].result, row, 4)[0] == 't';
		}
	}
	zodan_mesh_clear(mesh, calls);
	return looks;
}

/*
 * Is there a transaction in both lists of one node?
 */
static bool
any_in_both(const PGresult *before, const PGresult *after)
{
	for (int i = 0; i < PQntuples(before); i++)
		for (int k = 0; k < PQntuples(after); k++)
			if (strcmp(PQgetvalue(before, i, 0), PQgetvalue(after, k, 0)) == 0)
				return true;
	return false;
}

/*
 * Lets everything arrive on all nodes that was committed before on any; returns
 * for each node whether some transaction may have been under way all the time.
 */
static bool *
let_all_arrive(ZodanMesh *mesh, const ZodanVerified *table)
{
	ZodanCall	query = {.sql = writers_query,.nparams = 1,.params = {table->name}};
	ZodanCall  *before;
	ZodanCall  *after;
	bool	   *under_way = palloc(sizeof(bool) * mesh->nnodes);

	zodan_mesh_mark(mesh);
	before = zodan_mesh_ask(mesh, &query);
	zodan_mesh_wait(mesh);
	after = zodan_mesh_ask(mesh, &query);
	for (int i = 0; i < mesh->nnodes; i++)
		under_way[i] = any_in_both(before[i].result, after[i].result);
	zodan_mesh_clear(mesh, before);
	zodan_mesh_clear(mesh, after);
	return under_way;
}

static bool
same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/*
 * Stores how a node's row differs from the source's.
 */
static void
store_difference(ZodanMesh *mesh, const ZodanVerified *table, const char *key, const char *node, const Look *source, const Look *here)
{
	const char *kind = !here->value ? "missing" : !source->value ? "extra" : table->key ? "changed" : "count";
	char	   *detail = table->key ? NULL :
		psprintf("%s here, transaction and place %s; %s on the source, transaction and place %s", here->value ? here->value : "0",
				 here->version ? here->version : "none", source->value ? source->value : "0", source->version ? source->version : "none");

	/* durable when the suspect has been deleted */
	zodan_spi_one_async("INSERT INTO zodan.differences (request_id, nspname, relname, key, node, difference, columns, detail)"
						" SELECT request_id, nspname, relname, $4, $5, $6,"
						"        CASE WHEN $6 = 'changed' THEN ARRAY(SELECT c FROM unnest(columns, $7::text[], $8::text[]) AS u(c, a, b)"
						"                                             WHERE a IS DISTINCT FROM b) END, left($9, 1000)"
						"   FROM zodan.verify_tables WHERE " OF_TABLE " ON CONFLICT (request_id, nspname, relname, key, node) DO UPDATE SET found_at = clock_timestamp()", 9, mesh->job->req->id_text, table->nspname,
						table->relname, key, node, kind, source->hashes, here->hashes, detail);
}

/*
 * Has no node's version of a suspect changed from one look to another, nor may it have?
 */
static bool
unchanged(const ZodanMesh *mesh, int n, Look **before, Look **after, const bool *under_way)
{
	for (int i = 0; i < mesh->nnodes; i++)
		if (!same_text(before[i][n].version, after[i][n].version) ||
			(under_way[i] && (!after[i][n].value || after[i][n].changing)))
			return false;
	return true;
}

/*
 * Have all nodes the same of a suspect?
 */
static bool
same_everywhere(const ZodanMesh *mesh, int n, Look **looks)
{
	for (int i = 1; i < mesh->nnodes; i++)
		if (!same_text(looks[0][n].value, looks[i][n].value))
			return false;
	return true;
}

/*
 * Stores how the rows of other nodes differ from the source's.
 */
static void
store_differences(ZodanMesh *mesh, const ZodanVerified *table, const char *key, int n, Look **looks)
{
	for (int i = 1; i < mesh->nnodes; i++)
		if (!same_text(looks[0][n].value, looks[i][n].value))
			store_difference(mesh, table, key, mesh->nodes[i]->node, &looks[0][n], &looks[i][n]);
}

/*
 * Notes which suspects haven't changed from one look to the other, of those that had not
 * before, either; returns whether one of them differs.
 */
static bool
any_differs(const ZodanMesh *mesh, int nkeys, Look **before, Look **after, const bool *under_way, bool *quiet)
{
	bool		differs = false;

	for (int n = 0; n < nkeys; n++)
	{
		quiet[n] = quiet[n] && unchanged(mesh, n, before, after, under_way);
		differs |= quiet[n] && !same_everywhere(mesh, n, after);
	}
	return differs;
}

/*
 * Looks at some suspects.
 */
static void
settle(ZodanMesh *mesh, const ZodanVerified *table, const List *keys)
{
	int			nkeys = list_length(keys);
	Look	  **before = look(mesh, table, keys);
	bool	   *under_way = let_all_arrive(mesh, table);
	Look	  **after = look(mesh, table, keys);
	bool	   *quiet = palloc(sizeof(bool) * nkeys);
	List	   *decided = NIL;
	ListCell   *cell;

	memset(quiet, true, nkeys);
	if (any_differs(mesh, nkeys, before, after, under_way, quiet))
	{
		before = after;
		under_way = let_all_arrive(mesh, table);
		after = look(mesh, table, keys);
		any_differs(mesh, nkeys, before, after, under_way, quiet);
	}
	ZODAN_FAILPOINT(mesh->job->req, "suspects", "seen");
	foreach(cell, keys)
	{
		int			n = foreach_current_index(cell);

		if (!quiet[n])
			continue;
		store_differences(mesh, table, lfirst(cell), n, after);
		decided = lappend(decided, lfirst(cell));
	}
	ZODAN_FAILPOINT(mesh->job->req, "suspects", "decided");
	zodan_spi_execute("DELETE FROM zodan.verify_suspects WHERE " OF_TABLE " AND key = ANY ($4::text[])", 4,
					  mesh->job->req->id_text, table->nspname, table->relname, zodan_array_literal(decided));
	zodan_spi_execute("UPDATE zodan.verify_suspects SET looks = looks + 1 WHERE " OF_TABLE " AND key = ANY ($4::text[])", 4,
					  mesh->job->req->id_text, table->nspname, table->relname, zodan_array_literal(keys));
}

/*
 * How many rows of a table differ, as far as is known.
 */
int
zodan_suspects_differing(const ZodanRequest *req, const ZodanVerified *table)
{
	return (int) zodan_spi_int64(zodan_spi_one("SELECT count(DISTINCT key) FROM zodan.differences WHERE " OF_TABLE, 3,
											   req->id_text, table->nspname, table->relname)->value[0][0]);
}

/*
 * How many of its rows are to be looked at again.
 */
int
zodan_suspects_left(const ZodanRequest *req, const ZodanVerified *table)
{
	return (int) zodan_spi_int64(zodan_spi_one("SELECT count(*) FROM zodan.verify_suspects WHERE " OF_TABLE, 3,
											   req->id_text, table->nspname, table->relname)->value[0][0]);
}

/*
 * Looks at each suspect of a table once; returns how many are left: none if so many rows
 * differ that nobody wants to know more of them.
 */
int
zodan_suspects_settle(ZodanMesh *mesh, const ZodanVerified *table)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "suspects", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = CurrentMemoryContext;
	const ZodanRequest *req = mesh->job->req;
	char	   *last = NULL;
	bool		more = true;

	while (more)
	{
		List	   *keys = NIL;
		ZodanRows  *rows;

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		rows = zodan_spi_execute("SELECT key FROM zodan.verify_suspects WHERE " OF_TABLE " AND ($4 IS NULL OR key > $4)"
								 " ORDER BY key LIMIT $5::bigint", 5, req->id_text, table->nspname, table->relname, last, psprintf("%d", AT_ONCE));
		for (int i = 0; i < rows->nrows; i++)
			keys = lappend(keys, rows->value[i][0]);
		if (keys != NIL)
			settle(mesh, table, keys);
		more = rows->nrows == AT_ONCE;
		if (more && zodan_suspects_differing(req, table) >= ZODAN_DIFFERING_MAX)
		{
			zodan_spi_execute("DELETE FROM zodan.verify_suspects WHERE " OF_TABLE, 3, req->id_text, table->nspname, table->relname);
			more = false;
		}
		MemoryContextSwitchTo(before);
		if (more)
			last = pstrdup(llast(keys));
	}
	MemoryContextDelete(context);
	return zodan_suspects_left(req, table);
}

/*
 * What was found to differ is to be looked at again: somebody may have repaired it.
 */
void
zodan_suspects_reopen(const ZodanRequest *req)
{
	zodan_spi_execute("WITH found AS (DELETE FROM zodan.differences WHERE request_id = $1::bigint RETURNING request_id, nspname, relname, key)"
					  " INSERT INTO zodan.verify_suspects (request_id, nspname, relname, key) SELECT DISTINCT * FROM found ON CONFLICT DO NOTHING",
					  1, req->id_text);
}
