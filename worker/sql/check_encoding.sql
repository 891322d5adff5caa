-- Check encoding: the new node's database has the source's. source: its name.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT current_setting('server_encoding'),
       source #>> '{}',
       'Create the new node''s database with the source''s encoding.'
  FROM p
 WHERE current_setting('server_encoding') <> source #>> '{}'
