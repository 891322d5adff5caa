-- Check name_in_use: no node has the new node's name, or the id that is made of it.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('node %s (id %s)', n.node_name, n.node_id),
       format('no node %s, and none with its id %s', new_node, {node_id}),
       CASE WHEN n.node_name = new_node THEN 'Remove that node from the cluster, or choose another name.'
            ELSE 'Choose another name for the new node.' END
  FROM {e}.node n, p
 WHERE n.node_name = new_node
    OR n.node_id::text = {node_id}
