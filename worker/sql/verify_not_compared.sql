-- Tables that a node replicates, and the source doesn't.
--
-- $1  the replication sets that are taken from the node, text[]
-- $2  the source's tables, text[]
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT pg_catalog.string_agg(DISTINCT format('%I.%I', n.nspname, c.relname), ', ')
  FROM {e}.replication_set_table t
  JOIN {e}.replication_set r USING (set_id)
  JOIN {e}.local_node l ON l.node_id = r.set_nodeid
  JOIN pg_catalog.pg_class c ON c.oid = t.set_reloid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE r.set_name = ANY ($1::text[])
   AND c.relkind = 'r'
   AND format('%I.%I', n.nspname, c.relname) <> ALL ($2::text[])
