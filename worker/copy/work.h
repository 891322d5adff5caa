/*
 * work.h
 *		The request's work directory.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_WORK_H
#define ZODAN_WORK_H

#include "cluster/job.h"

extern char *zodan_work_path(ZodanJob *job, const char *file);
extern void zodan_work_make(ZodanJob *job);
extern void zodan_work_store(ZodanJob *job);
extern bool zodan_work_fetch(ZodanJob *job);
extern void zodan_work_forget(ZodanJob *job);
extern void zodan_work_sweep(void);
extern void zodan_work_write(const char *path, const char *text);
extern char *zodan_work_read(const char *path);

#endif							/* ZODAN_WORK_H */
