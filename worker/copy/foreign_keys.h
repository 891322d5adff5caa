/*
 * foreign_keys.h
 *		The source's foreign keys.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_FOREIGN_KEYS_H
#define ZODAN_FOREIGN_KEYS_H

#include "cluster/cluster.h"

extern void zodan_foreign_keys_add(ZodanJob *job, const char *skipped_schemas);
extern int	zodan_foreign_keys_check(ZodanJob *job, const char *skipped_schemas);

#endif							/* ZODAN_FOREIGN_KEYS_H */
