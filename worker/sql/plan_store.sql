-- Stores the tables and indexes that plan.sql has returned.
--
-- $1  the request's id
-- $2  what plan.sql has returned, jsonb
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH plan AS (
  SELECT *
    FROM jsonb_to_recordset($2::jsonb)
           AS t(nspname name, relname name, columns text, row_filter text, binary_copy boolean, seeded boolean,
                bytes_total bigint, pages bigint, family oid, indexes jsonb)),
tables AS (
  INSERT INTO zodan.copy_tables
         (request_id, nspname, relname, columns, row_filter, binary_copy, seeded, bytes_total, pages, family)
  SELECT $1::bigint, nspname, relname, columns, row_filter, binary_copy, seeded, bytes_total, pages, family
    FROM plan)
INSERT INTO zodan.copy_indexes
       (request_id, nspname, relname, index_name, index_oid, constraint_oid, key, mark, definition,
        access_method, work, collated)
SELECT $1::bigint, p.nspname, p.relname, x.index_name, x.index_oid, x.constraint_oid, x.key, nullif(x.mark, ''), x.definition,
       x.access_method, x.work, x.collated
  FROM plan p
 CROSS JOIN LATERAL jsonb_to_recordset(p.indexes)
         AS x(index_name name, index_oid oid, constraint_oid oid, key text, mark text, definition text,
              access_method name, work bigint, collated boolean)
