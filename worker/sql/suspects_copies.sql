-- The same of a table without a key: the version is that of all equal rows, and there
-- is a count of them instead of hashes.
--
-- $1  the keys: two hashes of a row each, text[]
-- %s  of the table: row, name, filter; see tables_left.sql
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT q.zodan_n, pg_catalog.string_agg(rows.version, ', ' ORDER BY rows.version), count(*), NULL, true
  FROM (SELECT pg_catalog.concat(x.xmin, ' ', x.ctid) AS version, %s AS r
          FROM ONLY %s AS x
         WHERE (%s)
        OFFSET 0) AS rows
  JOIN pg_catalog.unnest($1::text[]) WITH ORDINALITY AS q(zodan_key, zodan_n)
    ON q.zodan_key = pg_catalog.concat(pg_catalog.hashtextextended(rows.r COLLATE pg_catalog."C", 0), '/',
                                       pg_catalog.hashtextextended(rows.r COLLATE pg_catalog."C", 1))
 GROUP BY q.zodan_n
