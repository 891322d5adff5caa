-- The other nodes that a node knows, each with the subscription to it, a row each: the
-- node's name, the subscription's, is it enabled, its status, its slot, the node's DSN.
-- A node without a subscription has a row, too.
--
-- $1  names of nodes and subscriptions that requests are about just now, text[]
-- %s  the engine's sub_status; this is a format
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT p.node_name, s.sub_name, s.sub_enabled, x.status, s.sub_slot_name, i.if_dsn
  FROM {e}.node p
  LEFT JOIN {e}.subscription s ON s.sub_origin = p.node_id
  LEFT JOIN {e}.node_interface i ON i.if_id = s.sub_origin_if
  LEFT JOIN (%s) AS x(name, status) ON x.name = s.sub_name
 WHERE NOT EXISTS (SELECT FROM {e}.local_node l
                    WHERE l.node_id = p.node_id)
   AND p.node_name <> ALL ($1::text[])
   AND (s.sub_name IS NULL OR s.sub_name <> ALL ($1::text[]))
 ORDER BY 1, 2
