-- The requests that a new one may collide with, a row each: id, operation, state,
-- new_node_dsn. Those are the ones that add or remove a node of the same name and haven't
-- ended, or have ended and left something that can be gone on with, or undone.
--
-- $1  the new request's id
--
-- Copyright (c) 2026, the zodan_bgw authors
SELECT r.id, r.operation, s.state, r.new_node_dsn
  FROM zodan.requests mine
  JOIN zodan.requests r USING (new_node_name)
  JOIN zodan.request_state s ON s.request_id = r.id
 WHERE mine.id = $1::bigint
   AND r.id <> mine.id
   AND mine.operation <> 'check'
   AND r.operation <> 'check'
   AND (s.state NOT IN ('done', 'failed', 'cancelled')
        OR (s.state = 'failed' OR s.state = 'cancelled' AND mine.operation = 'add_node')
           AND EXISTS (SELECT FROM zodan.effects e
                        WHERE e.request_id = r.id
                          AND e.state IN ('intent', 'done')))
 ORDER BY r.id
