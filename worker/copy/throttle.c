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
 */
#include "copy/throttle.h"

#include "base/settings.h"
#include "remote/query.h"

#define BUCKET_MS		100
#define FILL_MS			5
#define RATE_MIN		(256 * 1024)	/* so that the end comes at all */

static int64 asked_rate = 0;	/* bytes/s; 0: no bound */
static int64 lag_rate = 0;
static int64 lag_peak = 0;		/* what was moved when the bound was set */
static double bucket = 0;
static int64 filled = 0;

static int64
bound(void)
{
	if (asked_rate > 0 && lag_rate > 0)
		return Min(asked_rate, lag_rate);
	return asked_rate > 0 ? asked_rate : lag_rate;
}

/*
 * Sets the request's own bound, in bytes/s; 0: none.
 */
void
zodan_throttle_set(int64 rate)
{
	asked_rate = rate;
}

/*
 * Looks how far those who replicate from the source are behind, by the WAL
 * that they have not confirmed. To be called about once a second, with the rate
 * at which the copy goes, in bytes/s.
 */
void
zodan_throttle_watch(ZodanJob *job, int64 rate_now)
{
	int64		limit = zodan_copy_lag_limit * INT64CONST(1024) * 1024;
	int64		lag;
	bool		was_bound = lag_rate > 0;

	if (limit == 0 && !was_bound)
		return;
	lag = strtoll(zodan_query_value(&ZODAN_SOURCE(job)->conn,
							  "SELECT coalesce(pg_catalog.max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), flush_lsn)), 0)::bigint"
							  "  FROM pg_catalog.pg_stat_replication WHERE state IN ('streaming', 'catchup')", 0), NULL, 10);
	if (limit > 0 && lag > limit)
	{
		if (!was_bound)
			lag_peak = rate_now;
		lag_rate = Max((was_bound ? Min(lag_rate, rate_now) : rate_now) / 2, RATE_MIN);
	}
	else if (was_bound)
	{
		lag_rate += lag_rate / 4;
		if (limit == 0 || lag_rate > lag_peak)
			lag_rate = 0;
	}
	if (was_bound != (lag_rate > 0))
		zodan_journal_event(lag_rate > 0 ? "warning" : "info", ZODAN_SOURCE(job)->name,
					lag_rate > 0 ?
					psprintf("the copy slows down: replication from this node is " INT64_FORMAT " MB behind, more than zodan.copy_lag_limit",
							 lag / 1024 / 1024) :
					"the copy goes at full speed again: replication from this node keeps up");
}

/*
 * Bytes that may be moved now; PG_INT64_MAX: any amount.
 */
int64
zodan_throttle_budget(void)
{
	int64		rate = bound();
	int64		now = zodan_wait_clock();

	if (rate == 0)
		return PG_INT64_MAX;
	if (now - filled >= FILL_MS * 1000)
	{
		bucket += (double) rate * Min(now - filled, BUCKET_MS * 1000) / 1000000;
		bucket = Min(bucket, Max((double) rate * BUCKET_MS / 1000, 1));
		filled = now;
	}
	return bucket > 0 ? (int64) Min(Max(bucket, 1), 1e15) : 0;
}

/*
 * So many bytes have been moved.
 */
void
zodan_throttle_spend(int64 bytes)
{
	/* what was moved too much, since a row is moved as a whole, is paid back */
	bucket -= bytes;
	if (bound() == 0)
		bucket = 0;
}

/*
 * What the copy is held to, and why; NULL: nothing.
 */
char *
zodan_throttle_reason(void)
{
	if (bound() == 0)
		return NULL;
	return psprintf("held to %.1f MB/s%s", bound() / 1048576.0,
					lag_rate > 0 && bound() == lag_rate ? ", since replication from the source lags" : "");
}
