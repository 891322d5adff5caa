/*
 * change.h
 *		Changes of an engine's subscriptions and nodes.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_CHANGE_H
#define ZODAN_CHANGE_H

#include "remote/remote.h"

extern void zodan_change_all(ZodanCall *calls, int ncalls);
extern PGresult *zodan_change_make(ZodanConn *conn, ZodanChange change,...);

#endif							/* ZODAN_CHANGE_H */
