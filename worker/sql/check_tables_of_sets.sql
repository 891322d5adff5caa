-- Check tables_of_sets: no peer replicates a table that the source doesn't. source: the
-- names of the source's, in the sets that are taken from it.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT DISTINCT 'replicated table ' || x.name,
       'no table that the source does not replicate',
       'Add the table to the same replication set on the source, or remove it here: its rows are copied from the source.'
  FROM p, ({published}) AS x(name, sets)
 WHERE x.sets && p.sets
   AND NOT EXISTS (SELECT FROM json_array_elements_text(source) AS s
                    WHERE s = x.name)
