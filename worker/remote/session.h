/*
 * session.h
 *		What the sessions of a request, or of upkeep, have in common.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SESSION_H
#define ZODAN_SESSION_H

#include "base/dsn.h"
#include "base/wait.h"

typedef struct ZodanSession
{
	char	   *name;			/* application_name */
	char	   *child;			/* that of child processes */
	char	   *token;			/* tells the request's sessions from those of others: a number, as text */
	char	   *process;		/* tells this process's sessions from those of the request's earlier ones */
	char	   *pins;			/* the statements that each begins with */
	int64		timeout_ms;		/* how long a statement on a node, or a single wait, may take */
	ZodanSecrets secrets;		/* no message shows them */
	ZodanWaiter waiter;
	bool		transient;		/* the error that was raised may go away, whatever its SQLSTATE says */
	pid_t	   *children;		/* the programs under way, which end with us */
	int			nchildren;

	/* for the log of all statements on nodes; NULL: none is kept */
	void		(*log) (void *arg, const char *node, const char *sql);
	void	   *log_arg;
} ZodanSession;

extern void zodan_session_init(ZodanSession *session, const char *name, uint32 token, int64 timeout_ms);
extern void zodan_session_log(const ZodanSession *session, const char *node, const char *sql);
extern char *zodan_session_change_pins(const ZodanSession *session);
extern char *zodan_session_change_options(int version, bool superuser, const char *own);
extern ZodanDeadline zodan_session_deadline(const ZodanSession *session);
extern int	zodan_session_server_timeout(const ZodanSession *session);

#endif							/* ZODAN_SESSION_H */
