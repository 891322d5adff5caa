/*
 * wait.h
 *		The one place where the worker sleeps.
 *
 * Copyright (c) 2026, the zodan_bgw authors
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
 * Who waits: tick is called about once a second meanwhile, between the waits, and
 * may raise an error to end what is being waited for. NULL: nothing is called.
 */
typedef struct ZodanWaiter
{
	void		(*tick) (void *arg);
	void	   *arg;
	bool		suspended;		/* it isn't called for now */
	int64		last;			/* private */
} ZodanWaiter;

extern int64 zodan_wait_clock(void);
extern ZodanDeadline zodan_wait_deadline(int64 ms);
extern int64 zodan_wait_left(ZodanDeadline deadline);
extern bool zodan_wait_passed(ZodanDeadline deadline);

extern int	zodan_wait_sockets(ZodanWaiter *waiter, ZodanSocket *sockets, int nsockets, ZodanDeadline deadline);
extern bool zodan_wait_latch(int64 ms);
extern void zodan_wait_sleep(ZodanWaiter *waiter, int64 ms);

#endif							/* ZODAN_WAIT_H */
