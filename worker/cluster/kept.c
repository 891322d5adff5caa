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
 */
#include "cluster/kept.h"

#include "remote/query.h"
#include "utils/builtins.h"

/*
 * All objects that a dump could have an entry for, but for what belongs to a
 * table: rows of classid, objid, in "o", and their addresses in "i". They are named
 * as pg_identify_object() does, which doesn't depend on search_path.
 */
#define OBJECTS \
	"WITH o(classid, objid) AS (" \
	"  SELECT tableoid, oid FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_type t WHERE typcategory <> 'A'" \
	"     AND (typrelid = 0 OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_proc UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_operator" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_opclass UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_opfamily" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_am UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_cast" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_collation UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_conversion" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_language UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_namespace" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_event_trigger UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_publication" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_foreign_data_wrapper UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_foreign_server" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_user_mapping UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_statistic_ext" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_ts_config UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_ts_dict" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_ts_parser UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_ts_template" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_transform" \
	"  UNION ALL SELECT tableoid, oid FROM pg_catalog.pg_extension)" \
	" , i AS (SELECT o.classid, o.objid, a.type, a.schema, a.type || ' ' || a.identity AS name" \
	"           FROM o CROSS JOIN LATERAL pg_catalog.pg_identify_object(o.classid, o.objid, 0) AS a" \
	"          WHERE (o.objid >= 16384 OR a.type = 'extension') AND concat_ws('.', a.schema, CASE a.type WHEN 'schema' THEN a.name END)" \
	"                !~ '^pg_(toast_)?temp_') "

/*
 * The names of the objects of a node: the literal of an array.
 */
char *
zodan_kept_objects(ZodanConn *conn)
{
	return zodan_query_value(conn, OBJECTS "SELECT coalesce(pg_catalog.array_agg(name), '{}') FROM i", 0);
}

/*
 * Which of the objects, those of the new node, the source has, too, though they
 * can't be on both: one name a row. What is in the schemas left_out and foreign
 * (literals of arrays), these schemas, and extensions aren't looked at.
 */
PGresult *
zodan_kept_conflicts(ZodanConn *source, const char *objects, const char *left_out, const char *foreign)
{
	return zodan_query(source, OBJECTS
					   "SELECT name FROM i WHERE name = ANY ($1::text[]) AND type <> 'extension'"
					   "   AND coalesce(schema <> ALL ($2::text[] || $3::text[]), true)"
					   "   AND NOT (type = 'schema' AND pg_catalog.substr(name, 8) = ANY"
					   "            (SELECT pg_catalog.quote_ident(s) FROM pg_catalog.unnest($2::text[] || $3::text[] || '{zodan}'::text[]) AS s))"
					   "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = i.classid AND d.objid = i.objid AND d.deptype IN ('e', 'i'))"
					   " ORDER BY 1 LIMIT 20", 3, objects, left_out, foreign);
}

/*
 * The objects of the source that the new node has, too: a list of "CLASS OID " as
 * in the table of contents of a dump.
 */
char *
zodan_kept_entries(ZodanConn *source, const char *objects)
{
	return zodan_query_value(source, OBJECTS
					   "SELECT coalesce(pg_catalog.string_agg(pg_catalog.format(' %s %s ', classid::int8, objid::int8), ''), '') FROM i"
					   " WHERE name = ANY ($1::text[])", 1, objects);
}

/*
 * What a restore may change of what is there: the owner, privileges and comment of
 * "public", comments on extensions, privileges on their members and on the system's
 * own objects, default privileges. It's JSON.
 */
