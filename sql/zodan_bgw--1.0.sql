/*
 * zodan_bgw--1.0.sql: the schema "zodan", which is all that a user of the extension sees
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */

\echo Use "CREATE EXTENSION zodan_bgw" to load this file. \quit

CREATE SCHEMA zodan;
COMMENT ON SCHEMA zodan IS 'zodan_bgw: nodes join and leave an active-active cluster without downtime';
REVOKE ALL ON SCHEMA zodan FROM PUBLIC;

/*
 * The intent: what the user writes. Everything is checked by a trigger before
 * any constraint can fire, since a constraint's error would print the row,
 * with its passwords.
 */
CREATE TABLE zodan.requests (
    id                bigint PRIMARY KEY,
    operation         text NOT NULL DEFAULT 'add_node',
    src_node_name     text NOT NULL,
    src_dsn           text NOT NULL,
    new_node_name     text,
    new_node_dsn      text,
    new_node_location text NOT NULL DEFAULT 'NY',
    new_node_country  text NOT NULL DEFAULT 'USA',
    new_node_info     jsonb NOT NULL DEFAULT '{}',
    verb              boolean NOT NULL DEFAULT false,
    not_before        timestamptz,
    sync_timeout      interval NOT NULL DEFAULT '20 minutes',
    max_attempts      integer,
    fence             boolean NOT NULL DEFAULT true,
    copy_jobs         integer,
    copy_rate         bigint,
    verify            text NOT NULL DEFAULT 'none',
    verify_timeout    interval NOT NULL DEFAULT '10 minutes',
    options           jsonb NOT NULL DEFAULT '{}',
    requested_by      name NOT NULL DEFAULT current_user,
    requested_at      timestamptz NOT NULL DEFAULT now()
);
CREATE SEQUENCE zodan.request_ids OWNED BY zodan.requests.id;
COMMENT ON SEQUENCE zodan.request_ids IS 'the trigger takes the ids of requests from here';
COMMENT ON TABLE zodan.requests IS 'what was asked for, one row a request: insert here';
COMMENT ON COLUMN zodan.requests.id IS 'the request''s number; not to be given';
COMMENT ON COLUMN zodan.requests.operation IS 'add_node; remove_node; check: only the checks of add_node, which change nothing; or verify: compare the rows of all nodes';
COMMENT ON COLUMN zodan.requests.src_node_name IS 'an existing node, from which rows are copied; of remove_node: a node that stays, whose catalog names the other members; of verify: any node, with which the others are compared';
COMMENT ON COLUMN zodan.requests.src_dsn IS 'how the coordinator reaches the source; its passwords are blanked when the request ends';
COMMENT ON COLUMN zodan.requests.new_node_name IS 'the name that the new node gets; of remove_node: the node that goes; of verify: NULL';
COMMENT ON COLUMN zodan.requests.new_node_dsn IS 'how the coordinator and every node reach the new node; its passwords are blanked when the request ends; of remove_node: NULL for the one that the source knows; of verify: NULL';
COMMENT ON COLUMN zodan.requests.verb IS 'log every remote statement into zodan.events';
COMMENT ON COLUMN zodan.requests.not_before IS 'the request waits in the queue until then';
COMMENT ON COLUMN zodan.requests.sync_timeout IS 'maximum time of each single wait';
COMMENT ON COLUMN zodan.requests.max_attempts IS 'after so many attempts a transient error fails the request; NULL: never';
COMMENT ON COLUMN zodan.requests.fence IS 'keep everybody but superusers out of the new node''s database until the join is done; of remove_node: for good';
COMMENT ON COLUMN zodan.requests.copy_jobs IS 'tables or parts of tables copied, and indexes built, at the same time; NULL: zodan.copy_jobs';
COMMENT ON COLUMN zodan.requests.copy_rate IS 'maximum rate of the copy, or of the comparison on each node, in bytes per second, when the request is filed; NULL: no limit; zodan.set_copy_rate() changes it';
COMMENT ON COLUMN zodan.requests.verify IS 'which rows are compared: none; sample: some blocks of each table, for a minute at most; or full: all. Of add_node: those of the new node with the source''s, before the new node is opened; of check: those of the existing nodes; verify turns none into full';
COMMENT ON COLUMN zodan.requests.verify_timeout IS 'how long rows that keep changing are looked at again after all others have been compared';
COMMENT ON COLUMN zodan.requests.options IS 'rarely needed: peer_dsns (object of node name to DSN), replication_sets (array of names), accept_triggers (array of schema.table.trigger), force (boolean, of remove_node: discard what was written there and has not reached the others)';

/* Where a request stands. Only the worker writes here. */
CREATE TABLE zodan.request_state (
    request_id      bigint PRIMARY KEY REFERENCES zodan.requests ON DELETE CASCADE,
    token           uuid NOT NULL DEFAULT gen_random_uuid(),
    state           text NOT NULL DEFAULT 'queued'
                    CHECK (state IN ('queued', 'running', 'retrying', 'paused', 'cancelling',
                                     'rolling_back', 'done', 'failed', 'cancelled')),
    engine          text,
    phase           text,
    percent         numeric(5, 1) NOT NULL DEFAULT 0,
    detail          text,
    attempt         integer NOT NULL DEFAULT 0,
    attempt_of_progress integer NOT NULL DEFAULT 0,
    asked           text CHECK (asked IN ('cancel', 'pause', 'restart', 'abandon')),
    keep            boolean NOT NULL DEFAULT false,
    next_attempt_at timestamptz,
    last_error      text,
    hint            text,
    started_at      timestamptz,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    reason          text,
    reason_hint     text,
    claim           bigint NOT NULL DEFAULT 0,
    claim_told      bigint NOT NULL DEFAULT 0,
    opening         timestamptz,
    found_dsn       boolean NOT NULL DEFAULT false,
    missing         text[],
    missing_dsns    text[],
    missing_since   timestamptz,
    probe_at         timestamptz,
    copy_rate       bigint
);
COMMENT ON TABLE zodan.request_state IS 'where each request stands; read zodan.status instead';
COMMENT ON COLUMN zodan.request_state.token IS 'tells this request''s sessions on the nodes from those of another coordinator''s request of the same number';
COMMENT ON COLUMN zodan.request_state.reason IS 'why it is cancelled, rolled back to join again, or given up, if no user has asked for that';
COMMENT ON COLUMN zodan.request_state.claim_told IS 'the number that was written to the new node last';
COMMENT ON COLUMN zodan.request_state.opening IS 'when the intent was stored to open the new node to its users: after that the join cannot be rolled back';
COMMENT ON COLUMN zodan.request_state.found_dsn IS 'the new_node_dsn of a removal was not given, but found in the source''s catalog';
COMMENT ON COLUMN zodan.request_state.reason_hint IS 'what to do about the reason';
COMMENT ON COLUMN zodan.request_state.claim IS 'how often it has stored an intent; the number in the new node''s claim must not be higher';
COMMENT ON COLUMN zodan.request_state.missing_dsns IS 'connection strings of the missing nodes';
COMMENT ON COLUMN zodan.request_state.missing_since IS 'since when the request has made no progress because a node is unreachable';
COMMENT ON COLUMN zodan.request_state.missing IS 'nodes that were unreachable; the request resumes as soon as one of them can be reached';
COMMENT ON COLUMN zodan.request_state.copy_rate IS 'maximum rate of the copy in bytes per second; NULL: no limit';
COMMENT ON COLUMN zodan.request_state.probe_at IS 'time of the next probe of the missing nodes; for a join that is paused, failed or cancelled and has left slots: of the next check of these slots';
CREATE INDEX request_state_open ON zodan.request_state (request_id)
    WHERE state NOT IN ('done', 'failed', 'cancelled');

