/*
 * states.h
 *		The states of a request, and what leads from one to another.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_STATES_H
#define ZODAN_STATES_H

#include "base/compat.h"

/* What leads from one state to another; the first four are what a user asks for */
#define EVENT_CANCEL		"cancel"
#define EVENT_PAUSE			"pause"
#define EVENT_RESUME		"resume"
#define EVENT_RETRY			"retry"
#define EVENT_START			"start"
#define EVENT_NOT_STARTED	"not started"
#define EVENT_WAIT			"wait"
#define EVENT_ERROR			"transient error"
#define EVENT_CANCEL_SEEN	"cancel seen"
#define EVENT_PAUSE_SEEN	"pause seen"
#define EVENT_FAIL			"fail"
#define EVENT_DONE			"done"
#define EVENT_ROLL_BACK		"roll back"
#define EVENT_RESTART		"restart"
#define EVENT_ROLLED_BACK	"rolled back"

typedef struct ZodanTransition
{
	const char *from;
	const char *event;
	const char *to;
	const char *comment;
} ZodanTransition;

extern const ZodanTransition zodan_states_table[];
extern const int zodan_states_count;

extern const char *zodan_states_next(const char *from, const char *event);
extern char *zodan_states_case(const char *event);
extern char *zodan_states_in(const char *event);

#endif							/* ZODAN_STATES_H */
