/*
 * lsn.c
 *		Positions in the WAL, as text and as numbers.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/lsn.h"

/*
 * Reads a position in its text form; raises an error if it is NULL, or none.
 */
XLogRecPtr
zodan_lsn_parse(const char *text)
{
	uint32		high;
	uint32		low;

	if (!text || sscanf(text, "%X/%X", &high, &low) != 2)
		elog(ERROR, "invalid position \"%s\"", text ? text : "(null)");
	return (uint64) high << 32 | low;
}

/*
 * A position in its text form, palloc'd.
 */
char *
zodan_lsn_format(XLogRecPtr lsn)
{
	return psprintf("%X/%X", LSN_FORMAT_ARGS(lsn));
}
