-- Takes requests that are due and that nobody runs, the oldest first: a row each, its id.
-- A request that has lost its runner is due as well.
--
-- $1  at most how many
-- $2  requests whose runner may not have got as far as taking its lock, bigint[]
-- $3  the first key of a runner's lock
-- %s  the condition that an attempt can begin, and the state that this leads to, from
--     the table of states; this is a format
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH due AS (
  SELECT s.request_id
    FROM zodan.request_state s
    JOIN zodan.requests r ON r.id = s.request_id
   WHERE %s
     AND (s.state <> 'queued' OR r.not_before IS NULL OR r.not_before <= now())
     AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= now() OR {CLOCK_PUT_BACK})
     AND {NOBODY_RUNS_IT}
   ORDER BY s.request_id
   LIMIT $1::int
     FOR UPDATE OF s SKIP LOCKED)
UPDATE zodan.request_state s
   SET state = %s, {ATTEMPT_BEGINS}
  FROM due
 WHERE s.request_id = due.request_id
RETURNING s.request_id
