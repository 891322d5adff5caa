/*
 * pipe.c
 *		COPY from a connection to one node into a connection to another.
 *
 * A pipe is moved by steps, none of which waits; between them its owner waits
 * for the sockets that zodan_pipe_sockets() names. A row is only read when
 * the one before it has left for the receiver, so a slow receiver slows the
 * sender down instead of filling memory: libpq holds about one row. An error
 * of the receiver shows at the end of the table, which is when libpq tells.
 *
 *		IDLE -> STARTING -> STREAMING -> ENDING -> COMMITTING -> IDLE
 */
#include "pipe.h"

/*
 * Raises what the connection's last result says.
 */
static void
raise_result(ZodanConn *conn, PGresult *result)
{
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);

	/* not the detail of an error about a row: it holds the row */
	ereport(ERROR,
			(errcode(zodan_sqlstate(result)),
			 errmsg("node \"%s\": %s", conn->node,
					zodan_redact(primary ? primary : PQerrorMessage(conn->pg))),
			 detail && !context ? errdetail("%s", zodan_redact(detail)) : 0));
}

static void
raise_connection(ZodanConn *conn)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("node \"%s\": %s", conn->node, zodan_connection_error(conn))));
}

static void
consume(ZodanConn *conn)
{
	if (!PQconsumeInput(conn->pg))
		raise_connection(conn);
}

/*
 * Takes the results that have arrived up to the one with the wanted status;
 * true when that is there.
 */
