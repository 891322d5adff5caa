/*
 * retry.h
 *		What to do about an error: try again, when, or give up.
 */
#ifndef ZODAN_RETRY_H
#define ZODAN_RETRY_H

#include "base/compat.h"

extern bool zodan_error_is_transient(int sqlerrcode);
extern int	zodan_backoff_ms(int attempt);

#endif							/* ZODAN_RETRY_H */
