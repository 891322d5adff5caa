/*
 * settings.c
 *		The configuration parameters "zodan.*": defaults, bounds, help texts.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/settings.h"

#include "postmaster/interrupt.h"
#include "utils/guc.h"

char	   *zodan_database = NULL;
int			zodan_poll_interval = 5000;
int			zodan_max_runners = 4;
int			zodan_connect_timeout = 10000;
int			zodan_copy_jobs = 2;
int			zodan_copy_part_size = 128;
int			zodan_copy_lag_limit = 1024;
int			zodan_snapshot_max_age = 300;
int			zodan_maintenance_work_mem = 0;
int			zodan_max_lag = 59000;
int			zodan_max_retained_wal = 10240;
int			zodan_on_max_retained_wal = ZODAN_WAL_WARN;
int			zodan_retention = 43200;
char	   *zodan_bindir = NULL;
static char *claim = NULL;

static const struct config_enum_entry wal_actions[] = {
	{"warn", ZODAN_WAL_WARN, false},
	{"cancel", ZODAN_WAL_CANCEL, false},
	{NULL, 0, false}
};

static void
define_copy(void)
{
	DefineCustomIntVariable("zodan.copy_jobs",
							"Tables copied, and indexes built, at the same time.",
							"A request's copy_jobs overrides it.",
							&zodan_copy_jobs, 2, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("zodan.copy_part_size",
							"Larger tables are copied in parts of about this size.",
							"So that several lanes copy one large table.",
							&zodan_copy_part_size, 128, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("zodan.copy_lag_limit",
							"The copy slows down while replication from the source is further behind than this.",
							"WAL of the source that its streaming standbys and subscribers have not confirmed. 0: it never does.",
							&zodan_copy_lag_limit, 1024, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("zodan.snapshot_max_age",
							"The copy of no table begins under a snapshot of the source that is older than this.",
							"As long as one is open, vacuum can't remove what has died since on the source.",
							&zodan_snapshot_max_age, 300, 1, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("zodan.maintenance_work_mem",
							"maintenance_work_mem for each index that is built on the new node.",
							"0: as its size needs, at most half of shared_buffers divided by copy_jobs, or the node's own setting.",
							&zodan_maintenance_work_mem, 0, 0, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
}

/*
 * Defines all parameters. Called once a process, from _PG_init().
 */
void
zodan_settings_define(void)
{
	/* a session may load the library late: then it can't set this one */
	DefineCustomStringVariable("zodan.database",
							   "Database that holds the queue of requests.",
							   "The launcher that is started with the server connects to it.",
							   &zodan_database, "postgres",
							   process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP,
							   0, NULL, NULL, NULL);
	DefineCustomIntVariable("zodan.poll_interval",
							"Longest time between two looks of the launcher at the queue.",
							"An insert wakes the launcher at once; this is the fallback.",
							&zodan_poll_interval, 5000, 100, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("zodan.max_runners",
							"Largest number of requests that run at the same time.",
							"Requests for one cluster never do; each takes a worker process.",
							&zodan_max_runners, 4, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("zodan.connect_timeout",
							"Longest time that connecting to a node may take.",
							NULL,
							&zodan_connect_timeout, 10000, 100, INT_MAX / 2,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	define_copy();
	DefineCustomIntVariable("zodan.max_lag",
							"A new node counts as joined once it lags less than this.",
							"A joined one is in trouble when it lags more.",
							&zodan_max_lag, 59000, 100, INT_MAX / 2,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("zodan.max_retained_wal",
							"WAL that a slot may make a node keep before a warning is given.",
							"0: any amount.",
							&zodan_max_retained_wal, 10240, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomEnumVariable("zodan.on_max_retained_wal",
							 "What becomes of a request whose slots hold more than that.",
							 NULL,
							 &zodan_on_max_retained_wal, ZODAN_WAL_WARN, wal_actions,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("zodan.retention",
							"Requests that have ended and events are purged when they are older than this.",
							"zodan.upkeep() does that. 0: never.",
							&zodan_retention, 43200, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomStringVariable("zodan.bindir",
							   "Directory of pg_dump and pg_restore.",
							   "They must be of the new node's PostgreSQL version. Empty: this server's own.",
							   &zodan_bindir, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("zodan.claim",
							   "Which request adds the database to a cluster.",
							   "A join sets it for the new node's database, and takes it away at its end.",
							   &claim, NULL,
							   PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL, NULL, NULL);
	MarkGUCPrefixReserved("zodan");
}

/*
 * Reads the configuration files again if that was asked for. Every worker
 * calls it about once a second.
 */
void
zodan_settings_reload(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}
