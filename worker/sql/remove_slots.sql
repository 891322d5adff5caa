-- The slots of a member that may be those of the node that is removed, a row each: the
-- name, and is it the node's for certain? Slots that are in use are not among them.
--
-- $1  the engine's output plugin
-- $2  slots that the other members read, text[]
-- $3  those that a join makes for the node by name, text[]
-- $4  can the node itself not tell what it has read from? boolean: then any slot of the
--     plugin may be its
-- $5  what the names of slots begin with where the node's stream may begin
-- $6  what those begin with that keep WAL for it
-- $7  is one that ends in the node's name the node's? boolean
-- $8  what the engine's names for this member's slots begin with
-- $9  the node's name
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT slot_name,
       slot_name = ANY ($3::text[])
       OR starts_with(slot_name, $5)
       OR starts_with(slot_name, $6)
       OR $7::bool
          AND starts_with(slot_name, $8)
          AND substr(slot_name, length($8) + 1) ~
                ('(^|_)' || regexp_replace(lower($9), '[^a-z0-9]', '_', 'g') || '(_x[0-9a-f]*)?$')
  FROM pg_catalog.pg_replication_slots
 WHERE ($4::bool
            AND plugin = $1
            AND database = pg_catalog.current_database()
        OR slot_name = ANY ($3::text[])
        OR starts_with(slot_name, $5)
        OR starts_with(slot_name, $6))
   AND NOT active
   AND NOT temporary
   AND slot_name <> ALL ($2::text[])
