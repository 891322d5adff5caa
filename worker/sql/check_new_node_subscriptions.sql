-- Check new_node_subscriptions: the new node has none.
SELECT 'subscription ' || sub_name,
       'none',
       'Drop it on the new node.'
  FROM {e}.subscription
