/*
 * array.c
 *		Arrays, as SQL takes them.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/array.h"

#include "lib/stringinfo.h"

/*
 * Strings (char *, NULL for NULL) as the literal of an array of text.
 */
char *
zodan_array_literal(const List *strings)
{
	StringInfoData buf;
	ListCell   *cell;

	initStringInfo(&buf);
	foreach(cell, strings)
	{
		appendStringInfoChar(&buf, buf.len ? ',' : '{');
		if (!lfirst(cell))
		{
			appendStringInfoString(&buf, "NULL");
			continue;
		}
		appendStringInfoChar(&buf, '"');
		for (const char *c = lfirst(cell); *c; c++)
			appendStringInfo(&buf, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
		appendStringInfoChar(&buf, '"');
	}
	appendStringInfoString(&buf, buf.len ? "}" : "{}");
	return buf.data;
}
