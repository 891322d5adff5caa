/*
 * phases.h
 *		The table of phases.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_PHASES_H
#define ZODAN_PHASES_H

#include "cluster/cluster.h"

typedef struct ZodanPhase
{
	const char *name;
	int			operations;		/* bits: the operations that have it, and the following */
	int			share;			/* of the time, in percent, roughly */
	void		(*run) (ZodanJob *job);
	const char *comment;
} ZodanPhase;

/* changes nothing: needs neither all nodes nor the lock on them */
#define ZODAN_PHASE_LOOKS	0x80

extern const ZodanPhase zodan_phases_table[];
extern const int zodan_phases_count;

extern int	zodan_phases_operation_bit(const char *operation);
extern bool zodan_phases_only_look(const char *operation);

#endif							/* ZODAN_PHASES_H */
