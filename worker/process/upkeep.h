/*
 * upkeep.h
 *		What has to be done from time to time.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_UPKEEP_H
#define ZODAN_UPKEEP_H

#include "base/compat.h"

typedef struct ZodanUpkeep
{
	int			requests_purged;
	bool		launcher_started;
	int			nodes;			/* that are being looked at */
} ZodanUpkeep;

extern PGDLLEXPORT void zodan_upkeep_main(Datum arg);

extern ZodanUpkeep zodan_upkeep_run(void);

#endif							/* ZODAN_UPKEEP_H */
