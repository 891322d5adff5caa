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

/* the new node isn't the request's any more */
#define ERRCODE_ZODAN_OVERTAKEN	MAKE_SQLSTATE('Z', 'D', '0', '0', '5')
/* what the journal says isn't so any more: the request has to start from the beginning */
#define ERRCODE_ZODAN_PAST		MAKE_SQLSTATE('Z', 'D', '0', '0', '6')
#define ZODAN_STARTS_AGAIN	"The request starts from the beginning by itself. Let it end before a node fails over or is restored again."

/* an expression on a node: the mark in the session's database, or NULL; see claim.c */
#define ZODAN_MARK \
	"(SELECT pg_catalog.split_part(c, '=', 2) FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS c" \
	"  WHERE s.setrole = 0 AND pg_catalog.starts_with(c, 'zodan.claim=')" \
	"    AND s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))"

/* Where a connection string leads */
typedef enum ZodanLeads
{
	ZODAN_LEADS_THERE,
	ZODAN_LEADS_ELSEWHERE,
	ZODAN_LEADS_NOWHERE			/* that can be reached from here */
} ZodanLeads;

extern ZodanServer **zodan_servers_ask(ZodanJob *job);
extern void zodan_servers_store(ZodanJob *job, ZodanServer *const *servers);
extern bool zodan_servers_same(const ZodanServer *a, const ZodanServer *b);
extern char *zodan_servers_history(const char *node, const ZodanServer *was, const ZodanServer *is);
extern void zodan_servers_require_same(ZodanJob *job, ZodanServer *const *servers, int n);
extern char *zodan_servers_added_again(ZodanJob *job, ZodanServer *const *servers);
extern void zodan_servers_guard(ZodanJob *job, ZodanServer *const *servers, bool claimed);
extern ZodanLeads zodan_servers_leads_to(ZodanJob *job, const char *dsn, const ZodanConn *there);

#endif							/* ZODAN_SERVERS_H */
