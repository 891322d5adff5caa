-- The functions that steer a request, where no worker has a part in it: the launcher, if there is one,
-- looks after another database, and the requests wait for a time that won't come.
--
-- Copyright (c) 2026, the zodan_bgw authors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS zodan_bgw;
RESET client_min_messages;
\set SHOW_CONTEXT never

CALL zodan.wait(0);
CALL zodan.wait(0, '1 s');
CALL zodan.watch(0);
SELECT zodan.cancel(0);
SELECT zodan.pause(0);
SELECT zodan.resume(0);
SELECT zodan.retry(0);

INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn, not_before)
    VALUES ('n1', 'host=h1 password=geheim', 'n4', 'host=h4 password=geheim', '2999-01-01')
    RETURNING id \gset
-- the same number in every run
CREATE FUNCTION said(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    hint text;
    number text := (SELECT max(id) FROM zodan.requests);
BEGIN
    EXECUTE statement INTO result;
    RETURN result;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(format('%s %s (%s)', SQLSTATE, SQLERRM, hint), '\y' || number || '\y', 'N', 'g');
END
$$;

-- queued
SELECT said(format('CALL zodan.wait(%s, %L)', :id, '0'));
SELECT said(format('SELECT zodan.resume(%s)', :id));
SELECT said(format('SELECT zodan.retry(%s)', :id));
SELECT state, started_at, worker_pid FROM zodan.status WHERE request_id = :id;
-- a copy's rate
SELECT said(format('SELECT zodan.set_copy_rate(%s, 1000000)', :id));
SELECT copy_rate FROM zodan.status WHERE request_id = :id;
SELECT said(format('SELECT zodan.set_copy_rate(%s, NULL)', :id));
SELECT copy_rate FROM zodan.status WHERE request_id = :id;
SELECT said(format('SELECT zodan.set_copy_rate(%s, 0)', :id));
SELECT said('SELECT zodan.set_copy_rate(0, 1000000)');
SELECT replace(message, session_user, 'me') AS message FROM zodan.events WHERE request_id = :id AND message LIKE 'copy_rate%' ORDER BY id;
-- paused
SELECT said(format('SELECT zodan.pause(%s)', :id));
SELECT said(format('SELECT zodan.pause(%s)', :id));
SELECT said(format('SELECT zodan.retry(%s)', :id));
SELECT said(format('CALL zodan.wait(%s, %L)', :id, '0'));
SELECT state FROM zodan.status WHERE request_id = :id;
-- queued again
SELECT said(format('SELECT zodan.resume(%s)', :id));
SELECT state FROM zodan.status WHERE request_id = :id;
-- to be cancelled: a worker ends it
SELECT said(format('SELECT zodan.pause(%s)', :id));
SELECT said(format('SELECT zodan.cancel(%s)', :id));
SELECT said(format('SELECT zodan.cancel(%s)', :id));
SELECT said(format('SELECT zodan.pause(%s)', :id));
SELECT said(format('SELECT zodan.resume(%s)', :id));
SELECT said(format('SELECT zodan.retry(%s)', :id));
SELECT state, finished_at FROM zodan.status WHERE request_id = :id;
-- ended, as if a worker had
UPDATE zodan.request_state SET state = 'cancelled', asked = NULL WHERE request_id = :id;
SELECT said(format('CALL zodan.wait(%s)', :id));
SELECT said(format('SELECT zodan.cancel(%s)', :id));
SELECT said(format('SELECT zodan.retry(%s)', :id));
UPDATE zodan.request_state SET state = 'done' WHERE request_id = :id;
SELECT said(format('CALL zodan.wait(%s, %L)', :id, '0'));
SELECT said(format('SELECT zodan.cancel(%s)', :id));
SELECT said(format('SELECT zodan.pause(%s)', :id));
-- cancelled, with something left that was to be kept
UPDATE zodan.request_state SET state = 'cancelled', keep = true WHERE request_id = :id;
INSERT INTO zodan.effects (request_id, node, kind, name) VALUES (:id, 'n4', 'slot', 'kept');
SELECT said(format('SELECT zodan.retry(%s)', :id));
SELECT said(format('SELECT zodan.cancel(%s)', :id));
SELECT state, keep FROM zodan.request_state WHERE request_id = :id;
DELETE FROM zodan.effects WHERE request_id = :id;
-- failed, with nothing left to roll back or to go on with
UPDATE zodan.request_state SET state = 'failed' WHERE request_id = :id;
SELECT said(format('CALL zodan.wait(%s, %L)', :id, '0'));
SELECT said(format('SELECT zodan.cancel(%s)', :id));
SELECT said(format('SELECT zodan.retry(%s)', :id));
-- failed, with something left
INSERT INTO zodan.effects (request_id, node, kind, name) VALUES (:id, 'n4', 'slot', 's');
SELECT said(format('SELECT zodan.retry(%s)', :id));
SELECT state FROM zodan.status WHERE request_id = :id;
UPDATE zodan.request_state SET state = 'failed' WHERE request_id = :id;
SELECT said(format('SELECT zodan.cancel(%s)', :id));
SELECT state FROM zodan.status WHERE request_id = :id;

SELECT level, replace(message, session_user, 'me') AS message FROM zodan.events WHERE request_id = :id ORDER BY id;

-- a request is gone with all that belongs to it
DELETE FROM zodan.requests WHERE id = :id;
SELECT (SELECT count(*) FROM zodan.request_state), (SELECT count(*) FROM zodan.effects), (SELECT count(*) FROM zodan.events);

SELECT zodan.wake();
DROP FUNCTION said;
