/*
 * nodes.h
 *		The nodes that have joined, and how healthy they are.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_NODES_H
#define ZODAN_NODES_H

#include "queue/request.h"

/* States of a node. One that can't be checked, for want of a password, is unknown. */
#define ZODAN_NODE_HEALTHY		"healthy"
#define ZODAN_NODE_UNHEALTHY	"unhealthy"
#define ZODAN_NODE_UNKNOWN	"unknown"

extern void zodan_nodes_joined(const ZodanRequest *req, const char *node, const char *engine, const char *dsn, bool by_superuser);
extern void zodan_nodes_left(const char *node, const char *dsn);

extern int	zodan_nodes_count(void);
extern ZodanRows *zodan_nodes_list(void);
extern char *zodan_nodes_peer_dsn(const char *id, const char *peer);
extern char *zodan_nodes_unfinished(void);
extern void zodan_nodes_seen(const char *id, const char *state, const char *problem);

#endif							/* ZODAN_NODES_H */
