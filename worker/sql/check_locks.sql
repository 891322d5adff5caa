-- Check locks: pg_dump locks all tables in one transaction; pg_restore may make, and an
-- undo drops, all relations in one. source: what check_locks_source.sql returns.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('room for %s locks (max_locks_per_transaction = %s)', x.locks * x.backends, x.locks),
       format('room for %s, as many as there are %s', x.need, x.what),
       format('Set max_locks_per_transaction to %s or more and restart the server.', (x.need + x.backends - 1) / x.backends)
  FROM (SELECT current_setting('max_locks_per_transaction')::bigint AS locks,
               (SELECT sum(setting::bigint)::bigint
                  FROM pg_catalog.pg_settings
                 WHERE name IN ('max_connections', 'max_prepared_transactions', 'max_worker_processes', 'max_wal_senders',
                                'autovacuum_worker_slots')
                    OR (name = 'autovacuum_max_workers'
                        AND current_setting('server_version_num')::int < 180000)) AS backends,
               (source ->> CASE WHEN node = new_node THEN 'relations' ELSE 'tables' END)::bigint AS need,
               CASE WHEN node = new_node THEN 'tables, indexes, views and sequences on the source'
                    ELSE 'tables and views' END AS what
          FROM p) AS x
 WHERE x.locks * x.backends < x.need
