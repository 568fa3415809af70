-- The control store of the projections of one database. LSNs are kept as bigint:
-- the same number that Postgres prints as X/Y.

CREATE TABLE banyan.version (
    projection text COLLATE "C" NOT NULL,
    number     integer NOT NULL CHECK (number > 0),
    state      text NOT NULL CHECK (state IN ('building', 'following', 'active', 'kept', 'retired')),
    definition text NOT NULL,
    digest     text NOT NULL,
    schema     text NOT NULL,
    source     text NOT NULL,
    since_generation integer NOT NULL DEFAULT 0,   -- effects begin after this mark
    since_lsn  bigint NOT NULL DEFAULT 0,
    since_time timestamptz,
    hold_generation integer,                       -- a swap wants it to stop here
    hold_lsn   bigint,
    hold_time  timestamptz,
    hold_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    note       text NOT NULL DEFAULT '',
    PRIMARY KEY (projection, number)
);
CREATE UNIQUE INDEX version_active ON banyan.version (projection) WHERE state = 'active';
COMMENT ON TABLE banyan.version IS 'Versions of each projection; readers see the active one.';

-- The fence. A row per partition that a version reads, updated by each batch in
-- place: no index but the key, and room on the page for the next row version.
CREATE TABLE banyan.part (
    projection text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    topic      text COLLATE "C" NOT NULL,
    part       integer NOT NULL,
    epoch      bigint NOT NULL DEFAULT 0,
    owner      text NOT NULL DEFAULT '',
    next_offset bigint NOT NULL,
    seq        bigint NOT NULL DEFAULT 0,
    writer     bigint NOT NULL DEFAULT 0,
    applied_generation integer NOT NULL DEFAULT 0,
    applied_lsn bigint NOT NULL DEFAULT 0,
    applied_ordinal bigint NOT NULL DEFAULT 0,
    applied_snapshot integer NOT NULL DEFAULT 0,
    passed_generation integer NOT NULL DEFAULT 0,
    passed_lsn bigint NOT NULL DEFAULT 0,
    passed_time timestamptz,
    stream_time timestamptz,
    anchor     text NOT NULL DEFAULT '',
    anchor_offset bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, version, topic, part),
    FOREIGN KEY (projection, version) REFERENCES banyan.version ON DELETE CASCADE
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE banyan.part IS 'Progress and owner of each partition: the first statement of every batch moves its rows.';

-- Which keys the source holds back, as of the mark at which that last changed.
CREATE TABLE banyan.mark (
    projection text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    generation integer NOT NULL,
    lsn        bigint NOT NULL,
    digest     bytea NOT NULL,
    parked     boolean NOT NULL,                   -- whether there are any
    body       jsonb NOT NULL,                     -- the watermark without its seqs
    PRIMARY KEY (projection, version),
    FOREIGN KEY (projection, version) REFERENCES banyan.version ON DELETE CASCADE
);

-- Chains of keys whose first event could not be applied, in the order of id.
CREATE TABLE banyan.parked (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    projection text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    aggregate  text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    topic      text COLLATE "C" NOT NULL,
    part       integer NOT NULL,
    "offset"   bigint NOT NULL,
    seq        bigint NOT NULL,
    generation integer NOT NULL,
    lsn        bigint NOT NULL,
    ordinal    bigint NOT NULL,
    snapshot   integer NOT NULL,
    event      text NOT NULL,
    type       text NOT NULL,
    reason     text NOT NULL,
    record_key bytea,
    record_value bytea,
    record_time timestamptz,
    header_names text[] NOT NULL,
    header_values bytea[] NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, version, aggregate, key, id),
    FOREIGN KEY (projection, version) REFERENCES banyan.version ON DELETE CASCADE
);
COMMENT ON TABLE banyan.parked IS 'Events that wait because one of their key could not be applied.';

-- What became of parked events that were released or discarded, for replays.
CREATE TABLE banyan.settled (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    projection text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    aggregate  text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    topic      text COLLATE "C" NOT NULL,
    part       integer NOT NULL,
    "offset"   bigint NOT NULL,
    seq        bigint NOT NULL,
    event      text NOT NULL,
    fate       text NOT NULL CHECK (fate IN ('released', 'discarded')),
    generation integer NOT NULL,
    lsn        bigint NOT NULL,
    ordinal    bigint NOT NULL,
    snapshot   integer NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, version, id),
    FOREIGN KEY (projection, version) REFERENCES banyan.version ON DELETE CASCADE
);

