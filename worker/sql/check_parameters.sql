-- What every check begins with: "p", which has one row.
--
-- node             the node that is asked
-- new_node         the one that is to join; it is asked, too, under this name
-- slots            the names of the slots that the join will make on the node
-- origins          the names of its origins
-- need_slots, need_origins, need_senders, need_workers
--                  how many the join adds on the node
-- source           what the check's other statement has returned on the source
-- members          the names of the existing nodes
-- plugin           the engine's output plugin
-- foreign_schemas  the engine's schemas, whose structure isn't copied
-- sets             the replication sets that are taken from the node
-- accepted_triggers
--                  options.accept_triggers of the request
--
-- A check's text can also have these placeholders. If the engine has nothing for one
-- of them, the check is left out.
--
-- {e}              the engine's schema, and its extension's name
-- {status}         a query: the name and status of each subscription
-- {node_id}        an expression: the id that p.new_node would get
-- {ddl}            the setting by which the engine replicates DDL
-- {trapped}        a pattern: the names of slots that share one stream
-- {label}          an expression: what labels the commits of node n besides its origin
-- {role}           check_role_attributes.sql
-- {published}      check_published.sql
-- {source_sets}    an expression: the sets that are taken from the source, text[]
-- {uncopied}       the engine's schemas whose rows aren't copied, the literal of an array
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH p AS (
  SELECT $1::text AS node,
         $2::text AS new_node,
         $3::text[] AS slots,
         $4::text[] AS origins,
         $5::int AS need_slots,
         $6::int AS need_origins,
         $7::int AS need_senders,
         $8::int AS need_workers,
         $9::json AS source,
         $10::text[] AS members,
         $11::text AS plugin,
         $12::text AS foreign_schemas,
         $13::text[] AS sets,
         $14::text[] AS accepted_triggers)
