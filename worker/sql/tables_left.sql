-- The tables of a verification that aren't done, or whose suspects aren't, the largest
-- first, with parts of statements about their rows, which have the table as x:
--
--   names     schema and name; both, quoted
--   row       a row as text
--   hashes    an array of the hashes of its columns
--   key       its key as an array of text; NULL: it has none
--   sort      the columns of its key
--   after     is it behind the key $1? Behind none if that is NULL
--   upto      is its key $2, or before that? So are all if that is NULL
--   match     is its key q.zodan_key?
--   filter    is it replicated?
--
-- $1  the request's id
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT t.nspname, t.relname, format('%I.%I', t.nspname, t.relname),
       format('ROW(%s)::pg_catalog.text', c.list),
       format('ARRAY[%s]::pg_catalog.text[]', c.hashes),
       CASE WHEN t.key IS NOT NULL THEN format('ARRAY[%s]::pg_catalog.text[]', k.texts) END,
       k.list,
       format('($1::pg_catalog.text[] IS NULL OR ROW(%s) > ROW(%s))', k.list, replace(k.bounds, 'zodan_bound', '$1::pg_catalog.text[]')),
       format('($2::pg_catalog.text[] IS NULL OR ROW(%s) <= ROW(%s))', k.list, replace(k.bounds, 'zodan_bound', '$2::pg_catalog.text[]')),
       k.matches,
       coalesce(t.row_filter, 'true'),
       t.state = 'compared', t.last_key, t.rows_compared, t.rows_expected, t.bytes_total
  FROM zodan.verify_tables t
 CROSS JOIN LATERAL (
        SELECT coalesce(string_agg(format('x.%I', name), ', ' ORDER BY n), '') AS list,
               string_agg(format('pg_catalog.hashtextextended(x.%I::pg_catalog.text COLLATE pg_catalog."C", 0)', name), ', ' ORDER BY n) AS hashes
          FROM unnest(t.columns) WITH ORDINALITY AS u(name, n)) AS c
 CROSS JOIN LATERAL (
        SELECT string_agg(format('x.%I', name), ', ' ORDER BY n) AS list,
               string_agg(format('x.%I::pg_catalog.text', name), ', ' ORDER BY n) AS texts,
               string_agg(format('(zodan_bound)[%s]::%s', n, type), ', ' ORDER BY n) AS bounds,
               string_agg(format('x.%I = (q.zodan_key::pg_catalog.text[])[%s]::%s', name, n, type), ' AND ' ORDER BY n) AS matches
          FROM unnest(t.key, t.types) WITH ORDINALITY AS u(name, type, n)) AS k
 WHERE t.request_id = $1::bigint
   AND (t.state <> 'compared' OR EXISTS (SELECT FROM zodan.verify_suspects s
                                          WHERE s.request_id = t.request_id
                                            AND s.nspname = t.nspname
                                            AND s.relname = t.relname))
 ORDER BY t.bytes_total DESC, t.nspname, t.relname
