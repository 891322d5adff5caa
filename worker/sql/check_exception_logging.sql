-- Check exception_logging: what the engine discards is noted, so that a join notices it.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('%s = none', name),
       'another value, so that changes that are discarded are noted in {e}.exception_log',
       format('Set %s to ''all'' or ''discard'' in postgresql.conf, and reload.', name)
  FROM pg_catalog.pg_settings
 WHERE name = '{e}.exception_logging'
   AND setting = 'none'
