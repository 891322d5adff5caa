/*
 * statements.c
 *		What the lanes of a copy send: what is read of a table, in which form, what
 *		finishes it, and the memory to sort an index with.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/statements.h"

#include <math.h>

#include "copy/marks.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

/*
 * In kB: what sorting an index gets at least, and what each sorted run takes
 * while it's merged; and how many are at a time, at most. See tuplesort.c.
 */
#define MIN_SORT_KB		8192
#define MERGE_KB		264
#define MERGE_RUNS		500

/*
 * What is read of a table: its own rows, all that are to be copied or those of
 * one part. The last part has no end: the table may have grown.
 */
char *
zodan_statements_rows(const ZodanTable *table, const ZodanUnit *unit)
{
	int			nparts = unit->group->nparts;
	StringInfoData where;

	initStringInfo(&where);
	if (nparts > 1)
		appendStringInfo(&where, "ctid OPERATOR(pg_catalog.>=) '(" INT64_FORMAT ",0)'", table->pages * unit->part / nparts);
	if (unit->part < nparts - 1)
		appendStringInfo(&where, " AND ctid OPERATOR(pg_catalog.<) '(" INT64_FORMAT ",0)'",
						 table->pages * (unit->part + 1) / nparts);
	if (table->row_filter)
		appendStringInfo(&where, "%s%s", where.len ? " AND " : "", table->row_filter);
	if (where.len == 0)
		return table->columns ? psprintf("%s (%s)", table->name, table->columns) : table->name;
	return psprintf("(SELECT %s FROM ONLY %s WHERE %s)", table->columns ? table->columns : "", table->name, where.data);
}

/*
 * The options of the COPY of a table. Both ends speak the source's encoding,
 * which is the new node's; in binary form text is in the session's, which is
 * that of the coordinator's database.
 */
char *
zodan_statements_options(const ZodanTable *table, const char *encoding)
{
	bool		binary = table->binary && (strcmp(encoding, GetDatabaseEncodingName()) == 0 ||
										   strcmp(encoding, "SQL_ASCII") == 0 || GetDatabaseEncoding() == PG_SQL_ASCII);

	return psprintf("(FORMAT %s, ENCODING %s)", binary ? "binary" : "text", quote_literal_cstr(encoding));
}

/*
 * The statements that finish tables whose indexes are built: keys, what else
 * the indexes are used for, statistics.
 */
char *
zodan_statements_finish(ZodanJob *job, const ZodanGroup *group)
{
	StringInfoData keys;
	StringInfoData rest;
	ListCell   *cell;

	initStringInfo(&keys);
	initStringInfo(&rest);
	foreach(cell, group->indexes)
	{
		ZodanIndex *index = lfirst(cell);

		if (index->key)
			zodan_plan_add_key(&keys, index->table->name, index->name, index->key);
		if (index->mark)
			appendStringInfo(&rest, "ALTER TABLE %s %s;", index->table->name, index->mark);
	}
	appendStringInfoString(&rest, "ANALYZE ");
	foreach(cell, group->tables)
		appendStringInfo(&rest, "%s%s", foreach_current_index(cell) ? ", " : "", ((ZodanTable *) lfirst(cell))->name);
	return psprintf("%s%s%s", zodan_marks_built(job, group->tables), zodan_plan_make_keys(&keys), rest.data);
}

/*
 * The memory, in kB, with which a B-tree of so many bytes is sorted the fastest.
 * Sorting short runs, which the processor's caches and a process's memory hold,
 * and merging them takes less time than sorting all at once; less than this, and
 * there would be more of them than can be merged at a time: each takes
 * MERGE_KB of the same memory, and no more than MERGE_RUNS ever are. What is
 * sorted is taken for twice the index.
 */
int
zodan_statements_sort_memory(int64 bytes)
{
	double		kb = 2 * bytes / 1024.0;

	return (int) Max(Max(MIN_SORT_KB, sqrt(2 * kb * MERGE_KB)), kb / MERGE_RUNS);
}
