/*
 * pipe.h
 *		COPY from a connection to one node into a connection to another.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_PIPE_H
#define ZODAN_PIPE_H

#include "remote/remote.h"

typedef enum ZodanPipeState
{
	PIPE_IDLE,
	PIPE_STARTING,				/* until both ends are in COPY mode */
	PIPE_STREAMING,
	PIPE_ENDING,				/* until both ends say how many rows it was, and then the next */
	PIPE_COMMITTING
} ZodanPipeState;

/* bytes that leave for the receiver at once: with its head a message of what libpq sends without a rest */
#define ZODAN_PIPE_CHUNK	(131072 - 5)

/* bytes that a step moves before others have their turn */
#define ZODAN_PIPE_TURN		(2 * ZODAN_PIPE_CHUNK)

/* what libpq takes in at once from a sender at most, and from all of them together; powers of 2 */
#define ZODAN_PIPE_INPUT	(2 * 1024 * 1024)
#define ZODAN_PIPE_INPUTS	(16 * 1024 * 1024)

/* what it takes in by itself, and which fraction of the rows may be spent on having it take in more */
#define ZODAN_PIPE_LIBPQ_INPUT	(16 * 1024)
#define ZODAN_PIPE_WIDEN_FRACTION	64

/* What went through one COPY */
typedef struct ZodanPipeCount
{
	int64		bytes;
	int64		rows;			/* written; as many as were read */
} ZodanPipeCount;

typedef struct ZodanPipe
{
	ZodanConn  *from;
	ZodanConn  *to;
	ZodanPipeState state;
	ZodanPipeCount *counts;		/* the caller's, one for each COPY */
	int			ncopies;
	int			current;		/* the one under way */
	int64		bytes;			/* of all of them */
	int64		budget;			/* bytes that may yet be moved; the caller's */
	int64		rows_read;
	int64		rows_written;
	ZodanDeadline stalled;		/* when no byte having moved is an error */
	bool		from_ready;
	bool		to_ready;
	bool		blocked;		/* the receiving end takes no more for now */
	bool		starved;		/* the budget is used up */
	char	   *chunk;			/* rows that are about to leave */
	int			used;
} ZodanPipe;

extern void zodan_pipe_widen(ZodanConn *from, int npipes, int64 bytes);
extern void zodan_pipe_start(ZodanPipe *pipe, const char *copy_out, const char *copy_in,
							 ZodanPipeCount *counts, int ncopies);
extern bool zodan_pipe_step(ZodanPipe *pipe);
extern int	zodan_pipe_sockets(const ZodanPipe *pipe, ZodanSocket *sockets);

#endif							/* ZODAN_PIPE_H */
