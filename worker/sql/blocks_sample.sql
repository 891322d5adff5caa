-- Keys of a table, chosen by chance.
--
-- $1  of how much of the table, in percent
-- $2  how many
-- %s  of the table: key, name; see tables_left.sql
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT %s
  FROM ONLY %s AS x TABLESAMPLE SYSTEM ($1::float8)
 ORDER BY pg_catalog.random()
 LIMIT $2::bigint
