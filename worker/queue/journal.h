/*
 * journal.h
 *		What a request has done. All calls are about the one that this process
 *		has loaded.
 */
#ifndef ZODAN_JOURNAL_H
#define ZODAN_JOURNAL_H

#include "queue/spi.h"

/* kinds of effects, for whoever makes them and whoever undoes them */
#define EFFECT_CLAIM		"claim"
#define EFFECT_FENCE		"fence"
#define EFFECT_NODE			"node"
#define EFFECT_SUBSCRIPTION	"subscription"
#define EFFECT_SLOT			"slot"
#define EFFECT_ORIGIN		"origin"
#define EFFECT_SCHEMA		"schema"
#define EFFECT_MARKS		"marks"
#define EFFECT_RUNNING		"running"
#define EFFECT_OPEN			"open"

typedef struct ZodanEffect
{
	char	   *node;
	char	   *kind;
	char	   *name;
	char	   *state;			/* NULL: no such effect yet */
	char	   *result;
	char	   *identity;
} ZodanEffect;

/* What a node is; all is text */
typedef struct ZodanServer
{
	char	   *system_identifier;
	char	   *database_oid;
	char	   *timeline;
	char	   *lsn;			/* how far its WAL is flushed */
} ZodanServer;

typedef struct ZodanBookmark
{
	char	   *node;
	char	   *slot_lsn;		/* positions are text, NULL: not known yet */
	char	   *marker_lsn;
	char	   *window_lsn;
	char	   *consistent_lsn;
	char	   *resume_lsn;
} ZodanBookmark;

extern void zodan_event(const char *level, const char *node, const char *message);

extern bool zodan_checkpoint_begin(const char *phase);
extern void zodan_checkpoint_done(const char *phase);
extern int	zodan_checkpoint_attempts(const char *phase);
extern int	zodan_checkpoint_passing(const char *phase);
extern void zodan_forget_checkpoints(void);
extern void zodan_checkpoint_error(const char *phase, const char *error);

extern ZodanEffect *zodan_find_effect(const char *node, const char *kind, const char *name);
extern ZodanEffect *zodan_effect_intent(const char *node, const char *kind, const char *name);
extern void zodan_effect_result(const char *node, const char *kind, const char *name,
								const char *state, const char *result);
extern void zodan_effect_identity(const char *node, const char *kind, const char *name, const char *identity);
extern void zodan_effect_assume(const char *node, const char *kind, const char *name, const char *result);
extern bool zodan_effect_intent_open(const char *node, const char *database);
extern void zodan_effect_left(const char *node, const char *kind, const char *name);
extern void zodan_effect_undone(const char *node, const char *kind, const char *name);
extern bool zodan_effect_is_live(const ZodanEffect *effect);
extern List *zodan_live_effects(void);
extern char *zodan_intents(bool count);
extern void zodan_set_intents(const char *intents);
extern void zodan_set_told(const char *intents);
extern int64 zodan_get_told(void);

extern void zodan_set_kept(const char *objects, const char *rights);
extern char *zodan_get_kept(const char *column);

extern void zodan_store_dump(const char *directory);
extern ZodanRows *zodan_stored_dump(void);
extern char *zodan_stored_chunk(const char *name, const char *chunk);
extern void zodan_forget_dump(void);

extern ZodanServer *zodan_get_server(const char *node);
extern void zodan_set_server(const char *node, const ZodanServer *server);
extern void zodan_note_lsn(const char *node, const char *lsn);

extern void zodan_set_bookmark(int snapshot, const char *node, const char *column, const char *lsn);
extern ZodanBookmark *zodan_get_bookmark(int snapshot, const char *node);
extern void zodan_forget_bookmarks(int snapshot);

extern int	zodan_next_snapshot(void);

extern void zodan_forget_check_failures(const char *phase);
extern void zodan_check_failure(const char *phase, const char *check, const char *node,
								const char *found, const char *expected, const char *todo, bool passing);
extern char *zodan_check_summary(int *count, int *passing);

#endif							/* ZODAN_JOURNAL_H */
