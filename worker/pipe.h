/*
 * pipe.h
 *		COPY from a connection to one node into a connection to another.
 */
#ifndef ZODAN_PIPE_H
#define ZODAN_PIPE_H

#include "remote.h"

typedef enum ZodanPipeState
{
	PIPE_IDLE,
	PIPE_STARTING,				/* until both ends are in COPY mode */
	PIPE_STREAMING,
	PIPE_ENDING,				/* until both ends say how many rows it was */
	PIPE_COMMITTING
} ZodanPipeState;

typedef struct ZodanPipe
{
	ZodanConn  *from;
	ZodanConn  *to;
	ZodanPipeState state;
	int64		bytes;
	int64		rows_read;
	int64		rows_written;
	ZodanDeadline stalled;		/* when no byte having moved is an error */
	bool		from_ready;
	bool		to_ready;
	bool		blocked;		/* the receiving end takes no more for now */
} ZodanPipe;

extern void zodan_pipe_start(ZodanPipe *pipe, const char *copy_out, const char *copy_in);
extern bool zodan_pipe_step(ZodanPipe *pipe);
extern int	zodan_pipe_sockets(const ZodanPipe *pipe, ZodanSocket *sockets);

#endif							/* ZODAN_PIPE_H */