char *
zodan_kept_rights(ZodanConn *conn)
{
	return zodan_query_value(conn,
					   "WITH members AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'),"
					   " all_of(classid, objid, objsubid, kind, owner, acl) AS ("
					   "  SELECT tableoid, oid, 0, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END, relowner, relacl"
					   "    FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')"
					   "  UNION ALL SELECT c.tableoid, c.oid, t.attnum, 'c', c.relowner, t.attacl"
					   "    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid"
					   "   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND t.attnum > 0 AND NOT t.attisdropped"
					   "  UNION ALL SELECT tableoid, oid, 0, 'f', proowner, proacl FROM pg_catalog.pg_proc"
					   "  UNION ALL SELECT tableoid, oid, 0, 'T', typowner, typacl FROM pg_catalog.pg_type WHERE typcategory <> 'A'"
					   "  UNION ALL SELECT tableoid, oid, 0, 'n', nspowner, nspacl FROM pg_catalog.pg_namespace WHERE nspname <> 'public'"
					   "  UNION ALL SELECT tableoid, oid, 0, 'l', lanowner, lanacl FROM pg_catalog.pg_language"
					   "  UNION ALL SELECT tableoid, oid, 0, 'F', fdwowner, fdwacl FROM pg_catalog.pg_foreign_data_wrapper"
					   "  UNION ALL SELECT tableoid, oid, 0, 'S', srvowner, srvacl FROM pg_catalog.pg_foreign_server),"
					   " o(classid, objid, objsubid, kind, owner, acl, comment) AS ("
					   "  SELECT tableoid, oid, 0, 'n', nspowner, nspacl, pg_catalog.obj_description(oid, 'pg_namespace')"
					   "    FROM pg_catalog.pg_namespace WHERE nspname = 'public'"
					   "  UNION ALL SELECT tableoid, oid, 0, NULL, NULL, NULL, pg_catalog.obj_description(oid, 'pg_extension') FROM pg_catalog.pg_extension"
					   "  UNION ALL SELECT a.*, NULL FROM all_of a"
					   "   WHERE a.objid < 16384 AND a.acl IS NOT NULL OR (a.classid, a.objid) IN (SELECT classid, objid FROM members))"
					   " SELECT pg_catalog.json_build_object("
					   "         'objects', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('classid', classid::int8, 'objid', objid::int8,"
					   "                       'objsubid', objsubid, 'kind', kind, 'owner', owner::int8, 'acl', acl::text, 'comment', comment)) FROM o),"
					   "         'defaults', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('owner', defaclrole::int8,"
					   "                       'nsp', defaclnamespace::int8, 'kind', defaclobjtype, 'acl', defaclacl::text)), '[]') FROM pg_catalog.pg_default_acl))", 0);
}

/*
 * What has to be done so that r.now_acl becomes r.acl; NULL stands for r.base. An
 * array without elements isn't one of privileges to aclexplode().
 */
#define ACL_CHANGES \
	"WITH was AS (SELECT * FROM pg_catalog.aclexplode(CASE WHEN r.acl IS NULL THEN r.base ELSE nullif(r.acl, '{}')::pg_catalog.aclitem[] END))," \
	"     isnow AS (SELECT * FROM pg_catalog.aclexplode(CASE WHEN r.now_acl IS NULL THEN r.base ELSE nullif(r.now_acl, '{}')::pg_catalog.aclitem[] END))," \
	"     changes AS (SELECT 1 AS step, 'REVOKE' AS verb, x.* FROM (SELECT * FROM isnow EXCEPT SELECT * FROM was) AS x" \
	"                 UNION ALL SELECT 2, 'GRANT', x.* FROM (SELECT * FROM was EXCEPT SELECT * FROM isnow) AS x)" \
	"SELECT *, CASE verb WHEN 'GRANT' THEN ' TO ' ELSE ' FROM ' END ||" \
	"          CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END ||" \
	"          CASE WHEN verb = 'REVOKE' THEN ' CASCADE' WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS whom" \
	"  FROM changes ORDER BY step"

/*
 * Changes that back: rights is what zodan_kept_rights() has returned. What isn't
 * there any more is passed over, and so is what has come since, but for privileges
 * on the system's own objects.
 */
