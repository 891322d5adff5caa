-- The ANALYZE statements for tables whose statistics could not be complete when their
-- rows had come: parents, tables with extended statistics, tables with an index on an
-- expression that has no statistics yet.
--
-- $1  the engine's schemas, text[]
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT pg_catalog.format('ANALYZE %I.%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname <> ALL ($1::text[] || '{pg_catalog,information_schema,zodan}'::text[])
   AND (c.relkind IN ('r', 'p') AND c.relhassubclass
        OR c.relkind = 'r'
           AND c.reltuples > 0
           AND (EXISTS (SELECT FROM pg_catalog.pg_statistic_ext e
                         WHERE e.stxrelid = c.oid)
                OR EXISTS (SELECT FROM pg_catalog.pg_index i
                            WHERE i.indrelid = c.oid
                              AND i.indexprs IS NOT NULL
                              AND NOT EXISTS (SELECT FROM pg_catalog.pg_statistic s
                                               WHERE s.starelid = i.indexrelid))))
 ORDER BY 1
