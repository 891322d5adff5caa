/*
 * failpoint.h
 *		Named points of a request's run at which a test can make it fail.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_FAILPOINT_H
#define ZODAN_FAILPOINT_H

#include "base/wait.h"

#ifdef ZODAN_FAILPOINTS
extern void zodan_failpoint_define(void);
extern void zodan_failpoint(const char *phase, ZodanWaiter *waiter, const char *place, const char *what);
#else
#define zodan_failpoint_define()	((void) 0)
#define zodan_failpoint(phase, waiter, place, what)	((void) 0)
#endif

/* a point of a request's: see failpoint.c */
#define ZODAN_FAILPOINT(req, place, what)	zodan_failpoint((req)->phase, (req)->waiter, place, what)

#endif							/* ZODAN_FAILPOINT_H */
