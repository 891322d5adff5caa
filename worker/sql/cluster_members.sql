-- The nodes that a node knows, itself first, a row each: its name, its DSN, is it this
-- one, the slot of the subscription to it, the origin of that, another label of its
-- commits.
--
-- $1  the new node's name, which isn't one of them; NULL: there is no new node
-- %s  the engine's commit_label; this is a format
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT n.node_name, i.if_dsn, l.node_id IS NOT NULL, s.sub_slot_name, o.roident, %s
  FROM {e}.node n
  LEFT JOIN {e}.node_interface i
    ON i.if_nodeid = n.node_id
   AND i.if_name = n.node_name
  LEFT JOIN {e}.local_node l ON l.node_id = n.node_id
  LEFT JOIN LATERAL (
         SELECT *
           FROM {e}.subscription
          WHERE sub_origin = n.node_id
          ORDER BY sub_id
          LIMIT 1) AS s ON true
  LEFT JOIN pg_catalog.pg_replication_origin o ON o.roname = s.sub_slot_name
 WHERE n.node_name IS DISTINCT FROM $1
    OR l.node_id IS NOT NULL
 ORDER BY l.node_id IS NULL, n.node_name
