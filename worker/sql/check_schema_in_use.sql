-- Check schema_in_use: the new node has none of the schemas that have replicated tables
-- on the source. source: what check_schema_in_use_source.sql returns.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'schema ' || n.nspname,
       'no schema that has replicated tables on the source',
       'Drop the schema on the new node: it would be left out of the copy, tables and all.'
  FROM p, json_array_elements_text(source) AS x
  JOIN pg_catalog.pg_namespace n ON n.nspname = x
 WHERE n.nspname <> ALL (foreign_schemas::text[])
