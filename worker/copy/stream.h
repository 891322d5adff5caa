/*
 * stream.h
 *		The source's stream by which the new node catches up.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_STREAM_H
#define ZODAN_STREAM_H

#include "base/lsn.h"
#include "cluster/cluster.h"

extern void zodan_stream_prepare(ZodanJob *job);
extern void zodan_stream_start(ZodanJob *job);
extern int64 zodan_stream_catch_up(ZodanJob *job, XLogRecPtr *marker);
extern void zodan_stream_stop(ZodanJob *job);
extern XLogRecPtr zodan_stream_position(ZodanJob *job, XLogRecPtr window, XLogRecPtr known);

#endif							/* ZODAN_STREAM_H */
