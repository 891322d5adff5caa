-- Check idle_slots: the server drops none. A join's slots are read late, some never.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('idle_replication_slot_timeout = %s', current_setting(name)),
       '0',
       'Set idle_replication_slot_timeout = 0 until the node has joined, and reload the server.'
  FROM pg_catalog.pg_settings
 WHERE name = 'idle_replication_slot_timeout'
   AND setting <> '0'