CREATE TABLE zodan.checkpoints (
    request_id  bigint NOT NULL REFERENCES zodan.requests ON DELETE CASCADE,
    phase       text NOT NULL,
    state       text NOT NULL CHECK (state IN ('running', 'done')),
    attempts    integer NOT NULL DEFAULT 1,
    transient     integer NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    error       text,
    PRIMARY KEY (request_id, phase)
);
COMMENT ON TABLE zodan.checkpoints IS 'which phases a request has done';
COMMENT ON COLUMN zodan.checkpoints.transient IS 'attempts with all nodes there, in which only transient checks failed';

CREATE TABLE zodan.effects (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id bigint NOT NULL REFERENCES zodan.requests ON DELETE CASCADE,
    node       text NOT NULL,
    kind       text NOT NULL,
    name       text NOT NULL,
    state      text NOT NULL DEFAULT 'intent' CHECK (state IN ('intent', 'done', 'rolled_back', 'left')),
    result     text,
    identity   text,
    running    text CHECK (running IN ('intent', 'done')),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (request_id, node, kind, name)
);
COMMENT ON TABLE zodan.effects IS 'every object that a request makes on any node; the intent is stored before it is made';
COMMENT ON COLUMN zodan.effects.state IS 'intent: may exist; done: exists; rolled_back: was dropped; left: belongs to somebody else now, and is never dropped';
COMMENT ON COLUMN zodan.effects.identity IS 'tells the object from a later one of the same name';
COMMENT ON COLUMN zodan.effects.running IS 'of a subscription: intent: may have been enabled; done: may run, so that its position is not set again; NULL: has never run';

CREATE TABLE zodan.servers (
    request_id        bigint NOT NULL REFERENCES zodan.requests ON DELETE CASCADE,
    node              text NOT NULL,
    system_identifier bigint NOT NULL,
    database_oid      oid NOT NULL,
    timeline          integer NOT NULL,
    lsn               pg_lsn NOT NULL,
    node_entry        text,
    PRIMARY KEY (request_id, node)
);
COMMENT ON TABLE zodan.servers IS 'server and database of each node of a request, at the last check; positions and snapshots of another server are worthless';
COMMENT ON COLUMN zodan.servers.timeline IS 'a different timeline means that the server was promoted or restored';
COMMENT ON COLUMN zodan.servers.lsn IS 'flush position of its WAL at that time';
COMMENT ON COLUMN zodan.servers.node_entry IS 'xmin of the rows that an existing node has for the node that is removed, in node and node_interface; others mean that the node was added again; NULL: no entry, or the request adds a node';

CREATE TABLE zodan.kept (
    request_id bigint PRIMARY KEY REFERENCES zodan.requests ON DELETE CASCADE,
    objects    text[] NOT NULL,
    rights     json NOT NULL
);
COMMENT ON TABLE zodan.kept IS 'what the new node had before the structure was restored there; a rollback leaves it alone';
COMMENT ON COLUMN zodan.kept.rights IS 'owner, privileges and comment of the schema public, comments on extensions, privileges on their members';

CREATE TABLE zodan.dump_files (
    request_id bigint NOT NULL REFERENCES zodan.requests ON DELETE CASCADE,
    name       text NOT NULL,
    chunk      bigint NOT NULL,
    content    bytea NOT NULL,
    PRIMARY KEY (request_id, name, chunk)
);
ALTER TABLE zodan.dump_files ALTER content SET STORAGE EXTERNAL;
COMMENT ON TABLE zodan.dump_files IS 'the dump of the source''s structure in chunks, with the lists of what is restored at each step; kept in a table so that a standby of the coordinator has it, too';

CREATE TABLE zodan.positions (
    request_id     bigint NOT NULL REFERENCES zodan.requests ON DELETE CASCADE,
    moment         text NOT NULL CHECK (moment IN ('catch_up', 'snapshot', 'cut')),
    snapshot       integer NOT NULL CHECK (snapshot = 0 OR moment = 'snapshot'),
    node           text NOT NULL,
    slot_lsn       pg_lsn,
    marker_lsn     pg_lsn,
    window_lsn     pg_lsn,
    consistent_lsn pg_lsn,
    resume_lsn     pg_lsn,
    PRIMARY KEY (request_id, moment, snapshot, node)
);
COMMENT ON TABLE zodan.positions IS 'positions in the nodes'' WAL; docs/how-a-join-works.md explains them';
COMMENT ON COLUMN zodan.positions.moment IS 'catch_up: the source has what its peers had, and the new node follows it; snapshot: one of the source was taken; cut: the peers'' own streams begin';
COMMENT ON COLUMN zodan.positions.snapshot IS 'number of the snapshot: 0 is that of the subscription''s own slot, higher ones are those of temporary slots';
COMMENT ON COLUMN zodan.positions.slot_lsn IS 'B: where the new node''s slot on the node begins';
COMMENT ON COLUMN zodan.positions.marker_lsn IS 'M, m: a marker in the node''s WAL';
COMMENT ON COLUMN zodan.positions.window_lsn IS 'W: the node''s flush position before that moment';
COMMENT ON COLUMN zodan.positions.consistent_lsn IS 'C, X: commits of the source that start before it are in the snapshot, or, at the cut, on the new node';
COMMENT ON COLUMN zodan.positions.resume_lsn IS 'R: where the new node resumes with the node''s own changes';

