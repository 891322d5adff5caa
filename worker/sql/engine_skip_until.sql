-- Tells a subscription which tables it has to skip up to which position, whatever it
-- was told before. It skips partitioned tables up to the last of these.
--
-- $1  the subscription's name
-- $2  the tables: a JSON array of {nspname, relname, lsn}
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH given AS (
  SELECT *
    FROM pg_catalog.json_to_recordset($2::json)
           AS t(nspname pg_catalog.name, relname pg_catalog.name, lsn pg_catalog.pg_lsn)),
tables AS (
  SELECT *
    FROM given
   UNION ALL
  SELECT n.nspname, c.relname, (SELECT pg_catalog.max(lsn) FROM given)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind = 'p'
     AND c.relpersistence <> 't')
INSERT INTO {e}.local_sync_status
       (sync_kind, sync_subid, sync_nspname, sync_relname, sync_status, sync_statuslsn)
SELECT 'd', s.sub_id, t.nspname, t.relname, 'y', t.lsn
  FROM {e}.subscription s, tables t
 WHERE s.sub_name = $1
    ON CONFLICT (sync_subid, sync_nspname, sync_relname)
    DO UPDATE SET sync_status = 'y', sync_statuslsn = excluded.sync_statuslsn
