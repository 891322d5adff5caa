/*
 * own.h
 *		What a join has on the existing nodes that is provably its own.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_OWN_H
#define ZODAN_OWN_H

#include "cluster/cluster.h"

extern void zodan_own_note_subscription(ZodanJob *job, const ZodanSubscription *sub);
extern char *zodan_own_foreign(ZodanJob *job, ZodanMember *m, bool forward);
extern void zodan_own_drop_proven(ZodanJob *job);
extern void zodan_own_abandon(ZodanJob *job);

#endif							/* ZODAN_OWN_H */
