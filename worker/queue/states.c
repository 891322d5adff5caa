/*
 * states.c
 *		The states of a request, and what leads from one to another.
 *
 * This table is the only place where that stands. The statements that change a
 * state are made from it (queue.c, request.c), zodan.transitions() shows it, which
 * zodan.steer() looks into, and a test compares the picture in docs/reference.md.
 *
 * A running request doesn't change its state when a user asks for something: that
 * is noted, its runner sees it, and what the runner does is an event of its own.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "queue/states.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

const ZodanTransition zodan_states_table[] = {
	{"queued", EVENT_START, "running", "a runner begins an attempt"},
	{"retrying", EVENT_START, "running", "a runner begins the next attempt"},
	{"running", EVENT_START, "running", "its runner has died: another one goes on"},
	{"cancelling", EVENT_START, "cancelling", "a runner takes it, to roll it back"},
	{"rolling_back", EVENT_START, "rolling_back", "a runner goes on with rolling it back"},
	{"running", EVENT_NOT_STARTED, "queued", "there is no place for a process"},
	{"cancelling", EVENT_NOT_STARTED, "cancelling", "there is no place for a process"},
	{"rolling_back", EVENT_NOT_STARTED, "rolling_back", "there is no place for a process"},
	{"running", EVENT_WAIT, "queued", "another request has the nodes"},
	{"cancelling", EVENT_WAIT, "cancelling", "another request has the nodes"},
	{"rolling_back", EVENT_WAIT, "rolling_back", "another request has the nodes"},
	{"running", EVENT_ERROR, "retrying", "it is tried again later"},
	{"cancelling", EVENT_ERROR, "cancelling", "it is tried again later"},
	{"rolling_back", EVENT_ERROR, "rolling_back", "any error: it is tried again later"},
	{"running", EVENT_DONE, "done", "everything is as was asked"},
	{"running", EVENT_FAIL, "failed", "an error that trying again won't mend, or the last attempt"},
	{"running", EVENT_PAUSE_SEEN, "paused", "its runner has seen that this was asked for"},
	{"running", EVENT_CANCEL_SEEN, "cancelling", "its runner has seen that this was asked for"},
	{"running", EVENT_ROLL_BACK, "rolling_back", "what it has made is worth nothing, or isn't its own any more"},
	{"cancelling", EVENT_ROLL_BACK, "rolling_back", "a runner begins to roll it back"},
	{"rolling_back", EVENT_RESTART, "retrying", "all is rolled back: it starts from the beginning"},
	{"rolling_back", EVENT_ROLLED_BACK, "cancelled", "all is rolled back, or kept as was asked"},
	{"rolling_back", EVENT_FAIL, "failed", "it may not start again, or not all of it can be rolled back"},

	{"queued", EVENT_CANCEL, "cancelling", "asked for"},
	{"running", EVENT_CANCEL, "running", "asked for: its runner ends what is under way"},
	{"retrying", EVENT_CANCEL, "cancelling", "asked for"},
	{"paused", EVENT_CANCEL, "cancelling", "asked for, or its slots hold too much WAL"},
	{"cancelling", EVENT_CANCEL, "cancelling", "asked for again"},
	{"rolling_back", EVENT_CANCEL, "rolling_back", "asked for: it doesn't start again"},
	{"failed", EVENT_CANCEL, "cancelling", "asked for, or its slots hold too much WAL"},
	{"cancelled", EVENT_CANCEL, "cancelling", "asked for what was kept, or its slots hold too much WAL"},
	{"queued", EVENT_PAUSE, "paused", "asked for"},
	{"running", EVENT_PAUSE, "running", "asked for: its runner ends what is under way"},
	{"retrying", EVENT_PAUSE, "paused", "asked for"},
	{"paused", EVENT_RESUME, "queued", "asked for"},
	{"retrying", EVENT_RETRY, "queued", "asked for: it doesn't wait any longer"},
	{"failed", EVENT_RETRY, "queued", "asked for: it resumes with the phase that failed"},
};
const int	zodan_states_count = lengthof(zodan_states_table);

/*
 * The state that an event leads to; NULL: it can't happen in that state.
 */
const char *
zodan_states_next(const char *from, const char *event)
{
	for (int i = 0; i < zodan_states_count; i++)
		if (strcmp(zodan_states_table[i].from, from) == 0 && strcmp(zodan_states_table[i].event, event) == 0)
			return zodan_states_table[i].to;
	return NULL;
}

/*
 * An SQL expression: the state that an event leads to from that of the row. It goes
 * with zodan_states_in(), for other states have none.
 */
char *
zodan_states_case(const char *event)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "CASE state");
	for (int i = 0; i < zodan_states_count; i++)
		if (strcmp(zodan_states_table[i].event, event) == 0)
			appendStringInfo(&sql, " WHEN %s THEN %s", quote_literal_cstr(zodan_states_table[i].from), quote_literal_cstr(zodan_states_table[i].to));
	appendStringInfoString(&sql, " END");
	return sql.data;
}

/*
 * A condition in SQL: the event can happen in the state of the row.
 */
char *
zodan_states_in(const char *event)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < zodan_states_count; i++)
		if (strcmp(zodan_states_table[i].event, event) == 0)
			appendStringInfo(&sql, "%s%s", sql.len ? ", " : "state IN (", quote_literal_cstr(zodan_states_table[i].from));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}
