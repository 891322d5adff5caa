-- Stores how a node was found. When that is another state than before, there is an event
-- and a notification; but none for a new node that is healthy.
--
-- $1  the node's id in zodan.nodes
-- $2  its state
-- $3  its problem, or NULL
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH old AS (
  SELECT id, state
    FROM zodan.nodes
   WHERE id = $1::bigint
     FOR UPDATE),
new AS (
  UPDATE zodan.nodes n
     SET state = $2, problem = $3, checked_at = clock_timestamp(),
         since = CASE WHEN old.state = $2 THEN n.since ELSE clock_timestamp() END
    FROM old
   WHERE n.id = old.id
  RETURNING n.node, n.state, n.problem, n.checked_at,
            coalesce(old.state, 'healthy') <> n.state AS changed),
event AS (
  INSERT INTO zodan.events (level, node, message)
  SELECT CASE state WHEN 'healthy' THEN 'info' WHEN 'unhealthy' THEN 'error' ELSE 'warning' END,
         node,
         CASE state WHEN 'healthy' THEN 'the node is healthy again' ELSE problem END
    FROM new
   WHERE changed)
SELECT pg_notify('zodan_alerts', json_build_object('v', 1, 'request', NULL, 'node', node, 'state', state,
                 'problem', left(problem, 1500), 'at', checked_at)::text)
  FROM new
 WHERE changed
