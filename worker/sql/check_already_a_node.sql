-- Check already_a_node: the database that is to be the new node isn't one yet.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'node ' || n.node_name,
       'a database that is not a node yet',
       'Correct new_node_dsn, or drop the node there first.'
  FROM {e}.local_node l
  JOIN {e}.node n USING (node_id)
