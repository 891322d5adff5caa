/*
 * effects.h
 *		What a request has made on the nodes, or has the intent to make.
 *		All calls are about the request that this process has loaded.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_EFFECTS_H
#define ZODAN_EFFECTS_H

#include "queue/request.h"

/* kinds of effects, for whoever makes them and whoever undoes them */
#define EFFECT_CLAIM		"claim"
#define EFFECT_FENCE		"fence"
#define EFFECT_NODE			"node"
#define EFFECT_SUBSCRIPTION	"subscription"
#define EFFECT_SLOT			"slot"
#define EFFECT_ORIGIN		"origin"
#define EFFECT_SCHEMA		"schema"
#define EFFECT_MARKS		"marks"

/* An object that the request has made on a node, or may have */
typedef struct ZodanEffect
{
	char	   *node;
	char	   *kind;
	char	   *name;
	char	   *state;			/* NULL: no such effect yet */
	char	   *result;
	char	   *identity;		/* what tells it from a later one of the same name */
	char	   *running;		/* of a subscription: "intent", it may run; "done", it does; NULL: it never has */
} ZodanEffect;

extern ZodanEffect *zodan_effects_find(const ZodanRequest *req, const char *node, const char *kind, const char *name);
extern ZodanEffect *zodan_effects_intend(const ZodanRequest *req, const char *node, const char *kind, const char *name);
extern void zodan_effects_set(const ZodanRequest *req, const char *node, const char *kind, const char *name,
							  const char *state, const char *result);
extern void zodan_effects_set_identity(const ZodanRequest *req, const char *node, const char *kind, const char *name, const char *identity);
extern void zodan_effects_assume(const ZodanRequest *req, const char *node, const char *kind, const char *name, const char *result);
extern char *zodan_effects_intend_running(const ZodanRequest *req, const char *node, const char *sub);
extern void zodan_effects_set_running(const ZodanRequest *req, const char *node, const char *sub);
extern void zodan_effects_undone(const ZodanRequest *req, const char *node, const char *kind, const char *name);
extern bool zodan_effects_any_ends(const ZodanRequest *req, const char *end);
extern bool zodan_effects_past_return(const ZodanRequest *req);
extern ZodanEffect *zodan_effects_closed(const ZodanRequest *req);
extern char *zodan_effects_left(const ZodanRequest *req);
extern void zodan_effects_leave(const ZodanRequest *req, const char *node, const char *kind, const char *name);
extern bool zodan_effects_is_live(const ZodanEffect *effect);
extern bool zodan_effects_are_all(const ZodanRequest *req, const char *kind);
extern List *zodan_effects_live(const ZodanRequest *req);
extern char *zodan_effects_intents(const ZodanRequest *req, bool count);
extern void zodan_effects_set_intents(const ZodanRequest *req, const char *intents);
extern void zodan_effects_set_told(const ZodanRequest *req, const char *intents);
extern int64 zodan_effects_told(const ZodanRequest *req);

#endif							/* ZODAN_EFFECTS_H */
