/*
 * settings.h
 *		The configuration parameters "zodan.*".
 */
#ifndef ZODAN_SETTINGS_H
#define ZODAN_SETTINGS_H

#include "compat.h"

extern char *zodan_database;		/* where the queue is */
extern int	zodan_poll_interval;	/* ms */
extern int	zodan_max_runners;
extern int	zodan_connect_timeout;	/* ms */
extern int	zodan_copy_jobs;
extern int	zodan_max_lag;			/* ms */
extern char *zodan_bindir;

extern void zodan_define_settings(void);

#endif							/* ZODAN_SETTINGS_H */
