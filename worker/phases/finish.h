/*
 * finish.h
 *		The phases monitor_lag and finish.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_FINISH_H
#define ZODAN_FINISH_H

#include "cluster/cluster.h"

extern void zodan_finish_monitor_lag(ZodanJob *job);
extern void zodan_finish(ZodanJob *job);

#endif							/* ZODAN_FINISH_H */
