/*
 * check.h
 *		The checks before a join.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_CHECK_H
#define ZODAN_CHECK_H

#include "cluster/cluster.h"

extern void zodan_check_versions(ZodanJob *job);
extern void zodan_check_prerequisites(ZodanJob *job);

#endif							/* ZODAN_CHECK_H */
