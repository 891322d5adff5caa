/*
 * statements.h
 *		What the lanes of a copy send.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_STATEMENTS_H
#define ZODAN_STATEMENTS_H

#include "copy/units.h"

extern char *zodan_statements_rows(const ZodanTable *table, const ZodanUnit *unit);
extern char *zodan_statements_options(const ZodanTable *table, const char *encoding);
extern char *zodan_statements_finish(ZodanJob *job, const ZodanGroup *group);
extern int	zodan_statements_sort_memory(int64 bytes);

#endif							/* ZODAN_STATEMENTS_H */
