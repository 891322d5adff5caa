/*
 * servers.h
 *		Which server and database each of a request's nodes is, on which timeline,
 *		and how far its WAL was flushed.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SERVERS_H
#define ZODAN_SERVERS_H

#include "cluster/cluster.h"

/* an expression on a node: the mark in the session's database, or NULL; see claim.c */
#define ZODAN_MARK \
	"(SELECT pg_catalog.split_part(c, '=', 2) FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS c" \
	"  WHERE s.setrole = 0 AND pg_catalog.starts_with(c, 'zodan.claim=')" \
	"    AND s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))"

extern ZodanServer **zodan_servers_ask(ZodanJob *job);
extern void zodan_servers_store(ZodanJob *job, ZodanServer *const *servers);
extern bool zodan_servers_same(const ZodanServer *a, const ZodanServer *b);
extern char *zodan_servers_history(const char *node, const ZodanServer *was, const ZodanServer *is);
extern void zodan_servers_require_same(ZodanJob *job, ZodanServer *const *servers, int n);
extern char *zodan_servers_added_again(ZodanJob *job, ZodanServer *const *servers);
extern void zodan_servers_guard(ZodanJob *job, ZodanServer *const *servers, bool claimed);

#endif							/* ZODAN_SERVERS_H */
