/*
 * copy.h
 *		The copy: the rows, and the indexes on them.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_COPY_H
#define ZODAN_COPY_H

#include "copy/plan.h"

extern void zodan_copy_run(ZodanJob *job, List *tables);

#endif							/* ZODAN_COPY_H */
