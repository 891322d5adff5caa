-- Which tables have rows to copy, which of their rows and columns, and in which
-- form: one JSON array of them, each with its indexes. A row that a filter of one of
-- the sets holds back isn't sent by the engine's stream either, whatever the other
-- sets say.
--
-- Binary COPY is faster, but sends the ids of types and objects, which aren't the
-- same elsewhere: composite types, arrays of anything that isn't built in, and what
-- refers to objects go as text.
--
-- A table that is truncated with its heirs has a family: the oldest of all that it
-- is connected with.
--
-- $1  the replication sets, text[]
-- $2  schemas that are left out, text[]
-- $3  those of the engine whose rows aren't copied, text[]
-- $4  does the engine's TRUNCATE empty the tables that inherit, too? boolean
-- %s  the engine's table_info; this is a format, hence the %%
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH RECURSIVE columns AS (
  SELECT t.set_reloid AS relid, t.row_filter, a.attnum, a.attname, a.atttypid
    FROM (SELECT t.set_reloid::oid AS set_reloid,
                 pg_catalog.string_agg('(' || pg_catalog.pg_get_expr(t.set_row_filter, t.set_reloid) || ')', ' AND '
                                       ORDER BY r.set_name) AS row_filter
            FROM {e}.replication_set_table t
            JOIN {e}.replication_set r USING (set_id)
            JOIN {e}.local_node l ON l.node_id = r.set_nodeid
           WHERE r.set_name = ANY ($1::text[])
           GROUP BY t.set_reloid) AS t
   CROSS JOIN LATERAL %s AS i
    LEFT JOIN pg_catalog.pg_attribute a
      ON a.attrelid = t.set_reloid
     AND a.attnum > 0
     AND NOT a.attisdropped
     AND a.attgenerated = ''
     AND a.attname = ANY (i.att_list)),
types AS (
  SELECT DISTINCT atttypid AS root, atttypid AS typid, false AS in_array
    FROM columns
   WHERE atttypid IS NOT NULL
   UNION
  SELECT x.root, n.typid, x.in_array OR n.in_array
    FROM types x
    JOIN pg_catalog.pg_type t ON t.oid = x.typid
   CROSS JOIN LATERAL (
          SELECT t.typbasetype, false
           WHERE t.typtype = 'd'
           UNION ALL
          SELECT t.typelem, true
           WHERE t.typelem <> 0
             AND t.typsend = 'pg_catalog.array_send'::regproc
           UNION ALL
          SELECT r.rngsubtype, false
            FROM pg_catalog.pg_range r
           WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) AS n(typid, in_array)),
forms AS (
  SELECT x.root,
         bool_and(t.typsend <> 0
                  AND t.typreceive <> 0
                  AND t.typtype <> 'c'
                  AND t.typcategory <> 'P'
                  AND t.oid <> ALL ('{regproc,regprocedure,regoper,regoperator,regclass,regtype,regrole,regnamespace,regconfig,regdictionary,regcollation}'::regtype[])
                  AND (NOT x.in_array OR t.oid < 16384)) AS fits
    FROM types x
    JOIN pg_catalog.pg_type t ON t.oid = x.typid
   GROUP BY x.root),
tables AS (
  SELECT c.relid,
         min(c.row_filter) AS row_filter,
         coalesce(bool_and(f.fits), true) AS binary_copy,
         pg_catalog.string_agg(pg_catalog.quote_ident(c.attname), ', ' ORDER BY c.attnum) AS columns
    FROM columns c
    LEFT JOIN forms f ON f.root = c.atttypid
   GROUP BY c.relid),
parents AS (
  SELECT h.inhrelid, h.inhparent
    FROM pg_catalog.pg_inherits h
    JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
   WHERE p.relkind = 'r'
     AND $4::boolean),
ancestors AS (
  SELECT inhrelid AS relid, inhparent AS ancestor
    FROM parents
   UNION
  SELECT a.relid, p.inhparent
    FROM ancestors a
    JOIN parents p ON p.inhrelid = a.ancestor),
roots AS (
  SELECT relid, ancestor AS root
    FROM ancestors
   WHERE ancestor NOT IN (SELECT inhrelid FROM parents)
   UNION
  SELECT ancestor, ancestor
    FROM ancestors
   WHERE ancestor NOT IN (SELECT inhrelid FROM parents)),
connected AS (
  SELECT root, root AS other
    FROM roots
   UNION
  SELECT c.root, o.root
    FROM connected c
    JOIN roots h ON h.root = c.other
    JOIN roots o ON o.relid = h.relid),
families AS (
  SELECT r.relid, min(c.other) AS family
    FROM roots r
    JOIN connected c USING (root)
   GROUP BY r.relid)
SELECT coalesce(pg_catalog.json_agg(j), '[]')
  FROM (
  SELECT n.nspname, k.relname, t.row_filter, t.columns, t.binary_copy, e.seeded,
         pg_catalog.pg_table_size(k.oid) AS bytes_total,
         pg_catalog.pg_relation_size(k.oid) / current_setting('block_size')::int AS pages,
         f.family, x.indexes
    FROM tables t
    JOIN pg_catalog.pg_class k ON k.oid = t.relid
    JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace
    LEFT JOIN families f ON f.relid = k.oid
   CROSS JOIN LATERAL (
          SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d
                          WHERE d.classid = 'pg_catalog.pg_class'::regclass
                            AND d.objid = k.oid
                            AND d.deptype = 'e') AS seeded) AS e
   CROSS JOIN LATERAL (
          SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                   'index_name', x.relname,
                   'index_oid', x.oid,
                   'constraint_oid', q.oid,
                   'key', CASE q.contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'u' THEN 'UNIQUE' END,
                   'access_method', (SELECT amname FROM pg_catalog.pg_am WHERE oid = x.relam),
                   'work', pg_catalog.pg_relation_size(x.oid) + pg_catalog.pg_relation_size(k.oid) / 6,
                   'collated', EXISTS (SELECT FROM pg_catalog.unnest(i.indcollation) AS u(c)
                                        WHERE u.c <> 0
                                          AND u.c <> '"C"'::regcollation),
                   'mark', pg_catalog.concat_ws(', ',
                             CASE WHEN i.indisclustered THEN pg_catalog.format('CLUSTER ON %%I', x.relname) END,
                             CASE WHEN i.indisreplident THEN pg_catalog.format('REPLICA IDENTITY USING INDEX %%I', x.relname) END),
                   'definition', pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(x.oid),
                                   '^CREATE (UNIQUE )?INDEX ', 'CREATE \1INDEX IF NOT EXISTS '))) AS indexes
            FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
            LEFT JOIN pg_catalog.pg_constraint q
              ON q.conindid = x.oid
             AND q.conrelid = k.oid
             AND q.contype IN ('p', 'u', 'x')
           WHERE i.indrelid = k.oid
             AND i.indisvalid
             AND NOT i.indisexclusion
             AND x.reltablespace = 0
             AND q.condeferrable IS NOT TRUE
             AND NOT e.seeded
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                              WHERE a.attrelid = x.oid
                                AND a.attstattarget >= 0)
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                              WHERE d.classid = 'pg_catalog.pg_class'::regclass
                                AND d.objid = x.oid
                                AND d.deptype IN ('e', 'x'))) AS x
   WHERE k.relkind = 'r'
     AND n.nspname <> ALL ($2::text[] || $3::text[])) AS j
