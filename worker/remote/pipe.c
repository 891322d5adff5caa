/*
 * pipe.c
 *		COPY from a connection to one node into a connection to another.
 *
 * A pipe is moved by steps, none of which waits; between them its owner waits
 * for the sockets that zodan_pipe_sockets() names. Rows are gathered into
 * chunks, and read only while the chunks before have left for the receiver, so
 * a slow receiver slows the sender down instead of filling memory: there is
 * about one chunk at each end, or one row if that is larger. An error of the
 * receiver shows at the end of the table, which is when libpq tells.
 *
 *		IDLE -> STARTING -> STREAMING -> ENDING -> COMMITTING -> IDLE
 *				   ^--------------------------|
 *
 * Several COPYs, each of another table, can follow each other in one
 * transaction. The owner sets a budget before each step: that many bytes may
 * be moved, and no row is begun beyond it.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "remote/pipe.h"

#include "base/dsn.h"
#include "remote/query.h"
#include "utils/memutils.h"

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
			(errcode(zodan_remote_sqlstate(result)),
			 errmsg("node \"%s\": %s", conn->node,
					zodan_dsn_redact_text(&conn->session->secrets, primary ? primary : PQerrorMessage(conn->pg))),
			 detail && !context ? errdetail("%s", zodan_dsn_redact_text(&conn->session->secrets, detail)) : 0));
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
 * Lets libpq take in much at a time from a sender, one of npipes that move some
 * bytes together. It asks the socket for what its buffer has room for, which is
 * 16 kB, unless a larger message was there before: with less, most of a pipe's
 * time goes into calls of the kernel. That isn't documented; where it's not so,
 * pipes are slower. The message is a small part of what is moved then.
 */
void
zodan_pipe_widen(ZodanConn *from, int npipes, int64 bytes)
{
	int			size = (int) Min(Min(ZODAN_PIPE_INPUT, ZODAN_PIPE_INPUTS / npipes), bytes / npipes / ZODAN_PIPE_WIDEN_FRACTION);

	if (size <= ZODAN_PIPE_LIBPQ_INPUT)
		return;
	/* a little less, since the buffer's size is the next power of 2 */
	PQclear(zodan_query(from, psprintf("SELECT pg_catalog.repeat(' ', %d)", size - size / 16), 0));
}

/*
 * Starts to copy. copy_out holds ncopies COPY TO STDOUT for the sender;
 * copy_in as many COPY FROM STDIN for the receiver, and before them what
 * begins the transaction that the pipe will commit. What went through each is
 * added up in counts.
 */
void
zodan_pipe_start(ZodanPipe *pipe, const char *copy_out, const char *copy_in,
				 ZodanPipeCount *counts, int ncopies)
{
	Assert(pipe->state == PIPE_IDLE);
	zodan_session_log(pipe->from->session, pipe->from->node, copy_out);
	zodan_session_log(pipe->to->session, pipe->to->node, copy_in);
	if (!PQsendQuery(pipe->from->pg, copy_out))
		raise_connection(pipe->from);
	if (!PQsendQuery(pipe->to->pg, copy_in))
		raise_connection(pipe->to);
	pipe->state = PIPE_STARTING;
	pipe->counts = counts;
	pipe->ncopies = ncopies;
	pipe->current = 0;
	memset(counts, 0, sizeof(ZodanPipeCount) * ncopies);
	pipe->bytes = 0;
	pipe->used = 0;
	pipe->from_ready = pipe->to_ready = pipe->blocked = pipe->starved = false;
	pipe->stalled = zodan_session_deadline(pipe->from->session);
	if (!pipe->chunk)
		pipe->chunk = MemoryContextAlloc(TopMemoryContext, ZODAN_PIPE_CHUNK);
}

/*
 * Notes whether everything has left that was handed to the receiver's
 * connection.
 */
static void
flush(ZodanPipe *pipe)
{
	int			unsent = PQflush(pipe->to->pg);

	if (unsent < 0)
		raise_connection(pipe->to);
	pipe->blocked = unsent > 0;
}

/*
 * Lets the gathered rows leave.
 */
static void
put_chunk(ZodanPipe *pipe)
{
	if (pipe->used > 0 && PQputCopyData(pipe->to->pg, pipe->chunk, pipe->used) <= 0)
		raise_connection(pipe->to);
	pipe->used = 0;
	flush(pipe);
}

/*
 * Takes a row on its way; returns whether the receiver takes more.
 */
static bool
put_row(ZodanPipe *pipe, const char *row, int length)
{
	pipe->bytes += length;
	pipe->budget -= length;
	pipe->counts[pipe->current].bytes += length;
	while (length > 0)
	{
		int			part = Min(length, ZODAN_PIPE_CHUNK - pipe->used);

		memcpy(pipe->chunk + pipe->used, row, part);
		pipe->used += part;
		row += part;
		length -= part;
		if (pipe->used == ZODAN_PIPE_CHUNK)
			put_chunk(pipe);
	}
	return !pipe->blocked;
}

/*
 * Moves rows until the receiver is full, the sender has none at hand, the
 * budget is used up, or others should have their turn.
 */