CREATE TABLE zodan.copy_tables (
    request_id   bigint NOT NULL REFERENCES zodan.requests ON DELETE CASCADE,
    nspname      name NOT NULL,
    relname      name NOT NULL,
    state        text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'copying', 'copied')),
    snapshot     integer,
    columns      text,
    row_filter   text,
    binary_copy  boolean NOT NULL,
    seeded       boolean NOT NULL,
    bytes_total  bigint NOT NULL,
    pages        bigint NOT NULL,
    family       oid,
    bytes_copied bigint NOT NULL DEFAULT 0,
    rows_copied  bigint,
    started_at   timestamptz,
    finished_at  timestamptz,
    built_at     timestamptz,
    PRIMARY KEY (request_id, nspname, relname)
);
COMMENT ON TABLE zodan.copy_tables IS 'the tables whose rows a join copies, and under which snapshot each was copied';
COMMENT ON COLUMN zodan.copy_tables.row_filter IS 'condition of the rows to copy, from the replication sets; NULL: all rows';
COMMENT ON COLUMN zodan.copy_tables.seeded IS 'the table belongs to an extension, which may create it with rows; it is emptied first';
COMMENT ON COLUMN zodan.copy_tables.bytes_total IS 'size of the table on the source, in bytes, when its structure was dumped';
COMMENT ON COLUMN zodan.copy_tables.pages IS 'pages of the table itself, without TOAST';
COMMENT ON COLUMN zodan.copy_tables.family IS 'tables with the same value are copied under the same snapshot, since they inherit from each other, and the engine truncates them together';
COMMENT ON COLUMN zodan.copy_tables.bytes_copied IS 'bytes that went through COPY';
COMMENT ON COLUMN zodan.copy_tables.built_at IS 'when all of its indexes in zodan.copy_indexes had been built and it had been analyzed';

CREATE TABLE zodan.copy_indexes (
    request_id     bigint NOT NULL,
    nspname        name NOT NULL,
    relname        name NOT NULL,
    index_name     name NOT NULL,
    index_oid      oid NOT NULL,
    constraint_oid oid,
    key            text CHECK (key IN ('PRIMARY KEY', 'UNIQUE')),
    mark           text,
    definition     text NOT NULL,
    access_method  name NOT NULL,
    work           bigint NOT NULL,
    collated       boolean NOT NULL,
    built_at       timestamptz,
    PRIMARY KEY (request_id, nspname, relname, index_name),
    FOREIGN KEY (request_id, nspname, relname) REFERENCES zodan.copy_tables ON DELETE CASCADE
);
COMMENT ON TABLE zodan.copy_indexes IS 'indexes that a join builds as soon as the rows of their tables have been copied; pg_restore creates other kinds later';
COMMENT ON COLUMN zodan.copy_indexes.index_oid IS 'OID of the index on the source';
COMMENT ON COLUMN zodan.copy_indexes.constraint_oid IS 'OID, on the source, of the constraint that the index belongs to';
COMMENT ON COLUMN zodan.copy_indexes.collated IS 'sorted by a collation, which takes longer';
COMMENT ON COLUMN zodan.copy_indexes.work IS 'estimated cost of building the index, in bytes that COPY transfers in the same time: its size plus a sixth of its table''s own pages, on the source when the structure was dumped';

CREATE TABLE zodan.copy_progress (
    request_id       bigint PRIMARY KEY REFERENCES zodan.requests ON DELETE CASCADE,
    bytes_copied     bigint NOT NULL,
    bytes_total      bigint NOT NULL,
    rows_copied      bigint NOT NULL,
    tables_copied    integer NOT NULL,
    tables_total     integer NOT NULL,
    bytes_per_second bigint NOT NULL,
    eta              timestamptz,
    snapshot_since   timestamptz
);
COMMENT ON TABLE zodan.copy_progress IS 'progress of a join''s copy; read zodan.status instead';
COMMENT ON COLUMN zodan.copy_progress.bytes_copied IS 'bytes that went through COPY';
COMMENT ON COLUMN zodan.copy_progress.bytes_total IS 'size of the tables on the source, when the structure was dumped';
COMMENT ON COLUMN zodan.copy_progress.bytes_per_second IS 'average over the last ten seconds';
COMMENT ON COLUMN zodan.copy_progress.eta IS 'estimated end of the copy; NULL: unknown, or the copy has ended';
COMMENT ON COLUMN zodan.copy_progress.snapshot_since IS 'since when a snapshot has held back vacuum on the source; NULL: none does';

CREATE TABLE zodan.verify_tables (
    request_id    bigint NOT NULL REFERENCES zodan.requests ON DELETE CASCADE,
    nspname       name NOT NULL,
    relname       name NOT NULL,
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'comparing', 'compared')),
    row_filter    text,
    columns       text[] NOT NULL,
    key           text[],
    types         text[],
    bytes_total   bigint NOT NULL,
    rows_expected bigint NOT NULL,
    last_key      text[],
    rows_compared bigint NOT NULL DEFAULT 0,
    bytes_compared bigint NOT NULL DEFAULT 0,
    started_at    timestamptz,
    finished_at   timestamptz,
    PRIMARY KEY (request_id, nspname, relname)
);
COMMENT ON TABLE zodan.verify_tables IS 'the tables whose rows a verification compares';
COMMENT ON COLUMN zodan.verify_tables.row_filter IS 'condition of the rows that are replicated, from the replication sets; NULL: all rows';
COMMENT ON COLUMN zodan.verify_tables.columns IS 'the columns that are replicated';
COMMENT ON COLUMN zodan.verify_tables.key IS 'the columns of the replica identity or primary key; NULL: there is none, or its types are not of pg_catalog, so that equal rows are counted';
COMMENT ON COLUMN zodan.verify_tables.bytes_total IS 'size of the table on the source';
COMMENT ON COLUMN zodan.verify_tables.rows_expected IS 'rows of the table on the source, as estimated by its planner';
COMMENT ON COLUMN zodan.verify_tables.last_key IS 'rows up to this key have been compared';
COMMENT ON COLUMN zodan.verify_tables.bytes_compared IS 'size of the rows that have been compared, by the average of the table';

