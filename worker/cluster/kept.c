/*
 * kept.c
 *		What the new node had before the join, and keeps.
 *
 * It has no tables, but may have extensions, and with them functions, types and
 * views; schemas and languages of its own; and it has the schema "public", which
 * the restore finds there, and whose owner, privileges and comment it changes.
 * None of that is the join's to drop. What has the name of something that the
 * source has, and isn't an extension, is refused by the checks. What is found
 * nevertheless when the structure is restored is never among what a roll back
 * drops. And what the restore has changed of things that were there is changed
 * back.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "cluster/kept.h"

#include "remote/query.h"
#include "utils/builtins.h"

static const char *const objects_query =
#include "sql/kept_objects.h"
"SELECT coalesce(pg_catalog.array_agg(name), '{}') FROM i";

static const char *const conflicts_query =
#include "sql/kept_objects.h"
#include "sql/kept_conflicts.h"
		   ;

static const char *const entries_query =
#include "sql/kept_objects.h"
"SELECT coalesce(pg_catalog.string_agg(pg_catalog.format(' %s %s ', classid::int8, objid::int8), ''), '') FROM i"
" WHERE name = ANY ($1::text[])";

static const char *const rights_query =
#include "sql/kept_rights.h"
		   ;

/* filled in: see there */
static const char *const restore_body =
#include "sql/kept_restore.h"
		   ;

static const char *const acl_changes =
#include "sql/kept_acl_changes.h"
		   ;

/*
 * The names of the objects of a node: the literal of an array.
 */
char *
zodan_kept_objects(ZodanConn *conn)
{
	return zodan_query_value(conn, objects_query, 0);
}

/*
 * Which of the objects, those of the new node, the source has, too, though they
 * can't be on both: one name a row. What is in the schemas left_out and foreign
 * (literals of arrays), these schemas, and extensions aren't looked at.
 */
PGresult *
zodan_kept_conflicts(ZodanConn *source, const char *objects, const char *left_out, const char *foreign)
{
	return zodan_query(source, conflicts_query, 3, objects, left_out, foreign);
}

/*
 * The objects of the source that the new node has, too: a list of "CLASS OID " as
 * in the table of contents of a dump.
 */
char *
zodan_kept_entries(ZodanConn *source, const char *objects)
{
	return zodan_query_value(source, entries_query, 1, objects);
}

/*
 * What a restore may change of what is there: the owner, privileges and comment of
 * "public", comments on extensions, privileges on their members and on the system's
 * own objects, default privileges. It's JSON.
 */
char *
zodan_kept_rights(ZodanConn *conn)
{
	return zodan_query_value(conn, rights_query, 0);
}

/*
 * Changes that back: rights is what zodan_kept_rights() has returned. What isn't
 * there any more is passed over, and so is what has come since, but for privileges
 * on the system's own objects.
 */
void
zodan_kept_restore_rights(ZodanConn *conn, const char *rights)
{
	char	   *body = psprintf(restore_body, quote_literal_cstr(rights), quote_literal_cstr(zodan_kept_rights(conn)),
								acl_changes, acl_changes);

	PQclear(zodan_query(conn, psprintf("DO %s", quote_literal_cstr(body)), 0));
}
