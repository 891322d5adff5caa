-- Check engine_settings: the engine's settings are the same on the new node as on the
-- source. source: what check_engine_settings_source.sql returns.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('%s = %s', g.name, g.setting),
       format('%s = %s, as on the source', s.key, s.value),
       'Make the setting the same on both.'
  FROM p, json_each_text(source) AS s
  JOIN pg_catalog.pg_settings g ON g.name = s.key
 WHERE g.setting <> s.value
