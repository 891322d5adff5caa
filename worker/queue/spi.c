/*
 * spi.c
 *		Statements on the tables of the schema "zodan": the only user of SPI.
 *
 * Each is one transaction (or runs in the caller's, when it has one), so that
 * nothing is held while a remote node is talked to. All values travel as
 * text; the casts stand in the statements.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "queue/spi.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define MAX_ARGS	10

/*
 * The settings of a process of ours, whatever the database's are. What it has
 * stored before it goes on is there after a crash, also where others don't ask
 * for that; where they ask for more, it does so, too.
 */
void
zodan_spi_pin_settings(void)
{
	SetConfigOption("search_path", "", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("jit", "off", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("quote_all_identifiers", "off", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("synchronous_commit", synchronous_commit == SYNCHRONOUS_COMMIT_OFF ? "local" :
					GetConfigOption("synchronous_commit", false, false), PGC_USERSET, PGC_S_OVERRIDE);
}

/*
 * What the statement has returned, in a context of the caller's.
 */
static ZodanRows *
copy_rows(MemoryContext caller)
{
	ZodanRows  *rows = MemoryContextAllocZero(caller, sizeof(ZodanRows));

	rows->nrows = (int) SPI_processed;
	if (SPI_tuptable)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;

		rows->value = MemoryContextAlloc(caller, sizeof(char **) * Max(rows->nrows, 1));
		for (int r = 0; r < rows->nrows; r++)
		{
			rows->value[r] = MemoryContextAlloc(caller, sizeof(char *) * desc->natts);
			for (int c = 0; c < desc->natts; c++)
			{
				char	   *text = SPI_getvalue(SPI_tuptable->vals[r], desc, c + 1);

				rows->value[r][c] = text ? MemoryContextStrdup(caller, text) : NULL;
			}
		}
	}
	return rows;
}

/*
 * Runs one statement with text parameters and returns its rows, allocated in
 * the caller's memory context. For a statement that returns none, nrows is
 * the number of rows that it changed. Durable: its transaction is when that has
 * ended; others are as soon as a later one is.
 */
static ZodanRows *
run(const char *statement, bool durable, int nargs, va_list args)
{
	bool		own = !IsTransactionState();
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[MAX_ARGS];
	Datum		values[MAX_ARGS];
	char		nulls[MAX_ARGS];
	ZodanRows  *rows;
	int			rc;

	if (own)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		if (!durable)
			set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, ERROR, false);
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, statement);

	Assert(nargs <= MAX_ARGS);
	for (int i = 0; i < nargs; i++)
	{
		const char *arg = va_arg(args, const char *);

		types[i] = TEXTOID;
		nulls[i] = arg ? ' ' : 'n';
		values[i] = arg ? CStringGetTextDatum(arg) : (Datum) 0;
	}
	rc = SPI_execute_with_args(statement, nargs, types, values, nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI failed: %s", SPI_result_code_string(rc));

	rows = copy_rows(caller);
	SPI_finish();
	PopActiveSnapshot();
	if (own)
	{
		CommitTransactionCommand();
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);
		MemoryContextSwitchTo(caller);
	}
	return rows;
}

/*
 * Runs one statement, in a transaction of its own unless there is one, with nargs
 * arguments of type text (char *, NULL for NULL). Returns its rows in the
 * caller's memory context; raises what goes wrong.
 */
ZodanRows *
zodan_spi_execute(const char *statement, int nargs,...)
{
	ZodanRows  *rows;
	va_list		args;

	va_start(args, nargs);
	rows = run(statement, true, nargs, args);
	va_end(args);
	return rows;
}

static ZodanRows *
run_one(const char *statement, bool durable, int nargs, va_list args)
{
	ZodanRows  *rows = run(statement, durable, nargs, args);

	if (rows->nrows != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the request is not in the state that was expected"),
				 errdetail("A statement changed %d rows, not one: %s", rows->nrows, statement)));
	return rows;
}

/*
 * As zodan_spi_execute(), for a statement that must find exactly one row.
 */
ZodanRows *
zodan_spi_one(const char *statement, int nargs,...)
{
	ZodanRows  *rows;
	va_list		args;

	va_start(args, nargs);
	rows = run_one(statement, true, nargs, args);
	va_end(args);
	return rows;
}

/*
 * As zodan_spi_one(), but commits asynchronously, without waiting for the disk or a
 * standby: for what is only looked at, and for what can be done again. A crash
 * of the server may take it back, with all that was stored after it, unless
 * something durable was. Those that move rows have no time for more.
 */
ZodanRows *
zodan_spi_one_async(const char *statement, int nargs,...)
{
	ZodanRows  *rows;
	va_list		args;

	va_start(args, nargs);
	rows = run_one(statement, false, nargs, args);
	va_end(args);
	return rows;
}

/*
 * The value of a boolean in its text form; NULL is false.
 */
bool
zodan_spi_is_true(const char *text)
{
	return text && text[0] == 't';
}

/*
 * The value of a bigint in its text form; NULL is 0.
 */
int64
zodan_spi_int64(const char *text)
{
	return text ? strtoll(text, NULL, 10) : 0;
}
