/*
 * origins.h
 *		Replication origins.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_ORIGINS_H
#define ZODAN_ORIGINS_H

#include "engine/slots.h"

extern void zodan_origins_create(ZodanConn *conn, const char *origin);
extern void zodan_origins_drop(ZodanConn *conn, const char *origin);
extern char *zodan_origins_identity(ZodanConn *conn, const char *origin);
extern bool zodan_origins_in_use(ZodanConn *conn, const char *origin);
extern void zodan_origins_set(ZodanSlot *origins, int norigins);

#endif							/* ZODAN_ORIGINS_H */
