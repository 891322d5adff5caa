-- Ends a request. No row: it isn't in that state any more, or it is asked to be
-- cancelled by now.
--
-- $1  the request's id
-- $2  the state that it is in
-- $3  its new state
-- $4  are its passwords removed? boolean
-- $5  does it end even if it is asked to be cancelled? boolean
--
-- Copyright (c) 2026, the zodan_bgw authors
WITH u AS (
  UPDATE zodan.request_state
     SET state = $3, asked = NULL, next_attempt_at = NULL, missing = NULL, missing_dsns = NULL, missing_since = NULL,
         percent = CASE WHEN $3 = 'done' THEN 100 ELSE percent END,
         last_error = CASE WHEN $3 = 'done' THEN NULL ELSE last_error END,
         hint = CASE WHEN $3 = 'done' THEN NULL ELSE hint END,
         finished_at = clock_timestamp(), updated_at = clock_timestamp()
   WHERE request_id = $1::bigint
     AND state = $2
     AND ($5::bool OR asked IS DISTINCT FROM 'cancel')
  RETURNING request_id),
c AS (
  UPDATE zodan.copy_progress
     SET eta = NULL
   WHERE request_id IN (SELECT request_id FROM u)),
b AS (
  UPDATE zodan.requests
     SET src_dsn = zodan.redact_dsn(src_dsn), new_node_dsn = zodan.redact_dsn(new_node_dsn),
         options = CASE WHEN options ? 'peer_dsns'
                        THEN jsonb_set(options, '{peer_dsns}', zodan.redact_dsns(options -> 'peer_dsns'))
                        ELSE options END
   WHERE $4::bool
     AND id IN (SELECT request_id FROM u))
SELECT FROM u
