-- Rows that are looked at again: the number of the key, what tells the version of the
-- row from every other, two hashes of it, and those of its columns; may a transaction that
-- is under way have changed it?
--
-- $1  the keys, text[]
-- %s  of the table: hashes, row, name, match, filter; see tables_left.sql
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT q.zodan_n, r.version,
       pg_catalog.concat(pg_catalog.hashtextextended(r.r COLLATE pg_catalog."C", 0), '/',
                         pg_catalog.hashtextextended(r.r COLLATE pg_catalog."C", 1)), r.columns, r.changing
  FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS q(zodan_key, zodan_n)
 CROSS JOIN LATERAL (
        SELECT pg_catalog.concat(x.xmin, ' ', x.ctid) AS version, x.xmax::text <> '0' AS changing,
               %s AS columns, %s AS r
          FROM ONLY %s AS x
         WHERE %s
           AND (%s)
        OFFSET 0) AS r
