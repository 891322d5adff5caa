/*
 * copy.h
 *		The rows, the indexes on them, and the lanes that bring both.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_COPY_H
#define ZODAN_COPY_H

#include "cluster/cluster.h"

extern char *zodan_copy_origin(ZodanJob *job, int lane);
extern int	zodan_copy_lanes(ZodanJob *job);
extern void zodan_copy_run(ZodanJob *job, List *tables);

#endif							/* ZODAN_COPY_H */
