-- A block of a table: how many rows, and the sum of their hashes.
--
-- $1  the key behind which it begins, text[]; NULL: at the first row
-- $2  its last key, text[]; NULL: it is the last block
-- %s  of the table: row, name, after, upto, filter; see tables_left.sql
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT count(*),
       coalesce(sum(pg_catalog.hashtextextended(%s COLLATE pg_catalog."C", 0)), 0)
  FROM ONLY %s AS x
 WHERE %s
   AND %s
   AND (%s)
