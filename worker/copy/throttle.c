/*
 * throttle.c
 *		How many bytes the copy may move now.
 *
 * Two bounds: the request's copy_rate, and one of its own that is there while
 * those who replicate from the source lag by more than zodan.copy_lag_limit.
 * That one halves what the copy moves every second until they catch up, then
 * grows by a quarter a second until it is none any more.
 *
 * The lower of the two fills a bucket that holds what may be moved in
 * BUCKET_MS: so the rate is held over any time longer than that.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/throttle.h"

#include "base/settings.h"
#include "remote/query.h"

#define BUCKET_MS		100
#define FILL_MS			5
#define RATE_MIN		(256 * 1024)	/* so that the end comes at all */

/* how much the last second counts for the rate; what is left of the highest rate after one */
#define RATE_WEIGHT		0.3
#define PEAK_FADES		0.9

static int64
bound(const ZodanThrottle *throttle)
{
	if (throttle->asked_rate > 0 && throttle->lag_rate > 0)
		return Min(throttle->asked_rate, throttle->lag_rate);
	return throttle->asked_rate > 0 ? throttle->asked_rate : throttle->lag_rate;
}

/*
 * To be called when the copy begins.
 */
void
zodan_throttle_start(ZodanThrottle *throttle)
{
	memset(throttle, 0, sizeof(*throttle));
	throttle->measured = zodan_wait_clock();
}

/*
 * Sets the request's own bound, in bytes/s; 0: none.
 */
void
zodan_throttle_set(ZodanThrottle *throttle, int64 rate)
{
	throttle->asked_rate = rate;
}

/*
 * Looks how far those who replicate from the source are behind, by the WAL
 * that they have not confirmed. To be called about once a second.
 */
void
zodan_throttle_watch(ZodanThrottle *throttle, ZodanJob *job)
{
	int64		limit = zodan_copy_lag_limit * INT64CONST(1024) * 1024;
	int64		lag;
	bool		was_bound = throttle->lag_rate > 0;
	int64		now = zodan_wait_clock();

	/* a second in which all lanes build indexes is no measure */
	throttle->rate += RATE_WEIGHT * (throttle->moved * 1e6 / Max(now - throttle->measured, 1) - throttle->rate);
	throttle->moved = 0;
	throttle->measured = now;
	if (!was_bound)
		throttle->lag_peak = (int64) Max(throttle->rate, throttle->lag_peak * PEAK_FADES);
	if (limit == 0 && !was_bound)
		return;
	lag = strtoll(zodan_query_value(&ZODAN_SOURCE(job)->conn,
									"SELECT coalesce(pg_catalog.max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), flush_lsn)), 0)::bigint"
									"  FROM pg_catalog.pg_stat_replication WHERE state IN ('streaming', 'catchup')", 0), NULL, 10);
	if (limit > 0 && lag > limit)
	{
		throttle->lag_rate = Max((was_bound ? Min(throttle->lag_rate, (int64) throttle->rate) : throttle->lag_peak) / 2, RATE_MIN);
	}
	else if (was_bound)
	{
		throttle->lag_rate += throttle->lag_rate / 4;
		if (limit == 0 || throttle->lag_rate > throttle->lag_peak)
			throttle->lag_rate = 0;
	}
	if (was_bound != (throttle->lag_rate > 0))
		zodan_journal_event(job->req, throttle->lag_rate > 0 ? "warning" : "info", ZODAN_SOURCE(job)->name,
							throttle->lag_rate > 0 ?
							psprintf("the copy slows down: replication from this node is " INT64_FORMAT " MB behind, more than zodan.copy_lag_limit",
									 lag / 1024 / 1024) :
							"the copy goes at full speed again: replication from this node keeps up");
}

/*
 * Bytes that may be moved now; PG_INT64_MAX: any amount.
 */
int64
zodan_throttle_budget(ZodanThrottle *throttle)
{
	int64		rate = bound(throttle);
	int64		now = zodan_wait_clock();

	if (rate == 0)
		return PG_INT64_MAX;
	if (now - throttle->filled >= FILL_MS * 1000)
	{
		throttle->bucket += (double) rate * Min(now - throttle->filled, BUCKET_MS * 1000) / 1000000;
		throttle->bucket = Min(throttle->bucket, Max((double) rate * BUCKET_MS / 1000, 1));
		throttle->filled = now;
	}
	return throttle->bucket > 0 ? (int64) Min(Max(throttle->bucket, 1), 1e15) : 0;
}

/*
 * So many bytes have been moved.
 */
void
zodan_throttle_spend(ZodanThrottle *throttle, int64 bytes)
{
	throttle->moved += bytes;
	/* what was moved too much, since a row is moved as a whole, is paid back */
	throttle->bucket -= bytes;
	if (bound(throttle) == 0)
		throttle->bucket = 0;
}

/*
 * What the copy is held to, and why; NULL: nothing.
 */
char *
zodan_throttle_reason(const ZodanThrottle *throttle)
{
	if (bound(throttle) == 0)
		return NULL;
	return psprintf("held to %.1f MB/s%s", bound(throttle) / 1048576.0,
					throttle->lag_rate > 0 && bound(throttle) == throttle->lag_rate ? ", since replication from the source lags" : "");
}
