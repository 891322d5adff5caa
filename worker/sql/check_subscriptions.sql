-- Check subscriptions: each existing node has one subscription to each other, which
-- replicates, and forwards nothing. One that is enabled may get going by itself.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'no subscription to node ' || m,
       'every node subscribing to every other',
       'Create the missing subscription, or remove a node that is gone.',
       false
  FROM p, unnest(members) AS m
 WHERE m <> node
   AND NOT EXISTS (SELECT FROM {e}.subscription s
                     JOIN {e}.node n ON n.node_id = s.sub_origin
                    WHERE n.node_name = m)
 UNION ALL
SELECT format('subscription %s is %s', s.sub_name,
              CASE WHEN s.sub_enabled THEN coalesce(t.status, 'unknown') ELSE 'disabled' END),
       'replicating',
       'Enable it, or look for the errors of its worker in the server log of this node.',
       s.sub_enabled
  FROM {e}.subscription s
  LEFT JOIN ({status}) AS t(name, status) ON t.name = s.sub_name
 WHERE NOT s.sub_enabled
    OR t.status IS DISTINCT FROM 'replicating'
 UNION ALL
SELECT format('%s subscriptions to node %s: %s', count(*), n.node_name,
              string_agg(s.sub_name, ', ' ORDER BY s.sub_name)),
       'one subscription to each node',
       'Add the replication sets of all to one of them, and drop the others.',
       false
  FROM {e}.subscription s
  JOIN {e}.node n ON n.node_id = s.sub_origin
 GROUP BY n.node_name
HAVING count(*) > 1
 UNION ALL
SELECT format('subscription %s with forward_origins %s', s.sub_name, s.sub_forward_origins),
       'forward_origins {}',
       'Make the subscription again with forward_origins {}: every node gets each change from where it was made.',
       false
  FROM {e}.subscription s
 WHERE s.sub_forward_origins <> '{}'
