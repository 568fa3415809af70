package main_test

import (
	"strings"
)

// inDraft adds a table to the draft by hand, with an aggregate of its own.
func inDraft(table, aggregate, columns, key string) func(*house) {
	return func(h *house) {
		h.edit("tables:\n", "tables:\n  "+table+":\n    columns: ["+columns+"]\n")
		h.edit("aggregates:\n", "aggregates:\n  "+aggregate+":\n    table: "+table+"\n    key: ["+key+"]\n    topic: t."+strings.ToLower(aggregate)+
			"\n    events:\n      - {type: "+aggregate+"Told, on: insert}\n      - {type: "+aggregate+"Changed, on: update}\n      - {type: "+aggregate+"Gone, on: delete}\n")
	}
}

const plainOrders = `CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL DEFAULT 'new', note text);
	INSERT INTO orders SELECT i, 'new', 'n' || i FROM generate_series(1, 30) i;`

// plainWork is every kind of change on plainOrders.
var plainWork = []string{
	`INSERT INTO orders VALUES (101, 'new'), (102, 'new')`,
	`UPDATE orders SET status = 'paid' WHERE id IN (1, 101)`,
	`DELETE FROM orders WHERE id = 2`,
	`UPDATE orders SET id = 203, note = 'rekeyed' WHERE id = 3`,
	`BEGIN; INSERT INTO orders VALUES (103, 'new'); SAVEPOINT a; UPDATE orders SET status = 'lost' WHERE id = 103; INSERT INTO orders VALUES (104, 'lost'); ROLLBACK TO a; UPDATE orders SET note = 'kept' WHERE id = 103; COMMIT`,
	`BEGIN; DELETE FROM orders WHERE id = 4; INSERT INTO orders VALUES (4, 'again'); COMMIT`,
	`BEGIN; INSERT INTO orders VALUES (105, 'short'); DELETE FROM orders WHERE id = 105; COMMIT`,
	`BEGIN; UPDATE orders SET id = 9999 WHERE id = 5; UPDATE orders SET id = 5 WHERE id = 6; UPDATE orders SET id = 6 WHERE id = 9999; COMMIT`,
	"COPY orders FROM STDIN\n301\tcopied\t\\N\n302\tcopied\ta\\tb\\\\\n",
	`UPDATE orders SET note = note`,
	`BEGIN; UPDATE orders SET status = 'never'; ROLLBACK`,
}

// emptied is TRUNCATE, with rows before and after it in the same transaction.
var emptied = []string{
	`BEGIN; INSERT INTO orders VALUES (401, 'doomed'); TRUNCATE orders; INSERT INTO orders VALUES (1, 'reborn'), (402, 'new'); COMMIT`,
	`TRUNCATE orders`, `INSERT INTO orders VALUES (7, 'last')`,
}

func all(lists ...[]string) (out []string) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

const ranks = `CREATE TABLE ranks (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, name text); INSERT INTO ranks VALUES (1, 'a'), (2, 'b'), (3, 'c');`

// ranksWork moves keys as only a deferrable one allows it.
var ranksWork = []string{`UPDATE ranks SET name = name || '!'`, `UPDATE ranks SET id = 3 - id WHERE id < 3`, `BEGIN; INSERT INTO ranks VALUES (3, 'd'); DELETE FROM ranks WHERE name = 'c!'; COMMIT`, `DELETE FROM ranks WHERE id = 1`}