CREATE TABLE zodan.verify_suspects (
    request_id bigint NOT NULL,
    nspname    name NOT NULL,
    relname    name NOT NULL,
    key        text NOT NULL,
    looks      integer NOT NULL DEFAULT 0,
    PRIMARY KEY (request_id, nspname, relname, key),
    FOREIGN KEY (request_id, nspname, relname) REFERENCES zodan.verify_tables ON DELETE CASCADE
);
COMMENT ON TABLE zodan.verify_suspects IS 'rows that were not the same on all nodes when they were read, and may only have been under way; of an ended verification: those that changed all the time';
COMMENT ON COLUMN zodan.verify_suspects.key IS 'values of the key, as an array; of a table without a key: two hashes of the row as text';
COMMENT ON COLUMN zodan.verify_suspects.looks IS 'how often the row was looked at again';

CREATE TABLE zodan.differences (
    request_id bigint NOT NULL,
    nspname    name NOT NULL,
    relname    name NOT NULL,
    key        text NOT NULL,
    node       text NOT NULL,
    difference text NOT NULL CHECK (difference IN ('missing', 'extra', 'changed', 'count')),
    columns    text[],
    detail     text,
    found_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (request_id, nspname, relname, key, node),
    FOREIGN KEY (request_id, nspname, relname) REFERENCES zodan.verify_tables ON DELETE CASCADE
);
COMMENT ON TABLE zodan.differences IS 'rows that were found to differ from those of the source (src_node_name), one row for each node on which they do';
COMMENT ON COLUMN zodan.differences.key IS 'values of the key, as an array in the order of zodan.verify_tables.key; of a table without a key: two hashes of the row as text';
COMMENT ON COLUMN zodan.differences.difference IS 'missing: the node lacks the row; extra: only the node has it, and not the source; changed: columns differ; count: of a table without a key: the node has it more or less often';
COMMENT ON COLUMN zodan.differences.columns IS 'columns whose values differ';
COMMENT ON COLUMN zodan.differences.detail IS 'of a table without a key: how often the row is on the node and on the source, and where';

CREATE VIEW zodan.verifications AS
SELECT r.id AS request_id,
       r.operation,
       r.src_node_name AS source,
       r.new_node_name AS node,
       r.verify,
       s.state,
       t.tables,
       t.compared AS tables_compared,
       t.rows,
       t.bytes,
       (SELECT count(*) FROM (SELECT DISTINCT d.nspname, d.relname, d.key FROM zodan.differences d
                               WHERE d.request_id = r.id) AS k) AS differing,
       (SELECT count(*) FROM zodan.verify_suspects u WHERE u.request_id = r.id) AS undecided,
       t.started_at,
       s.finished_at,
       CASE WHEN s.state = 'running' AND t.bytes_done > 0 AND t.compared < t.tables
            THEN clock_timestamp() + (clock_timestamp() - t.started_at) * ((t.bytes_total - t.bytes_done) / t.bytes_done::float8) END AS eta
  FROM zodan.requests r
  JOIN zodan.request_state s ON s.request_id = r.id
 CROSS JOIN LATERAL (
       SELECT count(*) AS tables,
              count(*) FILTER (WHERE v.state = 'compared') AS compared,
              coalesce(sum(v.rows_compared), 0)::bigint AS rows,
              coalesce(sum(v.bytes_compared), 0)::bigint AS bytes,
              sum(v.bytes_total) AS bytes_total,
              sum(v.bytes_total * CASE v.state WHEN 'compared' THEN 1
                                  ELSE least(v.rows_compared::float8 / greatest(v.rows_expected, v.rows_compared, 1), 1) END) AS bytes_done,
              min(v.started_at) AS started_at
         FROM zodan.verify_tables v
        WHERE v.request_id = r.id) AS t
 WHERE r.verify <> 'none';
COMMENT ON VIEW zodan.verifications IS 'one row per request that compares rows: how far it is, and what it has found';
COMMENT ON COLUMN zodan.verifications.node IS 'the new node, whose rows are compared with those of the source; NULL or of operation check: the rows of all existing nodes are compared';
COMMENT ON COLUMN zodan.verifications.rows IS 'rows of the source that have been compared with those of the new node, or of every other node';
COMMENT ON COLUMN zodan.verifications.bytes IS 'size of these rows, by the average of each table';
COMMENT ON COLUMN zodan.verifications.differing IS 'rows that differ between nodes: zodan.differences names them';
COMMENT ON COLUMN zodan.verifications.undecided IS 'rows that are to be looked at again; of an ended request: that changed all the time, so that nothing can be said about them';
COMMENT ON COLUMN zodan.verifications.eta IS 'estimated end of the comparison; NULL: it is not running, or the estimate is not known yet';

CREATE TABLE zodan.wal_watch (
    request_id bigint PRIMARY KEY REFERENCES zodan.requests ON DELETE CASCADE,
    retained   bigint NOT NULL,
    exceeded   boolean NOT NULL
);
COMMENT ON TABLE zodan.wal_watch IS 'how much WAL the slots of a request retain, at the last check';
COMMENT ON COLUMN zodan.wal_watch.retained IS 'bytes on the node that retains the most';
COMMENT ON COLUMN zodan.wal_watch.exceeded IS 'true: the limit zodan.max_retained_wal is exceeded';

CREATE TABLE zodan.check_failures (
    request_id bigint NOT NULL REFERENCES zodan.requests ON DELETE CASCADE,
    id         bigint GENERATED ALWAYS AS IDENTITY,
    phase      text NOT NULL,
    check_name text NOT NULL,
    node       text NOT NULL,
    found      text NOT NULL,
    expected   text NOT NULL,
    what_to_do text NOT NULL,
    transient    boolean NOT NULL,
    PRIMARY KEY (request_id, id)
);
COMMENT ON TABLE zodan.check_failures IS 'all failures that the last attempt of a request''s checks found';
COMMENT ON COLUMN zodan.check_failures.transient IS 'the failure may go away by itself; it is checked again for some minutes';

CREATE TABLE zodan.events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id bigint REFERENCES zodan.requests ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    level      text NOT NULL CHECK (level IN ('debug', 'info', 'warning', 'error')),
    phase      text,
    node       text,
    message    text NOT NULL
);
COMMENT ON TABLE zodan.events IS 'the log of every request';
CREATE INDEX events_request ON zodan.events (request_id, id);
CREATE INDEX events_at ON zodan.events (at);

