/*
 * marks.h
 *		What the new node itself says of the copy.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_MARKS_H
#define ZODAN_MARKS_H

#include "copy/plan.h"

extern void zodan_marks_create(ZodanJob *job);
extern void zodan_marks_drop(ZodanJob *job, const char *schema);
extern void zodan_marks_require(ZodanJob *job);
extern char *zodan_marks_rows(ZodanJob *job, List *tables, int part, int nparts);
extern char *zodan_marks_built(ZodanJob *job, List *tables);
extern char *zodan_marks_forget(ZodanJob *job, List *tables);

#endif							/* ZODAN_MARKS_H */