-- What owners are asked to do between two batches: one row per chain.
CREATE SEQUENCE banyan.request_id;
CREATE TABLE banyan.request (
    id         bigint NOT NULL,
    projection text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('release', 'discard')),
    aggregate  text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    topic      text COLLATE "C" NOT NULL,
    part       integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at    timestamptz,
    error      text NOT NULL DEFAULT '',
    events     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (id, aggregate, key),
    FOREIGN KEY (projection, version) REFERENCES banyan.version ON DELETE CASCADE
);
CREATE INDEX request_pending ON banyan.request (projection, version, topic, part) WHERE done_at IS NULL;

-- The ledger of effects. Its key names the cause, not the version, topic or
-- offset: whoever applies the event again promises nothing new.
CREATE TABLE banyan.effect (
    id         bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    projection text COLLATE "C" NOT NULL,
    source     text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    n          integer NOT NULL,
    kind       text NOT NULL,
    payload    bytea,                              -- NULL once it is pruned
    generation integer NOT NULL,
    lsn        bigint NOT NULL,
    ordinal    bigint NOT NULL,
    snapshot   integer NOT NULL,
    state      text NOT NULL DEFAULT 'promised' CHECK (state IN ('promised', 'sending', 'sent', 'failed', 'doubtful')),
    attempts   integer NOT NULL DEFAULT 0,
    sender     bigint NOT NULL DEFAULT 0,
    error      text NOT NULL DEFAULT '',
    promised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sending_at timestamptz,
    retry_at   timestamptz,
    sent_at    timestamptz,
    PRIMARY KEY (projection, source, name, n)
);
CREATE INDEX effect_due ON banyan.effect (projection, id) WHERE state IN ('promised', 'failed');
CREATE INDEX effect_sending ON banyan.effect (projection, sender) WHERE state = 'sending';
CREATE INDEX effect_sent ON banyan.effect (projection, sent_at) WHERE state = 'sent';
COMMENT ON TABLE banyan.effect IS 'Effects promised with their source events: each is sent once.';

CREATE TABLE banyan.fired (
    n          bigint GENERATED ALWAYS AS IDENTITY,
    projection text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    generation integer NOT NULL,
    lsn        bigint NOT NULL,
    ordinal    bigint NOT NULL,
    snapshot   integer NOT NULL,
    PRIMARY KEY (projection, name, key, at)
);
CREATE UNIQUE INDEX fired_order ON banyan.fired (projection, n);

CREATE TABLE banyan.cutoff (
    projection text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    "table"    text COLLATE "C" NOT NULL,
    before     timestamptz NOT NULL,
    PRIMARY KEY (projection, version, "table"),
    FOREIGN KEY (projection, version) REFERENCES banyan.version ON DELETE CASCADE
);

