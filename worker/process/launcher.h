/*
 * launcher.h
 *		The process that looks after the queue.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_LAUNCHER_H
#define ZODAN_LAUNCHER_H

#include "process/runner.h"

extern PGDLLEXPORT void zodan_launcher_main(Datum database);

extern void zodan_launcher_describe_worker(BackgroundWorker *worker, const char *kind, const char *function);
extern BackgroundWorkerHandle *zodan_launcher_start_worker(BackgroundWorker *worker, const char *what);
extern void zodan_launcher_describe(BackgroundWorker *worker, Oid database);
extern bool zodan_launcher_start(void);
extern void zodan_launcher_wake_at_commit(void);

#endif							/* ZODAN_LAUNCHER_H */
