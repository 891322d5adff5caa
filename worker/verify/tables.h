/*
 * tables.h
 *		The tables that a verification compares.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_TABLES_H
#define ZODAN_TABLES_H

#include "cluster/cluster.h"

/* A table, with parts of statements about its rows: see sql/tables_left.sql */
typedef struct ZodanVerified
{
	char	   *nspname;
	char	   *relname;
	char	   *name;			/* both, quoted */
	char	   *row;
	char	   *hashes;
	char	   *key;			/* NULL: it has none by which its rows could be found */
	char	   *sort;
	char	   *after;
	char	   *upto;
	char	   *match;
	char	   *filter;
	bool		compared;
	char	   *last_key;		/* all up to it have been compared; NULL: none */
	int64		rows;			/* that have been compared */
	int64		rows_expected;
	int64		bytes_total;	/* of the table */
} ZodanVerified;

extern void zodan_tables_list(ZodanJob *job);
extern List *zodan_tables_left(const ZodanRequest *req);
extern void zodan_tables_begin(const ZodanRequest *req, ZodanVerified *table);
extern void zodan_tables_note(const ZodanRequest *req, ZodanVerified *table, const char *last_key, int64 rows, int64 bytes, const List *suspects);
extern void zodan_tables_compared(const ZodanRequest *req, ZodanVerified *table);

#endif							/* ZODAN_TABLES_H */
