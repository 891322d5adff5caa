/*
 * phase.h
 *		The functions that the phase table (phases.c) names.
 *
 * Each does its phase from wherever an earlier attempt has left it, and raises
 * what keeps it from doing so.
 */
#ifndef ZODAN_PHASE_H
#define ZODAN_PHASE_H

#include "claim.h"

/* phase_check.c */
extern void zodan_check_versions(ZodanJob *job);
extern void zodan_check_prerequisites(ZodanJob *job);

/* phase_register.c */
extern void zodan_register_node(ZodanJob *job);
extern void zodan_fence(ZodanJob *job);
extern void zodan_subscribe_to_source(ZodanJob *job);

/* phase_bookmark.c */
extern void zodan_bookmark_peers(ZodanJob *job);
extern void zodan_sync_peers_to_source(ZodanJob *job);
extern void zodan_hold_wal(ZodanJob *job, ZodanConn *conn);
extern void zodan_release_wal(ZodanJob *job, ZodanConn *conn);
extern void zodan_set_markers(ZodanJob *job, int snapshot);
extern void zodan_find_resume_points(ZodanJob *job, int snapshot, XLogRecPtr consistent);

/* phase_copy.c */
extern void zodan_copy_schema(ZodanJob *job);
extern void zodan_copy_data(ZodanJob *job);
extern void zodan_build_indexes(ZodanJob *job);
extern char *zodan_skipped_schemas(ZodanJob *job);

/* phase_subscribe.c */
extern void zodan_sync_source_to_new(ZodanJob *job);
extern void zodan_advance_slots(ZodanJob *job);
extern void zodan_mirror_replication_sets(ZodanJob *job);
extern void zodan_enable_subscriptions(ZodanJob *job);
extern void zodan_subscribe_existing_nodes(ZodanJob *job);
extern void zodan_mend_lost(ZodanJob *job, ZodanConn *conn);

/* phase_finish.c */
extern void zodan_monitor_lag(ZodanJob *job);
extern void zodan_finish(ZodanJob *job);

/* phase_remove.c */
extern void zodan_check_removal(ZodanJob *job);
extern void zodan_drain_node(ZodanJob *job);
extern void zodan_drop_node(ZodanJob *job);

/* undo.c */
extern char *zodan_undo(ZodanJob *job, bool *fence);
extern void zodan_undo_objects(ZodanJob *job);

/* zodan.bookmarks.snapshot of the positions where the peers' own streams begin */
#define ZODAN_CUT			(-1)

#endif							/* ZODAN_PHASE_H */
