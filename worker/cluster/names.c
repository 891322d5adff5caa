/*
 * names.c
 *		The names of all that a join makes.
 *
 * All names are computed from the names of the nodes, so that a runner that
 * comes after a crash finds what its predecessor has made.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/names.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "queue/effects.h"
#include "remote/query.h"

#define NAME_TRIES		10

/*
 * The engines take lower case letters, digits and underscores. Returns at most
 * max bytes, and whether they are the name itself.
 */
static char *
plain_name(const char *name, int max, bool *same)
{
	char	   *plain = pnstrdup(name, max);

	for (char *c = plain; *c; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9')))
			*c = (*c >= 'A' && *c <= 'Z') ? *c + ('a' - 'A') : '_';
	*same = strcmp(plain, name) == 0;
	return plain;
}

/*
 * A name for the subscription of one node to another. The plain form is what
 * people write by hand; where the nodes' names don't allow it, or its slot's
 * name would be a trap, a hash makes it unique. prefix tells several apart, from
 * the first byte on: Spock 5 takes a name for another that it begins with.
 */
static char *
subscription_name(const char *provider, const char *subscriber, const char *prefix, int try)
{
	bool		same_p;
	bool		same_s;
	char	   *p = plain_name(provider, 16, &same_p);
	char	   *s = plain_name(subscriber, 16, &same_s);
	char	   *both;

	if (try == 0 && same_p && same_s)
		return psprintf("%s_%s_%s", prefix, p, s);
	both = psprintf("%s/%s/%d", provider, subscriber, try);
	return psprintf("%s_%.12s_%.12s_x%08x", prefix, p, s,
					hash_bytes((const unsigned char *) both, (int) strlen(both)));
}

/*
 * Does the name end in an underscore and digits? Such slots of one provider
 * make Spock split one stream among their readers.
 */
static bool
is_trap(const char *name)
{
	size_t		n = strlen(name);

	while (n > 0 && name[n - 1] >= '0' && name[n - 1] <= '9')
		n--;
	return n > 0 && name[n] && name[n - 1] == '_';
}

void
zodan_names_subscription(ZodanJob *job, const char *dbname, const char *provider, const char *subscriber,
						 const char *prefix, const char **sub, const char **slot)
{
	for (int try = 0; try < NAME_TRIES; try++)
	{
		*sub = subscription_name(provider, subscriber, prefix, try);
		*slot = zodan_query_value(&ZODAN_SOURCE(job)->conn, job->engine->slot_name, 3, dbname, provider, *sub);
		if (!is_trap(*sub) && !is_trap(*slot))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_NAME),
			 errmsg("no name for the subscription of node \"%s\" to node \"%s\" suits the engine",
					subscriber, provider)));
}

/*
 * What ends the names of all that a request has for a while: no other request has
 * it, of whatever queue of whatever coordinator.
 */
char *
zodan_names_suffix(const ZodanJob *job)
{
	return psprintf("%u_%.8s", MyDatabaseId, job->req->token);
}

/*
 * How the names begin of the slots on the node that joins from that source have
 * for a while. The slots of other databases and other nodes are there as well.
 */
char *
zodan_names_helper_slots(const ZodanMember *source, const ZodanConn *conn, const char *use)
{
	char	   *own = psprintf("%s/%s", source->slot_in, conn->node);

	return psprintf("zodan_%s_%08x_", use, hash_bytes((const unsigned char *) own, (int) strlen(own)));
}

/*
 * The name of the request's own.
 */
char *
zodan_names_helper_slot(ZodanJob *job, const ZodanConn *conn, const char *use)
{
	return psprintf("%s%s", zodan_names_helper_slots(ZODAN_SOURCE(job), conn, use), zodan_names_suffix(job));
}

/*
 * Is that the name of one of them?
 */
bool
zodan_names_is_helper(const ZodanJob *job, const char *name)
{
	char	   *end = psprintf("_%s", zodan_names_suffix(job));
	size_t		n = strlen(name);

	return strncmp(name, "zodan_", 6) == 0 && n > strlen(end) && strcmp(name + n - strlen(end), end) == 0;
}

/*
 * How the names begin of the origins on the new node under which rows are copied,
 * one for each lane.
 */
char *
zodan_names_lane_origins(const ZodanJob *job)
{
	return psprintf("zodan_copy_%s_", zodan_names_suffix(job));
}

/*
 * The schema on the new node that has the marks of what was copied: see marks.c.
 */
char *
zodan_names_marks_schema(const ZodanJob *job)
{
	return psprintf("zodan_copied_%s", zodan_names_suffix(job));
}

/*
 * The slot on the source from which the stream may begin by which the new node
 * catches up, and the markers that it may begin with: see stream.c.
 */
char *
zodan_names_start_slot(ZodanJob *job)
{
	return zodan_names_helper_slot(job, &ZODAN_SOURCE(job)->conn, "start");
}

/* Has it been made, and not dropped since? */
bool
zodan_names_has_start_slot(ZodanJob *job)
{
	ZodanEffect *slot = zodan_effects_find(job->req, ZODAN_SOURCE(job)->name, EFFECT_SLOT, zodan_names_start_slot(job));

	return slot->state && strcmp(slot->state, "done") == 0;
}
