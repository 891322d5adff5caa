-- Check extensions: the new node's server has the source's. source: their names.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'no extension ' || x,
       'every extension of the source being available',
       'Install its package on the new node.'
  FROM p, json_array_elements_text(source) AS x
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_available_extensions a
                    WHERE a.name = x)
