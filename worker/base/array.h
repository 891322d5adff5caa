/*
 * array.h
 *		Arrays, as SQL takes them.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_ARRAY_H
#define ZODAN_ARRAY_H

#include "base/compat.h"

#include "nodes/pg_list.h"

extern char *zodan_array_literal(const List *strings);

#endif							/* ZODAN_ARRAY_H */
