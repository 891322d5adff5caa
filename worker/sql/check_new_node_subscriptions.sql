-- Check new_node_subscriptions: the new node has none.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'subscription ' || sub_name,
       'none',
       'Drop it on the new node.'
  FROM {e}.subscription
