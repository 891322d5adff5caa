/*
 * plan.h
 *		What a join copies.
 *
 * Copyright (c) 2026, the zodan_bgw authors
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
extern void zodan_plan_store(const ZodanRequest *req, ZodanCall *call);
extern List *zodan_plan_tables(const ZodanRequest *req);
extern void zodan_plan_totals(const ZodanRequest *req, ZodanTotals *totals);
extern void zodan_plan_emptied(const ZodanRequest *req, List *tables);
extern void zodan_plan_begin(const ZodanRequest *req, List *tables, int snapshot);
extern void zodan_plan_copied(const ZodanRequest *req, List *tables, const ZodanPipeCount *counts);
extern void zodan_plan_built(const ZodanRequest *req, List *tables);
extern void zodan_plan_indexes_built(const ZodanRequest *req, List *indexes);
extern void zodan_plan_add_key(StringInfo keys, const char *table, const char *name, const char *key);
extern char *zodan_plan_make_keys(const StringInfoData *keys);
extern char *zodan_plan_remake(const ZodanRequest *req);
extern char *zodan_plan_made(const ZodanRequest *req);
extern char *zodan_plan_done(const ZodanRequest *req);
extern char *zodan_plan_pending(const ZodanRequest *req);
extern bool zodan_plan_has_later(const ZodanRequest *req);
extern char *zodan_plan_positions(const ZodanRequest *req, const char *source, XLogRecPtr applied);

#endif							/* ZODAN_PLAN_H */
