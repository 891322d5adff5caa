-- What a restore may change of what is there: the owner, privileges and comment of
-- "public", comments on extensions, privileges on their members and on the system's
-- own objects ("objects"), and default privileges ("defaults"). One JSON object.
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH members AS (
  SELECT classid, objid
    FROM pg_catalog.pg_depend
   WHERE deptype = 'e'),
all_of(classid, objid, objsubid, kind, owner, acl) AS (
  SELECT tableoid, oid, 0, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END, relowner, relacl
    FROM pg_catalog.pg_class
   WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
   UNION ALL
  SELECT c.tableoid, c.oid, t.attnum, 'c', c.relowner, t.attacl
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
     AND t.attnum > 0
     AND NOT t.attisdropped
   UNION ALL
  SELECT tableoid, oid, 0, 'f', proowner, proacl
    FROM pg_catalog.pg_proc
   UNION ALL
  SELECT tableoid, oid, 0, 'T', typowner, typacl
    FROM pg_catalog.pg_type
   WHERE typcategory <> 'A'
   UNION ALL
  SELECT tableoid, oid, 0, 'n', nspowner, nspacl
    FROM pg_catalog.pg_namespace
   WHERE nspname <> 'public'
   UNION ALL
  SELECT tableoid, oid, 0, 'l', lanowner, lanacl
    FROM pg_catalog.pg_language
   UNION ALL
  SELECT tableoid, oid, 0, 'F', fdwowner, fdwacl
    FROM pg_catalog.pg_foreign_data_wrapper
   UNION ALL
  SELECT tableoid, oid, 0, 'S', srvowner, srvacl
    FROM pg_catalog.pg_foreign_server),
o(classid, objid, objsubid, kind, owner, acl, comment) AS (
  SELECT tableoid, oid, 0, 'n', nspowner, nspacl, pg_catalog.obj_description(oid, 'pg_namespace')
    FROM pg_catalog.pg_namespace
   WHERE nspname = 'public'
   UNION ALL
  SELECT tableoid, oid, 0, NULL, NULL, NULL, pg_catalog.obj_description(oid, 'pg_extension')
    FROM pg_catalog.pg_extension
   UNION ALL
  SELECT a.*, NULL
    FROM all_of a
   WHERE a.objid < 16384 AND a.acl IS NOT NULL
      OR (a.classid, a.objid) IN (SELECT classid, objid FROM members))
SELECT pg_catalog.json_build_object(
         'objects', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
                              'classid', classid::int8,
                              'objid', objid::int8,
                              'objsubid', objsubid,
                              'kind', kind,
                              'owner', owner::int8,
                              'acl', acl::text,
                              'comment', comment))
                       FROM o),
         'defaults', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                               'owner', defaclrole::int8,
                               'nsp', defaclnamespace::int8,
                               'kind', defaclobjtype,
                               'acl', defaclacl::text)), '[]')
                        FROM pg_catalog.pg_default_acl))
