-- Stores the tables that tables.sql has returned.
--
-- $1  the request's id
-- $2  what tables.sql has returned, jsonb
--
-- Copyright (c) 2026, the zodan_bgw authors
INSERT INTO zodan.verify_tables
       (request_id, nspname, relname, row_filter, columns, key, types, bytes_total, rows_expected)
SELECT $1::bigint, nspname, relname, row_filter, columns, key, types, bytes, rows
  FROM jsonb_to_recordset($2::jsonb)
         AS t(nspname name, relname name, row_filter text, columns text[], key text[], types text[],
              bytes bigint, rows bigint)
