-- Takes requests that only are to be probed, and that nobody runs: a row each, its id.
-- Those are the ones that wait for a node that could not be reached, whose next attempt
-- isn't due; and joins that nobody works on and that have slots. They are probed again
-- some time later, whatever becomes of that.
--
-- $1  at most how many
-- $2  requests whose runner may not have got as far as taking its lock, bigint[]
-- $3  the first key of a runner's lock
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH due AS (
  SELECT s.request_id
    FROM zodan.request_state s
   WHERE (s.state IN {ZODAN_WAITING}
              AND (s.probe_at <= now() OR {CLOCK_PUT_BACK})
              AND s.next_attempt_at > now()
          OR s.state IN {ZODAN_IDLE}
             AND (coalesce(s.probe_at, '-infinity') <= now() OR s.probe_at > now() + interval '2 min')
             AND EXISTS (SELECT
                           FROM zodan.requests r
                           JOIN zodan.effects e ON e.request_id = r.id
                          WHERE r.id = s.request_id
                            AND r.operation = 'add_node'
                            AND e.kind = 'slot'
                            AND e.state IN ('intent', 'done')))
     AND {NOBODY_RUNS_IT}
   ORDER BY s.probe_at
   LIMIT $1::int
     FOR UPDATE OF s SKIP LOCKED)
UPDATE zodan.request_state s
   SET probe_at = now() + CASE WHEN s.state IN {ZODAN_IDLE} THEN interval '30 s' ELSE {ZODAN_PROBE_EVERY} END
  FROM due
 WHERE s.request_id = due.request_id
RETURNING s.request_id
