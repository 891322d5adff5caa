/*
 * lists.h
 *		The lists of what is restored when.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_LISTS_H
#define ZODAN_LISTS_H

#include "cluster/cluster.h"

#define ZODAN_LIST_PRE		"pre.list"	/* all that rows need: HEAD, TABLES and TAIL */
#define ZODAN_LIST_HEAD		"head.list"
#define ZODAN_LIST_TABLES	"tables.list"	/* restored in parts */
#define ZODAN_LIST_TAIL		"tail.list"
#define ZODAN_LIST_POST		"post.list"
#define ZODAN_LIST_REST		"rest.list" /* of POST, what isn't made with the rows */
#define ZODAN_LIST_KEYS		"keys.list" /* only dropped by it */
#define ZODAN_LIST_LAST		"last.list"
#define ZODAN_LIST_KEPT		"kept.list" /* what the new node had itself, never dropped: lines of "CLASS OID" */


extern void zodan_lists_write(ZodanJob *job, char *dump, const Oid *independent, int n, char *kept);
extern bool zodan_lists_is_empty(ZodanJob *job, const char *list);
extern bool zodan_lists_is_own(ZodanJob *job, const char *list);
extern int	zodan_lists_divide_tables(ZodanJob *job, int n);
extern char *zodan_lists_part(int part);
extern void zodan_lists_write_rest(ZodanJob *job);
extern const char *zodan_lists_write_drops(ZodanJob *job, const char *list);

#endif							/* ZODAN_LISTS_H */
