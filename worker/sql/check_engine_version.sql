-- Check engine_version: the engine is there, in a version that goes together with the
-- source's. source: that version, split at its dots.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT coalesce('{e} ' || x.extversion, 'no extension {e}'),
       format('{e} %s.%s.%s, or another patch level; on the new node not an older one', source ->> 0, source ->> 1, source ->> 2),
       'Install that version and CREATE EXTENSION {e}, or ALTER EXTENSION {e} UPDATE.'
  FROM p
  LEFT JOIN pg_catalog.pg_extension x ON x.extname = '{e}'
 WHERE x.extversion IS NULL
    OR split_part(x.extversion, '.', 1) <> source ->> 0
    OR split_part(x.extversion, '.', 2) <> source ->> 1
    OR (node = new_node
        AND (substring(split_part(x.extversion, '.', 3) FROM '^\d+'))::int < (substring(source ->> 2 FROM '^\d+'))::int)
