/*
 * watch.h
 *		What a request's slots cost the nodes until it has ended.
 */
#ifndef ZODAN_WATCH_H
#define ZODAN_WATCH_H

#include "phase.h"

extern void zodan_watch_slots(ZodanJob *job);
extern void zodan_watch_idle(ZodanJob *job);
extern char *zodan_lost_slot(ZodanJob *job);

#endif							/* ZODAN_WATCH_H */
