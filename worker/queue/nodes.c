/*
 * nodes.c
 *		The nodes that have joined, and how healthy they were when they were
 *		checked last: the table zodan.nodes.
 *
 * A node gets its row when its request is done, and loses it when a request
 * that removes it is: requests don't stay, so that they can't be asked. No
 * password is kept, whoever has written the row: a trigger sees to that.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "queue/nodes.h"

#include "base/dsn.h"

static const char *const seen_statement =
#include "sql/nodes_seen.h"
		   ;

/*
 * A request, that of this process, has added the node.
 *
 * An operator's DSN keeps the mask in its password's place, by which it can be
 * seen that it wants one. A superuser's loses the password altogether: it may
 * be tried with the rights of the server's own operating system user, which
 * may have a password file.
 */
void
zodan_nodes_joined(const ZodanRequest *req, const char *node, const char *engine, const char *dsn, bool by_superuser)
{
	zodan_nodes_left(node, dsn);
	zodan_spi_one("INSERT INTO zodan.nodes (node, engine, dsn, peer_dsns)"
				  " SELECT $2, $3, $4, coalesce(options -> 'peer_dsns', '{}') FROM zodan.requests"
				  "  WHERE id = $1::bigint", 4,
				  req->id_text, node, engine, by_superuser ? zodan_dsn_bare(dsn) : zodan_dsn_redact(dsn));
}

/*
 * The node isn't one any more. Another cluster may have one of the same name,
 * which is told by the DSN; without one, all of that name are meant.
 */
void
zodan_nodes_left(const char *node, const char *dsn)
{
	ZodanRows  *rows = zodan_spi_execute("SELECT id, dsn FROM zodan.nodes WHERE node = $1", 1, node);

	for (int i = 0; i < rows->nrows; i++)
		if (!dsn || zodan_dsn_same_target(dsn, rows->value[i][1]))
			zodan_spi_execute("DELETE FROM zodan.nodes WHERE id = $1::bigint", 1, rows->value[i][0]);
}

/*
 * How many nodes are checked.
 */
int
zodan_nodes_count(void)
{
	return (int) zodan_spi_int64(zodan_spi_one("SELECT count(*) FROM zodan.nodes", 0)->value[0][0]);
}

/*
 * All nodes: id, node, engine, and the DSN by which to check it.
 */
ZodanRows *
zodan_nodes_list(void)
{
	return zodan_spi_execute("SELECT id, node, engine, coalesce(check_dsn, dsn) FROM zodan.nodes ORDER BY id", 0);
}

/*
 * The DSN by which to reach another node of a node's cluster, if it isn't the
 * one that the engine's catalog has; NULL: it is.
 */
char *
zodan_nodes_peer_dsn(const char *id, const char *peer)
{
	ZodanRows  *rows = zodan_spi_execute("SELECT peer_dsns ->> $2 FROM zodan.nodes WHERE id = $1::bigint", 2, id, peer);

	return rows->nrows && rows->value[0][0] ? zodan_dsn_bare(rows->value[0][0]) : NULL;
}

/*
 * The names of all nodes, subscriptions and slots that requests under way have
 * made, or are taking away: an array literal. They aren't as they will be.
 */
char *
zodan_nodes_unfinished(void)
{
	return zodan_spi_one("SELECT coalesce(array_agg(DISTINCT e.name), '{}')"
						 "  FROM zodan.effects e JOIN zodan.request_state s USING (request_id)"
						 " WHERE s.state NOT IN ('done', 'failed', 'cancelled', 'paused')"
						 "   AND e.kind IN ('node', 'subscription', 'slot')", 0)->value[0][0];
}

/*
 * Stores how a node was found. When that is another state than before, there
 * is an event and a notification; but none for a new node that is healthy.
 */
void
zodan_nodes_seen(const char *id, const char *state, const char *problem)
{
	zodan_spi_execute(seen_statement, 3, id, state, problem);
}
