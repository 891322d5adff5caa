-- The rows of a block: their keys, and two hashes of each.
--
-- $1  the key behind which it begins, text[]; NULL: at the first row
-- $2  its last key, text[]; NULL: it is the last block
-- %s  of the table: key, row, name, after, upto, filter; see tables_left.sql
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT k, pg_catalog.concat(pg_catalog.hashtextextended(r COLLATE pg_catalog."C", 0), '/',
                            pg_catalog.hashtextextended(r COLLATE pg_catalog."C", 1))
  FROM (SELECT %s AS k, %s AS r
          FROM ONLY %s AS x
         WHERE %s
           AND %s
           AND (%s)
        OFFSET 0) AS rows
