/*
 * roll_back.h
 *		A request is rolled back.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_ROLL_BACK_H
#define ZODAN_ROLL_BACK_H

#include "cluster/cluster.h"

extern void zodan_roll_back(ZodanJob *job, const char *state);

#endif							/* ZODAN_ROLL_BACK_H */
