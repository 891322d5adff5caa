/*
 * copy_database.h
 *		The phases copy_schema, copy_data and build_indexes.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_COPY_DATABASE_H
#define ZODAN_COPY_DATABASE_H

#include "cluster/cluster.h"

extern void zodan_copy_database_schema(ZodanJob *job);
extern void zodan_copy_database_rows(ZodanJob *job);
extern void zodan_copy_database_indexes(ZodanJob *job);

#endif							/* ZODAN_COPY_DATABASE_H */
