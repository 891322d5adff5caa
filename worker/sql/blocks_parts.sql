-- The rows of a table without a key, in parts by their hash: the part, and how many
-- rows it has with the sum of their hashes.
--
-- $1  the number of parts, less one: a power of two, less one
-- %s  of the table: row, name, filter; see tables_left.sql
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT h & $1::bigint, pg_catalog.concat(count(*), '/', sum(h))
  FROM (SELECT pg_catalog.hashtextextended(%s COLLATE pg_catalog."C", 0) AS h
          FROM ONLY %s AS x
         WHERE (%s)
        OFFSET 0) AS hashes
 GROUP BY 1