var traits = []trait{
	{name: "plain", sql: plainOrders, before: plainWork[:3], after: []string{`UPDATE orders SET status = 'shipped' WHERE id = 8`, `INSERT INTO orders VALUES (500)`, `DELETE FROM orders WHERE id = 9`},
		events: map[string]int{"OrderRecorded": 31, "OrderPlaced": 1, "OrderDeleted": 1}},
	{name: "every kind of change", sql: plainOrders, before: []string{`DELETE FROM orders WHERE id = 30`}, after: all(plainWork, emptied)},
	{name: "keyless table beside", finding: "no-key", sql: plainOrders + `CREATE TABLE visits (at timestamptz, page text); INSERT INTO visits VALUES (now(), '/')`,
		before: []string{`UPDATE visits SET page = '/a'; DELETE FROM visits WHERE page = '/b'`}, after: all(plainWork, []string{`UPDATE visits SET page = '/c'`, `DELETE FROM visits`})},
	{name: "keyless table alone", finding: "no-key", sql: `CREATE TABLE visits (at timestamptz, page text); INSERT INTO visits SELECT now(), '/' FROM generate_series(1, 5)`,
		refuses: "init", says: []string{"none of the 1 tables", "public.visits: it has no key"}, repair: "fix",
		after: []string{`INSERT INTO visits VALUES (now(), '/x')`, `UPDATE visits SET page = '/y' WHERE row_id = 1`, `DELETE FROM visits WHERE row_id = 2`}},
	{name: "keyless table by hand", finding: "no-key", sql: plainOrders + `CREATE TABLE visits (at timestamptz, page text)`, edit: inDraft("public.visits", "Visit", "at, page", "page"),
		refuses: "setup", says: []string{"public.visits has no replica identity", "refuses every UPDATE and DELETE", "leave it out, add a primary key"}},
	{name: "unlogged beside", finding: "unlogged", sql: plainOrders + `CREATE UNLOGGED TABLE sessions (id int PRIMARY KEY, at timestamptz); INSERT INTO sessions VALUES (1)`,
		after: all(plainWork, []string{`UPDATE sessions SET id = 2`, `DELETE FROM sessions`})},
	{name: "unlogged alone", finding: "unlogged", sql: `CREATE UNLOGGED TABLE orders (id int PRIMARY KEY, status text, note text); INSERT INTO orders VALUES (1, 'new', ''), (3, 'new', ''), (5, 'a', 'b'), (6, 'c', 'd')`,
		refuses: "init", says: []string{"it is unlogged: its changes are not in the WAL"}, repair: "fix", after: all(plainWork, emptied)},
	{name: "unlogged by hand", sql: plainOrders + `CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY)`, edit: inDraft("public.scratch", "Scratch", "id", "id"),
		refuses: "setup", says: []string{"public.scratch is unlogged", "SET LOGGED"}},
	{name: "partitioned", finding: "partitioned", sql: `
		CREATE TABLE orders (id int, at date, status text, note text, PRIMARY KEY (id, at, status)) PARTITION BY RANGE (at);
		CREATE TABLE orders_2020 PARTITION OF orders FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY LIST (status);
		CREATE TABLE orders_2020_new PARTITION OF orders_2020 FOR VALUES IN ('new');
		CREATE TABLE orders_2020_rest PARTITION OF orders_2020 DEFAULT;
		CREATE TABLE orders_rest (note text, status text NOT NULL, at date NOT NULL, dropped int, id int NOT NULL);
		ALTER TABLE orders_rest DROP COLUMN dropped;
		ALTER TABLE orders ATTACH PARTITION orders_rest DEFAULT;
		INSERT INTO orders SELECT i, date '2019-01-01' + i * 30, CASE i % 2 WHEN 0 THEN 'new' ELSE 'old' END, i::text FROM generate_series(1, 40) i`,
		before: []string{`DELETE FROM orders WHERE id = 3`},
		after: []string{`UPDATE orders SET status = 'old' WHERE id = 14`, `UPDATE orders SET status = 'paid', note = 'moved on' WHERE status = 'new'`, `UPDATE orders SET at = '2020-05-05' WHERE id IN (1, 2)`,
			`UPDATE orders SET id = id + 1000 WHERE id = 5`, `DELETE FROM orders_2020 WHERE id = 15`, `INSERT INTO orders VALUES (99, '2020-06-06', 'new', ''), (98, '2030-01-01', 'new', '')`,
			"COPY orders FROM STDIN\n97\t2020-07-07\tnew\tx\n96\t1999-01-01\tnew\ty\n",
			`CREATE TABLE orders_2021 PARTITION OF orders FOR VALUES FROM ('2040-01-01') TO ('2041-01-01'); INSERT INTO orders VALUES (95, '2040-02-02', 'new', 'in a new partition')`,
			`UPDATE orders SET at = '2040-03-03' WHERE id = 98`}},
	{name: "partitioned and truncated", sql: `CREATE TABLE orders (id int PRIMARY KEY, status text) PARTITION BY HASH (id);
		CREATE TABLE o0 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE o1 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		INSERT INTO orders SELECT i, 'new' FROM generate_series(1, 9) i`, after: []string{`TRUNCATE orders`, `INSERT INTO orders VALUES (1, 'again')`}},
	{name: "inherited", finding: "inherited", sql: `
		CREATE TABLE cities (id int PRIMARY KEY, name text);
		CREATE TABLE capitals (state text, PRIMARY KEY (id)) INHERITS (cities);
		INSERT INTO cities VALUES (1, 'a'), (2, 'b'); INSERT INTO capitals VALUES (1, 'c', 's'), (3, 'd', 's')`,
		before: []string{`UPDATE cities SET name = name || '!'`},
		after: []string{`UPDATE cities SET name = name || '?'`, `DELETE FROM cities WHERE id = 1`, `INSERT INTO capitals VALUES (1, 'e', 's')`, `UPDATE ONLY cities SET id = 9 WHERE id = 2`,
			`ALTER TABLE cities ADD COLUMN later int`, `TRUNCATE ONLY cities`, `INSERT INTO cities VALUES (5, 'f')`, `TRUNCATE cities`, `INSERT INTO capitals VALUES (5, 'g')`}},
	{name: "identity full", finding: "identity-full", sql: plainOrders + `ALTER TABLE orders REPLICA IDENTITY FULL`, after: all(plainWork, emptied)},
	{name: "identity full without a key", finding: "full-without-key", sql: plainOrders + `CREATE TABLE visits (at timestamptz, page text); ALTER TABLE visits REPLICA IDENTITY FULL`,
		after: all(plainWork, []string{`INSERT INTO visits VALUES (now(), 'a')`, `UPDATE visits SET page = 'b'`})},
	{name: "identity index", finding: "identity-index", sql: `CREATE TABLE orders (nr serial, id int NOT NULL, status text, note text); CREATE UNIQUE INDEX orders_id ON orders (id); ALTER TABLE orders REPLICA IDENTITY USING INDEX orders_id;
		INSERT INTO orders (id, status) SELECT i, 'new' FROM generate_series(1, 9) i`,
		after: []string{`INSERT INTO orders (id, status) VALUES (101, 'new')`, `UPDATE orders SET status = 'paid' WHERE id = 1`, `UPDATE orders SET id = 202 WHERE id = 2`, `DELETE FROM orders WHERE id = 3`, `TRUNCATE orders`}},
	{name: "identity index beside another primary key", finding: "identity-without-key", sql: plainOrders + `CREATE TABLE codes (id int PRIMARY KEY, code text NOT NULL UNIQUE); ALTER TABLE codes REPLICA IDENTITY USING INDEX codes_code_key; INSERT INTO codes VALUES (1, 'a')`,
		after: all(plainWork, []string{`UPDATE codes SET code = 'b'`, `DELETE FROM codes`})},
	{name: "identity nothing", finding: "identity-nothing", sql: plainOrders + `ALTER TABLE orders REPLICA IDENTITY NOTHING`,
		refuses: "init", says: []string{"the replica identity names nothing"}, repair: "fix", after: all(plainWork, emptied)},
	{name: "deferrable key beside", finding: "deferrable-key", sql: plainOrders + ranks, after: all(plainWork, ranksWork)},
	{name: "deferrable key and full identity", finding: "deferrable-full", sql: ranks + `ALTER TABLE ranks REPLICA IDENTITY FULL`, after: []string{ranksWork[0], ranksWork[3], `INSERT INTO ranks VALUES (9, 'e')`, `UPDATE ranks SET id = 10 WHERE id = 9`}},
	{name: "deferrable key alone", finding: "deferrable-key", sql: ranks, refuses: "init", says: []string{"public.ranks: "}, repair: "fix", after: ranksWork[:1]},
	{name: "toast", finding: "toast", sql: `CREATE TABLE documents (id int PRIMARY KEY, title text, body text, extra jsonb); ALTER TABLE documents ALTER body SET STORAGE EXTERNAL;
		INSERT INTO documents SELECT i, 't' || i, repeat('wide ' || i, 3000), jsonb_build_object('a', repeat('x', 3000 + i)) FROM generate_series(1, 5) i`,
		before: []string{`UPDATE documents SET title = 'early' WHERE id = 1`},
		after: []string{`UPDATE documents SET title = 'untouched' WHERE id IN (1, 2)`, `INSERT INTO documents VALUES (6, 'new', repeat('six', 5000), NULL)`, `UPDATE documents SET title = 'six' WHERE id = 6`,
			`UPDATE documents SET id = 7 WHERE id = 6`, `UPDATE documents SET body = NULL WHERE id = 2`, `UPDATE documents SET title = 'after null' WHERE id = 2`, `UPDATE documents SET body = body || '!' WHERE id = 3`,
			`BEGIN; INSERT INTO documents VALUES (8, 'a', repeat('eight', 5000)); UPDATE documents SET title = 'b' WHERE id = 8; UPDATE documents SET id = 9 WHERE id = 8; UPDATE documents SET title = 'c' WHERE id = 9; COMMIT`,
			`UPDATE documents SET extra = extra || '{"b": 1}' WHERE id = 4`, `DELETE FROM documents WHERE id = 5`}},
	{name: "names", finding: "quoted-name", sql: `
		CREATE SCHEMA "Sch ema"; CREATE SCHEMA "select";
		CREATE TABLE "Sch ema"."Order" ("Id" int PRIMARY KEY, "User Id" int, "select" text, "größe" text, "名前" text, "a""b" text, "it's" text, "in" text, "updatedAt" timestamptz, "new" text, "1st" text, "x.y" text, "back\slash" text);
		CREATE TABLE "select"."table" ("user" int PRIMARY KEY, "key" text, "state" text, "old" text, "op" text);
		CREATE TABLE "Sch ema"."Order Lines" ("Order Id" int NOT NULL REFERENCES "Sch ema"."Order", "No." int, "Amount €" numeric(10,2), PRIMARY KEY ("Order Id", "No."));
		CREATE TABLE "日本" ("キー" text PRIMARY KEY, v int);
		INSERT INTO "Sch ema"."Order" VALUES (1, 2, 's', 'g', 'n', 'ab', 'its', 'in', now(), 'new', 'first', 'xy', 'b'); INSERT INTO "Sch ema"."Order Lines" VALUES (1, 1, 2.50);
		INSERT INTO "select"."table" VALUES (1, 'k', 's', 'o', 'op'); INSERT INTO "日本" VALUES ('か', 1)`,
		after: []string{`UPDATE "Sch ema"."Order" SET "größe" = 'groß', "a""b" = 'q"q', "it's" = 'x''y', "back\slash" = '\'`, `INSERT INTO "Sch ema"."Order" ("Id", "select") VALUES (2, 'from')`,
			`UPDATE "Sch ema"."Order Lines" SET "Amount €" = 3.75`, `UPDATE "Sch ema"."Order" SET "updatedAt" = now()`, `UPDATE "select"."table" SET "key" = NULL, "state" = 'new', "old" = 'x'`, `UPDATE "select"."table" SET "user" = 2`,
			`UPDATE "日本" SET "キー" = 'き'`, `UPDATE "日本" SET v = 2`, `DELETE FROM "Sch ema"."Order Lines"; DELETE FROM "Sch ema"."Order" WHERE "Id" = 1`}},
	{name: "odd keys", sql: `
		CREATE TABLE items (tenant text, code text, n bigint, v text, PRIMARY KEY (tenant, code, n));
		INSERT INTO items SELECT t, c, n, 'v' FROM unnest(ARRAY['', ' ', 'a,b', 'a/b', '%2C', '100%', '日本', 'it''s', '"q"', E'tab\tnl\n', '\', '@1:0/1.0', 'NULL', U&'\0001']) t, unnest(ARRAY['x', ',', '']) c, unnest(ARRAY[0, -1, 9223372036854775807]) n;
		CREATE TABLE days (day date, slot tstzrange, v int, PRIMARY KEY (day, slot)); INSERT INTO days VALUES ('infinity', '[2020-01-01,2020-01-02)', 1), ('0044-03-15 BC', 'empty', 2);
		CREATE TABLE keys (k bytea PRIMARY KEY, v int); INSERT INTO keys VALUES ('\x00ff', 1), ('', 2);
		CREATE TABLE nums (k numeric PRIMARY KEY, v int); INSERT INTO nums VALUES (1.50, 1), ('NaN', 2), (1e30, 3);
		CREATE TABLE stamps (k timestamptz PRIMARY KEY, v int); INSERT INTO stamps VALUES ('2020-01-01 00:00:00.123456+02', 1), ('infinity', 2);
		CREATE TABLE guids (k uuid PRIMARY KEY, v int); INSERT INTO guids VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 1);
		CREATE TABLE fixed (k char(5) PRIMARY KEY, v int); INSERT INTO fixed VALUES ('ab', 1);
		CREATE TABLE flags (k boolean PRIMARY KEY, v int); INSERT INTO flags VALUES (true, 1), (false, 2);
		CREATE TABLE floats (k float8 PRIMARY KEY, v int); INSERT INTO floats VALUES (0.1, 1), ('-Infinity', 2), (1e300, 3)`,
		before: []string{`UPDATE items SET v = 'w' WHERE tenant = 'a,b'`},
		after: []string{`UPDATE items SET v = v || '!'`, `UPDATE items SET code = 'y,' WHERE code = ',' AND tenant = '%2C'`, `DELETE FROM items WHERE tenant = ''`, `INSERT INTO items VALUES ('', '', 0, '')`,
			`UPDATE days SET v = v + 1`, `UPDATE keys SET v = v + 1; UPDATE keys SET k = '\x2c25' WHERE v = 3`, `UPDATE nums SET v = v + 1; UPDATE nums SET k = 2.00 WHERE k = 1.5; DELETE FROM nums WHERE k = 'NaN'`,
			`UPDATE stamps SET v = v + 1`, `UPDATE guids SET v = 2`, `UPDATE fixed SET v = 2; INSERT INTO fixed VALUES ('abcde', 1), ('', 2)`, `UPDATE flags SET v = 3; DELETE FROM flags WHERE k`, `UPDATE floats SET v = v + 1; DELETE FROM floats WHERE k = 0.1`}},
	{name: "nullable parent", finding: "nullable-parent", sql: `
		CREATE TABLE customers (id int PRIMARY KEY, name text); CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers ON DELETE SET NULL, status text);
		CREATE TABLE order_items (order_id int NOT NULL REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE, line_no int, coupon_id int, PRIMARY KEY (order_id, line_no));
		CREATE TABLE order_item_notes (order_id int NOT NULL, line_no int NOT NULL, note_no int, text text, PRIMARY KEY (order_id, line_no, note_no), FOREIGN KEY (order_id, line_no) REFERENCES order_items ON DELETE CASCADE ON UPDATE CASCADE);
		INSERT INTO customers SELECT i, 'c' FROM generate_series(1, 5) i; INSERT INTO orders SELECT i, CASE WHEN i % 3 > 0 THEN 1 + i % 5 END, 'new' FROM generate_series(1, 20) i;
		INSERT INTO order_items SELECT o, l FROM generate_series(1, 20) o, generate_series(1, 3) l; INSERT INTO order_item_notes SELECT o, 1, n, 'x' FROM generate_series(1, 20) o, generate_series(1, 2) n`,
		before: []string{`DELETE FROM orders WHERE id = 20`},
		after: []string{`DELETE FROM customers WHERE id = 2`, `UPDATE orders SET customer_id = 1 WHERE customer_id IS NULL`, `UPDATE orders SET id = 101 WHERE id = 1`, `DELETE FROM orders WHERE id = 2`,
			`UPDATE order_items SET order_id = 4, line_no = 33 WHERE order_id = 3 AND line_no = 3`, `UPDATE order_items SET order_id = 6, line_no = 44 WHERE order_id = 5 AND line_no = 1`, `UPDATE order_item_notes SET text = 'moved along' WHERE order_id = 6 AND line_no = 44`,
			`DELETE FROM order_items WHERE order_id = 7`, `BEGIN; INSERT INTO orders VALUES (200, NULL, 'new'); INSERT INTO order_items VALUES (200, 1), (200, 2); INSERT INTO order_item_notes VALUES (200, 1, 1, 'n'); COMMIT`,
			`TRUNCATE order_item_notes`, `TRUNCATE order_items, order_item_notes`, `INSERT INTO order_items VALUES (8, 1)`, `TRUNCATE orders CASCADE`, `INSERT INTO orders VALUES (8, 1, 'again')`}},
	{name: "self reference", sql: `CREATE TABLE categories (id int PRIMARY KEY, parent_id int REFERENCES categories ON DELETE CASCADE, name text); INSERT INTO categories VALUES (1, NULL, 'root'), (2, 1, 'a'), (3, 2, 'b'), (4, 4, 'own');
		CREATE TABLE staff (id int PRIMARY KEY, boss int NOT NULL REFERENCES staff DEFERRABLE INITIALLY DEFERRED, name text); INSERT INTO staff VALUES (1, 1, 'x'), (2, 1, 'y')`,
		after: []string{`UPDATE categories SET parent_id = 1 WHERE id = 3`, `INSERT INTO categories VALUES (5, 3, 'c')`, `BEGIN; INSERT INTO staff VALUES (3, 4, 'z'); INSERT INTO staff VALUES (4, 3, 'w'); COMMIT`, `DELETE FROM categories WHERE id = 1`, `UPDATE staff SET boss = 2`}},
	{name: "generated columns", finding: "generated-column", sql: `CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, net numeric(10,2), gross numeric(10,2) GENERATED ALWAYS AS (net * 1.2) STORED, label text GENERATED ALWAYS AS ('o' || net::text) STORED, status text);
		INSERT INTO orders (net, status) SELECT i, 'new' FROM generate_series(1, 5) i`,
		after: []string{`UPDATE orders SET net = 9 WHERE id = 1`, `INSERT INTO orders (net) VALUES (3.33)`, `DELETE FROM orders WHERE id = 2`}},
	{name: "types", sql: typesSQL, before: []string{`UPDATE kinds SET a_bool = NOT a_bool WHERE id = 1`},
		after: []string{`UPDATE kinds SET touched = touched + 1`, `INSERT INTO kinds (id) VALUES (10)`, `UPDATE kinds SET an_int = 7, a_text = 'x' WHERE id = 10`,
			`UPDATE kinds SET a_numeric = 1.10, a_float8 = 0.1, a_float4 = 0.1, a_ts = '2024-02-29 23:59:59.999999', a_jsonb = '{"b": 1.0, "a": [1e400, "\u00e9"]}' WHERE id = 2`, `UPDATE kinds SET id = 11 WHERE id = 1`, `DELETE FROM kinds WHERE id = 2`}},
	{name: "no rows", sql: `CREATE TABLE orders (id int PRIMARY KEY, status text, note text); CREATE TABLE never (id int PRIMARY KEY)`, before: []string{`TRUNCATE orders`, `DELETE FROM orders`}, after: []string{`TRUNCATE orders`, `INSERT INTO orders VALUES (1, 'new')`, `UPDATE orders SET status = 'paid'`}},
	{name: "triggers and an audit table", finding: "audit-table", sql: plainOrders + `
		CREATE TABLE audit_log (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), table_name text, op text, old_row jsonb, new_row jsonb);
		CREATE TABLE totals (status text PRIMARY KEY, n int NOT NULL);
		CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.audit_log (table_name, op, old_row, new_row) VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(OLD), to_jsonb(NEW)); RETURN NULL; END $$;
		CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION audit();
		CREATE FUNCTION count_orders() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.totals VALUES (NEW.status, 1) ON CONFLICT (status) DO UPDATE SET n = totals.n + 1; NEW.note = 'by trigger'; RETURN NEW; END $$;
		CREATE TRIGGER counted BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION count_orders()`, before: plainWork[:2], after: all(plainWork[3:], emptied)},
	{name: "all tables published by another", finding: "publication-exists", sql: plainOrders + `CREATE PUBLICATION of_another FOR ALL TABLES`, after: all(plainWork, emptied)},
	{name: "all tables published under our name", sql: plainOrders, refuses: "setup", says: []string{`is FOR ALL TABLES: it would break updates of tables without a key; choose another name`},
		edit: func(h *house) { h.publish("FOR ALL TABLES") }},
	{name: "a publication of our name", sql: plainOrders + `CREATE TABLE other (id int PRIMARY KEY, status text, note text)`, after: all(plainWork, emptied),
		edit: func(h *house) {
			h.publish("FOR TABLE other, orders (id, status) WHERE (id < 5) WITH (publish = 'insert')")
		}},
	{name: "row security", sql: plainOrders + `ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON orders USING (id < 10)`,
		refuses: "run", says: []string{"row security hides rows of public.orders", "BYPASSRLS"}, repair: "fix", after: all(plainWork, emptied)},
	{name: "foreign table", finding: "foreign-table", sql: plainOrders + `CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere; CREATE FOREIGN TABLE abroad (id int) SERVER far`, after: plainWork},
	{name: "dots in names", finding: "dotted-name", sql: `CREATE SCHEMA "a.b"; CREATE TABLE "a.b".c (id int PRIMARY KEY, v text); INSERT INTO "a.b".c VALUES (1, 'x')`, after: []string{`UPDATE "a.b".c SET v = 'y'`, `INSERT INTO "a.b".c VALUES (2)`, `TRUNCATE "a.b".c`}},
	{name: "ambiguous names", finding: "ambiguous-name", sql: plainOrders + `CREATE SCHEMA "a.b"; CREATE SCHEMA a; CREATE TABLE "a.b".c (id int PRIMARY KEY); CREATE TABLE a."b.c" (id int PRIMARY KEY)`, after: plainWork},
	{name: "columns that came and went", sql: `CREATE TABLE orders (gone text, id int PRIMARY KEY, also_gone int, status text, note text); INSERT INTO orders SELECT 'x', i, i, 'new', 'n' FROM generate_series(1, 10) i;
		ALTER TABLE orders DROP COLUMN gone, DROP COLUMN also_gone, ADD COLUMN fast text NOT NULL DEFAULT 'missing value', ADD COLUMN n int DEFAULT 7`,
		after: []string{`UPDATE orders SET status = 'paid' WHERE id = 1`, `UPDATE orders SET n = 8 WHERE id = 2`, `INSERT INTO orders (id) VALUES (99)`, `DELETE FROM orders WHERE id = 3`, `UPDATE orders SET id = 98 WHERE id = 4`}},
	{name: "two schemas", sql: `CREATE SCHEMA eu; CREATE SCHEMA us; CREATE TABLE eu.orders (id int PRIMARY KEY, status text); CREATE TABLE us.orders (id int PRIMARY KEY, status text); INSERT INTO eu.orders VALUES (1, 'new'); INSERT INTO us.orders VALUES (1, 'new')`,
		after: []string{`UPDATE eu.orders SET status = 'paid'`, `BEGIN; UPDATE us.orders SET status = 'paid'; INSERT INTO eu.orders VALUES (2); COMMIT`, `TRUNCATE us.orders, eu.orders`}},
	{name: "outbox of the application", finding: "outbox-table", sql: plainOrders + `CREATE TABLE outbox (id bigserial PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload jsonb, created_at timestamptz, published_at timestamptz)`,
		after: all(plainWork, []string{`INSERT INTO outbox (event_type) VALUES ('x')`, `DELETE FROM outbox`})},
}

