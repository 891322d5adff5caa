-- Check setting: those that replication needs.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('%s = %s', g.name, g.setting),
       format('%s = %s', x.name, x.wanted),
       format('Set %s = %s and restart the server.', x.name, x.wanted)
  FROM (VALUES ('wal_level', 'logical'), ('track_commit_timestamp', 'on')) AS x(name, wanted)
  JOIN pg_catalog.pg_settings g ON g.name = x.name
 WHERE g.setting <> x.wanted