/* What has joined, and how it is. The worker adds and removes rows, and so may the owner. */
CREATE TABLE zodan.nodes (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node       text NOT NULL,
    engine     text NOT NULL CHECK (engine IN ('spock', 'pglogical')),
    dsn        text NOT NULL,
    check_dsn   text,
    peer_dsns  jsonb NOT NULL DEFAULT '{}',
    joined_at  timestamptz NOT NULL DEFAULT now(),
    state      text CHECK (state IN ('healthy', 'unhealthy', 'unknown')),
    problem    text,
    since      timestamptz,
    checked_at timestamptz
);
COMMENT ON TABLE zodan.nodes IS 'the nodes that have joined, with the result of their last check by zodan.upkeep(); you may insert and delete rows';
COMMENT ON COLUMN zodan.nodes.dsn IS 'the connection string that the node was added with, without passwords';
COMMENT ON COLUMN zodan.nodes.check_dsn IS 'connection string for the checks, if dsn cannot be used; yours to set; passwords are not stored';
COMMENT ON COLUMN zodan.nodes.peer_dsns IS 'object of node name to DSN: connection strings of the nodes that it replicates from, for the checks, if those in the engine''s catalog cannot be used; passwords are not stored';
COMMENT ON COLUMN zodan.nodes.state IS 'healthy; unhealthy; unknown: cannot be checked without a password; NULL: not checked yet';
COMMENT ON COLUMN zodan.nodes.problem IS 'what is wrong, or why the node cannot be checked';
COMMENT ON COLUMN zodan.nodes.since IS 'when the node was first found in this state';

CREATE FUNCTION zodan.validate_request() RETURNS trigger
    AS 'MODULE_PATHNAME', 'zodan_validate_request' LANGUAGE C;
COMMENT ON FUNCTION zodan.validate_request() IS 'refuses a request that could not run, and names the field';

CREATE FUNCTION zodan.queue_request() RETURNS trigger
    AS 'MODULE_PATHNAME', 'zodan_queue_request' LANGUAGE C SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION zodan.queue_request() IS 'queues a new request and wakes the launcher at commit';

CREATE TRIGGER validate BEFORE INSERT ON zodan.requests
    FOR EACH ROW EXECUTE FUNCTION zodan.validate_request();
CREATE TRIGGER queue AFTER INSERT ON zodan.requests
    FOR EACH ROW EXECUTE FUNCTION zodan.queue_request();

CREATE FUNCTION zodan.refuse_drop() RETURNS event_trigger
    AS 'MODULE_PATHNAME', 'zodan_refuse_drop' LANGUAGE C;
COMMENT ON FUNCTION zodan.refuse_drop() IS 'refuses to drop the extension while requests are open, because nothing else knows what they have made on the nodes';
CREATE EVENT TRIGGER zodan_refuse_drop ON ddl_command_start WHEN TAG IN ('DROP EXTENSION', 'DROP OWNED')
    EXECUTE FUNCTION zodan.refuse_drop();
COMMENT ON EVENT TRIGGER zodan_refuse_drop IS 'refuses DROP EXTENSION zodan_bgw while requests are open; a superuser can override it with CASCADE';

