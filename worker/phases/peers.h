/*
 * peers.h
 *		The phases bookmark_peers and sync_peers_to_source.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_PEERS_H
#define ZODAN_PEERS_H

#include "cluster/cluster.h"

extern void zodan_peers_bookmark(ZodanJob *job);
extern void zodan_peers_sync(ZodanJob *job);

#endif							/* ZODAN_PEERS_H */
