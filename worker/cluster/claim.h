/*
 * claim.h
 *		The request's claim on its new node.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_CLAIM_H
#define ZODAN_CLAIM_H

#include "cluster/cluster.h"

/* Is the new node the request's? */
typedef enum ZodanHolds
{
	ZODAN_HOLDS,
	ZODAN_HOLDS_NOT,
	ZODAN_UNKNOWN				/* it doesn't answer */
} ZodanHolds;

extern void zodan_claim_begin(ZodanJob *job);
extern char *zodan_claim_begin_undo(ZodanJob *job);
extern void zodan_claim_begin_phase(ZodanJob *job);
extern void zodan_claim_require(ZodanJob *job);
extern ZodanEffect *zodan_claim_effect(ZodanJob *job, const char *node, const char *kind, const char *name);
extern char *zodan_claim_running(ZodanJob *job, const char *node, const char *sub);
extern ZodanHolds zodan_claim_holds(ZodanJob *job, ZodanConn *conn, int64 timeout_ms);
extern char *zodan_claim_of_other(ZodanJob *job);
extern void zodan_claim_open(ZodanJob *job, const char *connection_limit);
extern void zodan_claim_drop(ZodanJob *job);

#endif							/* ZODAN_CLAIM_H */
