/*
 * settings.h
 *		The configuration parameters "zodan.*".
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SETTINGS_H
#define ZODAN_SETTINGS_H

#include "base/compat.h"

extern char *zodan_database;	/* where the queue is */
extern int	zodan_poll_interval;	/* ms */
extern int	zodan_max_runners;
extern int	zodan_connect_timeout;	/* ms */
extern int	zodan_copy_jobs;
extern int	zodan_copy_part_size;
extern int	zodan_copy_lag_limit;
extern int	zodan_snapshot_max_age;
extern int	zodan_maintenance_work_mem;
extern int	zodan_max_lag;		/* ms */
extern int	zodan_max_retained_wal; /* MB; 0: no bound */
extern int	zodan_on_max_retained_wal;	/* ZODAN_WAL_... */
extern int	zodan_retention;	/* minutes; 0: for ever */
extern char *zodan_bindir;

/* values of zodan.on_max_retained_wal */
#define ZODAN_WAL_WARN		0
#define ZODAN_WAL_CANCEL	1

extern void zodan_settings_define(void);
extern void zodan_settings_reload(void);

#endif							/* ZODAN_SETTINGS_H */
