/*
 * lsn.h
 *		Positions in the WAL, as text and as numbers.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_LSN_H
#define ZODAN_LSN_H

#include "base/compat.h"
#include "access/xlogdefs.h"

extern XLogRecPtr zodan_lsn_parse(const char *text, const char *node, const char *what);
extern char *zodan_lsn_format(XLogRecPtr lsn);

#endif							/* ZODAN_LSN_H */
