/*
 * blocks.c
 *		The rows of a table, compared block by block.
 *
 * A block is what lies between two keys, which are chosen on the source, or on a node
 * that has far more rows there. Each node counts its rows and adds up a hash of each; only where that isn't the same are the
 * rows' own hashes fetched. Rows that aren't the same on all nodes are suspects: most
 * are under way from one node to another. See suspects.c.
 *
 * A table without a key by which its rows could be found is read as a whole, in
 * parts by the hash of the row, and equal rows are counted.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "verify/blocks.h"

#include "base/array.h"
#include "remote/query.h"

/* how large a block is to be; how many rows it may have */
#define BLOCK_BYTES		(12 * 1024 * 1024)
#define BLOCK_MIN		100
#define BLOCK_MAX		50000

/* of a table without a key: rows in a part, and how many parts are read at a time */
#define PART_ROWS		10000
#define PARTS_MAX		65536
#define PARTS_AT_ONCE	4

/* a node may have so many times more rows in a block or part than were planned */
#define LARGER_MAX		4

/* of how many rows some are chosen by chance */
#define SAMPLE_ROWS		1000

static const char *const count_query =
#include "sql/blocks_count.h"
		   ;

static const char *const rows_query =
#include "sql/blocks_rows.h"
		   ;

static const char *const upto_query =
#include "sql/blocks_upto.h"
		   ;

static const char *const sample_query =
#include "sql/blocks_sample.h"
		   ;

static const char *const parts_query =
#include "sql/blocks_parts.h"
		   ;

static const char *const copies_query =
#include "sql/blocks_copies.h"
		   ;

/* What a node has under a key */
typedef struct Entry
{
	const char *key;
	const char *value;
} Entry;

static int
compare_entries(const void *a, const void *b)
{
	return strcmp(((const Entry *) a)->key, ((const Entry *) b)->key);
}

/*
 * The keys whose value isn't the same on all nodes, or that some lack, from rows of
 * key and value.
 */
static List *
differing_keys(const ZodanMesh *mesh, const ZodanCall *calls)
{
	List	   *keys = NIL;
	Entry	   *entries;
	int			n = 0;
	int			all = 0;

	for (int i = 0; i < mesh->nnodes; i++)
		all += PQntuples(calls[i].result);
	entries = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Entry) * Max(all, 1));
	for (int i = 0; i < mesh->nnodes; i++)
		for (int row = 0; row < PQntuples(calls[i].result); row++)
			entries[n++] = (Entry)
		{
			PQgetvalue(calls[i].result, row, 0), PQgetvalue(calls[i].result, row, 1)
		};
	qsort(entries, n, sizeof(Entry), compare_entries);
	for (int first = 0, next; first < n; first = next)
	{
		bool		same = true;

		for (next = first; next < n && strcmp(entries[next].key, entries[first].key) == 0; next++)
			same = same && strcmp(entries[next].value, entries[first].value) == 0;
		if (!same || next - first != mesh->nnodes)
			keys = lappend(keys, pstrdup(entries[first].key));
	}
	pfree(entries);
	return keys;
}

/*
 * Has every node returned the same row?
 */
static bool
same_row(const ZodanMesh *mesh, const ZodanCall *calls, int ncolumns)
{
	for (int i = 1; i < mesh->nnodes; i++)
		for (int c = 0; c < ncolumns; c++)
			if (strcmp(PQgetvalue(calls[i].result, 0, c), PQgetvalue(calls[0].result, 0, c)) != 0)
				return false;
	return true;
}

/*
 * How large so many rows of a table are, by its size.
 */
static int64
size_of(const ZodanVerified *table, int64 rows)
{
	return (int64) (rows * ((double) table->bytes_total / Max(table->rows_expected, 1)));
}

/*
 * The node that has the most rows, and in *rows how many, by the number with which a
 * column of one of its rows begins.
 */
static int
largest(const ZodanMesh *mesh, const ZodanCall *calls, int row, int column, int64 *rows)
{
	int			node = 0;

	*rows = 0;
	for (int i = 0; i < mesh->nnodes; i++)
	{
		int64		n = row < PQntuples(calls[i].result) ? strtoll(PQgetvalue(calls[i].result, row, column), NULL, 10) : 0;

		if (n > *rows)
		{
			*rows = n;
			node = i;
		}
	}
	return node;
}

/*
 * Counts the next block of a table on all nodes; *upto is its last key, or NULL.
 */
static ZodanCall *
count_block(ZodanMesh *mesh, const ZodanVerified *t, char **upto)
{
	int64		size = Max(BLOCK_MIN, Min(BLOCK_MAX, BLOCK_BYTES / Max(size_of(t, 1), 1)));
	ZodanCall	call = {.nparams = 2,.params = {t->last_key}};
	int			node = 0;

	call.sql = psprintf(count_query, t->row, t->name, t->after, t->upto, t->filter);
	for (int tries = 0;; tries++)
	{
		ZodanCall  *counts;
		int64		rows;

		*upto = zodan_query_value(mesh->nodes[node], psprintf(upto_query, t->key, t->name, t->after, t->sort), 2,
								  t->last_key, psprintf(INT64_FORMAT, size - 1));
		call.params[1] = *upto;
		counts = zodan_mesh_ask(mesh, &call);
		node = largest(mesh, counts, 0, 0, &rows);
		/* more than two tries for a node only if rows come in faster than they are counted */
		if (rows <= size * LARGER_MAX || tries >= mesh->nnodes * 2)
			return counts;
		zodan_mesh_clear(mesh, counts);
	}
}

