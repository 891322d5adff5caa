/*
 * removal.h
 *		Which node a removal is about.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_REMOVAL_H
#define ZODAN_REMOVAL_H

#include "cluster/cluster.h"

extern void zodan_removal_prepare(ZodanJob *job);
extern bool zodan_removal_is_proven(ZodanJob *job);
extern void zodan_removal_store(ZodanJob *job);
extern char *zodan_removal_begin(ZodanJob *job);

#endif							/* ZODAN_REMOVAL_H */
