/*
 * journal.h
 *		What a request has done. All calls are about the one that this process
 *		has loaded.
 */
#ifndef ZODAN_JOURNAL_H
#define ZODAN_JOURNAL_H

#include "queue/spi.h"

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

extern void zodan_journal_event(const char *level, const char *node, const char *message);

extern bool zodan_journal_phase_begin(const char *phase);
extern void zodan_journal_phase_done(const char *phase);
extern int	zodan_journal_phase_attempts(const char *phase);
extern int	zodan_journal_phase_transient(const char *phase);
extern void zodan_journal_forget_phases(void);
extern void zodan_journal_phase_error(const char *phase, const char *error);


extern void zodan_journal_set_kept(const char *objects, const char *rights);
extern char *zodan_journal_kept(const char *column);

extern void zodan_journal_store_dump(const char *directory);
extern ZodanRows *zodan_journal_dump(void);
extern char *zodan_journal_dump_chunk(const char *name, const char *chunk);
extern ZodanRows *zodan_journal_dumps_done(List *names);
extern void zodan_journal_forget_dump(void);

extern ZodanServer *zodan_journal_server(const char *node);
extern void zodan_journal_set_server(const char *node, const ZodanServer *server);
extern void zodan_journal_note_lsn(const char *node, const char *lsn);

extern void zodan_journal_set_position(int snapshot, const char *node, const char *column, const char *lsn);
extern ZodanBookmark *zodan_journal_position(int snapshot, const char *node);
extern void zodan_journal_forget_positions(int snapshot);

extern int	zodan_journal_next_snapshot(void);

extern void zodan_journal_forget_check_failures(const char *phase);
extern void zodan_journal_check_failure(const char *phase, const char *check, const char *node,
								const char *found, const char *expected, const char *todo, bool passing);
extern char *zodan_journal_check_summary(int *count, int *passing);

#endif							/* ZODAN_JOURNAL_H */
