/*
 * locks.h
 *		The advisory locks.
 *
 * These are their first keys. Those of the launcher, of runners, of who files a
 * request and of upkeep are taken in the coordinator's database, that of the
 * cluster on each of its members.
 *
 * By those of a session and of a process the sessions of a request can be found
 * on a node: those of the worker itself hold both; those of its child processes
 * have the token in their name.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_LOCKS_H
#define ZODAN_LOCKS_H

#define ZODAN_LOCK_LAUNCHER	2053071969	/* second key 0 */
#define ZODAN_LOCK_RUNNER	2053071970	/* second key: the request's id */
#define ZODAN_LOCK_CLUSTER	2053071971	/* second key 0; 1 of those who change subscriptions or nodes */
#define ZODAN_LOCK_FILING	2053071972	/* second key: hash of the node's name */
#define ZODAN_LOCK_SESSION	2053071973	/* second key: the request's token */
#define ZODAN_LOCK_UPKEEP	2053071974	/* second key 0 */
#define ZODAN_LOCK_PROCESS	2053071975	/* second key: a number of the process's own */

#endif							/* ZODAN_LOCKS_H */
