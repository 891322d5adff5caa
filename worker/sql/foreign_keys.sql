-- The foreign keys of a node, a row each: the table, the table it refers to, the key's
-- name, its definition, whether existing rows were checked, whether the table is
-- partitioned. Those of partitions that come with their table's are not among them.
--
-- $1  schemas that are left out, text[]
-- $2  the engine's schemas, text[]
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
       pg_catalog.format('%I.%I', rn.nspname, r.relname),
       pg_catalog.quote_ident(k.conname),
       pg_catalog.pg_get_constraintdef(k.oid),
       k.convalidated,
       c.relkind = 'p'
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class r ON r.oid = k.confrelid
  JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
 WHERE k.contype = 'f'
   AND k.conparentid = 0
   AND n.nspname <> ALL ($1::text[] || $2::text[] || '{zodan,pg_catalog,information_schema}'::text[])
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY 1, 3