static void
stream(ZodanPipe *pipe)
{
	int64		turn = pipe->bytes + ZODAN_PIPE_TURN;
	bool		fresh = true;

	pipe->starved = false;
	flush(pipe);
	if (pipe->blocked)
		return;
	for (;;)
	{
		char	   *row;
		int			length;

		pipe->starved = pipe->budget <= 0;
		if (pipe->starved)
			break;
		length = PQgetCopyData(pipe->from->pg, &row, 1);
		if (length > 0)
		{
			bool		more = put_row(pipe, row, length);

			PQfreemem(row);
			if (!more)
				return;
			fresh = true;
		}
		else if (length == 0)
		{
			/* a sender that is quick has more by now */
			if (!fresh || pipe->bytes >= turn)
				break;
			consume(pipe->from);
			fresh = false;
		}
		else
		{
			/* the end, or an error, which then is the next result */
			if (length == -2)
				raise_connection(pipe->from);
			pipe->state = PIPE_ENDING;
			break;
		}
	}
	put_chunk(pipe);
}

/*
 * One COPY has ended on both sides: compares what they say.
 */
static void
end_copy(ZodanPipe *pipe)
{
	if (pipe->rows_read != pipe->rows_written)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("node \"%s\" sent " INT64_FORMAT " rows, but node \"%s\" wrote " INT64_FORMAT,
						pipe->from->node, pipe->rows_read, pipe->to->node, pipe->rows_written)));
	pipe->counts[pipe->current++].rows = pipe->rows_written;
	pipe->from_ready = pipe->to_ready = false;
}

/*
 * Waits for both ends to be in COPY mode.
 */
static bool
step_start(ZodanPipe *pipe)
{
	if (!pipe->from_ready)
		pipe->from_ready = await_result(pipe->from, PGRES_COPY_OUT, NULL);
	if (!pipe->to_ready)
		pipe->to_ready = await_result(pipe->to, PGRES_COPY_IN, NULL);
	if (!pipe->from_ready || !pipe->to_ready)
		return false;
	pipe->state = PIPE_STREAMING;
	return true;
}

/*
 * Waits for both ends to say how many rows it was.
 */
static bool
step_end(ZodanPipe *pipe)
{
	/* the receiver may only be told to end when the sender has said OK */
	if (!pipe->from_ready)
	{
		if (!await_result(pipe->from, PGRES_COMMAND_OK, &pipe->rows_read))
			return false;
		pipe->from_ready = true;
		if (PQputCopyEnd(pipe->to->pg, NULL) <= 0)
			raise_connection(pipe->to);
	}
	if (PQflush(pipe->to->pg) < 0)
		raise_connection(pipe->to);
	consume(pipe->to);
	return await_result(pipe->to, PGRES_COMMAND_OK, &pipe->rows_written);
}

/*
 * Goes from state to state as far as that is possible without waiting; returns
 * whether all is done.
 */
static bool
advance(ZodanPipe *pipe)
{
	bool		done = false;

	for (bool more = true; more && !done;)
		switch (pipe->state)
		{
			case PIPE_IDLE:
				done = true;
				break;

			case PIPE_STARTING:
				more = step_start(pipe);
				break;

			case PIPE_STREAMING:
				stream(pipe);
				pipe->from_ready = pipe->to_ready = false;
				more = pipe->state == PIPE_ENDING;
				break;

			case PIPE_ENDING:
				more = step_end(pipe);
				if (!more)
					break;
				end_copy(pipe);
				pipe->state = PIPE_STARTING;
				if (pipe->current < pipe->ncopies)
					break;
				pipe->state = PIPE_COMMITTING;
				break;

			case PIPE_COMMITTING:
				/* first the end of what was sent before, on both sides: only then is all well */
				if (!pipe->from_ready)
					pipe->from_ready = await_end(pipe->from);
				more = pipe->from_ready && await_end(pipe->to);
				if (!more)
					break;
				if (pipe->to_ready)
					pipe->state = PIPE_IDLE;
				else if (!PQsendQuery(pipe->to->pg, "COMMIT"))
					raise_connection(pipe->to);
				pipe->to_ready = true;
				break;
		}
	return done;
}

/*
 * Does what can be done without waiting. Returns whether everything has been
 * committed; then the pipe is idle and its counts are final.
 */
bool
zodan_pipe_step(ZodanPipe *pipe)
{
	int64		before = pipe->bytes;
	ZodanPipeState state_before = pipe->state;
	bool		done;

	if (pipe->state == PIPE_IDLE)
		return false;
	/* rows are taken in only when there's room for them: see stream() */
	if (PQflush(pipe->from->pg) < 0)
		raise_connection(pipe->from);
	if (pipe->state != PIPE_STREAMING && !pipe->from_ready)
		consume(pipe->from);
	flush(pipe);
	consume(pipe->to);

	done = advance(pipe);
	if (pipe->bytes != before || pipe->state != state_before || pipe->starved)
		pipe->stalled = zodan_session_deadline(pipe->from->session);
	else if (zodan_wait_passed(pipe->stalled))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the copy from node \"%s\" to node \"%s\" has not moved for " INT64_FORMAT " ms",
						pipe->from->node, pipe->to->node, pipe->from->session->timeout_ms),
				 errhint("Look for locks and for a full disk on both nodes; the request tries again by itself.")));
	return done;
}

/*
 * Fills in what the pipe waits for (two sockets at most) and returns how many
 * those are. A pipe without budget waits for no rows.
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
	if (!pipe->blocked && !pipe->starved && (pipe->state == PIPE_STREAMING || !pipe->from_ready))
	{
		sockets[n].fd = PQsocket(pipe->from->pg);
		sockets[n++].events = WL_SOCKET_READABLE |
			(PQflush(pipe->from->pg) > 0 ? WL_SOCKET_WRITEABLE : 0);
	}
	return n;
}
