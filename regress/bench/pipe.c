/*
 * pipe.c
 *		A function that lets a pipe of the worker's run, for bench/pipe.pl.
 *
 * pipe_bench(from, to, OUT bytes, OUT seconds, OUT cpu): copies everything
 * that "from" sends into "to", both connection strings; returns how many bytes
 * that were, how long it took and the processor time of this process, in
 * seconds.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/compat.h"

#include <sys/resource.h>

#include "fmgr.h"
#include "funcapi.h"
#include "remote/pipe.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(pipe_bench);

static double
cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

Datum
pipe_bench(PG_FUNCTION_ARGS)
{
	ZodanSession session;
	ZodanConn	from = {.node = "from",.dsn = text_to_cstring(PG_GETARG_TEXT_PP(0)),.session = &session};
	ZodanConn	to = {.node = "to",.dsn = text_to_cstring(PG_GETARG_TEXT_PP(1)),.session = &session};
	ZodanPipe	pipe = {.from = &from,.to = &to,.budget = PG_INT64_MAX};
	ZodanPipeCount count;
	ZodanSocket sockets[2];
	TimestampTz started;
	double		cpu;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	zodan_session_init(&session, "bench", 0, 60000);
	zodan_remote_connect(&from);
	zodan_remote_connect(&to);
	zodan_pipe_widen(&from, 1, PG_INT64_MAX);
	started = GetCurrentTimestamp();
	cpu = cpu_seconds();
	zodan_pipe_start(&pipe, "COPY OUT", "COPY IN", &count, 1);
	while (!zodan_pipe_step(&pipe))
		zodan_wait_sockets(&session.waiter, sockets, zodan_pipe_sockets(&pipe, sockets), zodan_wait_deadline(1000));
	values[0] = Int64GetDatum(count.bytes);
	values[1] = Float8GetDatum((GetCurrentTimestamp() - started) / 1e6);
	values[2] = Float8GetDatum(cpu_seconds() - cpu);
	zodan_connection_close(&from);
	zodan_connection_close(&to);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
