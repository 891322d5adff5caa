-- What a piece of WAL tells of the commits that start in [$2, $3), as far as records
-- from $1 on tell it: a row for each label, with the largest position of those that
-- have changed this database; and a row without a label, with where the first record
-- starts, and whether some commit's changes must be further back than $1. A label
-- alone doesn't tell: other databases of the server write to the same WAL. The commit
-- of a prepared transaction has its id in the description, and in its header 0, as
-- vacuum's changes have, which are nobody's.
--
-- $1  from where changes of these commits are looked for, pg_lsn
-- $2  where the piece begins, pg_lsn
-- $3  where it ends, pg_lsn
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH r AS MATERIALIZED (
  SELECT *
    FROM zodan_wal_records($1::pg_catalog.pg_lsn, $3::pg_catalog.pg_lsn)),
touched AS (
  SELECT xid::text, pg_catalog.bool_or(block_ref LIKE '%/' || d.oid || '/%') AS here
    FROM r, pg_catalog.pg_database d
   WHERE d.datname = pg_catalog.current_database()
     AND block_ref LIKE '%rel %'
     AND xid::text <> '0'
   GROUP BY xid::text),
commits AS (
  SELECT coalesce((pg_catalog.regexp_match(description, '^(\d+): '))[1], xid::text) AS top,
         pg_catalog.regexp_match(description, 'origin: node (\d+), lsn ([0-9A-F]+/[0-9A-F]+)') AS m,
         pg_catalog.regexp_match(description, 'subxacts:((?: \d+)+)') AS subs
    FROM r
   WHERE resource_manager = 'Transaction'
     AND record_type LIKE 'COMMIT%'
     AND start_lsn >= $2::pg_catalog.pg_lsn),
labelled AS (
  SELECT c.m[1] AS label, c.m[2]::pg_catalog.pg_lsn AS lsn, pg_catalog.bool_or(t.here) AS here
    FROM commits c
   CROSS JOIN LATERAL pg_catalog.unnest(c.top || pg_catalog.string_to_array(pg_catalog.ltrim(coalesce(c.subs[1], '')), ' ')) AS x(xid)
    LEFT JOIN touched t ON t.xid = x.xid
   WHERE c.m IS NOT NULL
     AND c.m[2]::pg_catalog.pg_lsn <> '0/0'::pg_catalog.pg_lsn
   GROUP BY c.top, c.m)
SELECT NULL AS label, pg_catalog.min(start_lsn), EXISTS (SELECT FROM labelled WHERE here IS NULL)
  FROM r
 WHERE start_lsn >= $2::pg_catalog.pg_lsn
 UNION ALL
SELECT label, pg_catalog.max(lsn), false
  FROM labelled
 WHERE here
 GROUP BY label
