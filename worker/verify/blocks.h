/*
 * blocks.h
 *		The rows of a table, compared block by block.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_BLOCKS_H
#define ZODAN_BLOCKS_H

#include "verify/mesh.h"
#include "verify/tables.h"

extern bool zodan_blocks_next(ZodanMesh *mesh, ZodanVerified *table, int64 *bytes, int *suspects);
extern List *zodan_blocks_sample(ZodanMesh *mesh, const ZodanVerified *table, int n);

#endif							/* ZODAN_BLOCKS_H */
