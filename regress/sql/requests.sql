-- What is refused when a request is filed: with the field's name, and with nothing stored.
--
-- Copyright (c) 2026, the zodan_bgw authors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS zodan_bgw;
RESET client_min_messages;
\set SHOW_CONTEXT never

-- a good request but for one field; it would wait for a long time if it weren't refused
CREATE PROCEDURE file(field text, value text) LANGUAGE plpgsql AS $$
DECLARE
    fields text[] := '{src_node_name,src_dsn,new_node_name,new_node_dsn,not_before}';
    vals text[] := ARRAY['n1', 'host=h1 dbname=d', 'n4', 'host=h4 dbname=d', '2999-01-01'];
    at int := array_position(fields, field);
    message text;
    detail text;
BEGIN
    IF at IS NULL THEN
        fields := fields || field;
        vals := array_append(vals, value);
    ELSE
        vals[at] := value;
    END IF;
    EXECUTE format('INSERT INTO zodan.requests (%s) VALUES (%s)', array_to_string(fields, ', '),
                   (SELECT string_agg(quote_nullable(v), ', ' ORDER BY n) FROM unnest(vals) WITH ORDINALITY AS x(v, n)));
    RAISE INFO 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RAISE INFO '%', concat_ws(' ', SQLSTATE, message, nullif(detail, ''));
END
$$;

CALL file('operation', 'shrink');
CALL file('operation', '');
CALL file('operation', 'ADD_NODE');
CALL file('operation', NULL);
CALL file('src_node_name', '');
CALL file('src_node_name', NULL);
CALL file('src_node_name', repeat('n', 64));
CALL file('src_node_name', repeat('ü', 32));
CALL file('new_node_name', '');
CALL file('new_node_name', NULL);
CALL file('new_node_name', repeat('n', 64));
CALL file('new_node_name', repeat('ü', 32));
CALL file('new_node_name', 'n1');
CALL file('src_dsn', '');
CALL file('src_dsn', E' \t\n');
CALL file('src_dsn', NULL);
CALL file('src_dsn', 'host=h password=geheim nonsense');
CALL file('src_dsn', 'host=h passwort=geheim');
CALL file('src_dsn', 'postgresql://u:geheim@h:port/d?nonsense=1');
CALL file('src_dsn', 'host=h replication=database');
CALL file('src_dsn', 'host=h client_encoding=LATIN1');
CALL file('src_dsn', 'host=h sslpassword=geheim');
CALL file('new_node_dsn', '');
CALL file('new_node_dsn', NULL);
CALL file('new_node_dsn', 'dbname=''geheim');
CALL file('new_node_location', NULL);
CALL file('new_node_country', NULL);
CALL file('new_node_info', NULL);
CALL file('verb', NULL);
CALL file('fence', NULL);
CALL file('sync_timeout', NULL);
CALL file('sync_timeout', '999 ms');
CALL file('sync_timeout', '-1 hour');
CALL file('operation', 'verify');
CALL file('verify', NULL);
CALL file('verify', 'some');
CALL file('verify_timeout', NULL);
CALL file('verify_timeout', '-1 s');
CALL file('verify_timeout', '31 days');
CALL file('max_attempts', '0');
CALL file('max_attempts', '-1');
CALL file('copy_jobs', '0');
CALL file('copy_jobs', '65');
CALL file('copy_rate', '0');
CALL file('copy_rate', '-1');
CALL file('options', NULL);
CALL file('options', '[]');
CALL file('options', '"peer_dsns"');
CALL file('options', '{"colour": "red"}');
CALL file('options', '{"peer_dsns": []}');
CALL file('options', '{"peer_dsns": "host=h"}');
CALL file('options', '{"peer_dsns": null}');
CALL file('options', '{"peer_dsns": {"n2": 7}}');
CALL file('options', '{"peer_dsns": {"n2": {"dsn": "host=h"}}}');
CALL file('options', '{"peer_dsns": {"n2": ""}}');
CALL file('options', '{"peer_dsns": {"n2": "host=h password=geheim nonsense"}}');
CALL file('options', '{"replication_sets": {}}');
CALL file('options', '{"replication_sets": "default"}');
CALL file('options', '{"replication_sets": ["default", 1]}');
CALL file('options', '{"replication_sets": [["default"]]}');

