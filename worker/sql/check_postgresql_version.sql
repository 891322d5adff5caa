-- Check postgresql_version: the server is of a version in which all works.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'PostgreSQL ' || current_setting('server_version'),
       'PostgreSQL 15.13 or newer',
       'Upgrade the server.'
  FROM p
 WHERE current_setting('server_version_num')::int < 150013