// typesSQL is a table with a column of about every type that there is.
const typesSQL = `
	CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy, very', 'it''s "ok"');
	CREATE DOMAIN percent AS numeric(5,2) CHECK (VALUE BETWEEN 0 AND 100);
	CREATE DOMAIN email AS text;
	CREATE TYPE address AS (street text, no int, tags text[]);
	CREATE TYPE floatrange AS RANGE (subtype = float8);
	CREATE TABLE kinds (
		id int PRIMARY KEY, touched int DEFAULT 0,
		a_bool boolean, a_small smallint, an_int int, a_big bigint, a_numeric numeric, a_fixed numeric(12,3), a_price numeric(10,2), a_float4 real, a_float8 double precision, a_cash money,
		a_text text, a_varchar varchar(20), a_char char(6), a_bpchar bpchar, a_quoted "char", a_name name, a_bytea bytea,
		a_date date, a_time time, a_timetz timetz, a_ts timestamp, a_tstz timestamptz, an_interval interval,
		a_uuid uuid, a_json json, a_jsonb jsonb, an_xml xml, an_oid oid, a_regclass regclass,
		an_inet inet, a_cidr cidr, a_mac macaddr, a_mac8 macaddr8, a_bit bit(5), a_varbit varbit,
		a_point point, a_box box, a_path path, a_circle circle, a_vector tsvector, a_query tsquery, an_lsn pg_lsn, a_jsonpath jsonpath,
		a_mood mood, a_percent percent, an_email email, an_address address,
		an_int4range int4range, a_numrange numrange, a_tstzrange tstzrange, a_daterange daterange, a_floatrange floatrange, a_multirange int4multirange,
		ints int[], texts text[], moods mood[], percents percent[], addresses address[], grid int[][], dates timestamptz[], jsons jsonb[], ranges tstzrange[], nums numeric[], bytes bytea[], bools boolean[]);
	INSERT INTO kinds VALUES (1, 0, true, -32768, 2147483647, 9223372036854775807, 123456789012345678901234567890.123456789, -0.001, 10.50, 1.1, 1.1, 12.34,
		E'tab\t"q" \\ \u00e9\U0001F600', 'v', 'ab', 'c  ', 'x', 'name', '\x00ff10', '2020-02-29', '24:00:00', '12:34:56.789+05:30', '2020-02-29 12:34:56.789', '2020-02-29 12:34:56.789+05:30', '1 year 2 mons -3 days 04:05:06.789',
		'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a":  1, "a": 2, "b": 1.10}', '{"a": 1.10, "big": 12345678901234567890, "x": null}', '<a>x</a>', 42, 'pg_class',
		'10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'1',
		'(1.5,2)', '((0,0),(1,1))', '((0,0),(1,1))', '<(0,0),2>', 'a fat cat', 'fat & cat', '16/B374D848', '$.a',
		'it''s "ok"', 99.50, 'a@b', ROW('a "b", c', 1, '{x,"y,z",NULL}'),
		'[1,5)', '(,2.5]', '[2020-01-01,2020-02-01)', 'empty', '[1.5,2.5]', '{[1,3),[5,7)}',
		'{1,NULL,3}', '{"a,b",NULL,"NULL","","q\"q"}', '{sad,"so so"}', '{1.00}', ARRAY[ROW('s', 1, NULL)::address], '{{1,2},{3,4}}', '{2020-01-01 00:00:00+00,infinity}', ARRAY['{"a": [1]}'::jsonb], '{"[2020-01-01,2020-01-02)"}', '{1.50,NaN}', '{"\\x00ff"}', '{t,f,NULL}');
	INSERT INTO kinds (id, a_numeric, a_float4, a_float8, a_date, a_ts, a_tstz, a_text, a_char, ints, grid, a_json, a_jsonb, an_int4range) VALUES
		(2, 'NaN', 'NaN', '-Infinity', 'infinity', '-infinity', 'infinity', '', '', '{}', '[0:1][2:3]={{1,2},{3,4}}', 'null', 'null', '(,)'), (3, 'Infinity', '1e-45', '5e-324', '0044-03-15 BC', '0044-03-15 BC', '294276-12-31 23:59:59+00', 'x', 'x', '[2:3]={1,2}', NULL, '"s"', '1', '[3,)'),
		(4, 1e100, 1e38, '-0', '5874897-12-31', '2020-01-01', '0001-01-01 00:00:00+00 BC', NULL, NULL, NULL, NULL, '[]', '{}', NULL);
`
