/*
 * effects.c
 *		What a request has made on the nodes, or has the intent to make.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "queue/effects.h"

#include "base/failpoint.h"
#include "queue/spi.h"

/* the columns of an effect, in the order of ZodanEffect */
#define COLUMNS		"node, kind, name, state, result, identity, running"

static ZodanEffect *
read_effect(char **row)
{
	ZodanEffect *effect = palloc(sizeof(ZodanEffect));

	*effect = (ZodanEffect)
	{
		row[0], row[1], row[2], row[3], row[4], row[5], row[6]
	};
	return effect;
}

/*
 * An effect as it stands; its state is NULL if there is none.
 */
ZodanEffect *
zodan_effects_find(const ZodanRequest *req, const char *node, const char *kind, const char *name)
{
	ZodanRows  *rows = zodan_spi_execute("SELECT " COLUMNS " FROM zodan.effects"
										 " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4", 4,
										 req->id_text, node, kind, name);
	ZodanEffect *none;

	if (rows->nrows)
		return read_effect(rows->value[0]);
	none = palloc0(sizeof(ZodanEffect));
	none->node = pstrdup(node);
	none->kind = pstrdup(kind);
	none->name = pstrdup(name);
	return none;
}

/*
 * Stores the intent to make something on a node, unless that was done before,
 * and returns the effect as it was *before* the call: its state tells whether
 * an earlier attempt may have made it ("intent") or has ("done"). For
 * zodan_claim_effect(), which tells the new node that there is one more.
 */
ZodanEffect *
zodan_effects_intend(const ZodanRequest *req, const char *node, const char *kind, const char *name)
{
	ZodanEffect *before;

	ZODAN_FAILPOINT(req, "before_intent", kind);
	before = zodan_effects_find(req, node, kind, name);
	zodan_spi_execute("WITH c AS (UPDATE zodan.request_state SET claim = claim + 1 WHERE request_id = $1::bigint)"
					  "INSERT INTO zodan.effects AS e (request_id, node, kind, name) VALUES ($1::bigint, $2, $3, $4)"
					  " ON CONFLICT (request_id, node, kind, name) DO UPDATE"
					  "    SET state = 'intent', result = NULL, identity = NULL, running = NULL, changed_at = clock_timestamp()"
					  "  WHERE e.state = 'rolled_back'", 4, req->id_text, node, kind, name);
	ZODAN_FAILPOINT(req, "after_intent", kind);
	return before;
}

/*
 * Stores what has become of an intent: "done", or still "intent", and a result
 * (an LSN, an id) or NULL. That something has been made is progress: the next
 * attempt isn't held back for those before it.
 */
void
zodan_effects_set(const ZodanRequest *req, const char *node, const char *kind, const char *name,
				  const char *state, const char *result)
{
	ZODAN_FAILPOINT(req, "after_effect", kind);
	zodan_spi_one("WITH progress AS ("
				  " UPDATE zodan.request_state s SET attempt_of_progress = s.attempt FROM zodan.effects e"
				  "  WHERE s.request_id = $1::bigint AND e.request_id = s.request_id AND e.node = $2 AND e.kind = $3 AND e.name = $4"
				  "    AND e.state = 'intent' AND $5 = 'done')"
				  "UPDATE zodan.effects SET state = $5, result = $6, changed_at = clock_timestamp()"
				  " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4"
				  "   AND state IN ('intent', 'done')", 6, req->id_text, node, kind, name, state, result);
}

/*
 * Stores what tells something that was made from a later object of its name.
 */
void
zodan_effects_set_identity(const ZodanRequest *req, const char *node, const char *kind, const char *name, const char *identity)
{
	zodan_spi_one("UPDATE zodan.effects SET identity = $5"
				  " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4", 5,
				  req->id_text, node, kind, name, identity);
}

/*
 * Notes that something may be there that the journal doesn't know of, unless it
 * does; result: NULL if it isn't known. That doesn't count as an intent.
 */
