/*
 * dsn.h
 *		Connection strings, and keeping passwords out of all that anybody reads.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_DSN_H
#define ZODAN_DSN_H

#include "base/compat.h"

#include "libpq-fe.h"

/* An option that every connection to a node has, unless its DSN says otherwise */
typedef struct ZodanDefault
{
	const char *keyword;		/* NULL: the last one */
	const char *value;
	bool		quick;			/* not where the node may keep us waiting before it takes what we send */
} ZodanDefault;

/* Passwords, which are masked wherever they are */
typedef struct ZodanSecrets
{
	char	  **text;
	int			n;
} ZodanSecrets;

extern const ZodanDefault zodan_dsn_defaults[];

extern char *zodan_dsn_check(const char *dsn, bool need_password);
extern char *zodan_dsn_value(const char *dsn, const char *keyword);
extern char *zodan_dsn_redact(const char *dsn);
extern char *zodan_dsn_bare(const char *dsn);
extern bool zodan_dsn_same_target(const char *dsn, const char *other);
extern char *zodan_dsn_for_child(const char *dsn, const PGconn *pg, const char *application,
								 const char *server_options, char **password);
extern void zodan_dsn_remember(ZodanSecrets *secrets, const char *dsn);
extern char *zodan_dsn_redact_text(const ZodanSecrets *secrets, const char *text);

#endif							/* ZODAN_DSN_H */