static bool
await_result(ZodanConn *conn, ExecStatusType wanted, int64 *rows)
{
	while (!PQisBusy(conn->pg))
	{
		PGresult   *result = PQgetResult(conn->pg);
		ExecStatusType status = PQresultStatus(result);

		if (!result)
			raise_connection(conn);
		if (status != wanted && status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
			raise_result(conn, result);
		if (status == wanted && rows)
			*rows = strtoll(PQcmdTuples(result), NULL, 10);
		PQclear(result);
		if (status == wanted)
			return true;
	}
	return false;
}

/*
 * Takes everything up to the end of the statement; true when it's there.
 */
static bool
await_end(ZodanConn *conn)
{
	while (!PQisBusy(conn->pg))
	{
		PGresult   *result = PQgetResult(conn->pg);
		ExecStatusType status = PQresultStatus(result);

		if (!result)
			return true;
		if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
			raise_result(conn, result);
		PQclear(result);
	}
	return false;
}

/*
 * Starts to copy. copy_out is a COPY TO STDOUT for the sender; copy_in ends
 * with a COPY FROM STDIN for the receiver, before which it begins the
 * transaction that the pipe will commit.
 */
void
zodan_pipe_start(ZodanPipe *pipe, const char *copy_out, const char *copy_in)
{
	Assert(pipe->state == PIPE_IDLE);
	if (zodan_statement_hook)
	{
		zodan_statement_hook(pipe->from->node, copy_out);
		zodan_statement_hook(pipe->to->node, copy_in);
	}
	if (!PQsendQuery(pipe->from->pg, copy_out))
		raise_connection(pipe->from);
	if (!PQsendQuery(pipe->to->pg, copy_in))
		raise_connection(pipe->to);
	pipe->state = PIPE_STARTING;
	pipe->bytes = pipe->rows_read = pipe->rows_written = 0;
	pipe->from_ready = pipe->to_ready = pipe->blocked = false;
	pipe->stalled = zodan_deadline(zodan_statement_timeout());
}

/*
 * Moves rows until the receiver is full or the sender has none at hand.
 */
static void
stream(ZodanPipe *pipe)
{
	for (;;)
	{
		char	   *row;
		int			length;
		int			unsent = PQflush(pipe->to->pg);

		if (unsent < 0)
			raise_connection(pipe->to);
		pipe->blocked = unsent > 0;
		if (pipe->blocked)
			return;

		length = PQgetCopyData(pipe->from->pg, &row, 1);
		if (length == 0)
			return;
		if (length > 0)
		{
			if (PQputCopyData(pipe->to->pg, row, length) <= 0)
				raise_connection(pipe->to);
			PQfreemem(row);
			pipe->bytes += length;
			continue;
		}

		/* the end, or an error, which then is the next result */
		if (length == -2)
			raise_connection(pipe->from);
		pipe->state = PIPE_ENDING;
		return;
	}
}

/*
 * Does what can be done without waiting. Returns whether the copy has been
 * committed; then the pipe is idle and its counts are final.
 */
bool
zodan_pipe_step(ZodanPipe *pipe)
{
	int64		before = pipe->bytes;
	ZodanPipeState state_before = pipe->state;

	if (PQflush(pipe->from->pg) < 0)
		raise_connection(pipe->from);
	consume(pipe->from);
	switch (pipe->state)
	{
		case PIPE_IDLE:
			return false;

		case PIPE_STARTING:
			if (PQflush(pipe->to->pg) < 0)
				raise_connection(pipe->to);
			consume(pipe->to);
			if (!pipe->from_ready)
				pipe->from_ready = await_result(pipe->from, PGRES_COPY_OUT, NULL);
			if (!pipe->to_ready)
				pipe->to_ready = await_result(pipe->to, PGRES_COPY_IN, NULL);
			if (!pipe->from_ready || !pipe->to_ready)
				break;
			pipe->state = PIPE_STREAMING;
			/* fall through */

		case PIPE_STREAMING:
			consume(pipe->to);
			stream(pipe);
			if (pipe->state == PIPE_STREAMING)
				break;
			pipe->from_ready = pipe->to_ready = false;
			/* fall through */

		case PIPE_ENDING:
			/* the receiver may only be told to end when the sender has said OK */
			if (!pipe->from_ready)
			{
				if (!await_result(pipe->from, PGRES_COMMAND_OK, &pipe->rows_read))
					break;
				pipe->from_ready = true;
				if (PQputCopyEnd(pipe->to->pg, NULL) <= 0)
					raise_connection(pipe->to);
			}
			if (PQflush(pipe->to->pg) < 0)
				raise_connection(pipe->to);
			consume(pipe->to);
			if (!pipe->to_ready)
			{
				if (!await_result(pipe->to, PGRES_COMMAND_OK, &pipe->rows_written))
					break;
				pipe->to_ready = true;
			}
			if (!await_end(pipe->from) || !await_end(pipe->to))
				break;
			if (pipe->rows_read != pipe->rows_written)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("node \"%s\" sent " INT64_FORMAT " rows, but node \"%s\" wrote " INT64_FORMAT,
								pipe->from->node, pipe->rows_read, pipe->to->node, pipe->rows_written)));
			if (!PQsendQuery(pipe->to->pg, "COMMIT"))
				raise_connection(pipe->to);
			pipe->state = PIPE_COMMITTING;
			/* fall through */

		case PIPE_COMMITTING:
			if (PQflush(pipe->to->pg) < 0)
				raise_connection(pipe->to);
			consume(pipe->to);
			if (!await_end(pipe->to))
				break;
			pipe->state = PIPE_IDLE;
			return true;
	}

	if (pipe->bytes != before || pipe->state != state_before)
		pipe->stalled = zodan_deadline(zodan_statement_timeout());
	else if (zodan_deadline_passed(pipe->stalled))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the copy from node \"%s\" to node \"%s\" has not moved for " INT64_FORMAT " ms",
						pipe->from->node, pipe->to->node, zodan_statement_timeout())));
	return false;
}

/*
 * Fills in what the pipe waits for (two sockets at most) and returns how many
 * those are.
 */
int
zodan_pipe_sockets(const ZodanPipe *pipe, ZodanSocket *sockets)
{
	int			n = 0;

	if (pipe->state == PIPE_IDLE)
		return 0;

	sockets[n].fd = PQsocket(pipe->to->pg);
	sockets[n++].events = WL_SOCKET_READABLE |
		(pipe->blocked || PQflush(pipe->to->pg) > 0 ? WL_SOCKET_WRITEABLE : 0);

	/* while the receiver is full there is nothing to read for */
	if (!pipe->blocked && pipe->state != PIPE_COMMITTING)
	{
		sockets[n].fd = PQsocket(pipe->from->pg);
		sockets[n++].events = WL_SOCKET_READABLE |
			(PQflush(pipe->from->pg) > 0 ? WL_SOCKET_WRITEABLE : 0);
	}
	return n;
}
