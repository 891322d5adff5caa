-- The rows of some parts of a table without a key: two hashes of each row that there
-- is, and how often there is it.
--
-- $1  the number of parts, less one: a power of two, less one
-- $2  the parts, text[]
-- %s  of the table: row, name, filter; see tables_left.sql
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT pg_catalog.concat(h, '/', pg_catalog.hashtextextended(r COLLATE pg_catalog."C", 1)), count(*)
  FROM (SELECT r, pg_catalog.hashtextextended(r COLLATE pg_catalog."C", 0) AS h
          FROM (SELECT %s AS r
                  FROM ONLY %s AS x
                 WHERE (%s)
                OFFSET 0) AS rows
        OFFSET 0) AS hashes
 WHERE (h & $1::bigint)::text = ANY ($2::text[])
 GROUP BY 1
