-- Check leftover_slots: there are no slots of the names that the join gives.
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT 'slot ' || s.slot_name,
       'none of that name',
       format('SELECT pg_drop_replication_slot(%L) on this node.', s.slot_name)
  FROM pg_catalog.pg_replication_slots s, p
 WHERE s.slot_name = ANY (slots)
