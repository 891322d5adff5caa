-- Check output_plugin_libraries: where there is a list of them, it has the engine's.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('output_plugin_libraries = %s', quote_literal(g.setting)),
       'a list with ' || plugin,
       format('Add %s to output_plugin_libraries and reload the server.', plugin)
  FROM p, pg_catalog.pg_settings g
 WHERE g.name = 'output_plugin_libraries'
   AND NOT EXISTS (SELECT FROM regexp_split_to_table(g.setting, ',') AS x
                    WHERE trim(x, ' "') IN (plugin, '$libdir/' || plugin))