void
zodan_effects_assume(const ZodanRequest *req, const char *node, const char *kind, const char *name, const char *result)
{
	zodan_spi_execute("INSERT INTO zodan.effects AS e (request_id, node, kind, name, result) VALUES ($1::bigint, $2, $3, $4, $5)"
					  " ON CONFLICT (request_id, node, kind, name) DO UPDATE"
					  "    SET state = CASE WHEN e.state = 'done' THEN 'done' ELSE 'intent' END, result = coalesce(e.result, excluded.result),"
					  "        changed_at = clock_timestamp()"
					  "  WHERE e.state = 'rolled_back' OR e.result IS NULL", 5, req->id_text, node, kind, name, result);
}

/*
 * Stores the intent to enable a subscription that the request has made, and returns
 * what ZodanEffect.running was before. For zodan_claim_running(), which tells the new
 * node that there is one more.
 */
char *
zodan_effects_intend_running(const ZodanRequest *req, const char *node, const char *sub)
{
	char	   *before;

	ZODAN_FAILPOINT(req, "before_intent", "running");
	before = zodan_effects_find(req, node, EFFECT_SUBSCRIPTION, sub)->running;
	zodan_spi_one("WITH c AS (UPDATE zodan.request_state SET claim = claim + 1 WHERE request_id = $1::bigint)"
				  "UPDATE zodan.effects SET running = coalesce(running, 'intent'), changed_at = clock_timestamp()"
				  " WHERE request_id = $1::bigint AND node = $2 AND kind = '" EFFECT_SUBSCRIPTION "' AND name = $3", 3,
				  req->id_text, node, sub);
	ZODAN_FAILPOINT(req, "after_intent", "running");
	return before;
}

/*
 * Stores that it may run from now on, standing where it has to: that isn't set again.
 */
void
zodan_effects_set_running(const ZodanRequest *req, const char *node, const char *sub)
{
	ZODAN_FAILPOINT(req, "after_effect", "running");
	zodan_spi_one("WITH progress AS ("
				  " UPDATE zodan.request_state s SET attempt_of_progress = s.attempt FROM zodan.effects e"
				  "  WHERE s.request_id = $1::bigint AND e.request_id = s.request_id AND e.node = $2"
				  "    AND e.kind = '" EFFECT_SUBSCRIPTION "' AND e.name = $3 AND e.running IS DISTINCT FROM 'done')"
				  "UPDATE zodan.effects SET running = 'done', changed_at = clock_timestamp()"
				  " WHERE request_id = $1::bigint AND node = $2 AND kind = '" EFFECT_SUBSCRIPTION "' AND name = $3", 3,
				  req->id_text, node, sub);
}

/*
 * Notes that something isn't there any more, if it ever was, and if that isn't
 * noted already.
 */
void
zodan_effects_undone(const ZodanRequest *req, const char *node, const char *kind, const char *name)
{
	ZODAN_FAILPOINT(req, "after_undo", kind);
	zodan_spi_execute("UPDATE zodan.effects SET state = 'rolled_back', changed_at = clock_timestamp()"
					  " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4 AND state IN ('intent', 'done')",
					  4, req->id_text, node, kind, name);
}

/*
 * Notes that something isn't the request's to drop any more.
 */
void
zodan_effects_leave(const ZodanRequest *req, const char *node, const char *kind, const char *name)
{
	zodan_spi_one("UPDATE zodan.effects SET state = 'left', changed_at = clock_timestamp()"
				  " WHERE request_id = $1::bigint AND node = $2 AND kind = $3 AND name = $4 AND state IN ('intent', 'done')",
				  4, req->id_text, node, kind, name);
}

/*
 * Has the request anything, in whatever state, whose name ends so?
 */
bool
zodan_effects_any_ends(const ZodanRequest *req, const char *end)
{
	return zodan_spi_execute("SELECT FROM zodan.effects WHERE request_id = $1::bigint AND right(name, length($2)) = $2 LIMIT 1", 2,
							 req->id_text, end)->nrows == 1;
}

