/*
 * dsn.c
 *		Connection strings, and keeping passwords out of all that anybody reads.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/dsn.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#define MASK "********"

/* a shorter password isn't looked for outside of what looks like a DSN */
#define SECRET_MIN 4

/*
 * A node whose packets vanish is given up after about 40 s, however long its
 * server may be silent: the kernel answers for it. A standby is not the node,
 * until it's promoted.
 */
const ZodanDefault zodan_dsn_defaults[] = {
	{"keepalives_idle", "10", false},
	{"keepalives_interval", "10", false},
	{"keepalives_count", "3", false},
	{"tcp_user_timeout", "30000", true},
	{"target_session_attrs", "primary", false},
	{NULL, NULL, false},
};

static bool
is_secret(const PQconninfoOption *option)
{
	return strcmp(option->keyword, "password") == 0 ||
		strcmp(option->keyword, "sslpassword") == 0;
}

/*
 * Returns NULL if the DSN can be used, else what is wrong with it, in words
 * that don't repeat any of it but a keyword.
 */
char *
zodan_dsn_check(const char *dsn, bool need_password)
{
	char	   *message = NULL;
	char	   *problem = NULL;
	bool		password = false;
	PQconninfoOption *options = PQconninfoParse(dsn, &message);

	/* libpq's message quotes what it stumbles upon, which may be a password */
	if (!options)
		return pstrdup("is not a connection string");
	for (PQconninfoOption *o = options; o->keyword; o++)
	{
		if (!o->val || !o->val[0])
			continue;
		if (strcmp(o->keyword, "password") == 0)
			password = true;
		if (strcmp(o->keyword, "sslpassword") == 0)
			problem = pstrdup("has an sslpassword; use a key file without one, which only the server's user can read");
		if (strcmp(o->keyword, "replication") == 0 || strcmp(o->keyword, "client_encoding") == 0)
			problem = psprintf("sets \"%s\", which is the worker's to set", o->keyword);
	}
	PQconninfoFree(options);
	if (!problem && need_password && !password)
		problem = pstrdup("has no password, which a request by a role that is not a superuser must carry");
	return problem;
}

/*
 * An option's value in a DSN; empty if it has none, or can't be parsed.
 */
char *
zodan_dsn_value(const char *dsn, const char *keyword)
{
	char	   *value = NULL;
	PQconninfoOption *options = PQconninfoParse(dsn, NULL);

	if (!options)
		return pstrdup("");
	for (PQconninfoOption *o = options; o->keyword; o++)
		if (strcmp(o->keyword, keyword) == 0 && o->val)
			value = pstrdup(o->val);
	PQconninfoFree(options);
	return value ? value : pstrdup("");
}

/*
 * The value of an option as it stands in a connection string.
 */
static void
append_option(StringInfo buf, const char *keyword, const char *value)
{
	appendStringInfo(buf, "%s%s='", buf->len ? " " : "", keyword);
	for (const char *c = value; *c; c++)
	{
		if (*c == '\'' || *c == '\\')
			appendStringInfoChar(buf, '\\');
		appendStringInfoChar(buf, *c);
	}
	appendStringInfoChar(buf, '\'');
}

/*
 * The DSN in keyword form with mask for its passwords, or without them if mask
 * is NULL; NULL if it can't be parsed.
 */
static char *
without_secrets(const char *dsn, const char *mask)
{
	StringInfoData buf;
	PQconninfoOption *options = PQconninfoParse(dsn, NULL);

	if (!options)
		return NULL;
	initStringInfo(&buf);
	for (PQconninfoOption *o = options; o->keyword; o++)
	{
		const char *value = is_secret(o) && o->val && o->val[0] ? mask : o->val;

		if (value && value[0])
			append_option(&buf, o->keyword, value);
	}
	PQconninfoFree(options);
	return buf.data;
}

/*
 * The DSN in keyword form with its passwords masked; only the mask if it
 * can't be parsed.
 */
char *
zodan_dsn_redact(const char *dsn)
{
	char	   *redacted = without_secrets(dsn, MASK);

	return redacted ? redacted : pstrdup(MASK);
}

/*
 * The DSN in keyword form without its passwords; empty if it can't be parsed.
 */
char *
zodan_dsn_bare(const char *dsn)
{
	char	   *bare = without_secrets(dsn, NULL);

	return bare ? bare : pstrdup("");
}

/*
 * Do both lead to the same database, as far as their texts tell?
 */
bool
zodan_dsn_same_target(const char *dsn, const char *other)
{
	static const char *const keywords[] = {"host", "hostaddr", "port", "dbname", "service"};

	for (int i = 0; i < lengthof(keywords); i++)
		if (strcmp(zodan_dsn_value(dsn, keywords[i]), zodan_dsn_value(other, keywords[i])) != 0)
			return false;
	return true;
}

/*
 * A DSN by which a child process connects as pg has by dsn: to the same server,
 * where the DSN has several, and with these server options (as in PGOPTIONS)
 * on top of its own. The password is left out: it goes to *password (NULL if
 * there is none), for the child's environment.
 */
