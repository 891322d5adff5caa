/*
 * cluster.h
 *		The nodes that a request is about, and what all of its phases share.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_CLUSTER_H
#define ZODAN_CLUSTER_H

#include "cluster/job.h"

/* the nodes are another request's for the time being */
#define ERRCODE_ZODAN_BUSY	MAKE_SQLSTATE('Z', 'D', '0', '0', '3')

extern void zodan_cluster_open(ZodanJob *job);
extern bool zodan_cluster_complete(ZodanJob *job);
extern char *zodan_cluster_missing(ZodanJob *job);
extern void zodan_cluster_require(ZodanJob *job, bool all);
extern void zodan_cluster_lock(ZodanJob *job);
extern ZodanMember *zodan_cluster_member(ZodanJob *job, const char *name);
extern ZodanConn *zodan_cluster_session(ZodanJob *job, const char *node);
extern void zodan_cluster_watch(ZodanJob *job);
extern List *zodan_cluster_absent(ZodanJob *job, const char **lost, List **dsns);
extern char *zodan_cluster_names(ZodanJob *job);


#endif							/* ZODAN_CLUSTER_H */
