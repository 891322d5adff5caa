-- Lets a request that is rolled back start from the beginning, and forgets all that it
-- has stored of its attempts. No row: it was cancelled meanwhile.
--
-- $1  the request's id
-- $2  after how many milliseconds it starts
-- $3  its new state
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH u AS (
  UPDATE zodan.request_state
     SET state = $3, asked = NULL, reason = NULL, reason_hint = NULL, phase = NULL, percent = 0,
         next_attempt_at = clock_timestamp() + $2::float8 * interval '1 ms',
         last_error = reason, hint = reason_hint, updated_at = clock_timestamp()
   WHERE request_id = $1::bigint
     AND state = 'rolling_back'
     AND asked = 'restart'
  RETURNING request_id),
c AS (DELETE FROM zodan.checkpoints x USING u WHERE x.request_id = u.request_id),
e AS (DELETE FROM zodan.effects x USING u WHERE x.request_id = u.request_id),
b AS (DELETE FROM zodan.positions x USING u WHERE x.request_id = u.request_id),
t AS (DELETE FROM zodan.copy_tables x USING u WHERE x.request_id = u.request_id),
p AS (DELETE FROM zodan.copy_progress x USING u WHERE x.request_id = u.request_id),
v AS (DELETE FROM zodan.verify_tables x USING u WHERE x.request_id = u.request_id),
k AS (DELETE FROM zodan.kept x USING u WHERE x.request_id = u.request_id),
n AS (DELETE FROM zodan.servers x USING u WHERE x.request_id = u.request_id)
SELECT FROM u
