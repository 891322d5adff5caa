-- Who may do what: a role without privileges, one with those that docs/operations.md grants to an operator.
--
-- Copyright (c) 2026, the zodan_bgw authors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS zodan_bgw;
RESET client_min_messages;
\set SHOW_CONTEXT never

CREATE ROLE regress_zodan_stranger;
CREATE ROLE regress_zodan_operator;
SELECT zodan.grant_operator('regress_zodan_operator');

-- the superuser's own request, with a password to look for
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn, options, not_before)
    VALUES ('n1', 'host=h1 password=geheim', 'n4', 'postgresql://u:geheim@h4/d', '{"peer_dsns": {"n2": "host=h2 password=geheim"}}', '2999-01-01')
    RETURNING id AS first \gset

SET ROLE regress_zodan_stranger;
SELECT * FROM zodan.status;
SELECT * FROM zodan.requests;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn) VALUES ('n1', 'host=h', 'n4', 'host=h');
SELECT zodan.add_node('n1', 'host=h', 'n4', 'host=h');
SELECT zodan.phases();
SELECT zodan.redact_dsn('host=h');
RESET ROLE;
-- the schema alone gives nothing but the list of phases
GRANT USAGE ON SCHEMA zodan TO regress_zodan_stranger;
SET ROLE regress_zodan_stranger;
SELECT * FROM zodan.status;
SELECT * FROM zodan.events;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn) VALUES ('n1', 'host=h', 'n4', 'host=h');
SELECT zodan.add_node('n1', 'host=h', 'n4', 'host=h');
SELECT zodan.cancel(1);
SELECT count(*) > 10 AS phases FROM zodan.phases();
SELECT zodan.start();
SELECT zodan.wake();
RESET ROLE;

SET ROLE regress_zodan_operator;
-- nobody borrows the server's own trust
BEGIN;
SAVEPOINT s;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES ('n1', 'host=h1', 'n4', 'host=h4 password=geheim');
ROLLBACK TO s;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES ('n1', 'host=h1 password=geheim', 'n4', 'host=h4 passfile=/tmp/p');
ROLLBACK TO s;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES ('n1', 'host=h1 password=', 'n4', 'host=h4 password=geheim');
ROLLBACK TO s;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn, options)
    VALUES ('n1', 'host=h1 password=geheim', 'n4', 'host=h4 password=geheim', '{"peer_dsns": {"n2": "host=h2"}}');
ROLLBACK TO s;
SELECT zodan.add_node('n1', 'postgresql://u@h1/d', 'n4', 'postgresql://u:geheim@h4/d');
ROLLBACK TO s;
-- with passwords it's accepted
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn, options, not_before, requested_by, requested_at)
    VALUES ('n1', 'host=h1 password=geheim', 'n8', 'postgresql://u:geheim@h4/d', '{"peer_dsns": {"n2": "host=h2 password=geheim"}}',
            '2999-01-01', 'postgres', '2000-01-01')
    RETURNING id > 0 AS id;
SELECT node, state, requested_by, requested_at = now() AS at_once FROM zodan.status ORDER BY request_id DESC LIMIT 1;
SELECT zodan.add_node('n1', 'postgresql://u:geheim@h1/d', 'n5', 'host=h4 password=geheim') > 0 AS id;
SELECT zodan.check('n1', 'postgresql://u:geheim@h1/d', 'n6', 'host=h4 password=geheim') > 0 AS id;
SELECT node, operation, requested_by FROM zodan.status ORDER BY request_id DESC LIMIT 2;
ROLLBACK;

-- a table whose columns have other types than their names say is no way into the server
CREATE TEMP TABLE trap (id text, operation text, src_node_name text, src_dsn text, new_node_name text, new_node_dsn text, new_node_location text DEFAULT '',
    new_node_country text DEFAULT '', new_node_info text DEFAULT '{}', verb text DEFAULT 'f', fence text DEFAULT 't', sync_timeout bigint, max_attempts int DEFAULT 0,
    copy_jobs int, copy_rate bigint, options bigint, requested_by bigint, requested_at text, not_before timestamptz);
