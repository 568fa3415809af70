-- The store of one source. Positions in the WAL are kept as bigint: the same
-- number that Postgres prints as X/Y.

-- One row. Its update is the fence of every commit, so nothing else is kept
-- here: a heartbeat in this row would wait for a long commit.
CREATE TABLE banyan.source (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    name       text NOT NULL,
    epoch      bigint NOT NULL,
    commits    bigint NOT NULL DEFAULT 0,   -- commits ever made: settles whether an unanswered one happened
    generation integer NOT NULL,
    commit_lsn bigint NOT NULL DEFAULT 0,
    end_lsn    bigint NOT NULL DEFAULT 0,
    time       timestamptz
) WITH (fillfactor = 20);

-- Who works, by this server's clock.
CREATE TABLE banyan.lease (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch    bigint NOT NULL,
    host     text NOT NULL,
    pid      integer NOT NULL,
    since    timestamptz NOT NULL,
    beat     timestamptz NOT NULL,
    ttl      interval NOT NULL,
    released boolean NOT NULL
) WITH (fillfactor = 20);
INSERT INTO banyan.lease VALUES (true, 0, '', 0, clock_timestamp(), clock_timestamp(), '0', true);

-- The incarnations of the source, counted.
CREATE TABLE banyan.generation (
    n          integer PRIMARY KEY,
    system_id  text NOT NULL,
    timeline   integer NOT NULL,
    slot       text NOT NULL,
    slot_start text NOT NULL,
    since      timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE banyan.topic (
    name       text COLLATE "C" PRIMARY KEY,
    partitions integer NOT NULL CHECK (partitions > 0)
);

CREATE TABLE banyan.partition (
    id        integer PRIMARY KEY,
    topic     text COLLATE "C" NOT NULL REFERENCES banyan.topic,
    partition integer NOT NULL,
    seq       bigint NOT NULL DEFAULT 0,    -- the last one assigned
    UNIQUE (topic, partition)
) WITH (fillfactor = 50);

-- An aggregate has one topic.
CREATE TABLE banyan.aggregate (
    name  text COLLATE "C" PRIMARY KEY,
    topic text NOT NULL
);

-- Apart from partition, so that the relay never waits for a commit.
CREATE TABLE banyan.ack (
    part    integer PRIMARY KEY REFERENCES banyan.partition,
    seq     bigint NOT NULL,
    "offset" bigint NOT NULL,
    twin_seq  bigint NOT NULL DEFAULT 0,    -- of the compacted twin, where there is one
    twin_next bigint NOT NULL DEFAULT 0,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- Events and traces lie in tables of their own, slabs, that are filled in turn
-- and dropped whole: event_<n> and trace_<n>.
CREATE TABLE banyan.slab (
    kind      text NOT NULL CHECK (kind IN ('event', 'trace')),
    n         integer NOT NULL,
    opened    timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed    timestamptz,
    bytes     bigint NOT NULL DEFAULT 0,    -- on disk, when it was closed
    parts     integer[] NOT NULL DEFAULT '{}',  -- event: the last seq of each partition when it was closed
    seqs      bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (kind, n)
);

CREATE TABLE banyan.state (
    aggregate text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    body      bytea NOT NULL,
    rules     integer NOT NULL,
    event     text NOT NULL,
    snapshot  integer NOT NULL,
    PRIMARY KEY (aggregate, key)
) WITH (fillfactor = 80);

CREATE TABLE banyan.link (
    tbl       text COLLATE "C" NOT NULL,
    row_key   text COLLATE "C" NOT NULL,
    aggregate text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    PRIMARY KEY (tbl, row_key, aggregate, key)
);

CREATE TABLE banyan.parked (
    aggregate  text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    n          bigint NOT NULL,
    generation integer NOT NULL,
    lsn        bigint NOT NULL,
    ordinal    bigint NOT NULL,
    snapshot   integer NOT NULL,
    end_lsn    bigint NOT NULL,
    reason     text NOT NULL,
    detail     text NOT NULL,
    body       bytea NOT NULL,
    counts     jsonb NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (aggregate, key, n)
);

CREATE TABLE banyan.count (
    tbl       text COLLATE "C" PRIMARY KEY,
    changes   bigint NOT NULL,
    parked    bigint NOT NULL,
    discarded bigint NOT NULL,
    used      bigint NOT NULL,
    absorbed  bigint NOT NULL,
    ignored   bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE banyan.request (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text NOT NULL,
    args     jsonb NOT NULL,
    state    text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'refused')),
    result   jsonb,
    error    text NOT NULL DEFAULT '',
    created  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished timestamptz
);
CREATE INDEX request_pending ON banyan.request (id) WHERE state = 'pending';

CREATE TABLE banyan.snapshot (
    n          integer PRIMARY KEY,
    kind       text NOT NULL,
    generation integer NOT NULL,
    lsn        bigint NOT NULL,
    started    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished   timestamptz
);

CREATE TABLE banyan.snapshot_range (
    snapshot    integer NOT NULL REFERENCES banyan.snapshot ON DELETE CASCADE,
    aggregate   text COLLATE "C" NOT NULL,
    n           integer NOT NULL,
    from_key    text NOT NULL,
    to_key      text NOT NULL,
    visible     text NOT NULL,              -- pg_snapshot of a range that was read later, else ''
    end_lsn     bigint NOT NULL,
    aggregates  bigint NOT NULL,
    done        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (snapshot, aggregate, n)
);

CREATE TABLE banyan.rules (
    version integer PRIMARY KEY,
    digest  text NOT NULL,
    yaml    text NOT NULL,
    generation integer NOT NULL,
    since   bigint NOT NULL,                -- end LSN of the store when it took effect
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Rows of a service that owns its outbox, before they have a place in the
-- sequence. Only Append writes here, only Stamp takes away.
CREATE TABLE banyan.appended (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    aggregate   text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    type        text NOT NULL,
    version     integer NOT NULL,
    topic       text NOT NULL,
    time        timestamptz NOT NULL,
    rules       integer NOT NULL,
    cause       text NOT NULL,
    traceparent text NOT NULL,
    data        bytea NOT NULL
);
CREATE INDEX appended_aggregate ON banyan.appended (aggregate, key, id);
