/*
 * phases.h
 *		The table of phases.
 */
#ifndef ZODAN_PHASES_H
#define ZODAN_PHASES_H

#include "phase.h"

typedef struct ZodanPhase
{
	const char *name;
	int			operations;		/* bits: the operations that have it */
	int			share;			/* of the time, in percent, roughly */
	void		(*run) (ZodanJob *job);
	const char *comment;
} ZodanPhase;

extern const ZodanPhase zodan_phase_table[];
extern const int zodan_phase_count;

extern int	zodan_operation_bit(const char *operation);

#endif							/* ZODAN_PHASES_H */
