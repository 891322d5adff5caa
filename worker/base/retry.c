/*
 * retry.c
 *		What to do about an error: try again, when, or give up.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/retry.h"

#include "common/pg_prng.h"
#include "utils/errcodes.h"

/*
 * Will trying again help, nothing else having been changed by anybody?
 *
 * sqlerrcode is a packed SQLSTATE, as in ErrorData.
 */
bool
zodan_retry_is_transient(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION: /* shutdowns, timeouts */
		case ERRCODE_TRANSACTION_ROLLBACK:	/* deadlocks, serialization */
		case ERRCODE_SYSTEM_ERROR:	/* such as WAL that was removed meanwhile */
			return true;
	}

	switch (sqlerrcode)
	{
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_OBJECT_IN_USE:
		case ERRCODE_IDLE_IN_TRANSACTION_SESSION_TIMEOUT:
			return true;
	}
	return false;
}

/*
 * How long to wait, in milliseconds, after attempt number attempt has failed, less
 * up to a quarter of it by chance, so that many requests that failed together don't
 * come back together.
 */
int
zodan_retry_backoff_ms(int attempt)
{
	int64		ms = ZODAN_RETRY_FAILED_MS;

	for (int i = 1; i < attempt && ms < ZODAN_RETRY_LAST_MS; i++)
		ms *= 2;
	ms = Min(ms, ZODAN_RETRY_LAST_MS);
	return (int) (ms - ms * pg_prng_double(&pg_global_prng_state) / 4);
}
