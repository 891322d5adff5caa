-- Check new_node_sets: the new node has no replication sets.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'replication set ' || set_name,
       'none',
       'Drop it on the new node.'
  FROM {e}.replication_set
