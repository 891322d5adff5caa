/*
 * journal.h
 *		What a request has done. All calls are about the one that this process
 *		has loaded.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_JOURNAL_H
#define ZODAN_JOURNAL_H

#include "queue/request.h"

/* What a node is; all is text */
typedef struct ZodanServer
{
	char	   *system_identifier;
	char	   *database_oid;
	char	   *timeline;
	char	   *lsn;			/* how far its WAL is flushed */
	char	   *node_entry;		/* of a removal: what tells its entry of the node that goes from a
								 * later one; NULL: it has none */
} ZodanServer;

/* which moment positions are about */
typedef struct ZodanMoment
{
	const char *name;
	int			snapshot;		/* its number, or 0 */
} ZodanMoment;

#define ZODAN_CATCH_UP		((ZodanMoment) {"catch_up", 0})
#define ZODAN_SNAPSHOT(n)	((ZodanMoment) {"snapshot", (n)})
#define ZODAN_CUT			((ZodanMoment) {"cut", 0})

/* Positions in the WAL of a node, at a moment: text, NULL: not known yet */
typedef struct ZodanPosition
{
	char	   *slot_lsn;		/* where the slot on the node begins */
	char	   *marker_lsn;		/* a marker that was written there */
	char	   *window_lsn;		/* its flush position before that moment */
	char	   *consistent_lsn; /* what it has committed up to there the new node has */
	char	   *resume_lsn;		/* where its own stream begins */
} ZodanPosition;

extern void zodan_journal_event(const ZodanRequest *req, const char *level, const char *node, const char *message);

extern bool zodan_journal_phase_begin(const ZodanRequest *req, const char *phase);
extern void zodan_journal_phase_done(const ZodanRequest *req, const char *phase);
extern int	zodan_journal_phase_attempts(const ZodanRequest *req, const char *phase);
extern int	zodan_journal_phase_transient(const ZodanRequest *req, const char *phase);
extern bool zodan_journal_any_phase_done(const ZodanRequest *req);
extern void zodan_journal_forget_phases(const ZodanRequest *req);
extern void zodan_journal_phase_error(const ZodanRequest *req, const char *phase, const char *error);


extern void zodan_journal_set_kept(const ZodanRequest *req, const char *objects, const char *rights);
extern char *zodan_journal_kept(const ZodanRequest *req, const char *column);

extern void zodan_journal_store_dump(const ZodanRequest *req, const char *directory);
extern ZodanRows *zodan_journal_dump(const ZodanRequest *req);
extern char *zodan_journal_dump_chunk(const ZodanRequest *req, const char *name, const char *chunk);
extern ZodanRows *zodan_journal_dumps_done(List *names);
extern void zodan_journal_forget_dump(const ZodanRequest *req);

extern ZodanServer *zodan_journal_server(const ZodanRequest *req, const char *node);
extern void zodan_journal_set_servers(const ZodanRequest *req, const List *nodes, const List *servers);
extern void zodan_journal_note_lsn(const ZodanRequest *req, const char *node, const char *lsn);

extern void zodan_journal_set_position(const ZodanRequest *req, ZodanMoment moment, const char *node, const char *column, const char *lsn);
extern ZodanPosition *zodan_journal_position(const ZodanRequest *req, ZodanMoment moment, const char *node);
extern void zodan_journal_forget_positions(const ZodanRequest *req, ZodanMoment moment);

extern int	zodan_journal_next_snapshot(const ZodanRequest *req);

extern void zodan_journal_forget_check_failures(const ZodanRequest *req, const char *phase);
extern void zodan_journal_check_failure(const ZodanRequest *req, const char *phase, const char *check, const char *node,
										const char *found, const char *expected, const char *todo, bool transient);
extern char *zodan_journal_check_summary(const ZodanRequest *req, int *count, int *transient);

#endif							/* ZODAN_JOURNAL_H */