-- nothing of it is there
SELECT count(*) FROM zodan.requests;
SELECT count(*) FROM zodan.status;
SELECT count(*) FROM zodan.events;

-- what is good: all that may be left out, and all that may be said
BEGIN;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES (repeat('n', 63), 'postgresql:///d', repeat('ü', 31) || 'u', 'service=s')
    RETURNING operation, new_node_location, new_node_country, new_node_info, verb, not_before, sync_timeout,
              max_attempts, fence, copy_jobs, copy_rate, options, requested_by = current_user AS by_me, requested_at = now() AS at_once;
INSERT INTO zodan.requests (operation, src_node_name, src_dsn, new_node_name, new_node_dsn, new_node_location,
                            new_node_country, new_node_info, verb, not_before, sync_timeout, max_attempts, fence,
                            copy_jobs, copy_rate, options)
    VALUES ('check', 'a "b"', 'host=h1 passfile=/p sslmode=verify-full sslcert=/c sslkey=/k sslrootcert=/r', 'Ü 4', 'host=h4',
            'Los Angeles', 'USA', '{"key": "value"}', true, '2999-01-01', '1 s', 1, false, 64, 1000000,
            '{"peer_dsns": {"n 2": "host=h2", "n3": "postgresql://h3/d"}, "replication_sets": ["default", "Ä"]}');
-- two in one statement
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES ('n1', 'host=h', 'n4', 'host=h'), ('n1', 'host=h', 'n5', 'host=h');
SELECT operation, node, source, engine, state, phase, phase_no, phases, percent, detail, copy_rate, attempt, last_error,
       requested_by = current_user AS by_me, started_at, finished_at, elapsed, worker_pid
  FROM zodan.status;
SELECT e.level, e.phase, e.node, replace(e.message, current_user, 'me') AS message FROM zodan.events e ORDER BY e.id;
-- refused as a whole
SAVEPOINT s;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES ('n1', 'host=h password=geheim', 'n4', 'host=h'), ('n1', 'host=h password=geheim', '', 'host=h');
ROLLBACK TO s;
SELECT count(*) FROM zodan.requests;
ROLLBACK;

-- who asks, and when, isn't the user's to say
BEGIN;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn, requested_by, requested_at)
    VALUES ('n1', 'host=h', 'n4', 'host=h', 'somebody_else', '2000-01-01')
    RETURNING requested_by = current_user AS by_me, requested_at = now() AS at_once;
