/*
 * failpoint.h
 *		Named points of a request's run at which a test can make it fail.
 */
#ifndef ZODAN_FAILPOINT_H
#define ZODAN_FAILPOINT_H

#include "base/compat.h"

#ifdef ZODAN_FAILPOINTS
extern void zodan_failpoint_define(void);
extern void zodan_failpoint(const char *phase, const char *place, const char *what);
#else
#define zodan_failpoint_define()	((void) 0)
#define zodan_failpoint(phase, place, what)	((void) 0)
#endif

#endif							/* ZODAN_FAILPOINT_H */
