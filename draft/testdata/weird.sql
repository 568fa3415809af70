-- Every oddity that a draft has to live with.
CREATE SCHEMA legacy;
CREATE SCHEMA "Odd Schema";
CREATE TYPE phase AS ENUM ('new', 'In Progress', 'in-progress', 'done!', '', 'Ünïcode', 'deleted', 'changed');
CREATE DOMAIN euros AS numeric(10,2);

-- Names that need quotes, reserved words, capitals, spaces, quotes in names.
CREATE TABLE "Order" ("Id" int PRIMARY KEY, "User Id" int NOT NULL, "from" text, "select" int, "in" text, "a""b" text, "it's" text,
	"Status" text, "Updated At" timestamp, "updatedAt" timestamptz, total numeric(12,2));
INSERT INTO "Order" ("Id", "User Id", "Status") SELECT row_number() OVER (), 1, s FROM unnest(ARRAY[
	'shipped', 'In Progress', 'in_progress', '', 'N', '42', 'it''s "done": #1', E'tab\there', 'naïve', '完了', E'\u0001', 'Order', 'removed', 'recorded',
	'new', 'true', 'cancelled by customer', '- [x]']) s;
CREATE TABLE legacy."order" (id int PRIMARY KEY, state char(3));
INSERT INTO legacy."order" VALUES (1, 'A'), (2, 'ZZ'), (3, 'bad');
CREATE TABLE orders (id int PRIMARY KEY, city text, state text);
INSERT INTO orders VALUES (1, 'Reno', 'NV');
CREATE TABLE "Odd Schema"."2023 Sales!" (id int PRIMARY KEY, "Größe" int);
CREATE TABLE "Odd Schema"."日本" (id int PRIMARY KEY);
CREATE TABLE "Odd Schema"."中国" (id int PRIMARY KEY);
CREATE TABLE "on" (id int PRIMARY KEY, "null" text, "true" boolean, "yes" text, y int);

-- What cannot be captured.
CREATE TABLE keyless (a int, b text);
CREATE TABLE keyless_full (a int);
ALTER TABLE keyless_full REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
CREATE TABLE nothing (id int PRIMARY KEY);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE other_index (id int PRIMARY KEY, code int NOT NULL UNIQUE);
ALTER TABLE other_index REPLICA IDENTITY USING INDEX other_index_code_key;
CREATE TABLE only_unique (code int NOT NULL UNIQUE);
CREATE TABLE api_tokens (token text PRIMARY KEY, user_id int);
CREATE TABLE parts (id int, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE parts_all PARTITION OF parts DEFAULT;
CREATE FOREIGN DATA WRAPPER w;
CREATE SERVER s FOREIGN DATA WRAPPER w;
CREATE FOREIGN TABLE elsewhere (id int) SERVER s;
CREATE TABLE outbox_events (id int PRIMARY KEY, event_type text, payload jsonb);
CREATE TABLE price_history (id int PRIMARY KEY);
CREATE TABLE schema_migrations (version text PRIMARY KEY);

-- Identities that will do.
CREATE TABLE by_index (code text NOT NULL UNIQUE, v jsonb);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key;
CREATE TABLE by_full (id int PRIMARY KEY, v jsonb);
ALTER TABLE by_full REPLICA IDENTITY FULL;
CREATE TABLE readings (at timestamptz NOT NULL, sensor int NOT NULL, v float8, PRIMARY KEY (sensor, at)) PARTITION BY RANGE (at);
CREATE TABLE readings_1 PARTITION OF readings FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE readings_2 PARTITION OF readings DEFAULT PARTITION BY HASH (sensor);
CREATE TABLE readings_2_0 PARTITION OF readings_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE base (id int PRIMARY KEY, v text);
CREATE TABLE derived (extra text, PRIMARY KEY (id)) INHERITS (base);

-- Families.
CREATE TABLE tickets (id int PRIMARY KEY, phase phase NOT NULL, is_paid boolean NOT NULL DEFAULT false, approved boolean, active boolean,
	deleted boolean NOT NULL DEFAULT false, created_at timestamptz NOT NULL, closed_at date, updated_at timestamptz NOT NULL,
	price euros, fee numeric(12,3), tax_rate numeric(5,4), loose_total numeric, huge_amount numeric(30,2), payment_status varchar(20));
INSERT INTO tickets (id, phase, created_at, updated_at, payment_status) VALUES (1, 'new', now(), now(), 'paid'), (2, 'new', now(), now(), 'refused');
CREATE TABLE ticket_notes (ticket_id int NOT NULL REFERENCES tickets, no int, body text, updated_at timestamptz, PRIMARY KEY (ticket_id, no));
CREATE TABLE ticket_note_files (ticket_id int NOT NULL, note_no int NOT NULL, name text, twice int GENERATED ALWAYS AS (note_no * 2) STORED,
	PRIMARY KEY (ticket_id, note_no, name), FOREIGN KEY (note_no, ticket_id) REFERENCES ticket_notes (no, ticket_id));
CREATE TABLE ticket_state (ticket_id int PRIMARY KEY REFERENCES tickets, v text);
CREATE TABLE ticket_price (ticket_id int PRIMARY KEY REFERENCES tickets, v text);
CREATE TABLE ticket_guest (id int PRIMARY KEY, ticket_id int REFERENCES tickets);
CREATE TABLE ticket_pairs (id int PRIMARY KEY, ticket_id int NOT NULL REFERENCES tickets, twin_id int NOT NULL REFERENCES tickets);
CREATE TABLE watchers (id int PRIMARY KEY, ticket_id int NOT NULL REFERENCES tickets ON DELETE CASCADE);
CREATE TABLE refunds (id int PRIMARY KEY, ticket_id int NOT NULL REFERENCES tickets ON DELETE CASCADE);
CREATE TABLE tree (id int PRIMARY KEY, parent_id int NOT NULL REFERENCES tree ON DELETE CASCADE);
CREATE TABLE egg (id int PRIMARY KEY, hen_id int NOT NULL);
CREATE TABLE hen (id int PRIMARY KEY, egg_id int NOT NULL REFERENCES egg ON DELETE CASCADE);
ALTER TABLE egg ADD FOREIGN KEY (hen_id) REFERENCES hen ON DELETE CASCADE;
CREATE TABLE watermarks (id int PRIMARY KEY);
CREATE TABLE latest (id int PRIMARY KEY);

-- Secrets of every shape, and what only sounds like one.
CREATE TABLE people (id int PRIMARY KEY, "passwordHash" text, api_key text, "IBAN" text, ssn char(9), card_last4 text, otp_secret bytea, reset_token text,
	token_id int, discard_reason text, password_changed_at timestamptz, has_card boolean, hashtag text, email text);
