/*
 * remote.h
 *		Sessions on the nodes.
 */
#ifndef ZODAN_REMOTE_H
#define ZODAN_REMOTE_H

#include "base/compat.h"

#include "base/dsn.h"
#include "base/wait.h"
#include "remote/session.h"

#define ZODAN_MAX_PARAMS	13

/* A timeout for a statement that works as long as it takes, if only its node answers */
#define ZODAN_NO_TIMEOUT	(-1)

typedef struct ZodanConn
{
	const char *node;			/* whose name goes into messages */
	const char *dsn;
	bool		replication;	/* a walsender, for replication commands */
	bool		bulk;			/* may stand still for long, being a lane of the copy */
	bool		need_password;	/* refuse it unless a password was asked for */
	const char *guard;			/* a query: why nothing may be done in the session, or NULL; or no query */
	bool		changes;		/* change.c's: for one transaction that changes something, */
	const char *options;		/* with these instead of the DSN's */
	PGconn	   *pg;				/* NULL unless connected */
	int			version;		/* as server_version_num */
	char	   *error;			/* why it isn't connected; no password in it */
	int			sqlstate;		/* of the error, packed; of class 08 if no server answered */
	bool		lacks_password; /* because the server asked for one, and there was none */
} ZodanConn;

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
	bool		go_on;			/* run it even if one before on this connection failed */
	bool		sent;			/* private */
	bool		finished;
} ZodanCall;

/* For the log of all remote statements; NULL: none is kept */
extern void (*zodan_statement_hook) (const char *node, const char *sql);

extern void zodan_connect_all(ZodanConn **conns, int nconns);
extern void zodan_connect(ZodanConn *conn);
extern void zodan_disconnect(ZodanConn *conn);
extern bool zodan_is_lost(ZodanConn *conn);
extern char *zodan_connection_error(const ZodanConn *conn);
extern bool zodan_node_answers(const ZodanConn *conn);

extern void zodan_call_start(ZodanCall *call);
extern bool zodan_call_poll(ZodanCall *call);
extern void zodan_call_all(ZodanCall *calls, int ncalls, int64 timeout_ms);
pg_noreturn extern void zodan_raise(const ZodanCall *call);
extern void zodan_raise_any(const ZodanCall *calls, int ncalls);
extern PGresult *zodan_query(ZodanConn *conn, const char *sql, int nparams,...);
extern char *zodan_value(ZodanConn *conn, const char *sql, int nparams,...);
extern bool zodan_same_server(ZodanConn *conn, const ZodanConn *other, bool same_database);
extern char *zodan_field(const PGresult *result, int row, int column);
extern char *zodan_quote(const char *identifier);

extern int	zodan_sqlstate(const PGresult *result);

#endif							/* ZODAN_REMOTE_H */
