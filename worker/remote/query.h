/*
 * query.h
 *		One statement on one node, and what it returns.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_QUERY_H
#define ZODAN_QUERY_H

#include "remote/remote.h"

extern void zodan_query_all(ZodanCall *calls, int ncalls);
extern void zodan_query_all_clear(ZodanCall *calls, int ncalls);
extern PGresult *zodan_query(ZodanConn *conn, const char *sql, int nparams,...);
extern char *zodan_query_value(ZodanConn *conn, const char *sql, int nparams,...);
extern bool zodan_query_same_server(ZodanConn *conn, const ZodanConn *other, bool same_database);
extern char *zodan_query_field(const PGresult *result, int row, int column);
extern char *zodan_query_quote(const char *identifier);
extern char *zodan_query_blockers(ZodanConn *control, int pid);

#endif							/* ZODAN_QUERY_H */
