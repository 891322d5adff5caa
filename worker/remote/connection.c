/*
 * connection.c
 *		One connection: how it is made without waiting, and what it says when it
 *		fails, without passwords.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "remote/connection.h"

#include "base/dsn.h"
#include "mb/pg_wchar.h"
#include "remote/session.h"
#include "storage/fd.h"

/*
 * Warnings of the engines would go to the server's log, DSNs and all.
 */
static void
ignore_notice(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

/*
 * Ends a session; nothing if there is none.
 */
void
zodan_connection_close(ZodanConn *conn)
{
	if (conn->pg)
	{
		PQfinish(conn->pg);
		ReleaseExternalFD();
	}
	conn->pg = NULL;
}

/*
 * A message without what libpq ends it with: a newline; and without passwords.
 */
char *
zodan_connection_message(const ZodanConn *conn, const char *message)
{
	char	   *text = zodan_dsn_redact_text(&conn->session->secrets, message);

	while (*text && text[strlen(text) - 1] == '\n')
		text[strlen(text) - 1] = '\0';
	return text;
}

void
zodan_connection_fail(ZodanConn *conn, int sqlstate, const char *message)
{
	conn->error = zodan_connection_message(conn, message);
	conn->sqlstate = sqlstate;
	conn->lacks_password = conn->pg && PQconnectionNeedsPassword(conn->pg);
	zodan_connection_close(conn);
}

/*
 * Fails a connection with what libpq says. That is verbose until the session is
 * there, since libpq has no other way to tell the SQLSTATE of a server that
 * refuses: "FATAL:  57P03: ..." and a line "LOCATION:  function, file:line",
 * whose label may be in any language. Both are taken out of the message. None
 * in it: no server has answered.
 */
void
zodan_connection_refused(ZodanConn *conn)
{
	char	   *lines = zodan_dsn_redact_text(&conn->session->secrets, PQerrorMessage(conn->pg));	/* while a password in it is whole */
	char	   *line;

	/* without a password libpq itself gives up */
	int			sqlstate = PQconnectionNeedsPassword(conn->pg) ? ERRCODE_INVALID_PASSWORD : ERRCODE_CONNECTION_FAILURE;
	StringInfoData message;

	initStringInfo(&message);
	while ((line = strsep(&lines, "\n")) != NULL)
	{
		char	   *value = strstr(line, ":  ");
		int			end = 0;

		if (value && strspn(value + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 &&
			strcspn(value + 3, "0123456789") < 5 && strncmp(value + 8, ": ", 2) == 0)
		{
			sqlstate = MAKE_SQLSTATE(value[3], value[4], value[5], value[6], value[7]);
			memmove(value + 3, value + 10, strlen(value + 10) + 1);
		}
		else if (value && sscanf(value, ":  %*[^, ], %*[^: ]:%*d%n", &end) == 0 && end > 0 && !value[end])
			continue;
		appendStringInfo(&message, "%s\n", line);
	}
	zodan_connection_fail(conn, sqlstate, message.data);
}

/*
 * Begins to connect, without waiting.
 */
void
zodan_connection_start(ZodanConn *conn)
{
	const char *keywords[16];
	const char *values[16];
	int			n = 0;

	conn->error = NULL;
	conn->sqlstate = 0;
	conn->lacks_password = false;
	zodan_dsn_remember(&conn->session->secrets, conn->dsn);

	/* what stands before the DSN is a default, what stands behind it is forced */
#define ADD(k, v) (keywords[n] = (k), values[n++] = (v))
	for (const ZodanDefault *d = zodan_dsn_defaults; d->keyword; d++)
		if (!d->quick || !conn->bulk)
			ADD(d->keyword, d->value);
	ADD("dbname", conn->dsn);
	ADD("application_name", conn->session->name);
	ADD("client_encoding", GetDatabaseEncodingName());
	if (conn->replication)
		ADD("replication", "database");
	if (conn->changes)
		ADD("options", conn->options);
	ADD(NULL, NULL);
#undef ADD

	if (!AcquireExternalFD())
	{
		conn->error = psprintf("out of file descriptors: %m");
		conn->sqlstate = ERRCODE_INSUFFICIENT_RESOURCES;
		return;
	}
	conn->pg = PQconnectStartParams(keywords, values, 1);
	PQsetNoticeReceiver(conn->pg, ignore_notice, NULL);
	PQsetErrorVerbosity(conn->pg, PQERRORS_VERBOSE);
	if (PQstatus(conn->pg) == CONNECTION_BAD)
		zodan_connection_refused(conn);
}

void
zodan_connection_finish(ZodanConn *conn)
{
	if (conn->need_password && !PQconnectionUsedPassword(conn->pg))
	{
		zodan_connection_fail(conn, ERRCODE_INVALID_PASSWORD, "the server did not ask for the password, which a request by a role that is not a superuser needs");
		return;
	}
	PQsetErrorVerbosity(conn->pg, PQERRORS_DEFAULT);
	PQsetnonblocking(conn->pg, 1);
	conn->version = PQserverVersion(conn->pg);
}

/*
 * Has the session been closed by the other end, or by the kernel, whose
 * keepalives weren't answered? Nothing is sent. Where a statement is under
 * way, whoever waits for it will see.
 */
bool
zodan_connection_is_lost(ZodanConn *conn)
{
	if (!conn->pg)
		return false;
	switch (PQstatus(conn->pg))
	{
		case CONNECTION_BAD:
			return true;
		case CONNECTION_OK:
			return PQtransactionStatus(conn->pg) != PQTRANS_ACTIVE && !PQconsumeInput(conn->pg);
		default:
			return false;		/* it's still being made */
	}
}

/*
 * What libpq says of the connection, as it goes into a message.
 */
char *
zodan_connection_error(const ZodanConn *conn)
{
	return zodan_connection_message(conn, PQerrorMessage(conn->pg));
}

/*
 * Another session on the same node, with the same guard, which isn't connected yet.
 */
ZodanConn
zodan_connection_another(const ZodanConn *conn)
{
	return (ZodanConn)
	{
		.node = conn->node,.dsn = conn->dsn,.session = conn->session,.need_password = conn->need_password,.guard = conn->guard
	};
}
