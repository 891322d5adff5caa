/*
 * watch.h
 *		What a request's slots cost the nodes until it has ended.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_WATCH_H
#define ZODAN_WATCH_H

#include "cluster/cluster.h"

/* what to do where a slot has lost its WAL */
#define ZODAN_LOST_HINT "Set max_slot_wal_keep_size of that node to more than it writes while a node joins, or to -1."

extern void zodan_watch_slots(ZodanJob *job);
extern void zodan_watch_idle(ZodanJob *job);
extern char *zodan_watch_lost_slot(ZodanJob *job, const char **hint);

#endif							/* ZODAN_WATCH_H */
