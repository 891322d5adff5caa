/*
 * job.h
 *		A request that is being carried out, and its nodes: what is handed through.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_JOB_H
#define ZODAN_JOB_H

#include "engine/engine.h"
#include "queue/effects.h"
#include "queue/journal.h"
#include "queue/request.h"

/* An existing node */
typedef struct ZodanMember
{
	const char *name;
	const char *catalog_dsn;	/* how the other nodes reach it */
	ZodanConn	conn;
	const char *dbname;
	const char *sets;			/* what is subscribed to from it: an array literal */
	const char *sub_in;			/* the new node's subscription to it, */
	const char *slot_in;		/* the slot here, and the new node's origin, for that */
	const char *sub_first;		/* the source's: by which the new node catches up; the */
	const char *slot_first;		/* same as sub_in and slot_in where there are no peers */
	const char *sub_out;		/* its subscription to the new node, */
	const char *slot_out;		/* the slot there, and the origin here, for that */
	const char *slot_for_source;	/* a peer's slot that the source reads */
	const char *origin_on_source;	/* id of the source's origin for a peer */
	const char *commit_label;	/* what else labels a peer's commits on the source */
} ZodanMember;

/* Which way a request goes, which decides what an error means */
typedef enum ZodanDirection
{
	ZODAN_FORWARD,				/* its phases are run, and can still be rolled back */
	ZODAN_OPENED,				/* the same, when the new node may be open: it can't any more */
	ZODAN_BACK					/* it's rolled back */
} ZodanDirection;

typedef struct ZodanJob
{
	ZodanRequest *req;
	ZodanSession session;		/* what its sessions have in common */
	const ZodanEngine *engine;
	ZodanMember *members;		/* the source is the first, the others are its peers */
	int			nmembers;
	ZodanConn	new_conn;		/* the new node, or the one that goes; a verification has none */
	const char *new_dbname;
	ZodanDirection direction;
	bool		locked;			/* the nodes are ours */
	bool		fetched;		/* the work directory is as it's stored */
	double		phase_start;	/* percent, when it started */
	double		phase_share;	/* how many percent it is */
	struct ZodanSnapshots *snapshots;	/* snapshots.c's; NULL: none has been opened */
	struct ZodanWatch *watch;	/* watch.c's; NULL: nothing has been looked at */
} ZodanJob;

#define ZODAN_SOURCE(job)	(&(job)->members[0])
#define ZODAN_NPEERS(job)	((job)->nmembers - 1)
#define ZODAN_PEERS(job)	(&(job)->members[1])
/* of a member, or, behind these, of the new node */
#define ZODAN_NODE_NAME(job, i)	((i) < (job)->nmembers ? (job)->members[i].name : (job)->req->new_node_name)

extern void zodan_job_detail(ZodanJob *job, double fraction, const char *detail);
extern void zodan_job_report(void *job, const char *detail);

#endif							/* ZODAN_JOB_H */
