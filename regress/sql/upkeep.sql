-- Upkeep without pg_cron, which isn't on this server: what the functions say is missing. And the
-- table of the joined nodes: what may be written there, and that no password stays.
--
-- Copyright (c) 2026, the zodan_bgw authors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS zodan_bgw;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- what an error says, the same on every release
CREATE PROCEDURE try(statement text) LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RAISE INFO 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RAISE INFO '% %', SQLSTATE, replace(SQLERRM, current_database(), 'this_one');
    IF hint <> '' THEN
        RAISE INFO '%', replace(regexp_replace(hint, 'postgresql-\d+', 'postgresql-NN'), current_database(), 'this_one');
    END IF;
    IF detail LIKE '%geheim%' THEN
        RAISE INFO 'it shows a password';
    END IF;
END
$$;
CALL try('SELECT zodan.schedule_upkeep()');
CALL try($$SELECT zodan.schedule_upkeep('nonsense')$$);
CALL try('SELECT zodan.unschedule_upkeep()');
-- it's another database's
SET cron.database_name = 'jobs';
CALL try('SELECT zodan.schedule_upkeep()');
CALL try($$SELECT zodan.schedule_upkeep('it''s wrong')$$);
CALL try('SELECT zodan.unschedule_upkeep()');
-- this one's, where CREATE EXTENSION is all that is missing
SELECT set_config('cron.database_name', current_database(), false) <> '' AS set;
CALL try('SELECT zodan.schedule_upkeep()');
RESET cron.database_name;

SHOW zodan.retention;
SELECT name, vartype, unit, context, min_val FROM pg_settings WHERE name = 'zodan.retention';

-- a node by hand
INSERT INTO zodan.nodes (node, engine, dsn, check_dsn, peer_dsns)
    VALUES ('n1', 'spock', 'postgresql://u:geheim@h1/d', 'host=h1 password=geheim', '{"n2": "host=h2 password=''ge heim''"}'),
           ('n2', 'pglogical', 'host=h2 port=5433', NULL, '{}');
SELECT node, engine, dsn, check_dsn, peer_dsns, state, problem, since, checked_at FROM zodan.nodes ORDER BY id;
UPDATE zodan.nodes SET check_dsn = 'service=n2 password=geheim' WHERE node = 'n2';
SELECT check_dsn FROM zodan.nodes WHERE node = 'n2';
CALL try($$INSERT INTO zodan.nodes (node, engine, dsn) VALUES ('n3', 'bucardo', 'host=h3 password=geheim')$$);
CALL try($$INSERT INTO zodan.nodes (node, engine, dsn) VALUES ('n3', 'spock', NULL)$$);
INSERT INTO zodan.nodes (node, engine, dsn) VALUES ('n3', 'spock', 'password=geheim nonsense') RETURNING dsn;
SELECT count(*) AS nodes, count(*) FILTER (WHERE n::text LIKE '%geheim%') AS with_password FROM zodan.nodes n;

-- with what an operator has: not to look at other servers with this one's rights
CREATE ROLE regress_zodan_operator;
GRANT USAGE ON SCHEMA zodan TO regress_zodan_operator;
GRANT SELECT ON zodan.nodes TO regress_zodan_operator;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA zodan TO regress_zodan_operator;
SET ROLE regress_zodan_operator;
SELECT node, state FROM zodan.nodes ORDER BY id;
INSERT INTO zodan.nodes (node, engine, dsn) VALUES ('n3', 'spock', 'host=h3');
UPDATE zodan.nodes SET check_dsn = 'host=h3';
CALL try('SELECT zodan.schedule_upkeep()');
RESET ROLE;

DELETE FROM zodan.nodes;
DROP OWNED BY regress_zodan_operator;
DROP ROLE regress_zodan_operator;
DROP PROCEDURE try;
