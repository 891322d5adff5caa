-- For the check locks: how many tables and how many relations the source has. A JSON
-- object.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT pg_catalog.json_build_object(
         'tables', count(*) FILTER (WHERE relkind IN ('r', 'p', 'f', 'v', 'm')),
         'relations', count(*))
  FROM pg_catalog.pg_class
 WHERE oid >= 16384
