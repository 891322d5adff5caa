/*
 * catalog.h
 *		The tables of the schema "zodan".
 *
 * Except where noted, a function is a transaction of its own and raises an
 * error when it doesn't find exactly the row that it is about.
 */
#ifndef ZODAN_CATALOG_H
#define ZODAN_CATALOG_H

#include "compat.h"

#include "nodes/pg_list.h"

/*
 * Advisory locks, by their first key. The first two are taken in the
 * coordinator's database, the last on every member of a cluster.
 */
#define ZODAN_LOCK_LAUNCHER	2053071969	/* second key 0 */
#define ZODAN_LOCK_RUNNER	2053071970	/* second key: the request's id */
#define ZODAN_LOCK_CLUSTER	2053071971	/* second key 0 */

/* The result of a query: all values as text, NULL where SQL says NULL */
typedef struct ZodanRows
{
	int			nrows;
	int			ncols;
	char	 ***value;			/* [row][column] */
} ZodanRows;

typedef struct ZodanRequest
{
	int64		id;
	char	   *operation;
	char	   *src_node_name;
	char	   *src_dsn;
	char	   *new_node_name;
	char	   *new_node_dsn;
	char	   *location;
	char	   *country;
	char	   *info;			/* JSON */
	bool		verb;
	int64		sync_timeout;	/* ms */
	int			max_attempts;	/* 0: no bound */
	bool		fence;
	int			copy_jobs;		/* 0: zodan.copy_jobs */
	char	   *requested_by;
	bool		by_superuser;
	char	   *state;
	int			attempt;
} ZodanRequest;

typedef struct ZodanEffect
{
	char	   *node;
	char	   *kind;
	char	   *name;
	char	   *state;			/* NULL: no such effect yet */
	char	   *result;
} ZodanEffect;

typedef struct ZodanBookmark
{
	char	   *node;
	char	   *slot_lsn;		/* positions are text, NULL: not known yet */
	char	   *marker_lsn;
	char	   *window_lsn;
	char	   *consistent_lsn;
	char	   *resume_lsn;
} ZodanBookmark;

typedef struct ZodanCopyTable
{
	char	   *nspname;
	char	   *relname;
	char	   *state;
	int			snapshot;
	char	   *columns;		/* quoted and comma separated; NULL: none */
	bool		filtered;
	bool		binary;
	int64		bytes_total;
} ZodanCopyTable;

extern bool zodan_catalog_installed(void);
extern void zodan_catalog_transaction(void (*work) (void *), void *arg);

/* the launcher's */
extern bool zodan_lock_launcher(void);
extern int	zodan_launcher_pid(void);
extern ZodanRows *zodan_claim(int limit, const char *busy);
extern int64 zodan_next_due_ms(void);

/* a request's; the runner's calls are about the one that it has loaded */
extern void zodan_queue(int64 id);
extern bool zodan_lock_request(int64 id);
extern ZodanRequest *zodan_load_request(int64 id);
extern char *zodan_option_text(const char *key, const char *member);
extern char *zodan_option_array(const char *key);
extern char *zodan_asked(void);
extern void zodan_set_state(const char *from, const char *to);
extern void zodan_set_engine(const char *engine);
extern void zodan_set_error(const char *message, const char *hint);
extern void zodan_retry_at(int64 ms, const char *message, const char *hint);
extern void zodan_end_request(const char *from, const char *to, bool blank);
extern void zodan_progress(const char *phase, double percent, const char *detail);
extern void zodan_progress_bytes(int64 copied, int64 total, double eta_s);
extern void zodan_event(const char *level, const char *node, const char *message);

extern bool zodan_checkpoint_begin(const char *phase);
extern void zodan_checkpoint_done(const char *phase);
extern int	zodan_checkpoint_attempts(const char *phase);
extern void zodan_checkpoint_error(const char *phase, const char *error);

extern ZodanEffect *zodan_find_effect(const char *node, const char *kind, const char *name);
extern ZodanEffect *zodan_effect_intent(const char *node, const char *kind, const char *name);
extern void zodan_effect_result(const char *node, const char *kind, const char *name,
								const char *state, const char *result);
extern void zodan_effect_undone(const char *node, const char *kind, const char *name);
extern List *zodan_live_effects(void);

extern void zodan_set_bookmark(int snapshot, const char *node, const char *column, const char *lsn);
extern ZodanBookmark *zodan_get_bookmark(int snapshot, const char *node);
extern void zodan_forget_bookmarks(int snapshot);

extern void zodan_plan_copy(const char *tables);
extern void zodan_copy_begin(const char *nspname, const char *relname, int snapshot);
extern void zodan_copy_done(const char *nspname, const char *relname, int64 bytes, int64 rows);
extern List *zodan_copy_list(const char *states);
extern int	zodan_next_snapshot(void);
extern char *zodan_later_tables(const char *source);

extern void zodan_forget_check_failures(const char *phase);
extern void zodan_check_failure(const char *phase, const char *check, const char *node,
								const char *found, const char *expected, const char *todo);
extern char *zodan_check_summary(int *count);

#endif							/* ZODAN_CATALOG_H */