void
zodan_kept_restore_rights(ZodanConn *conn, const char *rights)
{
	static const char *const body =
	"DECLARE"
	"  before json := %s; after json := %s; r record; d record; noun text;"
	" BEGIN"
	"  FOR r IN"
	"    WITH w AS (SELECT * FROM pg_catalog.json_to_recordset(before -> 'objects')"
	"                 AS x(classid oid, objid oid, objsubid int, kind text, owner oid, acl text, comment text)),"
	"         n AS (SELECT * FROM pg_catalog.json_to_recordset(after -> 'objects')"
	"                 AS x(classid oid, objid oid, objsubid int, kind text, owner oid, acl text, comment text)),"
	"         b AS (SELECT classid, objid, objsubid, coalesce(w.kind, n.kind) AS kind, coalesce(w.owner, n.owner) AS owner, w.acl, w.comment,"
	"                      coalesce(n.owner, w.owner) AS now_owner, n.acl AS now_acl, n.comment AS now_comment"
	"                 FROM w FULL JOIN n USING (classid, objid, objsubid)"
	"                WHERE w.classid IS NOT NULL AND n.classid IS NOT NULL OR objid < 16384)"
	"    SELECT *, CASE WHEN kind IS NOT NULL THEN pg_catalog.acldefault(kind::\"char\", owner) END AS base FROM b"
	"     WHERE (owner, acl, comment) IS DISTINCT FROM (now_owner, now_acl, now_comment) LOOP"
	"    SELECT CASE r.kind WHEN 'n' THEN 'SCHEMA ' WHEN 's' THEN 'SEQUENCE ' WHEN 'r' THEN 'TABLE ' WHEN 'c' THEN 'TABLE ' WHEN 'f' THEN 'ROUTINE '"
	"                       WHEN 'T' THEN 'TYPE ' WHEN 'l' THEN 'LANGUAGE ' WHEN 'F' THEN 'FOREIGN DATA WRAPPER ' WHEN 'S' THEN 'FOREIGN SERVER '"
	"                       ELSE 'EXTENSION ' END || identity"
	"      INTO noun FROM pg_catalog.pg_identify_object(r.classid, r.objid, 0);"
	"    IF r.now_comment IS DISTINCT FROM r.comment THEN"
	"      EXECUTE pg_catalog.format('COMMENT ON %%s IS %%L', noun, r.comment);"
	"    END IF;"
	"    IF r.now_owner <> r.owner THEN"
	"      EXECUTE pg_catalog.format('ALTER %%s OWNER TO %%I', noun, pg_catalog.pg_get_userbyid(r.owner));"
	"      SELECT nspacl::text INTO r.now_acl FROM pg_catalog.pg_namespace WHERE oid = r.objid;"
	"    END IF;"
	"    CONTINUE WHEN r.kind IS NULL;"
	"    FOR d IN " ACL_CHANGES " LOOP"
	"      EXECUTE pg_catalog.format('SET LOCAL ROLE %%I', pg_catalog.pg_get_userbyid(d.grantor));"
	"      EXECUTE pg_catalog.format('%%s %%s%%s ON %%s%%s', d.verb, d.privilege_type,"
	"        CASE WHEN r.kind = 'c' THEN pg_catalog.format(' (%%I)', (SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = r.objid AND attnum = r.objsubid)) END,"
	"        noun, d.whom);"
	"      RESET ROLE;"
	"    END LOOP;"
	"  END LOOP;"
	"  FOR r IN"
	"    WITH w AS (SELECT * FROM pg_catalog.json_to_recordset(before -> 'defaults') AS x(owner oid, nsp oid, kind text, acl text)),"
	"         n AS (SELECT * FROM pg_catalog.json_to_recordset(after -> 'defaults') AS x(owner oid, nsp oid, kind text, acl text))"
	"    SELECT owner, nsp, kind, w.acl, n.acl AS now_acl, CASE WHEN nsp = 0 THEN"
	"             pg_catalog.acldefault(CASE kind WHEN 'S' THEN 's' ELSE kind END::\"char\", owner) END AS base"
	"      FROM w FULL JOIN n USING (owner, nsp, kind) WHERE w.acl IS DISTINCT FROM n.acl AND (nsp = 0 OR EXISTS"
	"             (SELECT FROM pg_catalog.pg_namespace s WHERE s.oid = nsp)) LOOP"
	"    FOR d IN " ACL_CHANGES " LOOP"
	"      EXECUTE pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %%I%%s %%s %%s ON %%s%%s', pg_catalog.pg_get_userbyid(r.owner),"
	"        (SELECT pg_catalog.format(' IN SCHEMA %%I', nspname) FROM pg_catalog.pg_namespace WHERE oid = r.nsp), d.verb, d.privilege_type,"
	"        CASE r.kind WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS'"
	"                    ELSE 'LARGE OBJECTS' END, d.whom);"
	"    END LOOP;"
	"  END LOOP;"
	" END";

	PQclear(zodan_query(conn, psprintf("DO %s", quote_literal_cstr(psprintf(body, quote_literal_cstr(rights), quote_literal_cstr(zodan_kept_rights(conn))))), 0));
}
