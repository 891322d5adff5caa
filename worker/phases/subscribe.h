/*
 * subscribe.h
 *		The phases from mirror_replication_sets to subscribe_existing_nodes.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SUBSCRIBE_H
#define ZODAN_SUBSCRIBE_H

#include "cluster/cluster.h"

extern void zodan_subscribe_mirror_sets(ZodanJob *job);
extern void zodan_subscribe_sync_source_to_new(ZodanJob *job);
extern void zodan_subscribe_advance_slots(ZodanJob *job);
extern void zodan_subscribe_enable(ZodanJob *job);
extern void zodan_subscribe_existing_nodes(ZodanJob *job);

#endif							/* ZODAN_SUBSCRIBE_H */
