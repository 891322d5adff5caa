-- The tables that can be made before most else: their oids. A column's default that
-- needs one of the table's own sequences is no part of the table in a dump, since the
-- sequence needs the table.
--
-- Some things are needed that pg_depend doesn't know of: casts without a function of
-- their own, and what the elements of an array of regtype or the like name. And
-- sessions that don't see each other's types could choose the same name for that of
-- an array, which begins with "_" and has as many bytes as a name may have.
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH tables AS (
  SELECT oid
    FROM pg_catalog.pg_class
   WHERE relkind = 'r'
     AND oid >= 16384
     AND pg_catalog.left(relname, 1) <> '_'
     AND pg_catalog.octet_length(relname) < 63),
expressions AS (
  SELECT adrelid AS relid,
         'pg_catalog.pg_attrdef'::pg_catalog.regclass AS classid,
         oid AS objid,
         pg_catalog.pg_get_expr(adbin, adrelid) AS text
    FROM pg_catalog.pg_attrdef
   UNION ALL
  SELECT conrelid, 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, pg_catalog.pg_get_expr(conbin, conrelid)
    FROM pg_catalog.pg_constraint
   WHERE contype = 'c'
     AND conrelid <> 0),
parts AS (
  SELECT oid AS relid, 'pg_catalog.pg_class'::pg_catalog.regclass AS classid, oid AS objid
    FROM tables
   UNION ALL
  SELECT relid, classid, objid
    FROM expressions),
others AS (
  SELECT p.relid
    FROM parts p
    JOIN pg_catalog.pg_depend d USING (classid, objid)
   WHERE d.refclassid <> 'pg_catalog.pg_namespace'::pg_catalog.regclass
     AND (d.refclassid, d.refobjid) <> ('pg_catalog.pg_class'::pg_catalog.regclass, p.relid)
     AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_depend o
            WHERE o.classid = d.refclassid
              AND o.objid = d.refobjid
              AND (o.deptype = 'e'
                   OR p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
                      AND o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND o.refclassid = o.classid
                      AND o.refobjid = p.relid
                      AND o.deptype IN ('a', 'i'))))
SELECT oid
  FROM tables
EXCEPT
SELECT relid
  FROM others
EXCEPT
SELECT relid
  FROM expressions
 WHERE text IS NULL
    OR text ~ '::(pg_catalog\.)?reg[a-z]+\[\]'
    OR EXISTS (SELECT FROM pg_catalog.pg_cast c
                WHERE c.oid >= 16384
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                                   WHERE d.classid = 'pg_catalog.pg_cast'::pg_catalog.regclass
                                     AND d.objid = c.oid
                                     AND d.deptype = 'e'))
 ORDER BY 1
