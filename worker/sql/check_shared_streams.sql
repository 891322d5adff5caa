-- Check shared_streams: no slot has a name for which the engine splits one stream.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'slot ' || s.slot_name,
       'a name that does not end in an underscore and digits',
       'Make its subscription again under another name: the engine splits one stream among slots so named.'
  FROM pg_catalog.pg_replication_slots s, p
 WHERE s.plugin = p.plugin
   AND s.database = current_database()
   AND s.slot_name ~ '{trapped}'
