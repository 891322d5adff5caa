/*
 * runner.h
 *		The process that runs one request.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_RUNNER_H
#define ZODAN_RUNNER_H

#include "base/compat.h"

#include "postmaster/bgworker.h"

/* what the launcher tells a runner */
typedef struct ZodanRunnerArgs
{
	Oid			database;
	int64		request_id;
	bool		probe;			/* look at its slots, or go on if a node is back that it waits for */
} ZodanRunnerArgs;

StaticAssertDecl(sizeof(ZodanRunnerArgs) <= BGW_EXTRALEN, "arguments must fit");

extern PGDLLEXPORT void zodan_runner_main(Datum arg);

#endif							/* ZODAN_RUNNER_H */
