-- Check commit_labels: the labels of commits tell which node each comes from.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT format('node %s has the id %s, which is also that of origin %s', n.node_name, n.node_id, o.roname),
       'ids that tell the nodes'' commits apart',
       'Use another node as the source.'
  FROM {e}.node n
  JOIN pg_catalog.pg_replication_origin o ON o.roident::text = {label}
  JOIN {e}.subscription s ON s.sub_slot_name = o.roname
 WHERE s.sub_origin <> n.node_id
