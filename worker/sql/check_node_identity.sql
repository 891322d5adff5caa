-- Check node_identity: the DSN of an existing node leads to that node.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT coalesce('node ' || n.node_name, 'no node'),
       'node ' || node,
       'Correct the node''s name or its DSN.'
  FROM p
  LEFT JOIN {e}.local_node l ON true
  LEFT JOIN {e}.node n ON n.node_id = l.node_id
 WHERE n.node_name IS DISTINCT FROM node