CREATE TRIGGER validate BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION zodan.validate_request();
-- also where somebody has granted more than is needed
RESET ROLE;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA zodan TO regress_zodan_operator;
SET ROLE regress_zodan_operator;
CREATE TRIGGER validate BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION zodan.validate_request();
INSERT INTO trap (operation, src_node_name, src_dsn, new_node_name, new_node_dsn, sync_timeout, options)
    VALUES ('add_node', 'n1', 'host=h1 password=geheim', 'n4', 'host=h4 password=geheim', 4711, 4711);
DROP TRIGGER validate ON trap;
CREATE TRIGGER queue AFTER INSERT ON trap FOR EACH ROW EXECUTE FUNCTION zodan.queue_request();
INSERT INTO trap (id, new_node_name, new_node_dsn) VALUES ('1', 'n4', 'host=h4 password=geheim');
DROP TRIGGER queue ON trap;
CREATE TRIGGER queue AFTER INSERT ON trap FOR EACH STATEMENT EXECUTE FUNCTION zodan.queue_request();
INSERT INTO trap (id, new_node_name, new_node_dsn) VALUES ('1', 'n4', 'host=h4 password=geheim');
DROP TRIGGER queue ON trap;
CREATE TRIGGER validate BEFORE INSERT ON trap FOR EACH STATEMENT EXECUTE FUNCTION zodan.validate_request();
INSERT INTO trap (id, new_node_name, new_node_dsn) VALUES ('1', 'n4', 'host=h4 password=geheim');
DROP TRIGGER validate ON trap;
CREATE TRIGGER redact BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION zodan.redact_node();
INSERT INTO trap (id, new_node_name, new_node_dsn) VALUES ('1', 'n4', 'host=h4 password=geheim');
DROP TABLE trap;
RESET ROLE;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA zodan FROM regress_zodan_operator;
SELECT zodan.grant_operator('regress_zodan_operator');
SET ROLE regress_zodan_operator;

-- what can be read shows no password
SELECT count(*) AS requests, count(*) FILTER (WHERE s::text LIKE '%geheim%') AS with_password FROM zodan.status s;
SELECT count(*) > 0 AS events, count(*) FILTER (WHERE e::text LIKE '%geheim%') AS with_password FROM zodan.events e;
SELECT src_dsn FROM zodan.requests;
SELECT new_node_dsn FROM zodan.requests;
SELECT options FROM zodan.requests;
SELECT * FROM zodan.requests;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES ('n1', 'host=h1 password=geheim', 'n4', 'host=h4 password=geheim') RETURNING src_dsn;
-- and nothing can be changed behind the worker's back
UPDATE zodan.requests SET operation = 'check';
UPDATE zodan.requests SET src_dsn = 'host=h1';
DELETE FROM zodan.requests;
SELECT * FROM zodan.request_state;
UPDATE zodan.request_state SET state = 'done';
INSERT INTO zodan.events (level, message) VALUES ('info', 'forged');
SELECT * FROM zodan.effects;
SELECT zodan.steer(:first, 'cancel');
CREATE TABLE zodan.mine (x int);
-- a row has no door but the trigger: not even for who may insert
SELECT zodan.queue_request();
SELECT zodan.validate_request();

-- steering works with EXECUTE alone
SELECT zodan.pause(:first), zodan.resume(:first);
SELECT state FROM zodan.status WHERE request_id = :first;
RESET ROLE;
SELECT replace(replace(message, session_user, 'me'), 'regress_zodan_operator', 'operator') AS message
  FROM zodan.events WHERE request_id = :first ORDER BY id;

-- a role that only may ask
REVOKE ALL ON ALL ROUTINES IN SCHEMA zodan FROM regress_zodan_operator;
SET ROLE regress_zodan_operator;
BEGIN;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES ('n1', 'host=h1 password=geheim', 'n4', 'host=h4 password=geheim') RETURNING id > 0 AS id;
ROLLBACK;
SELECT node, state, phases FROM zodan.status WHERE request_id = :first;
SELECT zodan.cancel(:first);
RESET ROLE;

DELETE FROM zodan.requests;
DROP OWNED BY regress_zodan_stranger, regress_zodan_operator;
DROP ROLE regress_zodan_stranger, regress_zodan_operator;
