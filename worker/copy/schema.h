/*
 * schema.h
 *		The structure of the database: pg_dump, pg_restore; sequences.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SCHEMA_H
#define ZODAN_SCHEMA_H

#include "cluster/cluster.h"

extern char *zodan_schema_check_tools(ZodanJob *job, int version);
extern char *zodan_schema_skipped(ZodanJob *job);
extern char *zodan_schema_own_schemas(ZodanJob *job);
extern bool zodan_schema_dumped(ZodanJob *job);
extern void zodan_schema_dump(ZodanJob *job, const char *snapshot, const char *skipped_schemas);
extern void zodan_schema_keep(ZodanJob *job);
extern void zodan_schema_restore_tables(ZodanJob *job, int jobs, bool again);
extern void zodan_schema_restore_indexes(ZodanJob *job, int jobs, bool again);
extern void zodan_schema_analyze(ZodanJob *job);
extern void zodan_schema_restore_last(ZodanJob *job, bool again);
extern bool zodan_schema_has_tables(ZodanJob *job);
extern void zodan_schema_drop_last(ZodanJob *job);
extern bool zodan_schema_drop(ZodanJob *job);
extern int	zodan_schema_copy_sequences(ZodanJob *job, const char *skipped_schemas);

#endif							/* ZODAN_SCHEMA_H */
