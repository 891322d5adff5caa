/*
 * request.h
 *		The queue and the state of each request.
 *
 * A function is a transaction of its own. One that changes a request's state
 * raises an error when that isn't what it was.
 */
#ifndef ZODAN_REQUEST_H
#define ZODAN_REQUEST_H

#include "queue/spi.h"

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
	bool		by_superuser;
	char	   *state;
	int			attempt;
	char	   *token;			/* a UUID, which tells it from other coordinators' requests */
	uint32		session_token;	/* the same of its sessions */
	bool		keep;			/* if it's cancelled, what it has made stays */
	char	   *asked;			/* what it is being undone for: cancel, restart or abandon */
	char	   *reason;			/* why, if it wasn't a user who asked, */
	char	   *reason_hint;	/* and what to do about it */
	bool		force;			/* remove a node that can't be reached, or drained */
} ZodanRequest;

/* How far a copy is */
typedef struct ZodanCopyStatus
{
	int64		bytes;			/* through COPY */
	int64		bytes_total;	/* of all tables on the source */
	int64		rows;
	int			tables;
	int			tables_total;
	int64		rate;			/* bytes/s */
	double		eta;			/* seconds; negative: unknown */
	int64		snapshot_age;	/* ms; 0: none is open */
	int64		copy_rate;		/* what it's held to, bytes/s */
} ZodanCopyStatus;

extern bool zodan_catalog_installed(void);

/* the launcher's */
extern bool zodan_lock_process(int key);
extern int	zodan_launcher_pid(void);
extern ZodanRows *zodan_dequeue(int limit, const char *busy);
extern ZodanRows *zodan_dequeue_looks(int limit, const char *busy);
extern void zodan_not_started(int64 id);
extern int64 zodan_next_due_ms(void);
extern int	zodan_purge(int minutes);

/* a request's; the runner's calls are about the one that it has loaded */
extern void zodan_queue(int64 id);
extern ZodanRows *zodan_rivals(int64 id);
extern ZodanRows *zodan_open_requests(void);
extern char *zodan_request_of(const char *token);
extern ZodanRows *zodan_older_requests(void);
extern void zodan_settle(const char *id);
extern bool zodan_lock_request(int64 id);
extern ZodanRows *zodan_missing_nodes(void);
extern bool zodan_dequeue_found(void);
extern ZodanRequest *zodan_load_request(int64 id);
extern char *zodan_option_text(const char *key, const char *member);
extern char *zodan_option_array(const char *key);
extern char *zodan_asked(void);
extern void zodan_cancel_idle(const char *reason, const char *hint);
extern bool zodan_note_broken(const char *message, const char *hint);
extern bool zodan_ask(const char *what, const char *reason, const char *hint);
extern void zodan_set_state(const char *from, const char *to);
extern void zodan_set_engine(const char *engine);
extern void zodan_set_error(const char *message, const char *hint);
extern void zodan_retry_at(int64 ms, const char *message, const char *hint, List *missing, List *dsns);
extern void zodan_wait_turn(int64 ms, const char *message);
extern void zodan_undo_for(const char *what, const char *reason, const char *hint);
extern bool zodan_start_again(int64 ms);
extern void zodan_end_request(const char *from, const char *to, bool blank);
extern void zodan_progress(const char *phase, double percent, const char *detail);
extern int64 zodan_copy_status(const ZodanCopyStatus *status);
extern bool zodan_note_retained(int64 bytes, bool over);
extern void zodan_alert(const char *node, const char *problem);

#endif							/* ZODAN_REQUEST_H */
