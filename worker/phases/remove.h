/*
 * remove.h
 *		The phases of remove_node.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_REMOVE_H
#define ZODAN_REMOVE_H

#include "cluster/cluster.h"

extern void zodan_remove_check(ZodanJob *job);
extern void zodan_remove_drain(ZodanJob *job);
extern void zodan_remove_drop(ZodanJob *job);

#endif							/* ZODAN_REMOVE_H */
