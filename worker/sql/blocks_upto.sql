-- The last key of a block.
--
-- $1  the key behind which it begins, text[]; NULL: at the first row
-- $2  the number of its rows, less one
-- %s  of the table: key, name, after, sort; see tables_left.sql
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT %s
  FROM ONLY %s AS x
 WHERE %s
 ORDER BY %s
OFFSET $2::bigint
 LIMIT 1
