/*
 * fence.h
 *		Keeps users out of a node's database.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_FENCE_H
#define ZODAN_FENCE_H

#include "cluster/cluster.h"

extern void zodan_fence_raise(ZodanJob *job);

#endif							/* ZODAN_FENCE_H */