-- nor is the number
INSERT INTO zodan.requests (id, src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES (7, 'n1', 'host=h', 'n4', 'host=h');
ROLLBACK;

-- by the functions, with the names of the tutorial's procedure
BEGIN;
SELECT zodan.add_node(src_node_name := 'n1', src_dsn := 'host=h1', new_node_name := 'n4', new_node_dsn := 'host=h4', verb := true,
                      new_node_location := 'Los Angeles', new_node_country := 'USA', new_node_info := '{"key": "value"}') > 0 AS id;
SELECT operation, src_node_name, src_dsn, new_node_name, new_node_dsn, verb, new_node_location, new_node_country, new_node_info
  FROM zodan.requests;
SELECT zodan.check('n1', 'host=h1', 'n4', 'host=h4') > 0 AS id;
SELECT operation, node FROM zodan.status;
SAVEPOINT s;
SELECT zodan.add_node('n1', 'host=h1 nonsense', 'n4', 'host=h4');
ROLLBACK TO s;
SELECT zodan.check('n1', 'host=h1', 'n1', 'host=h4');
ROLLBACK;

-- DSNs without their passwords
SELECT dsn, zodan.redact_dsn(dsn)
  FROM unnest(ARRAY[
       'host=h dbname=d',
       'host=h password=geheim user=u',
       $$host=h password = 'ge\'heim \\ x' user=u$$,
       'sslpassword=geheim host=h',
       'postgresql://u:geheim@h:5433/d',
       'postgresql://u@h/d?password=geheim&sslmode=require',
       'postgres://u:ge%40heim@h1:1,h2:2/d',
       'host=h password=',
       'host=h password=geheim nonsense',
       '']) AS dsn;
SELECT zodan.redact_dsn(NULL);

DROP PROCEDURE file;

-- one request a node at a time
SELECT set_config('z.id', zodan.add_node('n1', 'host=h1 dbname=d', 'n4', 'host=h4 dbname=d')::text, false) IS NOT NULL AS filed;
UPDATE zodan.request_state SET state = 'paused';
CREATE FUNCTION said(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(format('%s %s (%s)', SQLSTATE, SQLERRM, hint), '\y' || current_setting('z.id') || '\y', 'N', 'g');
END
$$;
SELECT said($$SELECT zodan.add_node('n1', 'host=h1 dbname=d', 'n4', 'host=h4 dbname=d')$$);
SELECT said($$SELECT zodan.add_node('n2', 'host=h2 dbname=d', 'n4', 'postgresql://h4/d')$$);
SELECT said($$SELECT zodan.remove_node('n1', 'host=h1 dbname=d', 'n4')$$);
BEGIN;
-- of another cluster, or not about to change anything
SELECT said($$SELECT zodan.add_node('n1', 'host=h8 dbname=d', 'n4', 'host=h9 dbname=d')$$);
SELECT said($$SELECT zodan.check('n1', 'host=h1 dbname=d', 'n4', 'host=h4 dbname=d')$$);
SELECT said($$SELECT zodan.add_node('n1', 'host=h1 dbname=d', 'n5', 'host=h5 dbname=d')$$);
ROLLBACK;
BEGIN;
UPDATE zodan.request_state SET state = 'failed';
INSERT INTO zodan.effects (request_id, node, kind, name) SELECT id, 'n4', 'slot', 's' FROM zodan.requests;
SELECT said($$SELECT zodan.add_node('n1', 'host=h1 dbname=d', 'n4', 'host=h4 dbname=d')$$);
UPDATE zodan.effects SET state = 'rolled_back';
SELECT said($$SELECT zodan.add_node('n1', 'host=h1 dbname=d', 'n4', 'host=h4 dbname=d')$$);
ROLLBACK;
BEGIN;
UPDATE zodan.request_state SET state = 'done';
SELECT said($$SELECT zodan.remove_node('n1', 'host=h1 dbname=d', 'n4')$$);
ROLLBACK;
DELETE FROM zodan.requests;
DROP FUNCTION said;

-- what is an option of one operation only
BEGIN;
INSERT INTO zodan.requests (operation, src_node_name, src_dsn, new_node_name, not_before, options)
    VALUES ('remove_node', 'n1', 'host=h', 'n4', '2999-01-01', '{"force": true, "peer_dsns": {"n2": "host=h"}}')
    RETURNING new_node_dsn;
SAVEPOINT s;
INSERT INTO zodan.requests (operation, src_node_name, src_dsn, new_node_name, options)
    VALUES ('remove_node', 'n1', 'host=h', 'n5', '{"replication_sets": ["default"]}');
ROLLBACK TO s;
INSERT INTO zodan.requests (operation, src_node_name, src_dsn, new_node_name, options)
    VALUES ('remove_node', 'n1', 'host=h', 'n5', '{"force": "yes"}');
ROLLBACK TO s;
INSERT INTO zodan.requests (operation, src_node_name, src_dsn, new_node_name)
    VALUES ('remove_node', 'n1', 'host=h', 'n1');
ROLLBACK TO s;
INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn, options)
    VALUES ('n1', 'host=h', 'n5', 'host=h', '{"force": true}');
ROLLBACK;
