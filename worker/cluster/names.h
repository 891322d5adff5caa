/*
 * names.h
 *		The names of all that a join makes.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_NAMES_H
#define ZODAN_NAMES_H

#include "cluster/job.h"

extern void zodan_names_subscription(ZodanJob *job, const char *dbname, const char *provider, const char *subscriber,
									 const char *prefix, const char **sub, const char **slot);
extern char *zodan_names_suffix(const ZodanJob *job);
extern char *zodan_names_helper_slots(const ZodanMember *source, const ZodanConn *conn, const char *use);
extern char *zodan_names_helper_slot(ZodanJob *job, const ZodanConn *conn, const char *use);
extern bool zodan_names_is_helper(const ZodanJob *job, const char *name);
extern char *zodan_names_lane_origins(const ZodanJob *job);
extern char *zodan_names_marks_schema(const ZodanJob *job);
extern char *zodan_names_start_slot(ZodanJob *job);
extern bool zodan_names_has_start_slot(ZodanJob *job);

#endif							/* ZODAN_NAMES_H */
