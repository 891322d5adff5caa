/*
 * undo.h
 *		Undoes what a request has made.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_UNDO_H
#define ZODAN_UNDO_H

#include "cluster/cluster.h"

extern char *zodan_undo(ZodanJob *job, bool *fence);
extern void zodan_undo_objects(ZodanJob *job);

#endif							/* ZODAN_UNDO_H */
