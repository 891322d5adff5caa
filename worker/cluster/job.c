/*
 * job.c
 *		A request that is being carried out: how far it is.
 */
#include "cluster/job.h"

static ZodanJob *current;

void
zodan_job_set_current(ZodanJob *job)
{
	current = job;
}

/*
 * Shows how far the phase under way is (0 to 1) and what it does.
 */
void
zodan_job_detail(ZodanJob *job, double fraction, const char *detail)
{
	zodan_request_progress(job->phase, job->phase_start + job->phase_share * Min(fraction, 1.0), detail);
}

/*
 * The same for the functions that wait, which don't know the job.
 */
void
zodan_job_report(const char *detail)
{
	zodan_job_detail(current, 0, detail);
}
