/*
 * job.c
 *		A request that is being carried out: how far it is.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/job.h"

/*
 * Shows how far the phase under way is (0 to 1) and what it does.
 */
void
zodan_job_detail(ZodanJob *job, double fraction, const char *detail)
{
	zodan_request_progress(job->req, job->req->phase, job->phase_start + job->phase_share * Min(fraction, 1.0), detail);
}

/*
 * The same for the functions that wait, for which a job is just an argument.
 */
void
zodan_job_report(void *job, const char *detail)
{
	zodan_job_detail(job, 0, detail);
}
