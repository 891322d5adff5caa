/*
 * change.h
 *		Changes of an engine's subscriptions and nodes.
 */
#ifndef ZODAN_CHANGE_H
#define ZODAN_CHANGE_H

#include "remote/remote.h"

extern void zodan_change_all(ZodanCall *calls, int ncalls);
extern PGresult *zodan_change_make(ZodanConn *conn, ZodanChange change,...);

#endif							/* ZODAN_CHANGE_H */
