/*
 * retry.h
 *		What to do about an error: try again, when, or give up.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_RETRY_H
#define ZODAN_RETRY_H

#include "base/compat.h"

extern bool zodan_retry_is_transient(int sqlerrcode);
extern int	zodan_retry_backoff_ms(int attempt);

#endif							/* ZODAN_RETRY_H */
