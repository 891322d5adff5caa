/*
 * copy.h
 *		The rows: what to copy, and the lanes that do it.
 */
#ifndef ZODAN_COPY_H
#define ZODAN_COPY_H

#include "cluster.h"

extern void zodan_copy_plan(ZodanJob *job, const char *skipped_schemas);
extern char *zodan_copy_origin(ZodanJob *job, int lane);
extern int	zodan_copy_lanes(ZodanJob *job);
extern void zodan_copy_run(ZodanJob *job);

#endif							/* ZODAN_COPY_H */
