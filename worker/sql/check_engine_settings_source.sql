-- For the check engine_settings: those of the source. A JSON object, by name.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT coalesce(pg_catalog.json_object_agg(name, setting), '{}')
  FROM pg_catalog.pg_settings
 WHERE name LIKE '{e}.%'
   AND name NOT LIKE '%.temp_directory'
