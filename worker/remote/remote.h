/*
 * remote.h
 *		Sessions on the nodes.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_REMOTE_H
#define ZODAN_REMOTE_H

#include "base/compat.h"

#include "base/wait.h"
#include "remote/connection.h"
#include "remote/session.h"

#define ZODAN_MAX_PARAMS	14

/* A timeout for a statement that works as long as it takes, if only its node answers */
#define ZODAN_NO_TIMEOUT	(-1)

/* That of the session: how long a statement may take as a rule */
#define ZODAN_USUAL_TIMEOUT	0

/*
 * A statement that calls functions of an engine's that change its subscriptions
 * or nodes: for zodan_change_all() in change.c.
 */
typedef struct ZodanChange
{
	const char *text;
	int			nparams;		/* how many of the parameters $1, $2, ... it takes */
} ZodanChange;

/* One statement for one connection */
typedef struct ZodanCall
{
	ZodanConn  *conn;
	const char *sql;
	int			nparams;
	ZodanChange change;			/* instead of both, for zodan_change_all() */
	const char *params[ZODAN_MAX_PARAMS];	/* text; NULL is SQL's NULL */
	PGresult   *result;			/* out: NULL if it failed */
	char	   *error;			/* out: NULL if it did not; no password in it */
	char	   *detail;
	char	   *hint;
	int			sqlstate;		/* out: packed, as in ErrorData */
	bool		transient;		/* the error may go away, whatever its SQLSTATE says */
	bool		go_on;			/* run it even if one before on this connection failed */
	bool		sent;			/* private */
	bool		finished;
} ZodanCall;

extern void zodan_remote_connect_all(ZodanConn **conns, int nconns);
extern void zodan_remote_connect(ZodanConn *conn);
extern bool zodan_remote_answers(const ZodanConn *conn);

extern void zodan_remote_start(ZodanCall *call);
extern bool zodan_remote_poll(ZodanCall *call);
extern void zodan_remote_run(ZodanCall *calls, int ncalls, int64 timeout_ms);
pg_noreturn extern void zodan_remote_raise(const ZodanCall *call);
extern void zodan_remote_raise_any(const ZodanCall *calls, int ncalls);

extern int	zodan_remote_sqlstate(const PGresult *result);

#endif							/* ZODAN_REMOTE_H */