-- Who lives: the row is alive while its holder has the advisory lock
-- (banyan.lease_class(), id).
CREATE TABLE banyan.lease (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    kind       text NOT NULL,
    owner      text NOT NULL,
    note       text NOT NULL DEFAULT '',
    since      timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION banyan.lease_class() RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT x'62616e79'::integer $$;

CREATE FUNCTION banyan.lease_alive(id bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
        AND l.classid::bigint = banyan.lease_class() AND l.objid::bigint = $1)
$$;

-- The fence in one call: locks the rows in the order of topic and partition,
-- moves all or raises. BN001: fenced. BN002: held.
CREATE FUNCTION banyan.advance(p text, v integer, topics text[], parts integer[], epochs bigint[], froms bigint[], tos bigint[],
    seqs bigint[], writers bigint[], generations integer[], lsns bigint[], ordinals bigint[], snapshots integer[],
    passed_generations integer[], passed_lsns bigint[], passed_times timestamptz[], times timestamptz[],
    anchors text[], anchor_offsets bigint[]) RETURNS void LANGUAGE plpgsql
-- Fresh statistics never say how many partitions there are: without this, each
-- row is compared with each step.
SET enable_nestloop = off AS $$
DECLARE
    moved integer;
    ver   record;
    bad   record;
BEGIN
    PERFORM FROM banyan.part t
        WHERE t.projection = p AND t.version = v AND (t.topic, t.part) IN (SELECT * FROM unnest(topics, parts))
        ORDER BY t.topic, t.part FOR UPDATE;
    -- Only now: a swap places its hold while it has these rows.
    SELECT w.state, w.hold_generation, w.hold_lsn, w.hold_time, w.hold_until INTO ver
        FROM banyan.version w WHERE w.projection = p AND w.number = v;
    IF NOT FOUND OR ver.state = 'retired' THEN
        RAISE EXCEPTION USING ERRCODE = 'BN001', MESSAGE = format('version %s of %s is retired', v, p);
    END IF;
    UPDATE banyan.part t SET next_offset = s.next, seq = s.seq, writer = s.writer, applied_generation = s.generation,
            applied_lsn = s.lsn, applied_ordinal = s.ordinal, applied_snapshot = s.snapshot,
            passed_generation = CASE WHEN (s.passed_generation, s.passed_lsn) > (t.passed_generation, t.passed_lsn)
                THEN s.passed_generation ELSE t.passed_generation END,
            passed_lsn = CASE WHEN (s.passed_generation, s.passed_lsn) > (t.passed_generation, t.passed_lsn)
                THEN s.passed_lsn ELSE t.passed_lsn END,
            passed_time = CASE WHEN (s.passed_generation, s.passed_lsn) >= (t.passed_generation, t.passed_lsn)
                THEN greatest(s.passed_time, t.passed_time) ELSE t.passed_time END,
            stream_time = greatest(t.stream_time, s.time), anchor = s.anchor, anchor_offset = s.anchor_offset,
            updated_at = clock_timestamp()
        FROM unnest(topics, parts, epochs, froms, tos, seqs, writers, generations, lsns, ordinals, snapshots,
                passed_generations, passed_lsns, passed_times, times, anchors, anchor_offsets)
            AS s(topic, part, epoch, first, next, seq, writer, generation, lsn, ordinal, snapshot,
                passed_generation, passed_lsn, passed_time, time, anchor, anchor_offset)
        WHERE t.projection = p AND t.version = v AND t.topic = s.topic AND t.part = s.part
            AND t.epoch = s.epoch AND t.next_offset = s.first;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(topics) THEN
        -- The rows that were moved are of this transaction by now.
        SELECT u.topic, u.part, u.epoch, coalesce(t.epoch, -1) AS found, u.first, coalesce(t.next_offset, -1) AS next INTO bad
            FROM unnest(topics, parts, epochs, froms, tos) AS u(topic, part, epoch, first, next)
            LEFT JOIN banyan.part t ON t.projection = p AND t.version = v AND t.topic = u.topic AND t.part = u.part
            WHERE t.xmin IS DISTINCT FROM pg_current_xact_id()::xid
            ORDER BY u.topic, u.part LIMIT 1;
        RAISE EXCEPTION USING ERRCODE = 'BN001', MESSAGE = 'another owner has taken over',
            DETAIL = jsonb_build_object('topic', bad.topic, 'part', bad.part, 'epoch', bad.epoch, 'found', bad.found,
                'from', bad.first, 'next', bad.next)::text;
    END IF;
    IF ver.hold_until > clock_timestamp() AND EXISTS (
        SELECT FROM unnest(generations, lsns, snapshots, passed_generations, passed_lsns)
            AS u(generation, lsn, snapshot, passed_generation, passed_lsn)
        WHERE (u.passed_generation, u.passed_lsn) > (ver.hold_generation, ver.hold_lsn)
            OR (u.generation, u.lsn) > (ver.hold_generation, ver.hold_lsn)
            OR (u.generation, u.lsn) = (ver.hold_generation, ver.hold_lsn) AND u.snapshot = 0)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'BN002', MESSAGE = 'held for a swap',
            DETAIL = jsonb_build_object('generation', ver.hold_generation, 'lsn', ver.hold_lsn,
                'time', ver.hold_time, 'until', ver.hold_until)::text;
    END IF;
END
$$;

-- Keeps the parked keys of a watermark where they changed. Answers whether it
-- could: false asks for the body.
CREATE FUNCTION banyan.save_mark(p text, v integer, g integer, l bigint, d bytea, any_parked boolean, b jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM banyan.mark m WHERE m.projection = p AND m.version = v
            AND (m.digest = d OR (m.generation, m.lsn) >= (g, l))) THEN
        RETURN true;
    END IF;
    IF b IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO banyan.mark AS m (projection, version, generation, lsn, digest, parked, body)
        VALUES (p, v, g, l, d, any_parked, b)
        ON CONFLICT (projection, version) DO UPDATE
        SET generation = g, lsn = l, digest = d, parked = any_parked, body = b
        WHERE (m.generation, m.lsn) < (g, l);
    RETURN true;
END
$$;

-- For readers. All of these run as the owner of the schema, so that a reader
-- needs no right on its tables.

CREATE FUNCTION banyan.parse_token(token text, OUT generation integer, OUT lsn bigint) LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m text[] := regexp_match(token, '^([1-9][0-9]{0,8}):([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})$');
BEGIN
    IF m IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'BN003', MESSAGE = format('token %s: want generation:LSN, such as 1:0/1A2B3C8',
            coalesce(quote_literal(left(token, 60)), 'NULL'));
    END IF;
    generation := m[1]::integer;
    lsn := ('x' || lpad(m[2], 8, '0') || lpad(m[3], 8, '0'))::bit(64)::bigint;
END
$$;

CREATE FUNCTION banyan.print_token(generation integer, lsn bigint) RETURNS text LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT generation || ':' || upper(to_hex(lsn >> 32 & x'ffffffff'::bigint)) || '/' || upper(to_hex(lsn & x'ffffffff'::bigint))
$$;

-- The marks of all partitions of the active version, and whether any key is held
-- back; without partitions no row.
CREATE FUNCTION banyan.passed_parts(projection text)
RETURNS TABLE (version integer, any_parked boolean, topic text, part integer, generation integer, lsn bigint, source_time timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    active integer;
    held   boolean;
BEGIN
    SELECT v.number INTO active FROM banyan.version v WHERE v.projection = passed_parts.projection AND v.state = 'active';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'BN004', MESSAGE = format('there is no projection %s', coalesce(quote_literal(passed_parts.projection), 'NULL')),
            HINT = coalesce('there are: ' || (SELECT string_agg(v.projection, ', ' ORDER BY v.projection)
                FROM banyan.version v WHERE v.state = 'active'), 'there is none in this database');
    END IF;
    held := EXISTS (SELECT FROM banyan.mark m WHERE m.projection = passed_parts.projection AND m.version = active AND m.parked)
        OR EXISTS (SELECT FROM banyan.parked k WHERE k.projection = passed_parts.projection AND k.version = active);
    RETURN QUERY SELECT active, held, p.topic, p.part, p.passed_generation, p.passed_lsn, p.passed_time
        FROM banyan.part p WHERE p.projection = passed_parts.projection AND p.version = active;
END
$$;

-- The mark that all of them have passed: one row.
CREATE FUNCTION banyan.passed_mark(projection text, OUT version integer, OUT any_parked boolean, OUT generation integer, OUT lsn bigint, OUT source_time timestamptz)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.version, p.any_parked, coalesce(p.generation, 0), coalesce(p.lsn, 0), p.source_time
    FROM (SELECT) one LEFT JOIN banyan.passed_parts(passed_mark.projection) p ON true
    ORDER BY p.generation, p.lsn LIMIT 1
$$;

CREATE FUNCTION banyan.passed(projection text) RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN m.generation > 0 THEN banyan.print_token(m.generation, m.lsn) END FROM banyan.passed_mark(projection) m
$$;
COMMENT ON FUNCTION banyan.passed(text) IS 'The token that a projection has passed; NULL before the first.';

CREATE FUNCTION banyan.age(projection text) RETURNS interval LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN m.source_time IS NOT NULL THEN greatest(clock_timestamp() - m.source_time, '0') END FROM banyan.passed_mark(projection) m
$$;
COMMENT ON FUNCTION banyan.age(text) IS 'How old the state is that readers see now; NULL before the first watermark.';

-- Whether a Bloom filter of a watermark has a key: event.Filter in SQL.
CREATE FUNCTION banyan.in_filter(hashes integer, bits bytea, aggregate text, key text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    two64 constant numeric := 18446744073709551616;
    name  bytea := convert_to(aggregate || '/' || key, 'UTF8');
    h     bit(64) := x'cbf29ce484222325';
    u     numeric;
    high  numeric;
    g     numeric;
    b     numeric;
BEGIN
    FOR i IN 0 .. length(name) - 1 LOOP
        h := h # get_byte(name, i)::bigint::bit(64);
        u := h::bigint;
        IF u < 0 THEN
            u := u + two64;
        END IF;
        u := mod(u * 1099511628211, two64);
        h := (CASE WHEN u >= two64 / 2 THEN u - two64 ELSE u END)::bigint::bit(64);
    END LOOP;
    u := h::bigint;
    IF u < 0 THEN
        u := u + two64;
    END IF;
    high := div(u, 4294967296);
    g := mod(u, 4294967296) * 4294967296 + high;
    IF mod(g, 2) = 0 THEN
        g := g + 1;
    END IF;
    FOR i IN 0 .. hashes - 1 LOOP
        b := mod(mod(u + i * g, two64), length(bits)::numeric * 8);
        IF get_byte(bits, div(b, 8)::integer) & (1 << mod(b, 8)::integer) = 0 THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END
$$;

-- Whether changes of a key are missing: at the source or parked here; no row
-- means no.
CREATE FUNCTION banyan.missing(projection text, version integer, aggregate text, key text)
RETURNS TABLE (at_source boolean, generation integer, lsn bigint, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT false, k.generation, k.lsn, k.reason FROM banyan.parked k
        WHERE k.projection = missing.projection AND k.version = missing.version
            AND k.aggregate = missing.aggregate AND k.key = missing.key ORDER BY k.id LIMIT 1;
    RETURN QUERY SELECT true, m.generation, t.lsn, ''::text FROM banyan.mark m, jsonb_array_elements(m.body -> 'parked') e,
            LATERAL (SELECT p.lsn FROM banyan.parse_token('1:' || (e ->> 'lsn')) p) t
        WHERE m.projection = missing.projection AND m.version = missing.version AND m.parked
            AND e ->> 'aggregate' = missing.aggregate AND e ->> 'key' = missing.key;
    RETURN QUERY SELECT true, 0, 0::bigint, ''::text FROM banyan.mark m
        WHERE m.projection = missing.projection AND m.version = missing.version AND m.parked AND m.body ? 'parkedFilter'
            AND banyan.in_filter((m.body #>> '{parkedFilter,hashes}')::integer, decode(m.body #>> '{parkedFilter,bits}', 'base64'),
                missing.aggregate, missing.key);
END
$$;

CREATE FUNCTION banyan.wait(projection text, token text, timeout interval DEFAULT '10 seconds',
    aggregate text DEFAULT NULL, key text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    want record;
    at   record;
    until timestamptz := clock_timestamp() + coalesce(timeout, '10 seconds');
    nap  double precision := 0.002;
BEGIN
    SELECT * INTO want FROM banyan.parse_token(token);
    LOOP
        SELECT * INTO at FROM banyan.passed_mark(projection);
        IF at.any_parked AND aggregate IS NOT NULL AND EXISTS (SELECT FROM banyan.missing(projection, at.version, aggregate, key) m
                WHERE m.generation = 0 OR m.at_source AND m.generation <> want.generation
                    OR (m.generation, m.lsn) <= (want.generation, want.lsn)) THEN
            RETURN 'parked';
        END IF;
        IF (at.generation, at.lsn) >= (want.generation, want.lsn) THEN
            RETURN 'passed';
        END IF;
        IF clock_timestamp() >= until THEN
            RETURN CASE
                WHEN at.generation = 0 THEN 'behind: no watermark was passed yet'
                WHEN at.generation <> want.generation THEN format('behind: at %s, of an earlier generation', banyan.print_token(at.generation, at.lsn))
                ELSE format('behind: at %s, %s bytes before the token; what you read is %s s old', banyan.print_token(at.generation, at.lsn),
                    want.lsn - at.lsn, round(extract(epoch FROM greatest(clock_timestamp() - at.source_time, '0')), 1)) END;
        END IF;
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION USING ERRCODE = 'BN005',
                MESSAGE = format('waiting in a %s transaction is of no use: it never sees what is committed later', current_setting('transaction_isolation')),
                HINT = 'wait before the transaction begins, or use READ COMMITTED';
        END IF;
        PERFORM pg_sleep(least(nap, extract(epoch FROM until - clock_timestamp())));
        nap := least(nap * 1.5, 0.02);
    END LOOP;
END
$$;
COMMENT ON FUNCTION banyan.wait(text, text, interval, text, text) IS
    'Waits until a projection has passed a token: ''passed'', ''parked'' (aggregate and key given, and held back) or ''behind: ...'' after the timeout. Read in the next statement, not in the same one.';

-- Everybody has nothing.
REVOKE ALL ON ALL TABLES IN SCHEMA banyan FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA banyan FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA banyan FROM PUBLIC;
