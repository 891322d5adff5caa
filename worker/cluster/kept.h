/*
 * kept.h
 *		What the new node had before the join.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_KEPT_H
#define ZODAN_KEPT_H

#include "cluster/cluster.h"

extern char *zodan_kept_objects(ZodanConn *conn);
extern PGresult *zodan_kept_conflicts(ZodanConn *source, const char *objects, const char *left_out, const char *foreign);
extern char *zodan_kept_entries(ZodanConn *source, const char *objects);
extern char *zodan_kept_rights(ZodanConn *conn);
extern void zodan_kept_restore_rights(ZodanConn *conn, const char *rights);

#endif							/* ZODAN_KEPT_H */