char *
zodan_dsn_for_child(const char *dsn, const PGconn *pg, const char *application,
					const char *server_options, char **password)
{
	StringInfoData buf;
	const char *own_options = NULL;
	PQconninfoOption *options = PQconninfoParse(dsn, NULL);

	if (!options)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a node's connection string can't be parsed")));
	*password = NULL;
	initStringInfo(&buf);
	for (const ZodanDefault *d = zodan_dsn_defaults; d->keyword; d++)
		append_option(&buf, d->keyword, d->value);
	for (PQconninfoOption *o = options; o->keyword; o++)
	{
		if (!o->val || !o->val[0])
			continue;
		if (strcmp(o->keyword, "password") == 0)
			*password = pstrdup(o->val);
		else if (strcmp(o->keyword, "options") == 0)
			own_options = o->val;
		else if (strcmp(o->keyword, "host") != 0 && strcmp(o->keyword, "hostaddr") != 0 &&
				 strcmp(o->keyword, "port") != 0)
			append_option(&buf, o->keyword, o->val);
	}
	append_option(&buf, "host", PQhost(pg));
	append_option(&buf, "hostaddr", PQhostaddr(pg)[0] && PQhost(pg)[0] != '/' ? PQhostaddr(pg) : "");
	append_option(&buf, "port", PQport(pg));
	append_option(&buf, "options", own_options ? psprintf("%s %s", own_options, server_options) : server_options);
	append_option(&buf, "application_name", application);
	PQconninfoFree(options);
	return buf.data;
}

static bool
is_known(const ZodanSecrets *secrets, const char *secret)
{
	for (int i = 0; i < secrets->n; i++)
		if (strcmp(secrets->text[i], secret) == 0)
			return true;
	return false;
}

/*
 * From now on zodan_dsn_redact_text() masks this DSN's passwords wherever they are.
 */
void
zodan_dsn_remember(ZodanSecrets *secrets, const char *dsn)
{
	PQconninfoOption *options = PQconninfoParse(dsn, NULL);

	if (!options)
		return;
	for (PQconninfoOption *o = options; o->keyword; o++)
	{
		if (!o->val || strlen(o->val) < SECRET_MIN || !is_secret(o) || is_known(secrets, o->val))
			continue;
		secrets->text = secrets->text ? repalloc(secrets->text, sizeof(char *) * (secrets->n + 1))
			: MemoryContextAlloc(TopMemoryContext, sizeof(char *));
		secrets->text[secrets->n++] = MemoryContextStrdup(TopMemoryContext, o->val);
	}
	PQconninfoFree(options);
}

/*
 * The length of what stands for a password at text: up to a blank, or up to
 * the closing quote.
 */
static size_t
secret_length(const char *text)
{
	const char *c = text;

	if (*c != '\'')
		return strcspn(c, " \t\n\r\"'");
	for (c++; *c && *c != '\''; c++)
		if (*c == '\\' && c[1])
			c++;
	return (size_t) (c - text) + (*c == '\'');
}

/*
 * If a password begins within what starts at text ("password=", "password"
 * and a literal, or the user of an URI), returns how many bytes stand before
 * it, and its length; else 0.
 */
static size_t
secret_prefix(const char *text, size_t *length)
{
	if (pg_strncasecmp(text, "password", 8) == 0)
	{
		size_t		n = 8 + strspn(text + 8, " ");

		if (text[n] == '=')
		{
			n++;
			n += strspn(text + n, " ");
		}
		else if (n == 8 || text[n] != '\'')
			return 0;
		*length = secret_length(text + n);
		return n;
	}
	if (strncmp(text, "://", 3) == 0)
	{
		size_t		authority = strcspn(text + 3, "/ \t\n\"'");
		const char *at = memchr(text + 3, '@', authority);
		const char *colon = at ? memchr(text + 3, ':', (size_t) (at - text - 3)) : NULL;

		if (!colon)
			return 0;
		*length = (size_t) (at - colon - 1);
		return (size_t) (colon + 1 - text);
	}
	return 0;
}

/*
 * The text with everything masked that is, or looks like, a password.
 */
char *
zodan_dsn_redact_text(const ZodanSecrets *secrets, const char *text)
{
	StringInfoData buf;

	if (!text)
		return NULL;
	initStringInfo(&buf);
	while (*text)
	{
		size_t		length = 0;
		size_t		prefix;
		bool		masked = false;

		for (int i = 0; i < secrets->n && !masked; i++)
			if (strncmp(text, secrets->text[i], strlen(secrets->text[i])) == 0)
			{
				appendStringInfoString(&buf, MASK);
				text += strlen(secrets->text[i]);
				masked = true;
			}
		if (masked)
			continue;
		prefix = secret_prefix(text, &length);
		if (prefix)
		{
			appendBinaryStringInfo(&buf, text, (int) prefix);
			appendStringInfoString(&buf, MASK);
			text += prefix + length;
		}
		else
			appendStringInfoChar(&buf, *text++);
	}
	return buf.data;
}
