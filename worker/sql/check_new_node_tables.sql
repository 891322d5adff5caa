-- Check new_node_tables: the new node has no tables, and no rows in those of the
-- engine's schemas that are copied. At most 20 are named.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('table %I.%I', n.nspname, c.relname),
       'an empty database',
       'Drop the table, or use another database: its rows would mix with the source''s.'
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, p
 WHERE c.relkind IN ('r', 'p', 'f', 'm')
   AND n.nspname !~ '^pg_'
   AND n.nspname <> 'information_schema'
   AND n.nspname <> ALL (foreign_schemas::text[])
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass
                      AND d.objid = c.oid
                      AND d.deptype = 'e')
 UNION ALL
SELECT format('rows in %s', c.oid::regclass),
       'an empty table',
       'Empty it: the source''s rows take their place.'
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, p
 WHERE c.relkind = 'r'
   AND n.nspname = ANY (foreign_schemas::text[])
   AND n.nspname <> ALL ('{uncopied}'::text[])
   AND pg_catalog.pg_relation_size(c.oid) > 0
 ORDER BY 1
 LIMIT 20
