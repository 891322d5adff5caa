/*
 * retry.h
 *		What to do about an error: try again, when, or give up.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_RETRY_H
#define ZODAN_RETRY_H

#include "base/compat.h"

/*
 * How long a request waits before it's tried again: it doubles each time, from the
 * first one, after an attempt that failed or whose process died, to the last.
 */
#define ZODAN_RETRY_FAILED_MS	1000
#define ZODAN_RETRY_DIED_MS		100
#define ZODAN_RETRY_LAST_MS		60000

/* the same as an SQL expression, after so many attempts */
#define ZODAN_RETRY_BACKOFF(first, attempts) \
	"interval '1 ms' * least(" CppAsString2(ZODAN_RETRY_LAST_MS) ", " CppAsString2(first) " * power(2, least(20, " attempts ")))"

extern bool zodan_retry_is_transient(int sqlerrcode);
extern int	zodan_retry_backoff_ms(int attempt);

#endif							/* ZODAN_RETRY_H */
