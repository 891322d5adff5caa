/*
 * lsn.c
 *		Positions in the WAL, as text and as numbers.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/lsn.h"

/*
 * Reads a position in its text form; raises an error if there is none, as NULL or empty,
 * or if it is unreadable. That names the node, and what the position is.
 */
XLogRecPtr
zodan_lsn_parse(const char *text, const char *node, const char *what)
{
	uint32		high;
	uint32		low;

	if (!text || sscanf(text, "%X/%X", &high, &low) != 2)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 text && text[0] ? errmsg("node \"%s\": %s is \"%s\", which is no position in the WAL", node, what, text) :
				 errmsg("node \"%s\": %s is not known", node, what)));
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
