/*
 * suspects.h
 *		Rows that weren't the same on all nodes when they were read.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SUSPECTS_H
#define ZODAN_SUSPECTS_H

#include "verify/mesh.h"
#include "verify/tables.h"

/* so many rows of a table differ that the rest of it isn't compared */
#define ZODAN_DIFFERING_MAX	10000

extern int	zodan_suspects_settle(ZodanMesh *mesh, const ZodanVerified *table);
extern void zodan_suspects_reopen(const ZodanRequest *req);
extern int	zodan_suspects_differing(const ZodanRequest *req, const ZodanVerified *table);
extern int	zodan_suspects_left(const ZodanRequest *req, const ZodanVerified *table);

#endif							/* ZODAN_SUSPECTS_H */
