/*
 * connection.h
 *		One connection to a node.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_CONNECTION_H
#define ZODAN_CONNECTION_H

#include "remote/session.h"

typedef struct ZodanConn
{
	const char *node;			/* whose name goes into messages */
	const char *dsn;
	ZodanSession *session;		/* whose it is */
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

extern void zodan_connection_start(ZodanConn *conn);
extern void zodan_connection_finish(ZodanConn *conn);
extern void zodan_connection_fail(ZodanConn *conn, int sqlstate, const char *message);
extern void zodan_connection_refused(ZodanConn *conn);
extern char *zodan_connection_message(const ZodanConn *conn, const char *message);
extern ZodanConn zodan_connection_another(const ZodanConn *conn);
extern void zodan_connection_close(ZodanConn *conn);
extern bool zodan_connection_is_lost(ZodanConn *conn);
extern char *zodan_connection_error(const ZodanConn *conn);

#endif							/* ZODAN_CONNECTION_H */
