-- Transactions that may have changed rows of a table, and haven't ended.
--
-- $1  the table
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT virtualtransaction
  FROM pg_catalog.pg_locks
 WHERE locktype = 'relation'
   AND granted
   AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND relation = $1::regclass
   AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
