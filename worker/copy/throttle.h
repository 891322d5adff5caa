/*
 * throttle.h
 *		How many bytes the copy may move now.
 */
#ifndef ZODAN_THROTTLE_H
#define ZODAN_THROTTLE_H

#include "cluster/cluster.h"

extern void zodan_throttle_set(int64 rate);
extern void zodan_throttle_watch(ZodanJob *job, int64 rate_now);
extern int64 zodan_throttle_budget(void);
extern void zodan_throttle_spend(int64 bytes);
extern char *zodan_throttle_reason(void);

#endif							/* ZODAN_THROTTLE_H */
