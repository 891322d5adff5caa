-- What a session begins with, behind the others, in which an engine's functions change
-- subscriptions or nodes. The last result is a row: whether the session has a temporary
-- schema, the number of its backend, and whether a session of this runner holds the lock
-- of the cluster there.
--
-- This is a format. What it is filled in with is, in this order:
--   how long a statement may take, in milliseconds
--   the first key of the cluster's lock
--   the same again
--   the first key of a process's lock
--   the number of this process, which is the second key
--
-- Copyright (c) 2026, the zodan_bgw authors
SET statement_timeout = %d;
SET client_connection_check_interval = '1s';
SELECT pg_catalog.pg_advisory_lock_shared(%d, 1);
SELECT pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0,
       pg_catalog.pg_backend_pid(),
       EXISTS (SELECT
                 FROM pg_catalog.pg_locks l
                 JOIN pg_catalog.pg_locks own USING (pid)
                WHERE l.locktype = 'advisory'
                  AND l.granted
                  AND l.objsubid = 2
                  AND l.classid = %d::pg_catalog.oid
                  AND l.objid = 0
                  AND l.database = (SELECT oid
                                      FROM pg_catalog.pg_database
                                     WHERE datname = pg_catalog.current_database())
                  AND own.locktype = 'advisory'
                  AND own.objsubid = 2
                  AND own.classid = %d::pg_catalog.oid
                  AND own.objid = %s)
