/*
 * plan.h
 *		What a join copies.
 */
#ifndef ZODAN_PLAN_H
#define ZODAN_PLAN_H

#include "base/lsn.h"
#include "cluster/cluster.h"
#include "remote/pipe.h"

typedef struct ZodanTable
{
	char	   *nspname;
	char	   *relname;
	char	   *name;			/* both, quoted */
	bool		copied;
	bool		begun;			/* an earlier process may have left some rows */
	bool		seeded;			/* its extension may have made it with some rows, and with indexes */
	char	   *columns;		/* quoted and comma separated; NULL: none */
	char	   *row_filter;		/* condition of the rows that are copied; NULL: all are */
	bool		binary;
	int64		bytes;			/* on the source, of the table */
	int64		pages;			/* of these, without what is stored out of line */
	int64		finish_work;	/* what its keys and statistics take, as pages that are read for them */
	Oid			family;			/* those of the same need the same snapshot; 0: any does */
	List	   *indexes;		/* ZodanIndex */
} ZodanTable;

typedef struct ZodanIndex
{
	ZodanTable *table;
	char	   *name;			/* quoted */
	char	   *key;			/* PRIMARY KEY or UNIQUE, if a key of this name rests on it; or NULL */
	char	   *mark;			/* what the table uses it for besides, as ALTER TABLE says it; or NULL */
	char	   *definition;		/* does nothing where the index is there */
	int64		work;			/* what building it takes, as bytes: of it and of the table's pages */
	bool		built;
	bool		btree;
	bool		collated;		/* sorted by a collation, which takes longer */
} ZodanIndex;

typedef struct ZodanTotals
{
	int			tables;
	int			tables_copied;
	int64		size;			/* bytes of the tables on the source */
	int64		size_copied;
	int64		bytes;			/* that went through COPY */
	int64		rows;
	int64		index_work[2];	/* of plain indexes, of collated ones */
	int64		index_built[2];
	int64		finish_work;
	int64		finished;
} ZodanTotals;

extern ZodanCall *zodan_plan_ask(ZodanJob *job, const char *snapshot, const char *skipped_schemas);
extern void zodan_plan_store(ZodanCall *call);
extern List *zodan_plan_tables(void);
extern void zodan_plan_totals(ZodanTotals *totals);
extern void zodan_plan_emptied(List *tables);
extern void zodan_plan_begin(List *tables, int snapshot);
extern void zodan_plan_copied(List *tables, const ZodanPipeCount *counts);
extern void zodan_plan_built(List *tables);
extern void zodan_plan_indexes_built(List *indexes);
extern void zodan_plan_add_key(StringInfo keys, const char *table, const char *name, const char *key);
extern char *zodan_plan_make_keys(const StringInfoData *keys);
extern char *zodan_plan_remake(void);
extern char *zodan_plan_made(void);
extern char *zodan_plan_done(void);
extern char *zodan_plan_pending(void);
extern bool zodan_plan_has_later(void);
extern char *zodan_plan_positions(const char *source, XLogRecPtr applied);

#endif							/* ZODAN_PLAN_H */
