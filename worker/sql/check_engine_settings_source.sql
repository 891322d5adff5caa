-- For the check engine_settings: those of the source. A JSON object, by name.
SELECT coalesce(pg_catalog.json_object_agg(name, setting), '{}')
  FROM pg_catalog.pg_settings
 WHERE name LIKE '{e}.%'
   AND name NOT LIKE '%.temp_directory'
