-- The extension stays as long as requests are open, or have left something on nodes.
--
-- Copyright (c) 2026, the zodan_bgw authors
CREATE DATABASE regress_zodan_drop;
\c regress_zodan_drop
\set SHOW_CONTEXT never
CREATE EXTENSION zodan_bgw;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES ('n1', 'host=h', 'n4', 'host=h') RETURNING id;
-- others go as ever
CREATE EXTENSION pg_walinspect;
DROP EXTENSION pg_walinspect;
DROP EXTENSION zodan_bgw;
DROP EXTENSION IF EXISTS pg_walinspect, zodan_bgw RESTRICT;
DROP SCHEMA zodan CASCADE;
UPDATE zodan.request_state SET state = 'failed';
INSERT INTO zodan.effects (request_id, node, kind, name) VALUES (1, 'n1', 'slot', 'a_slot');
DROP EXTENSION zodan_bgw;
-- a superuser who insists is told what is left
BEGIN;
DROP EXTENSION zodan_bgw CASCADE;
SELECT to_regclass('zodan.requests') IS NULL AS gone;
ROLLBACK;
-- nothing is left
UPDATE zodan.effects SET state = 'rolled_back';
DROP EXTENSION zodan_bgw;
SELECT to_regclass('zodan.requests') IS NULL AS gone;
\c contrib_regression
DROP DATABASE regress_zodan_drop;
