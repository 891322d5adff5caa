/*
 * subscriptions.h
 *		The subscriptions between the new node and the others.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SUBSCRIPTIONS_H
#define ZODAN_SUBSCRIPTIONS_H

#include "cluster/cluster.h"

extern void zodan_subscriptions_create(ZodanJob *job);
extern void zodan_subscriptions_follow_source(ZodanJob *job);
extern char *zodan_subscriptions_enable(ZodanJob *job, const char **subs, int nsubs);
extern void zodan_subscriptions_mend_lost(ZodanJob *job, ZodanConn *conn);

#endif							/* ZODAN_SUBSCRIPTIONS_H */
