/*
 * cluster.h
 *		The nodes that a request is about, and what all of its phases share.
 */
#ifndef ZODAN_CLUSTER_H
#define ZODAN_CLUSTER_H

#include "engine/engine.h"
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

typedef struct ZodanJob
{
	ZodanRequest *req;
	const ZodanEngine *engine;
	ZodanMember *members;		/* the source is the first, the others are its peers */
	int			nmembers;
	ZodanConn	new_conn;
	const char *new_dbname;
	bool		locked;			/* the nodes are ours */
	bool		fetched;		/* the work directory is as it's stored */
	const char *phase;			/* the one under way */
	double		phase_start;	/* percent, when it started */
	double		phase_share;	/* how many percent it is */
} ZodanJob;

/* the nodes are another request's for the time being */
#define ERRCODE_ZODAN_BUSY	MAKE_SQLSTATE('Z', 'D', '0', '0', '3')

#define ZODAN_SOURCE(job)	(&(job)->members[0])
#define ZODAN_NPEERS(job)	((job)->nmembers - 1)
#define ZODAN_PEERS(job)	(&(job)->members[1])
/* of a member, or, behind these, of the new node */
#define ZODAN_NODE_NAME(job, i)	((i) < (job)->nmembers ? (job)->members[i].name : (job)->req->new_node_name)

extern void zodan_cluster_reach(ZodanJob *job);
extern void zodan_cluster_open(ZodanJob *job);
extern bool zodan_cluster_complete(ZodanJob *job);
extern char *zodan_cluster_missing(ZodanJob *job);
extern void zodan_cluster_require(ZodanJob *job, bool all);
extern void zodan_cluster_lock(ZodanJob *job);
extern ZodanConn *zodan_cluster_session(ZodanJob *job, const char *node);
extern void zodan_cluster_watch(void);
extern List *zodan_cluster_absent(ZodanJob *job, const char **lost, List **dsns);
extern char *zodan_cluster_names(ZodanJob *job);
extern char *zodan_own_suffix(const ZodanJob *job);
extern char *zodan_passing_slots(const ZodanMember *source, const ZodanConn *conn, const char *use);
extern char *zodan_passing_slot(ZodanJob *job, const ZodanConn *conn, const char *use);
extern bool zodan_is_passing(const ZodanJob *job, const char *name);
extern char *zodan_lane_origins(const ZodanJob *job);
extern char *zodan_marks_schema(const ZodanJob *job);
extern char *zodan_start_slot(ZodanJob *job);
extern bool zodan_has_start_slot(ZodanJob *job);

extern void zodan_job_detail(ZodanJob *job, double fraction, const char *detail);
extern void zodan_report(const char *detail);

#endif							/* ZODAN_CLUSTER_H */