/*
 * Can the request only go forward, or be given up? The new node is open, or some of
 * what the one that goes had is dropped.
 */
bool
zodan_effects_past_return(const ZodanRequest *req)
{
	return req->opening || (strcmp(req->operation, "remove_node") == 0 && zodan_effects_live(req) != NIL && !zodan_effects_are_all(req, EFFECT_FENCE));
}

/*
 * The fence of the request, if that was left, with what the connection limit was; or NULL.
 */
ZodanEffect *
zodan_effects_closed(const ZodanRequest *req)
{
	ZodanRows  *rows = zodan_spi_execute("SELECT " COLUMNS " FROM zodan.effects WHERE request_id = $1::bigint"
										 " AND kind = $2 AND state = 'left' AND result IS NOT NULL", 2, req->id_text, EFFECT_FENCE);

	return rows->nrows ? read_effect(rows->value[0]) : NULL;
}

/*
 * What was left on existing nodes, as text for messages; NULL: nothing.
 */
char *
zodan_effects_left(const ZodanRequest *req)
{
	return zodan_spi_one("SELECT string_agg(format('%s %s of node %s', kind, name, node), ', ' ORDER BY id) FROM zodan.effects"
						 " WHERE request_id = $1::bigint AND state = 'left' AND node <> $2", 2,
						 req->id_text, req->new_node_name)->value[0][0];
}

/*
 * Is it there, or may it be?
 */
bool
zodan_effects_is_live(const ZodanEffect *effect)
{
	return effect->state && (strcmp(effect->state, "intent") == 0 || strcmp(effect->state, "done") == 0);
}

/*
 * Has the request never intended anything of another kind?
 */
bool
zodan_effects_are_all(const ZodanRequest *req, const char *kind)
{
	return zodan_spi_execute("SELECT 1 FROM zodan.effects WHERE request_id = $1::bigint AND kind <> $2 LIMIT 1", 2,
							 req->id_text, kind)->nrows == 0;
}

/*
 * Everything that the request has made, or may have made, and not undone,
 * latest first.
 */
List *
zodan_effects_live(const ZodanRequest *req)
{
	ZodanRows  *rows = zodan_spi_execute("SELECT " COLUMNS " FROM zodan.effects"
										 " WHERE request_id = $1::bigint AND state IN ('intent', 'done')"
										 " ORDER BY id DESC", 1, req->id_text);
	List	   *effects = NIL;

	for (int i = 0; i < rows->nrows; i++)
		effects = lappend(effects, read_effect(rows->value[i]));
	return effects;
}

/*
 * How often the request has intended something; with count once more.
 */
char *
zodan_effects_intents(const ZodanRequest *req, bool count)
{
	return zodan_spi_one("UPDATE zodan.request_state SET claim = claim + $2::int WHERE request_id = $1::bigint RETURNING claim", 2,
						 req->id_text, count ? "1" : "0")->value[0][0];
}

/*
 * It has intended something as often as that at least, though the journal didn't
 * know.
 */
void
zodan_effects_set_intents(const ZodanRequest *req, const char *intents)
{
	zodan_spi_one("UPDATE zodan.request_state SET claim = greatest(claim, $2::bigint) WHERE request_id = $1::bigint", 2,
				  req->id_text, intents);
}

/*
 * The new node was told that it has intended something so often.
 */
void
zodan_effects_set_told(const ZodanRequest *req, const char *intents)
{
	zodan_spi_one_async("UPDATE zodan.request_state SET claim_told = $2::bigint WHERE request_id = $1::bigint", 2, req->id_text, intents);
}

/*
 * What it was told last; it may have been told more since.
 */
int64
zodan_effects_told(const ZodanRequest *req)
{
	return zodan_spi_int64(zodan_spi_one("SELECT claim_told FROM zodan.request_state WHERE request_id = $1::bigint", 1, req->id_text)->value[0][0]);
}
