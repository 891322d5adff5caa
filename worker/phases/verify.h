/*
 * verify.h
 *		The phases of a verification.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_VERIFY_H
#define ZODAN_VERIFY_H

#include "cluster/cluster.h"

extern void zodan_verify_check(ZodanJob *job);
extern void zodan_verify_rows(ZodanJob *job);

#endif							/* ZODAN_VERIFY_H */
