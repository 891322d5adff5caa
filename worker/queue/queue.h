/*
 * queue.h
 *		The queue: which requests are due, and who runs what.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_QUEUE_H
#define ZODAN_QUEUE_H

#include "queue/request.h"

extern bool zodan_queue_installed(void);
extern bool zodan_queue_lock_process(int key);
extern int	zodan_queue_launcher_pid(void);
extern ZodanRows *zodan_queue_take(int limit, const char *busy);
extern ZodanRows *zodan_queue_take_probes(int limit, const char *busy);
extern bool zodan_queue_take_reached(int64 id);
extern void zodan_queue_not_started(int64 id);
extern int64 zodan_queue_next_due_ms(void);
extern void zodan_queue_add(int64 id);
extern ZodanRows *zodan_queue_rivals(int64 id);
extern ZodanRows *zodan_queue_open(void);
extern char *zodan_queue_request_of(const char *token);
extern ZodanRows *zodan_queue_older(const ZodanRequest *req);
extern void zodan_queue_settle(const ZodanRequest *req, const char *id);
extern int	zodan_queue_purge(int minutes);

#endif							/* ZODAN_QUEUE_H */