/*
 * Compares the next block of a table that has a key; false: it was the last one.
 */
static bool
next_by_key(ZodanMesh *mesh, ZodanVerified *table, int64 *bytes, int *suspects)
{
	const ZodanVerified *t = table;
	char	   *upto;
	ZodanCall  *counts = count_block(mesh, table, &upto);
	ZodanCall	call = {.nparams = 2,.params = {t->last_key, upto}};
	List	   *keys = NIL;
	int64		rows;

	if (!same_row(mesh, counts, 2))
	{
		ZodanCall  *calls;

		call.sql = psprintf(rows_query, t->key, t->row, t->name, t->after, t->upto, t->filter);
		calls = zodan_mesh_ask(mesh, &call);
		keys = differing_keys(mesh, calls);
		zodan_mesh_clear(mesh, calls);
	}
	rows = strtoll(PQgetvalue(counts[0].result, 0, 0), NULL, 10);
	*bytes = size_of(table, rows);
	*suspects = list_length(keys);
	zodan_mesh_clear(mesh, counts);
	zodan_tables_note(mesh->job->req, table, upto, rows, *bytes, keys);
	return upto != NULL;
}

/*
 * Counts the rows of a table without a key on all nodes, in so many parts that none has
 * many; *mask is their number, less one.
 */
static ZodanCall *
count_parts(ZodanMesh *mesh, const ZodanVerified *t, char **mask)
{
	ZodanCall	call = {.nparams = 1,.sql = psprintf(parts_query, t->row, t->name, t->filter)};
	int			parts = 1;

	while (parts < PARTS_MAX && (int64) parts * PART_ROWS < t->rows_expected)
		parts *= 2;
	for (;;)
	{
		ZodanCall  *calls;
		int64		most = 0;

		*mask = psprintf("%d", parts - 1);
		call.params[0] = *mask;
		calls = zodan_mesh_ask(mesh, &call);
		for (int row = 0; row < parts; row++)
		{
			int64		rows;

			largest(mesh, calls, row, 1, &rows);
			most = Max(most, rows);
		}
		if (most <= PART_ROWS * LARGER_MAX || parts >= PARTS_MAX)
			return calls;
		zodan_mesh_clear(mesh, calls);
		parts *= 8;
	}
}

/*
 * Compares a table without a key, as a whole.
 */
static void
compare_copies(ZodanMesh *mesh, ZodanVerified *table, int64 *bytes, int *suspects)
{
	const ZodanVerified *t = table;
	char	   *mask;
	ZodanCall  *calls = count_parts(mesh, table, &mask);
	ZodanCall	call = {.nparams = 2,.params = {mask}};
	List	   *differing = differing_keys(mesh, calls);
	int64		rows = 0;

	*suspects = 0;
	for (int row = 0; row < PQntuples(calls[0].result); row++)
		rows += strtoll(PQgetvalue(calls[0].result, row, 1), NULL, 10);
	*bytes = size_of(table, rows);
	zodan_mesh_clear(mesh, calls);
	call.sql = psprintf(copies_query, t->row, t->name, t->filter);
	while (differing != NIL)
	{
		List	   *now = list_copy_head(differing, PARTS_AT_ONCE);
		List	   *keys;

		call.params[1] = zodan_array_literal(now);
		calls = zodan_mesh_ask(mesh, &call);
		keys = differing_keys(mesh, calls);
		zodan_mesh_clear(mesh, calls);
		*suspects += list_length(keys);
		zodan_tables_note(mesh->job->req, table, NULL, 0, 0, keys);
		differing = list_copy_tail(differing, list_length(now));
	}
	zodan_tables_note(mesh->job->req, table, NULL, rows, *bytes, NIL);
}

/*
 * Compares the next block of a table; returns whether there is another one, in *bytes
 * how much was read on the source, and in *suspects how many rows are to be looked at
 * again.
 */
bool
zodan_blocks_next(ZodanMesh *mesh, ZodanVerified *table, int64 *bytes, int *suspects)
{
	if (table->key)
		return next_by_key(mesh, table, bytes, suspects);
	compare_copies(mesh, table, bytes, suspects);
	return false;
}

/*
 * Chooses keys of the source by chance, behind which blocks may begin: n, or less. NULL,
 * the beginning of the table, is the first.
 */
List *
zodan_blocks_sample(ZodanMesh *mesh, const ZodanVerified *table, int n)
{
	List	   *keys = list_make1(NULL);
	PGresult   *result;

	if (!table->key || n < 2)
		return keys;
	result = zodan_query(mesh->nodes[0], psprintf(sample_query, table->key, table->name), 2,
						 psprintf("%.6f", Min(100.0, 100.0 * SAMPLE_ROWS / Max(table->rows_expected, 1))), psprintf("%d", n - 1));
	for (int row = 0; row < PQntuples(result); row++)
		keys = lappend(keys, zodan_query_field(result, row, 0));
	PQclear(result);
	return keys;
}
