-- What a node offers to others: a row for each table, with the sets that it is in.
--
-- %s  the engine's schema, three times; this is a format, hence the %%
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('%%I.%%I', n.nspname, c.relname), array_agg(s.set_name::text)
  FROM %s.replication_set_table t
  JOIN %s.replication_set s USING (set_id)
  JOIN %s.local_node l ON l.node_id = s.set_nodeid
  JOIN pg_catalog.pg_class c ON c.oid = t.set_reloid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 GROUP BY n.nspname, c.relname
