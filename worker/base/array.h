/*
 * array.h
 *		Arrays, as SQL takes them.
 */
#ifndef ZODAN_ARRAY_H
#define ZODAN_ARRAY_H

#include "base/compat.h"

#include "nodes/pg_list.h"

extern char *zodan_array_literal(const List *strings);

#endif							/* ZODAN_ARRAY_H */
