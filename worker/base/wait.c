/*
 * wait.c
 *		The one place where the worker sleeps.
 *
 * Every wait ends on the death of the postmaster, answers interrupts, and has
 * a deadline. A wait that is longer than TICK_MS is cut into ticks, so that
 * the waiter can look whether anybody has asked for the request's end.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/wait.h"

#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

#define TICK_MS		1000

/*
 * Microseconds on a clock that nobody sets: for how long something takes.
 */
int64
zodan_wait_clock(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * A deadline ms milliseconds from now; negative: never.
 */
ZodanDeadline
zodan_wait_deadline(int64 ms)
{
	ZodanDeadline deadline;

	deadline.at = ms < 0 ? PG_INT64_MAX : zodan_wait_clock() + ms * 1000;
	return deadline;
}

/*
 * Milliseconds until the deadline, rounded up; 0 when it has passed, and
 * PG_INT64_MAX when there is none.
 */
int64
zodan_wait_left(ZodanDeadline deadline)
{
	int64		left;

	if (deadline.at == PG_INT64_MAX)
		return PG_INT64_MAX;
	left = deadline.at - zodan_wait_clock();
	return left <= 0 ? 0 : (left + 999) / 1000;
}

/*
 * Has the time come?
 */
bool
zodan_wait_passed(ZodanDeadline deadline)
{
	return zodan_wait_left(deadline) == 0;
}

/*
 * Calls the waiter's function when a tick has passed since that was done last.
 */
static void
tick(ZodanWaiter *waiter)
{
	int64		now = zodan_wait_clock();

	if (waiter->tick && !waiter->suspended && now - waiter->last >= TICK_MS * INT64CONST(1000))
	{
		waiter->last = now;
		waiter->tick(waiter->arg);
	}
}

/*
 * Waits until one of the sockets is ready, or a tick or the deadline has
 * passed, or the latch was set. Fills in each socket's "ready" and returns
 * how many are; 0 doesn't mean that the deadline has passed.
 */
int
zodan_wait_sockets(ZodanWaiter *waiter, ZodanSocket *sockets, int nsockets, ZodanDeadline deadline)
{
	WaitEventSet *set = zodan_create_wait_event_set(nsockets + 2);
	WaitEvent  *events = palloc(sizeof(WaitEvent) * (nsockets + 2));
	int			nevents;
	int			nready = 0;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < nsockets; i++)
	{
		sockets[i].ready = 0;
		AddWaitEventToSet(set, sockets[i].events, sockets[i].fd, NULL, &sockets[i]);
	}

	nevents = WaitEventSetWait(set, (long) Min(zodan_wait_left(deadline), TICK_MS),
							   events, nsockets + 2, PG_WAIT_EXTENSION);
	for (int i = 0; i < nevents; i++)
	{
		ZodanSocket *sock = events[i].user_data;

		if (sock)
		{
			sock->ready = events[i].events;
			nready++;
		}
	}
	FreeWaitEventSet(set);
	pfree(events);

	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	tick(waiter);
	return nready;
}

/*
 * Waits until the latch is set or ms milliseconds have passed; negative: no
 * bound. Returns whether the latch was set.
 */
bool
zodan_wait_latch(int64 ms)
{
	int			flags = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	int			rc;

	if (ms >= 0)
		flags |= WL_TIMEOUT;
	rc = WaitLatch(MyLatch, flags, (long) ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return (rc & WL_LATCH_SET) != 0;
}

/*
 * Sleeps ms milliseconds, whatever the latch says.
 */
void
zodan_wait_sleep(ZodanWaiter *waiter, int64 ms)
{
	ZodanDeadline until = zodan_wait_deadline(ms);

	while (!zodan_wait_passed(until))
	{
		zodan_wait_latch(Min(zodan_wait_left(until), TICK_MS));
		tick(waiter);
	}
}
