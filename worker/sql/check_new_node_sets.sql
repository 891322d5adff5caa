-- Check new_node_sets: the new node has no replication sets.
SELECT 'replication set ' || set_name,
       'none',
       'Drop it on the new node.'
  FROM {e}.replication_set
