-- How much there is to do with the tables of the plan, and how much of that is done. One
-- row: tables, those that are copied, their bytes on the source, those of tables that are
-- copied, bytes and rows that went through COPY, the work of finishing all tables, of
-- those that are finished.
--
-- $1  the request's id
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT count(*),
       count(*) FILTER (WHERE state = 'copied'),
       coalesce(sum(bytes_total), 0),
       coalesce(sum(bytes_total) FILTER (WHERE state = 'copied'), 0),
       coalesce(sum(bytes_copied), 0),
       coalesce(sum(rows_copied), 0),
       coalesce(sum({FINISH_WORK}), 0),
       coalesce(sum({FINISH_WORK}) FILTER (WHERE built_at IS NOT NULL), 0)
  FROM zodan.copy_tables
 WHERE request_id = $1::bigint
