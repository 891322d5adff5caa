/*
 * wait.h
 *		The one place where the worker sleeps.
 */
#ifndef ZODAN_WAIT_H
#define ZODAN_WAIT_H

#include "base/compat.h"

/* how often a node is asked again whether something has happened: first, and later */
#define ZODAN_POLL_FIRST_MS	2
#define ZODAN_POLL_LAST_MS	50

/* A moment by which something must have happened */
typedef struct ZodanDeadline
{
	int64		at;				/* on zodan_wait_clock(); PG_INT64_MAX: never */
} ZodanDeadline;

/* One socket or pipe to wait for */
typedef struct ZodanSocket
{
	int			fd;
	int			events;			/* in: WL_SOCKET_READABLE, WL_SOCKET_WRITEABLE */
	int			ready;			/* out: those that have happened */
} ZodanSocket;

/*
 * Called about once a second while the process waits, between the waits;
 * it may raise an error to end what is being waited for.
 */
extern void (*zodan_wait_hook) (void);

extern int64 zodan_wait_clock(void);
extern ZodanDeadline zodan_wait_deadline(int64 ms);
extern int64 zodan_wait_left(ZodanDeadline deadline);
extern bool zodan_wait_passed(ZodanDeadline deadline);

extern int	zodan_wait_sockets(ZodanSocket *sockets, int nsockets, ZodanDeadline deadline);
extern bool zodan_wait_latch(int64 ms);
extern void zodan_wait_sleep(int64 ms);

#endif							/* ZODAN_WAIT_H */
