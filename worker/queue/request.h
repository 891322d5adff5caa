/*
 * request.h
 *		The queue and the state of each request.
 *
 * A function is a transaction of its own. One that changes a request's state
 * raises an error when that isn't what it was.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_REQUEST_H
#define ZODAN_REQUEST_H

#include "base/wait.h"
#include "queue/spi.h"

/* states in which a request may wait for a node that can't be reached */
#define ZODAN_WAITING		"('retrying', 'cancelling', 'rolling_back')"

/* how often it is probed: the longer it has been away the less often */
#define ZODAN_PROBE_EVERY \
	"interval '1 s' * least(60, greatest(2, extract(epoch FROM clock_timestamp() - missing_since) / 5))"

/* states in which nobody works on a request, but its slots may be there */
#define ZODAN_IDLE		"('paused', 'failed', 'cancelled')"

typedef struct ZodanRequest
{
	int64		id;
	const char *id_text;		/* the same */
	char	   *operation;
	char	   *src_node_name;
	char	   *src_dsn;
	char	   *new_node_name;	/* NULL: a verification, which has no new node */
	char	   *new_node_dsn;
	bool		gave_dsn;		/* it wasn't found in the cluster's own catalogs */
	char	   *location;
	char	   *country;
	char	   *info;			/* JSON */
	bool		verb;
	int64		sync_timeout;	/* ms */
	int			max_attempts;	/* 0: no bound */
	bool		fence;
	char	   *verify;			/* none, sample or full: which rows are compared */
	int64		verify_timeout; /* ms */
	int			copy_jobs;		/* 0: zodan.copy_jobs */
	bool		by_superuser;
	char	   *state;
	int			attempt;
	const char *phase;			/* the one under way; NULL: none */
	ZodanWaiter *waiter;		/* who waits for it */
	char	   *token;			/* a UUID, which tells it from other coordinators' requests */
	uint32		session_token;	/* the same of its sessions */
	bool		keep;			/* if it's cancelled, what it has made stays */
	char	   *asked;			/* what it is being undone for: cancel, restart or abandon */
	char	   *reason;			/* why, if it wasn't a user who asked, */
	char	   *reason_hint;	/* and what to do about it */
	bool		opening;		/* the intent is stored to open the new node: it may be open */
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
} ZodanCopyStatus;



/* a request's; the runner's calls are about the one that it has loaded */
extern bool zodan_request_lock(int64 id);
extern ZodanRows *zodan_request_unreachable(const ZodanRequest *req);
extern ZodanRequest *zodan_request_load(int64 id);
extern char *zodan_request_option(const ZodanRequest *req, const char *key, const char *member);
extern char *zodan_request_option_array(const ZodanRequest *req, const char *key);
extern bool zodan_request_intend_open(ZodanRequest *req);
extern char *zodan_request_asked(const ZodanRequest *req);
extern void zodan_request_cancel_idle(const ZodanRequest *req, const char *reason, const char *hint);
extern bool zodan_request_note_broken(const ZodanRequest *req, const char *message, const char *hint);
extern bool zodan_request_ask(const ZodanRequest *req, const char *what, const char *reason, const char *hint);
extern bool zodan_request_pause_seen(const ZodanRequest *req);
extern void zodan_request_roll_back(const ZodanRequest *req, const char *from);
extern void zodan_request_set_engine(const ZodanRequest *req, const char *engine);
extern void zodan_request_set_node_dsn(const ZodanRequest *req, const char *dsn);
extern void zodan_request_set_error(const ZodanRequest *req, const char *message, const char *hint);
extern void zodan_request_retry_after(const ZodanRequest *req, int64 ms, const char *message, const char *hint, List *missing, List *dsns);
extern void zodan_request_wait_turn(const ZodanRequest *req, int64 ms, const char *message);
extern void zodan_request_roll_back_for(const ZodanRequest *req, const char *what, const char *reason, const char *hint);
extern bool zodan_request_restart(const ZodanRequest *req, int64 ms);
extern void zodan_request_end(const ZodanRequest *req, const char *from, const char *event, bool blank);
extern bool zodan_request_fail(const ZodanRequest *req, const char *from, bool blank);
extern void zodan_request_progress(const ZodanRequest *req, const char *phase, double percent, const char *detail);
extern void zodan_request_copy_status(const ZodanRequest *req, const ZodanCopyStatus *status);
extern int64 zodan_request_copy_rate(const ZodanRequest *req);
extern bool zodan_request_note_retained(const ZodanRequest *req, int64 bytes, bool over);
extern void zodan_request_alert(const ZodanRequest *req, const char *node, const char *problem);

#endif							/* ZODAN_REQUEST_H */
