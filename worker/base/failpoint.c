/*
 * failpoint.c
 *		Named points of a request's run at which a test can make it fail. There
 *		is nothing of this in a normal build: see ZODAN_FAILPOINTS.
 *
 * A point is named PHASE:PLACE or PHASE:PLACE:WHAT, where WHAT is a kind of
 * effect, if nothing else is said:
 *
 *		begin			the phase has been begun
 *		before_intent	of an effect
 *		after_intent	it is stored, nothing has been made
 *		after_effect	it is made, which isn't stored yet
 *		after_undo		it is gone, which isn't stored yet
 *		end				all of the phase is done, which isn't stored yet
 *		checkpoint		it is stored
 *		dump			the structure is being dumped; WHAT: snapshot (it is open),
 *						planned (the plan is stored, the dump doesn't count yet)
 *		restored		some of the structure is; WHAT: head, tables (see lists.c)
 *		built			an index is, and its table is not finished; WHAT: index, or
 *						key if one will rest on it
 *		reading			rows are about to be read; WHAT: snapshot
 *		gate			the stream's worker is being started, or its "start" goes; WHAT:
 *						waiting, sealed, slot, gone
 *		cut				the stream is being cut; WHAT: held (the WAL is, no marker is
 *						written), stopped
 *		block			rows are about to be compared; WHAT: first (of a table), next, or
 *						last: all have been, which isn't stored yet
 *		suspects		some were looked at; WHAT: seen (nothing is stored), decided (what
 *						differs is stored, and they are still suspects)
 *		rolled_back		all is undone, and its dump is still stored
 *
 * zodan.failpoints is "ACTION PATTERN": what to do at the points that are like
 * PATTERN (as in SQL). Each point acts once: a file of its name in the
 * directory zodan_failpoints tells that it has.
 *
 *		kill	the process kills itself, as SIGKILL does
 *		error	a transient error is raised
 *		wait	the process waits until that file is gone, or not empty any more
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/failpoint.h"

#ifdef ZODAN_FAILPOINTS

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/settings.h"
#include "base/wait.h"
#include "catalog/pg_collation_d.h"
#include "common/file_perm.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define DIRECTORY	"zodan_failpoints"

static char *failpoints = NULL;

/*
 * Makes the setting; once, when the library is loaded.
 */
void
zodan_failpoint_define(void)
{
	DefineCustomStringVariable("zodan.failpoints", "What to do at which points: for tests.", NULL,
							   &failpoints, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/*
 * The process is at a point of a phase (NULL: of none). what: the kind of effect
 * that it's about, or NULL.
 */
void
zodan_failpoint(const char *phase, ZodanWaiter *waiter, const char *place, const char *what)
{
	char	   *pattern = strchr(failpoints, ' ');
	char	   *point;
	char	   *path;
	struct stat st;
	int			fd;

	if (!pattern)
		return;
	point = psprintf("%s:%s%s%s", phase ? phase : "none", place, what ? ":" : "", what ? what : "");
	if (!DatumGetBool(DirectFunctionCall2Coll(textlike, C_COLLATION_OID, CStringGetTextDatum(point),
											  CStringGetTextDatum(pattern + 1))))
		return;

	if (MakePGDirectory(DIRECTORY) < 0 && errno != EEXIST)
		elog(ERROR, "could not create directory \"%s\": %m", DIRECTORY);
	path = psprintf("%s/%s", DIRECTORY, point);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, pg_file_create_mode);
	if (fd < 0)
		return;
	close(fd);

	if (strncmp(failpoints, "kill ", 5) == 0)
	{
		/* the tests look for this line: another process's end by a signal is a crash */
		elog(LOG, "failpoint %s kills process %d", point, MyProcPid);
		kill(MyProcPid, SIGKILL);
		pg_usleep(10000000L);
	}
	elog(LOG, "failpoint %s: %s", point, failpoints);
	if (strncmp(failpoints, "error ", 6) == 0)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("failpoint %s", point)));
	else
	{
		while (stat(path, &st) == 0 && st.st_size == 0)
			zodan_wait_sleep(waiter, 20);
		/* other points may have been set meanwhile */
		zodan_settings_reload();
	}
}

#endif