CREATE FUNCTION zodan.phases(operation text DEFAULT 'add_node',
    OUT phase_no integer, OUT phase text, OUT description text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'zodan_phases' LANGUAGE C STRICT IMMUTABLE ROWS 20;
COMMENT ON FUNCTION zodan.phases(text) IS 'the phases that the worker runs for an operation, in order';

CREATE FUNCTION zodan.start() RETURNS boolean
    AS 'MODULE_PATHNAME', 'zodan_start' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION zodan.start() IS 'starts a launcher for this database, where the library is not preloaded; false: one runs already';

CREATE FUNCTION zodan.wake() RETURNS void
    AS 'MODULE_PATHNAME', 'zodan_wake' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION zodan.wake() IS 'wakes this database''s launcher when the transaction commits';

CREATE FUNCTION zodan.redact_dsn(dsn text) RETURNS text
    AS 'MODULE_PATHNAME', 'zodan_redact_dsn' LANGUAGE C STRICT IMMUTABLE;
COMMENT ON FUNCTION zodan.redact_dsn(text) IS 'the DSN without its passwords';

CREATE FUNCTION zodan.redact_dsns(dsns jsonb) RETURNS jsonb
    LANGUAGE sql STRICT IMMUTABLE SET search_path = pg_catalog, pg_temp
    RETURN (SELECT coalesce(jsonb_object_agg(key, zodan.redact_dsn(value)), '{}') FROM jsonb_each_text(dsns));
COMMENT ON FUNCTION zodan.redact_dsns(jsonb) IS 'an object of node name to DSN, without passwords';

CREATE FUNCTION zodan.redact_node() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.dsn := zodan.redact_dsn(NEW.dsn);
    NEW.check_dsn := zodan.redact_dsn(NEW.check_dsn);
    NEW.peer_dsns := zodan.redact_dsns(NEW.peer_dsns);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION zodan.redact_node() IS 'blanks the passwords in a node''s DSNs';

CREATE TRIGGER redact BEFORE INSERT OR UPDATE ON zodan.nodes
    FOR EACH ROW EXECUTE FUNCTION zodan.redact_node();

CREATE FUNCTION zodan.upkeep(OUT requests_purged integer, OUT launcher_started boolean, OUT nodes integer)
    RETURNS record
    AS 'MODULE_PATHNAME', 'zodan_upkeep' LANGUAGE C VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION zodan.upkeep() IS 'purges requests older than zodan.retention, starts a launcher if none is running, and starts a check of all joined nodes, which continues in the background';

CREATE FUNCTION zodan.require_cron(schedule text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    home text := nullif(current_setting('cron.database_name', true), '');
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = CASE WHEN home IS NULL OR home = current_database() THEN
                  format('Install the package (of Debian: postgresql-%s-cron), add pg_cron to shared_preload_libraries and set cron.database_name = %L in postgresql.conf, restart the server, and run here: CREATE EXTENSION pg_cron;',
                         current_setting('server_version_num')::integer / 10000, current_database())
              ELSE
                  format('This server keeps it in database "%s". Run there: CREATE EXTENSION IF NOT EXISTS pg_cron; SELECT %s;', home,
                         CASE WHEN schedule IS NULL THEN format('cron.unschedule(%L)', 'zodan upkeep of ' || current_database())
                              ELSE format('cron.schedule_in_database(%L, %L, %L, %L)', 'zodan upkeep of ' || current_database(),
                                          schedule, 'SELECT zodan.upkeep()', current_database()) END)
              END;
END
$$;
COMMENT ON FUNCTION zodan.require_cron(text) IS 'raises an error with instructions unless pg_cron is installed in this database; schedule: the argument of zodan.schedule_upkeep()';

CREATE FUNCTION zodan.schedule_upkeep(schedule text DEFAULT '*/5 * * * *') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM zodan.require_cron(schedule);
    RETURN cron.schedule('zodan upkeep', schedule, 'SELECT zodan.upkeep()');
END
$$;
COMMENT ON FUNCTION zodan.schedule_upkeep(text) IS 'schedules zodan.upkeep() with pg_cron, or changes the schedule, and returns the job''s id';

CREATE FUNCTION zodan.unschedule_upkeep() RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM zodan.require_cron();
    RETURN EXISTS (SELECT FROM cron.job WHERE jobname = 'zodan upkeep' AND username = current_user)
        AND cron.unschedule('zodan upkeep');
END
$$;
COMMENT ON FUNCTION zodan.unschedule_upkeep() IS 'removes the job of zodan.schedule_upkeep(); false: there was none';

CREATE VIEW zodan.status AS
SELECT r.id AS request_id,
       r.operation,
       r.new_node_name AS node,
       r.src_node_name AS source,
       s.engine,
       s.state,
       s.phase,
       p.phase_no,
       (SELECT count(*)::integer FROM zodan.phases(r.operation)) AS phases,
       s.percent,
       s.detail,
       c.bytes_copied,
       c.bytes_total,
       c.eta,
       s.attempt,
       s.next_attempt_at,
       s.last_error,
       s.hint,
       r.requested_by,
       r.requested_at,
       s.started_at,
       s.updated_at,
       s.finished_at,
       coalesce(s.finished_at, clock_timestamp()) - s.started_at AS elapsed,
       l.pid AS worker_pid,
       w.retained AS wal_retained,
       c.rows_copied,
       c.tables_copied,
       c.tables_total,
       CASE WHEN s.state = 'running' THEN c.bytes_per_second END AS bytes_per_second,
       s.copy_rate,
       CASE WHEN s.state = 'running' AND s.phase = 'copy_data' THEN clock_timestamp() - c.snapshot_since END AS snapshot_age
  FROM zodan.requests r
  JOIN zodan.request_state s ON s.request_id = r.id
  LEFT JOIN zodan.copy_progress c ON c.request_id = r.id
  LEFT JOIN zodan.wal_watch w ON w.request_id = r.id
  LEFT JOIN LATERAL zodan.phases(r.operation) p ON p.phase = s.phase
  /* the runner holds this lock as long as it lives: see ZODAN_LOCK_RUNNER */
  LEFT JOIN pg_catalog.pg_locks l
         ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        AND l.classid = 2053071970 AND l.objid = (r.id % 2147483648)::oid
        AND s.state NOT IN ('done', 'failed', 'cancelled')
 ORDER BY r.id DESC;
COMMENT ON VIEW zodan.status IS 'one row per request, newest first: state, progress, estimated end, and last error';
COMMENT ON COLUMN zodan.status.node IS 'new_node_name of the request: the node that is added or removed';
COMMENT ON COLUMN zodan.status.source IS 'src_node_name of the request: the node from which rows are copied, or whose catalog names the other members';
COMMENT ON COLUMN zodan.status.engine IS 'spock or pglogical; NULL until the source has been asked';
COMMENT ON COLUMN zodan.status.state IS 'queued, running, retrying, paused, cancelling, rolling_back, done, failed or cancelled; zodan.transitions() explains them';
COMMENT ON COLUMN zodan.status.phase IS 'the phase that was started last';
COMMENT ON COLUMN zodan.status.phase_no IS 'number of that phase';
COMMENT ON COLUMN zodan.status.phases IS 'number of phases of the operation';
COMMENT ON COLUMN zodan.status.percent IS 'estimated progress, 0.0 to 100.0: by phases, and within the copy by the time that its work takes';
COMMENT ON COLUMN zodan.status.detail IS 'what is being done or waited for';
COMMENT ON COLUMN zodan.status.bytes_copied IS 'bytes that went through COPY so far';
COMMENT ON COLUMN zodan.status.bytes_total IS 'size in bytes of the tables to copy, on the source; as a rule less goes through COPY';
COMMENT ON COLUMN zodan.status.eta IS 'estimated end of the copy, including its indexes; NULL: the copy is not running, or the estimate is not known yet';
COMMENT ON COLUMN zodan.status.attempt IS 'how often a runner was started for the request';
COMMENT ON COLUMN zodan.status.next_attempt_at IS 'of a retrying request: when the next attempt starts at the latest';
COMMENT ON COLUMN zodan.status.last_error IS 'the last error, with the node where it happened; NULL once the request is done';
COMMENT ON COLUMN zodan.status.hint IS 'what to do about last_error';
COMMENT ON COLUMN zodan.status.elapsed IS 'since started_at, until now or finished_at';
COMMENT ON COLUMN zodan.status.worker_pid IS 'the process on this server that works on the request now; NULL: none does';
COMMENT ON COLUMN zodan.status.wal_retained IS 'the most WAL, in bytes, that the request''s slots retain on any node, at the last check';
COMMENT ON COLUMN zodan.status.bytes_per_second IS 'rate of the copy, averaged over ten seconds; NULL unless the request is running';
COMMENT ON COLUMN zodan.status.copy_rate IS 'maximum rate of the copy in bytes per second; NULL: no limit';
COMMENT ON COLUMN zodan.status.snapshot_age IS 'in copy_data: for how long a snapshot has held back vacuum on the source; NULL: none does';

/*
 * The functions below file and steer requests. They run with their owner's
 * rights on the worker's tables, so that an operator needs no rights but
 * EXECUTE; filing runs with the caller's, since who asks matters.
 */
CREATE FUNCTION zodan.add_node(
    src_node_name text, src_dsn text, new_node_name text, new_node_dsn text,
    verb boolean DEFAULT false,
    new_node_location text DEFAULT 'NY', new_node_country text DEFAULT 'USA',
    new_node_info jsonb DEFAULT '{}')
    RETURNS bigint LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO zodan.requests (operation, src_node_name, src_dsn, new_node_name, new_node_dsn,
                                verb, new_node_location, new_node_country, new_node_info)
    VALUES ('add_node', add_node.src_node_name, add_node.src_dsn, add_node.new_node_name,
            add_node.new_node_dsn, add_node.verb, add_node.new_node_location,
            add_node.new_node_country, add_node.new_node_info)
    RETURNING id;
END;
COMMENT ON FUNCTION zodan.add_node(text, text, text, text, boolean, text, text, jsonb) IS 'files a request for a new node and returns its id';

CREATE FUNCTION zodan.remove_node(
    src_node_name text, src_dsn text, node_name text, node_dsn text DEFAULT NULL,
    verb boolean DEFAULT false, force boolean DEFAULT false)
    RETURNS bigint LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO zodan.requests (operation, src_node_name, src_dsn, new_node_name, new_node_dsn, verb, options)
    VALUES ('remove_node', remove_node.src_node_name, remove_node.src_dsn, remove_node.node_name,
            remove_node.node_dsn, remove_node.verb,
            CASE WHEN remove_node.force THEN '{"force": true}'::jsonb ELSE '{}' END)
    RETURNING id;
END;
COMMENT ON FUNCTION zodan.remove_node(text, text, text, text, boolean, boolean) IS 'files a request that removes node node_name from the cluster of src_node_name, and returns its id; force: the node is lost, or what it has not sent may be';

CREATE FUNCTION zodan.check(
    src_node_name text, src_dsn text, new_node_name text, new_node_dsn text)
    RETURNS bigint LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO zodan.requests (operation, src_node_name, src_dsn, new_node_name, new_node_dsn)
    VALUES ('check', "check".src_node_name, "check".src_dsn, "check".new_node_name, "check".new_node_dsn)
    RETURNING id;
END;
COMMENT ON FUNCTION zodan.check(text, text, text, text) IS 'files a request that only runs the checks of add_node, and returns its id';

CREATE FUNCTION zodan.verify(
    src_node_name text, src_dsn text, verify text DEFAULT 'full', verify_timeout interval DEFAULT '10 minutes')
    RETURNS bigint LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO zodan.requests (operation, src_node_name, src_dsn, verify, verify_timeout)
    VALUES ('verify', verify.src_node_name, verify.src_dsn, verify.verify, verify.verify_timeout)
    RETURNING id;
END;
COMMENT ON FUNCTION zodan.verify(text, text, text, interval) IS 'files a request that compares the rows of all nodes of the cluster of src_node_name, and returns its id';

/*
 * Procedures, since a function would hold the snapshot of its statement as long as
 * it waits, and keep vacuum from removing anything in this database. They can have
 * neither their owner's rights nor settings of their own, and so read what an
 * operator may read.
 */
CREATE PROCEDURE zodan.wait(id bigint, timeout interval DEFAULT NULL, INOUT state text DEFAULT NULL)
    LANGUAGE plpgsql
AS $$
DECLARE
    started timestamptz := pg_catalog.clock_timestamp();
BEGIN
    LOOP
        SELECT s.state INTO wait.state FROM zodan.status s WHERE s.request_id = wait.id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'request % does not exist', wait.id
                USING ERRCODE = 'no_data_found', HINT = 'SELECT request_id FROM zodan.status lists the requests.';
        END IF;
        EXIT WHEN wait.state IN ('done', 'failed', 'cancelled');
        IF pg_catalog.clock_timestamp() - started >= wait.timeout THEN
            RAISE EXCEPTION 'request % is still % after %', wait.id, wait.state, wait.timeout
                USING ERRCODE = 'query_canceled', HINT = pg_catalog.format('The request continues; SELECT * FROM zodan.status WHERE request_id = %s shows it.', wait.id);
        END IF;
        COMMIT;
        PERFORM pg_catalog.pg_sleep(least(0.25, 0.05 + extract(epoch FROM pg_catalog.clock_timestamp() - started) / 20.0));
    END LOOP;
END
$$;
COMMENT ON PROCEDURE zodan.wait(bigint, interval, text) IS 'waits until the request has ended and returns its last state; an error after the timeout';

CREATE PROCEDURE zodan.watch(id bigint)
    LANGUAGE plpgsql
AS $$
DECLARE
    last_event bigint := 0;
    told       timestamptz := '-infinity';
    now_is     record;
    before     text;
    event      record;
BEGIN
    LOOP
        /* the events that were there when its state was read come first */
        SELECT s.state, s.phase, s.percent, s.detail, s.last_error, s.hint INTO now_is
          FROM zodan.status s WHERE s.request_id = watch.id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'request % does not exist', watch.id
                USING ERRCODE = 'no_data_found', HINT = 'SELECT request_id FROM zodan.status lists the requests.';
        END IF;
        FOR event IN SELECT e.id, e.at, e.phase, e.node, e.message FROM zodan.events e
                      WHERE e.request_id = watch.id AND e.id > last_event
                        AND e.level <> 'debug' ORDER BY e.id LOOP
            RAISE INFO '% %: %', pg_catalog.to_char(event.at, 'HH24:MI:SS'),
                       coalesce(event.node, event.phase, pg_catalog.format('request %s', watch.id)), event.message;
            last_event := event.id;
        END LOOP;
        EXIT WHEN now_is.state IN ('done', 'failed', 'cancelled');
        IF now_is.detail IS DISTINCT FROM before
           AND pg_catalog.clock_timestamp() > (told + interval '1 s') THEN
            RAISE INFO '% %: % %%, %', pg_catalog.to_char(pg_catalog.clock_timestamp(), 'HH24:MI:SS'),
                       coalesce(now_is.phase, now_is.state), now_is.percent, coalesce(now_is.detail, now_is.state);
            before := now_is.detail;
            told := pg_catalog.clock_timestamp();
        END IF;
        COMMIT;
        PERFORM pg_catalog.pg_sleep(0.2);
    END LOOP;
    RAISE INFO '% request % is %', pg_catalog.to_char(pg_catalog.clock_timestamp(), 'HH24:MI:SS'), watch.id, now_is.state;
    IF now_is.state = 'failed' THEN
        RAISE INFO '%', coalesce(now_is.last_error, 'no error is known');
        RAISE INFO '%', coalesce(now_is.hint, 'Read its events.');
    END IF;
END
$$;
COMMENT ON PROCEDURE zodan.watch(bigint) IS 'shows each step of the request, and about once per second the progress of the copy, until the request has ended';

CREATE FUNCTION zodan.transitions(OUT from_state text, OUT event text, OUT to_state text, OUT description text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'zodan_transitions' LANGUAGE C STRICT IMMUTABLE ROWS 40;
COMMENT ON FUNCTION zodan.transitions() IS 'the states of requests, and the events that change them; cancel, pause, resume and retry are requested by users';

CREATE FUNCTION zodan.steer(id bigint, verb text, keep boolean DEFAULT false)
    RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text;
    after  text;
BEGIN
    SELECT s.state INTO before FROM zodan.request_state s WHERE s.request_id = steer.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'request % does not exist', steer.id
            USING ERRCODE = 'no_data_found', HINT = 'SELECT request_id FROM zodan.status lists the requests.';
    END IF;
    SELECT t.to_state INTO after FROM zodan.transitions() t WHERE t.from_state = before AND t.event = steer.verb;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'request % is %: cannot % it', steer.id, before, steer.verb
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('This is possible in the states: %s.',
                                (SELECT string_agg(t.from_state, ', ') FROM zodan.transitions() t WHERE t.event = steer.verb));
    END IF;
    /* nothing left to go on with, and its passwords are gone */
    IF before IN ('failed', 'cancelled') AND NOT EXISTS (SELECT FROM zodan.effects e
                                                          WHERE e.request_id = steer.id AND e.state IN ('intent', 'done')) THEN
        RAISE EXCEPTION 'request % is % and has left nothing: there is nothing to %', steer.id, before, steer.verb
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'File the request again.';
    END IF;
    /* the new node is open: rolling back could lose what its users have written */
    IF verb = 'cancel' AND NOT keep AND before <> 'cancelled' AND EXISTS (SELECT FROM zodan.request_state s
                                    WHERE s.request_id = steer.id AND s.opening IS NOT NULL) THEN
        RAISE EXCEPTION 'request % is finishing: the new node has been opened to its users', steer.id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('Let it end; SELECT zodan.retry(%1$s) if it has stopped. If the node never comes back, SELECT zodan.cancel(%1$s, keep => true), then remove the node by zodan.remove_node() with force => true.', steer.id);
    END IF;
    IF verb = 'cancel' AND NOT keep AND before <> 'cancelled' AND EXISTS (SELECT FROM zodan.checkpoints c
                                    WHERE c.request_id = steer.id AND c.phase = 'drop_node') THEN
        RAISE EXCEPTION 'request % has begun to remove the node', steer.id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('If it has failed, correct the cause and SELECT zodan.retry(%1$s); otherwise let it end. If a node never comes back, SELECT zodan.cancel(%1$s, keep => true), then remove that node by zodan.remove_node() with force => true.', steer.id);
    END IF;
    UPDATE zodan.request_state s
       SET state = after,
           asked = CASE WHEN steer.verb IN ('cancel', 'pause') THEN steer.verb END,
           reason = NULL,
           reason_hint = NULL,
           keep = steer.keep,
           attempt = CASE WHEN steer.verb = 'retry' THEN 0 ELSE s.attempt END,
           next_attempt_at = NULL,
           probe_at = NULL,
           finished_at = NULL,
           updated_at = clock_timestamp()
     WHERE s.request_id = steer.id;
    INSERT INTO zodan.events (request_id, level, message)
    VALUES (steer.id, 'info', format('%s requested by %s', steer.verb, session_user));
    PERFORM zodan.wake();
    RETURN (SELECT s.state FROM zodan.request_state s WHERE s.request_id = steer.id);
END
$$;
COMMENT ON FUNCTION zodan.steer(bigint, text, boolean) IS 'common part of zodan.cancel(), zodan.pause(), zodan.resume() and zodan.retry()';

CREATE FUNCTION zodan.cancel(id bigint, keep boolean DEFAULT false) RETURNS text
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN zodan.steer(id, 'cancel', keep);
COMMENT ON FUNCTION zodan.cancel(bigint, boolean) IS 'cancels the request and rolls back what it has made on every node, unless keep is true; without it, possible until the new node is opened to its users; returns the state';

CREATE FUNCTION zodan.pause(id bigint) RETURNS text
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN zodan.steer(id, 'pause');
COMMENT ON FUNCTION zodan.pause(bigint) IS 'pauses the request; its slots continue to retain WAL; returns the state';

CREATE FUNCTION zodan.resume(id bigint) RETURNS text
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN zodan.steer(id, 'resume');
COMMENT ON FUNCTION zodan.resume(bigint) IS 'resumes a paused request; returns the state';

CREATE FUNCTION zodan.retry(id bigint) RETURNS text
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    RETURN zodan.steer(id, 'retry');
COMMENT ON FUNCTION zodan.retry(bigint) IS 'resumes a failed request at its last phase, or starts the next attempt of a retrying one at once, and resets the count of attempts; returns the state';

CREATE FUNCTION zodan.set_copy_rate(id bigint, rate bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF rate <= 0 THEN
        RAISE EXCEPTION 'rate must be positive' USING ERRCODE = 'invalid_parameter_value', HINT = 'NULL stands for any number.';
    END IF;
    UPDATE zodan.request_state s SET copy_rate = set_copy_rate.rate
     WHERE s.request_id = set_copy_rate.id AND s.state NOT IN ('done', 'failed', 'cancelled');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'request % does not exist, or has ended', set_copy_rate.id
            USING ERRCODE = 'no_data_found', HINT = 'SELECT request_id, state FROM zodan.status lists the requests.';
    END IF;
    INSERT INTO zodan.events (request_id, level, message)
    VALUES (set_copy_rate.id, 'info', format('copy_rate set to %s by %s', coalesce(rate::text || ' bytes/s', 'any'), session_user));
END
$$;
COMMENT ON FUNCTION zodan.set_copy_rate(bigint, bigint) IS 'sets the maximum rate of a request''s copy, in bytes per second; NULL: no limit';

CREATE FUNCTION zodan.grant_operator(role name) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA zodan TO %I', role);
    EXECUTE format('GRANT INSERT, SELECT (id) ON zodan.requests TO %I', role);
    EXECUTE format('GRANT SELECT ON zodan.status, zodan.events, zodan.check_failures, zodan.nodes, zodan.verifications, zodan.differences TO %I', role);
    EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I',
                   (SELECT string_agg(p.oid::regprocedure::text, ', ')
                      FROM pg_proc p
                     WHERE p.pronamespace = 'zodan'::regnamespace
                       AND p.proname IN ('add_node', 'remove_node', 'check', 'verify', 'wait', 'watch', 'cancel', 'pause', 'resume',
                                         'retry', 'set_copy_rate', 'phases', 'transitions')), role);
END
$$;
COMMENT ON FUNCTION zodan.grant_operator(name) IS 'lets a role file, watch and steer requests; nothing that it can read then shows a password';

REVOKE ALL ON ALL ROUTINES IN SCHEMA zodan FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA zodan FROM PUBLIC;
/* zodan.status calls it with the rights of who reads that */
GRANT EXECUTE ON FUNCTION zodan.phases(text) TO PUBLIC;
