-- For the check schema_in_use: the source's schemas that have replicated tables, but
-- for "public". A JSON array.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT coalesce(pg_catalog.json_agg(DISTINCT n.nspname), '[]')
  FROM {e}.replication_set_table t
  JOIN pg_catalog.pg_class c ON c.oid = t.set_reloid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname <> 'public'
