-- Check leftover_origins: there are no origins of the names that the join gives.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'origin ' || o.roname,
       'none of that name',
       format('SELECT pg_replication_origin_drop(%L) on this node.', o.roname)
  FROM pg_catalog.pg_replication_origin o, p
 WHERE o.roname = ANY (origins)
