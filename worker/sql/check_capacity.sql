-- Check capacity: what the join adds fits in what the server has left.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('%s = %s, %s of them in use', x.name, x.total, x.used),
       format('%s more to be free', x.need),
       format('Set %s to %s or more and restart the server.', x.name, x.used + x.need)
  FROM (SELECT 'max_replication_slots' AS name,
               current_setting('max_replication_slots')::int AS total,
               (SELECT count(*) FROM pg_catalog.pg_replication_slots) AS used,
               need_slots AS need
          FROM p
         UNION ALL
        SELECT g.name,
               g.setting::int,
               (SELECT count(*) FROM pg_catalog.pg_replication_origin_status),
               need_origins
          FROM p, pg_catalog.pg_settings g
         WHERE g.name = CASE WHEN current_setting('server_version_num')::int < 180000 THEN 'max_replication_slots'
                             ELSE 'max_active_replication_origins' END
         UNION ALL
        SELECT 'max_wal_senders',
               current_setting('max_wal_senders')::int,
               (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walsender'),
               need_senders
          FROM p
         UNION ALL
        SELECT 'max_worker_processes',
               current_setting('max_worker_processes')::int,
               (SELECT count(*)
                  FROM pg_catalog.pg_stat_activity
                 WHERE backend_type NOT IN ('client backend', 'walsender', 'checkpointer', 'background writer', 'walwriter',
                                            'archiver', 'startup', 'walreceiver', 'autovacuum launcher', 'autovacuum worker',
                                            'logger', 'slotsync worker', 'walsummarizer', 'io worker', 'standalone backend')),
               need_workers
          FROM p) AS x
 WHERE x.total - x.used < x.need
