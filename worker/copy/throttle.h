/*
 * throttle.h
 *		How many bytes the copy may move now.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_THROTTLE_H
#define ZODAN_THROTTLE_H

#include "cluster/cluster.h"

typedef struct ZodanThrottle
{
	int64		asked_rate;		/* what the request asks for, bytes/s; 0: no bound */
	int64		lag_rate;		/* while replication lags; 0: no bound */
	int64		lag_peak;		/* what was moved when that was set */
	double		bucket;			/* bytes that may be moved now; negative: too many were */
	int64		filled;			/* when it was filled last, as zodan_wait_clock() */
	int64		moved;			/* bytes since the rate was measured last, */
	int64		measured;		/* which was then */
	double		rate;			/* bytes/s, averaged over some seconds */
} ZodanThrottle;

extern void zodan_throttle_start(ZodanThrottle *throttle);
extern void zodan_throttle_set(ZodanThrottle *throttle, int64 rate);
extern void zodan_throttle_watch(ZodanThrottle *throttle, ZodanJob *job);
extern int64 zodan_throttle_budget(ZodanThrottle *throttle);
extern void zodan_throttle_spend(ZodanThrottle *throttle, int64 bytes);
extern char *zodan_throttle_reason(const ZodanThrottle *throttle);

#endif							/* ZODAN_THROTTLE_H */
