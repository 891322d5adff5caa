-- The tables that are replicated, with what it takes to compare them: one JSON array.
-- A table has a key if its rows can be found and sorted by one with operators of
-- pg_catalog, which don't depend on the search path.
--
-- $1  the replication sets, text[]
-- %s  the engine's table_info; this is a format
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH published AS (
  SELECT t.set_reloid,
         pg_catalog.string_agg('(' || pg_catalog.pg_get_expr(t.set_row_filter, t.set_reloid) || ')', ' AND '
                               ORDER BY r.set_name) AS row_filter
    FROM {e}.replication_set_table t
    JOIN {e}.replication_set r USING (set_id)
    JOIN {e}.local_node l ON l.node_id = r.set_nodeid
   WHERE r.set_name = ANY ($1::text[])
   GROUP BY t.set_reloid),
tables AS (
  SELECT t.set_reloid::oid AS relid, t.row_filter,
         (SELECT pg_catalog.array_agg(a.attname ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = t.set_reloid
             AND a.attnum > 0
             AND NOT a.attisdropped
             AND a.attgenerated = ''
             AND a.attname = ANY (i.att_list)) AS columns
    FROM published t
   CROSS JOIN LATERAL %s AS i)
SELECT coalesce(pg_catalog.json_agg(j ORDER BY j.bytes DESC, j.nspname, j.relname), '[]')
  FROM (
  SELECT n.nspname, c.relname, t.row_filter, coalesce(t.columns, '{}') AS columns,
         CASE WHEN k.sortable THEN k.key END AS key,
         CASE WHEN k.sortable THEN k.types END AS types,
         s.bytes,
         CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint ELSE s.bytes / 100 END AS rows
    FROM tables t
    JOIN pg_catalog.pg_class c ON c.oid = t.relid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   CROSS JOIN LATERAL pg_catalog.pg_table_size(c.oid) AS s(bytes)
    LEFT JOIN LATERAL (
           SELECT pg_catalog.array_agg(a.attname ORDER BY u.ord) AS key,
                  pg_catalog.array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY u.ord) AS types,
                  bool_and(b.typnamespace = 'pg_catalog'::regnamespace OR b.typtype = 'e') AS sortable
             FROM pg_catalog.pg_index x
            CROSS JOIN LATERAL pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY AS u(attnum, ord)
             JOIN pg_catalog.pg_attribute a
               ON a.attrelid = x.indrelid
              AND a.attnum = u.attnum
            CROSS JOIN LATERAL (
                   WITH RECURSIVE base AS (
                     SELECT y.typnamespace, y.typtype, y.typbasetype
                       FROM pg_catalog.pg_type y
                      WHERE y.oid = a.atttypid
                      UNION ALL
                     SELECT y.typnamespace, y.typtype, y.typbasetype
                       FROM base
                       JOIN pg_catalog.pg_type y ON y.oid = base.typbasetype)
                   SELECT typnamespace, typtype
                     FROM base
                    WHERE typtype <> 'd') AS b
            WHERE x.indrelid = c.oid
              AND x.indisvalid
              AND u.ord <= x.indnkeyatts
              AND CASE c.relreplident WHEN 'i' THEN x.indisreplident ELSE x.indisprimary END
            GROUP BY x.indexrelid) AS k ON true
   WHERE c.relkind = 'r') AS j
