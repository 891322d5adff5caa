-- Check postgresql_major: the new node's server isn't older than the source's, whose
-- dump it has to take. source: the source's major version.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'PostgreSQL ' || current_setting('server_version'),
       format('PostgreSQL %s or newer, as on the source', source),
       'Install that version on the new node.'
  FROM p
 WHERE current_setting('server_version_num')::int / 10000 < source::text::int
