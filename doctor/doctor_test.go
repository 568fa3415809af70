package doctor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"banyan/doctor"
	"banyan/internal/pgtest"
	"banyan/wal"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// examine inspects over a connection that may write nothing.
func examine(t *testing.T, url string, opts doctor.Options) doctor.Report {
	t.Helper()
	ctx := context.Background()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	cat, err := wal.Inspect(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	return doctor.Examine(cat, opts)
}

func pick(r doctor.Report, id, object string) *doctor.Finding {
	for i := range r.Findings {
		if f := &r.Findings[i]; f.ID == id && f.Object == object {
			return f
		}
	}
	return nil
}

func ids(r doctor.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  %s %s %s: %s\n", f.Severity, f.ID, f.Object, f.Message)
	}
	return b.String()
}

// covered collects the finding ids that a test has made and seen.
var covered = map[string]bool{}

// TestMain fails a whole run in which a finding of the source was not made by
// any test.
func TestMain(m *testing.M) {
	code := m.Run()
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.list").Value.String() == "" &&
		flag.Lookup("test.skip").Value.String() == ""
	if code == 0 && whole {
		if untested := untested(); len(untested) > 0 {
			fmt.Println("FAIL: findings without a test:", untested)
			code = 1
		}
	}
	os.Exit(code)
}

// untested lists the finding ids in the source that covered lacks.
func untested() (ids []string) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		return []string{err.Error()}
	}
	known := regexp.MustCompile(`(?:ID: |f\.ID = |e\.room\()"([a-z-]+)"`)
	seen := 0
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return []string{err.Error()}
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range known.FindAllStringSubmatch(string(b), -1) {
			seen++
			if !covered[m[1]] {
				ids = append(ids, m[1])
			}
		}
	}
	if seen < 30 {
		ids = append(ids, fmt.Sprintf("only %d in the source: has the way they are written changed?", seen))
	}
	return ids
}

func capture(tables ...string) map[string]doctor.Use {
	m := map[string]doctor.Use{}
	for _, t := range tables {
		m[t] = doctor.Use{}
	}
	return m
}

// Every trait of a table is made, found with the severity that it has without
// a configuration, in one that captures the table and in one that does not,
// and gone after its fix.
func TestTraitsOfTables(t *testing.T) {
	type sev = doctor.Severity
	const e, w, i, none = doctor.Error, doctor.Warning, doctor.Info, doctor.Severity("")
	for _, tc := range []struct {
		id, object string
		sql        string
		draft      sev // without a configuration
		in, out    sev // the object is captured, or only public.other is
		fixable    bool
		says       string
	}{
		{"no-key", "public.t", `CREATE TABLE t (a int, b text)`, w, e, i, true, "no primary key"},
		{"no-key", "public.t", `CREATE TABLE t (a int UNIQUE, "B c" text)`, w, e, i, true, ""},
		{"no-key", "public.t", `CREATE TABLE t (row_id int, b text); CREATE UNIQUE INDEX ON t (lower(b)); CREATE UNIQUE INDEX ON t (b) WHERE row_id > 1`, w, e, i, true, ""},
		{"no-key", "public.t", `CREATE TABLE t (a int NOT NULL UNIQUE DEFERRABLE)`, w, e, i, true, ""},
		{"no-key", "public.p1", `CREATE TABLE p (a int) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p DEFAULT`, w, e, i, true, ""},
		{"full-without-key", "public.t", `CREATE TABLE t (a int); ALTER TABLE t REPLICA IDENTITY FULL`, i, w, i, false, ""},
		{"no-identity", "public.t", `CREATE TABLE t (a int NOT NULL UNIQUE)`, w, e, i, true, "unique index"},
		{"no-identity", "public.t", `CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY USING INDEX t_b_key; DROP INDEX IF EXISTS nothing; ALTER TABLE t DROP CONSTRAINT t_b_key`, w, e, i, true, ""},
		{"identity-nothing", "public.t", `CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING`, w, e, i, true, ""},
		{"identity-nothing", "public.t", `CREATE TABLE t (a int NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY NOTHING`, w, e, i, true, ""},
		{"identity-nothing", "public.p1", `CREATE TABLE p (a int PRIMARY KEY) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p DEFAULT; ALTER TABLE p1 REPLICA IDENTITY NOTHING`, w, e, i, true, ""},
		{"identity-without-key", "public.t", `CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY USING INDEX t_b_key`, w, e, i, true, "lacks the key (a)"},
		{"identity-index", "public.t", `CREATE TABLE t (b int NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY USING INDEX t_b_key`, i, i, i, false, ""},
		{"deferrable-key", "public.t", `CREATE TABLE t (a int PRIMARY KEY DEFERRABLE, b int)`, w, e, i, true, "DEFERRABLE"},
		{"deferrable-key", "public.t", `CREATE TABLE t (a int PRIMARY KEY DEFERRABLE, b int NOT NULL UNIQUE)`, w, e, i, true, "DEFERRABLE"},
		{"deferrable-full", "public.t", `CREATE TABLE t (a int PRIMARY KEY DEFERRABLE, b int); ALTER TABLE t REPLICA IDENTITY FULL`, i, w, i, false, "same key"},
		{"identity-full", "public.t", `CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY FULL`, i, i, i, true, ""},
		{"unlogged", "public.t", `CREATE UNLOGGED TABLE t (a int PRIMARY KEY)`, w, e, i, true, ""},
		{"partitioned", "public.p", `CREATE TABLE p (a int PRIMARY KEY) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p DEFAULT`, i, i, i, false, "1 partition"},
		{"inherited", "public.t", `CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE c (PRIMARY KEY (a)) INHERITS (t)`, w, w, i, false, "public.c"},
		{"foreign-table", "public.t", `CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE t (a int) SERVER s`, i, e, i, false, ""},
		{"toast", "public.t", `CREATE TABLE t (a int PRIMARY KEY, b text, c jsonb, d varchar(20), e numeric, f bytea[], g int)`, i, i, i, false, "primary key: b, c, f"},
		{"toast", "public.t", `CREATE TABLE t (a int NOT NULL UNIQUE, b varchar(20000)); ALTER TABLE t REPLICA IDENTITY USING INDEX t_a_key`, i, i, i, false, "an index: b"},
		{"quoted-name", "public.Order", `CREATE TABLE "Order" ("Id" int PRIMARY KEY, "from" int, plain int)`, i, i, i, false, "public.Order, Id, from"},
		{"dotted-name", "public.a.b", `CREATE TABLE "a.b" (id int PRIMARY KEY)`, i, i, i, false, ""},
		{"ambiguous-name", "a.b.c", `CREATE SCHEMA a; CREATE SCHEMA "a.b"; CREATE TABLE a."b.c" (id int PRIMARY KEY); CREATE TABLE "a.b".c (id int PRIMARY KEY)`, w, e, i, false, ""},
		{"generated-column", "public.t", `CREATE TABLE t (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a * 2) STORED)`, i, i, i, false, "b"},
		{"nullable-parent", "public.t", `CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (a int PRIMARY KEY, p int REFERENCES p)`, i, i, i, false, "p -> public.p"},
		{"trigger-writes", "public.t", `CREATE TABLE t (a int PRIMARY KEY); CREATE TABLE "Log" (a int PRIMARY KEY);
			CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
			-- update nothing
			IF TG_OP = 'DELETE FROM x' THEN INSERT INTO "Log" VALUES (1) ON CONFLICT DO UPDATE SET a = 2; END IF; RETURN NULL; END $f$;
			CREATE TRIGGER tr AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()`, i, i, i, false, "writes to Log"},
		{"outbox-table", "public.domain_events", `CREATE TABLE domain_events (id int PRIMARY KEY)`, i, i, i, false, "its name"},
		{"outbox-table", "public.t", `CREATE TABLE t (id int PRIMARY KEY, aggregate_type text, "aggregateId" text)`, i, i, i, false, "its columns"},
		{"audit-table", "public.t", `CREATE TABLE t (id int PRIMARY KEY, table_name text, action text)`, i, i, i, false, "its columns"},
		{"audit-table", "public.order_history", `CREATE TABLE order_history (id int PRIMARY KEY)`, i, i, i, false, "its name"},
		{"no-table", "public.gone", ``, none, e, none, false, "does not have"},
	} {
		t.Run(tc.id+" "+tc.object, func(t *testing.T) {
			db := pgtest.New(t, pgtest.Options{SQL: "CREATE TABLE other (id int PRIMARY KEY);" + tc.sql})
			object := tc.object
			if object == "public.p1" {
				object = "public.p" // a partition is captured through its root
			}
			for _, c := range []struct {
				tables map[string]doctor.Use
				want   sev
			}{{nil, tc.draft}, {capture(object), tc.in}, {capture("public.other"), tc.out}} {
				r := examine(t, db.URL, doctor.Options{Tables: c.tables})
				f := pick(r, tc.id, tc.object)
				switch {
				case f == nil && c.want == none:
				case f == nil || f.Severity != c.want:
					t.Errorf("capturing %v: want %s %s on %s, found\n%s", c.tables, c.want, tc.id, tc.object, ids(r))
				case !strings.Contains(f.Message, tc.says):
					t.Errorf("message %q does not say %q", f.Message, tc.says)
				case (len(f.Fix) > 0) != tc.fixable:
					t.Errorf("fix = %q", f.Fix)
				default:
					covered[f.ID] = true
				}
			}
			if !tc.fixable {
				return
			}
			f := pick(examine(t, db.URL, doctor.Options{Tables: capture(object)}), tc.id, tc.object)
			for _, sql := range f.Fix {
				db.Exec(t, sql)
			}
			for _, tables := range []map[string]doctor.Use{nil, capture(object)} {
				r := examine(t, db.URL, doctor.Options{Tables: tables})
				if g := pick(r, tc.id, tc.object); g != nil {
					t.Errorf("still there after %q: %+v", f.Fix, *g)
				}
				if tables != nil && r.Verdict == doctor.Blocked {
					t.Errorf("blocked after %q:\n%s", f.Fix, ids(r))
				}
			}
		})
	}
}

// What is said of a table holds on the server: with the findings' fixes the
// monolith's updates work once the table is published, without them they fail.
func TestKeylessTablesBreakTheMonolith(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'); CREATE PUBLICATION p FOR TABLE t`})
	ctx := context.Background()
	update := func() error { _, err := db.Conn(t).Exec(ctx, `UPDATE t SET b = 'y'`); return err }
	r := examine(t, db.URL, doctor.Options{})
	if err := update(); err == nil || pick(r, "publication-breaks-updates", "publication p") == nil {
		t.Fatalf("update: %v; found\n%s", err, ids(r))
	}
	for _, sql := range pick(r, "no-key", "public.t").Fix {
		db.Exec(t, sql)
	}
	if err := update(); err != nil {
		t.Fatalf("update after the fix: %v", err)
	}
}

// A key that the rules name counts, not only the table's own.
func TestKeyOfTheConfiguration(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL UNIQUE, gen int GENERATED ALWAYS AS (id + 1) STORED)`})
	opts := doctor.Options{Tables: map[string]doctor.Use{"public.t": {Columns: []string{"id", "code", "gen"}, Key: []string{"code"}}}}
	r := examine(t, db.URL, opts)
	f := pick(r, "identity-without-key", "public.t")
	if f == nil || f.Severity != doctor.Error {
		t.Fatalf("found\n%s", ids(r))
	}
	if g := pick(r, "generated-column", "public.t"); g == nil || g.Severity != doctor.Error {
		t.Errorf("a captured generated column: %v", g)
	}
	for _, sql := range f.Fix {
		db.Exec(t, sql)
	}
	if r := examine(t, db.URL, opts); pick(r, "identity-without-key", "public.t") != nil {
		t.Errorf("still there after %q:\n%s", f.Fix, ids(r))
	}
}

func TestPublications(t *testing.T) {
	const schema = `CREATE TABLE k (id int PRIMARY KEY); CREATE TABLE l (id int PRIMARY KEY, v text); CREATE TABLE bare (a int);
		CREATE TABLE p (a int PRIMARY KEY) PARTITION BY RANGE (a); CREATE TABLE p1 PARTITION OF p DEFAULT;`
	ours := doctor.Options{Publication: "ours", AfterSetup: true, Tables: capture("public.k", "public.l", "public.p")}
	for _, tc := range []struct {
		id, object, sql string
		opts            doctor.Options
		want            doctor.Severity
		fix             bool
		after           string // SQL that stands for what setup then does
	}{
		{"publication-exists", "publication a", `CREATE PUBLICATION a FOR TABLE k`, doctor.Options{}, doctor.Info, false, ""},
		{"publication-breaks-updates", "publication a", `CREATE PUBLICATION a FOR TABLE k, bare`, doctor.Options{}, doctor.Warning, true, ""},
		{"publication-breaks-updates", "publication a", `ALTER TABLE p1 REPLICA IDENTITY NOTHING; CREATE PUBLICATION a FOR TABLE p`, doctor.Options{}, doctor.Warning, true, ""},
		{"all-tables-publication", "publication a", `CREATE PUBLICATION a FOR ALL TABLES`, doctor.Options{}, doctor.Warning, true, ""},
		{"no-publication", "publication ours", ``, ours, doctor.Error, false, ""},
		{"publication-differs", "publication ours", `CREATE PUBLICATION ours FOR ALL TABLES; ALTER TABLE bare REPLICA IDENTITY FULL`, ours, doctor.Error, true,
			`CREATE PUBLICATION ours FOR TABLE k, l, p WITH (publish_via_partition_root = true)`},
		{"publication-differs", "publication ours", `CREATE PUBLICATION ours FOR TABLE k, l (id), p WITH (publish = 'insert')`, ours, doctor.Error, true, ""},
		{"publication-differs", "publication ours", `CREATE PUBLICATION ours FOR TABLE k WHERE (id > 0)`, ours, doctor.Error, true, ""},
	} {
		t.Run(tc.id, func(t *testing.T) {
			db := pgtest.New(t, pgtest.Options{SQL: schema + tc.sql})
			r := examine(t, db.URL, tc.opts)
			f := pick(r, tc.id, tc.object)
			if f == nil || f.Severity != tc.want || (len(f.Fix) > 0) != tc.fix {
				t.Fatalf("want %s %s, found %+v in\n%s", tc.want, tc.id, f, ids(r))
			}
			covered[tc.id] = true
			if !tc.fix {
				return
			}
			for _, sql := range append(slices.Clone(f.Fix), tc.after) {
				db.Exec(t, sql)
			}
			if r := examine(t, db.URL, tc.opts); pick(r, tc.id, tc.object) != nil {
				t.Errorf("still there after %q:\n%s", f.Fix, ids(r))
			}
		})
	}
}

// A role with nothing but a login sees what it lacks; what the fixes grant is
// enough, and no right is asked for that is not needed.
func TestRights(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, open int, hidden text); CREATE TABLE s.b (id int PRIMARY KEY);
		CREATE TABLE s.p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE s.p1 PARTITION OF s.p DEFAULT`})
	name := "cdc " + db.Name
	role := pgx.Identifier{name}.Sanitize()
	db.Exec(t, `CREATE ROLE `+role+` LOGIN`)
	t.Cleanup(func() { db.Exec(t, `DROP OWNED BY `+role+`; DROP ROLE `+role) })
	db.Exec(t, `ALTER TABLE s.b ENABLE ROW LEVEL SECURITY`)
	conn, err := pgx.Connect(context.Background(), db.UserURL(name, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	db.Exec(t, `REVOKE CONNECT ON DATABASE `+pgx.Identifier{db.Name}.Sanitize()+` FROM PUBLIC`)
	look := func(opts doctor.Options) doctor.Report {
		t.Helper()
		cat, err := wal.Inspect(context.Background(), conn)
		if err != nil {
			t.Fatal(err)
		}
		return doctor.Examine(cat, opts)
	}
	rights := []string{"role-replication", "role-connect", "schema-usage", "table-select", "row-security"}
	objects := map[string]string{"schema-usage": "schema s", "table-select": "schema s", "row-security": "s.b"}
	before := look(doctor.Options{})
	opts := doctor.Options{AfterSetup: true, Tables: map[string]doctor.Use{"s.a": {Columns: []string{"id", "open"}}, "s.b": {}, "s.p": {}}}
	after := look(opts)
	if before.Verdict != doctor.ReadyWithWarnings || after.Verdict != doctor.Blocked {
		t.Errorf("verdicts %s, then %s", before.Verdict, after.Verdict)
	}
	for _, id := range rights {
		object := objects[id]
		if object == "" {
			object = "role " + name
		}
		f, g := pick(before, id, object), pick(after, id, object)
		if f == nil || f.Severity != doctor.Warning || g == nil || g.Severity != doctor.Error {
			t.Fatalf("%s: before setup %v, after %v; found\n%s", id, f, g, ids(after))
		}
		covered[id] = true
		for _, sql := range g.Fix {
			db.Exec(t, sql)
		}
	}
	if f := pick(before, "publication-owner", "role "+name); f == nil || f.Severity != doctor.Info {
		t.Errorf("publication-owner: %v", f)
	}
	covered["publication-owner"] = true
	r := look(opts)
	if r.Verdict != doctor.Ready || slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return slices.Contains(rights, f.ID) }) {
		t.Errorf("after the fixes: %s\n%s", r.Verdict, ids(r))
	}
	var open bool
	if err := conn.QueryRow(context.Background(), `SELECT has_column_privilege('s.a', 'hidden', 'SELECT')`).Scan(&open); err != nil || open {
		t.Errorf("the fixes opened a column that nobody asked for: %v, %v", open, err)
	}
	if len(r.Unseen) == 0 {
		t.Error("a plain role saw everything")
	}
}

// Every finding about the server, on a server of its own whose settings make
// it; the fixes are executed and the server restarted where they say so.
func TestTraitsOfServers(t *testing.T) {
	s := pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{
		"wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "1", "wal_sender_timeout": "0"}})
	wants := []struct {
		id   string
		want doctor.Severity
		fix  bool
	}{{"wal-level", doctor.Error, true}, {"slots", doctor.Warning, true}, {"senders", doctor.Warning, true},
		{"sender-timeout", doctor.Warning, true}, {"wal-unlimited", doctor.Info, true}}
	r := examine(t, s.URL(), doctor.Options{})
	restart := false
	for _, w := range wants {
		f := pick(r, w.id, "server")
		if f == nil || f.Severity != w.want || (len(f.Fix) > 0) != w.fix {
			t.Fatalf("want %s %s, found\n%s", w.want, w.id, ids(r))
		}
		covered[w.id] = true
		for _, sql := range f.Fix {
			if strings.HasPrefix(sql, "--") {
				restart = true
				continue
			}
			execOn(t, s.URL(), sql)
		}
	}
	if r.Verdict != doctor.Blocked || !restart {
		t.Errorf("verdict %s, restart asked for: %v", r.Verdict, restart)
	}
	s.Restart(t)
	r = examine(t, s.URL(), doctor.Options{})
	for _, w := range wants {
		if f := pick(r, w.id, "server"); f != nil {
			t.Errorf("still there: %+v", *f)
		}
	}
	if pick(r, "wal-limited", "server") == nil {
		t.Errorf("the limit that was set is not told:\n%s", ids(r))
	}
	covered["wal-limited"] = true

	// Slots: one of somebody else's under our name, then none left.
	execOn(t, s.URL(), `SELECT pg_create_physical_replication_slot('ours')`)
	r = examine(t, s.URL(), doctor.Options{Slot: "ours"})
	if f := pick(r, "slot-taken", "slot ours"); f == nil || f.Severity != doctor.Error {
		t.Errorf("slot-taken: %v", f)
	}
	covered["slot-taken"] = true
	for n := range 4 {
		execOn(t, s.URL(), fmt.Sprintf(`SELECT pg_create_physical_replication_slot('s%d') WHERE (SELECT count(*) FROM pg_replication_slots) < current_setting('max_replication_slots')::int`, n))
	}
	r = examine(t, s.URL(), doctor.Options{})
	if f := pick(r, "slots", "server"); f == nil || f.Severity != doctor.Error {
		t.Errorf("no slot is left: %v", f)
	}
	if r = examine(t, s.URL(), doctor.Options{Slot: "ours"}); pick(r, "slots", "server") == nil || pick(r, "slots", "server").Severity != doctor.Warning {
		t.Errorf("our own slot needs no other:\n%s", ids(r))
	}

	execOn(t, s.URL(), `ALTER SYSTEM SET synchronous_standby_names = 'far'`)
	execOn(t, s.URL(), `SET synchronous_commit = local; SELECT pg_reload_conf()`)
	waitSetting(t, s.URL(), "synchronous_standby_names", "far")
	if f := pick(examine(t, s.URL(), doctor.Options{}), "synchronous-standby", "server"); f == nil || f.Severity != doctor.Info {
		t.Errorf("synchronous-standby: %v", f)
	}
	covered["synchronous-standby"] = true
}

// A setting is in force once the server has read its files again; each new
// connection asks it.
func waitSetting(t *testing.T, url, name, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20e9)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		err = conn.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&got)
		conn.Close(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got == want {
			return
		}
	}
}

// A slot that the server gave up is named, and goes with its fix.
func TestLostSlot(t *testing.T) {
	s := pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "64MB"}})
	execOn(t, s.URL(), `SELECT pg_create_logical_replication_slot('ours', 'pgoutput')`)
	opts := doctor.Options{Slot: "ours"}
	for range 40 {
		execOn(t, s.URL(), `SELECT pg_switch_wal(); CREATE TABLE x (a int); DROP TABLE x; CHECKPOINT`)
		if pick(examine(t, s.URL(), opts), "slot-lost", "slot ours") != nil {
			break
		}
	}
	f := pick(examine(t, s.URL(), opts), "slot-lost", "slot ours")
	if f == nil || f.Severity != doctor.Error {
		t.Fatalf("found\n%s", ids(examine(t, s.URL(), opts)))
	}
	covered["slot-lost"] = true
	for _, sql := range f.Fix {
		execOn(t, s.URL(), sql)
	}
	if r := examine(t, s.URL(), opts); pick(r, "slot-lost", "slot ours") != nil {
		t.Errorf("still there:\n%s", ids(r))
	}
}

func TestStandby(t *testing.T) {
	s := pgtest.NewServer(t)
	s.Stop(t, pgtest.Fast)
	signal := filepath.Join(s.Dir, "data", "standby.signal")
	if err := os.WriteFile(signal, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	r := examine(t, s.URL(), doctor.Options{})
	if f := pick(r, "standby", "server"); f == nil || f.Severity != doctor.Error {
		t.Errorf("found\n%s", ids(r))
	}
	covered["standby"] = true
	execOn(t, s.URL(), `SELECT pg_promote()`)
	if r := examine(t, s.URL(), doctor.Options{}); pick(r, "standby", "server") != nil {
		t.Errorf("still a standby after it was promoted:\n%s", ids(r))
	}
}

func TestOddDatabases(t *testing.T) {
	db := pgtest.New(t)
	name := db.Name + "_ascii"
	db.Exec(t, `CREATE DATABASE `+name+` ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
	t.Cleanup(func() { db.Exec(t, `DROP DATABASE `+name) })
	r := examine(t, strings.Replace(db.URL, db.Name, name, 1), doctor.Options{})
	for _, id := range []string{"encoding", "no-tables"} {
		if f := pick(r, id, "database "+name); f == nil || f.Severity != doctor.Warning {
			t.Errorf("%s: found\n%s", id, ids(r))
		}
		covered[id] = true
	}
	// There is no server older than 14 here, so its catalog is made.
	old := doctor.Examine(&wal.Catalog{Version: 130015, VersionText: "13.15"}, doctor.Options{})
	if f := pick(old, "server-version", "server"); f == nil || old.Verdict != doctor.Blocked || !strings.Contains(f.Message, "13.15") {
		t.Errorf("version 13: %s\n%s", old.Verdict, ids(old))
	}
	covered["server-version"] = true
}

// A trigger whose body cannot be read is named as not seen.
func TestUnreadableTrigger(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE TABLE t (a int PRIMARY KEY);
		CREATE TRIGGER same BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`})
	r := examine(t, db.URL, doctor.Options{})
	if !slices.ContainsFunc(r.Unseen, func(s string) bool { return strings.Contains(s, "trigger same on public.t") }) {
		t.Errorf("unseen: %q", r.Unseen)
	}
}

// The list of reserved words is the server's.
func TestQuotes(t *testing.T) {
	db := pgtest.New(t)
	rows, err := db.Conn(t).Query(context.Background(), `SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T') ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	reserved, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range append(reserved, "Upper", "9lives", "a b", "ü", "a.b", "") {
		if !doctor.NeedsQuotes(w) {
			t.Errorf("%q needs quotes", w)
		}
	}
	for _, w := range []string{"orders", "_x", "a$b", "status", "value", "line_no"} {
		if doctor.NeedsQuotes(w) {
			t.Errorf("%q needs no quotes", w)
		}
	}
	if got := doctor.Quote(`say "hi"`); got != `"say ""hi"""` {
		t.Errorf("Quote = %s", got)
	}
}

// Examining leaves no trace in any catalog.
func TestChangesNothing(t *testing.T) {
	schema, err := os.ReadFile("../cmd/legacy-shop/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	db := pgtest.New(t, pgtest.Options{SQL: string(schema)})
	dump := func() string {
		t.Helper()
		conn := db.Conn(t)
		ctx := context.Background()
		rows, err := conn.Query(ctx, `SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace = 'pg_catalog'::regnamespace
			AND relkind = 'r' AND relname <> 'pg_statistic' ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, n := range append(names, "pg_replication_slots", "public.orders") {
			columns := "t::text"
			if n == "pg_class" { // autovacuum may touch the statistics in it
				columns = "(to_jsonb(t) - '{relpages,reltuples,relallvisible,relfrozenxid,relminmxid}'::text[])::text"
			}
			if n == "pg_database" {
				columns = "(to_jsonb(t) - '{datfrozenxid,datminmxid}'::text[])::text"
			}
			var text string
			if err := conn.QueryRow(ctx, `SELECT coalesce(string_agg(r, E'\n' ORDER BY r), '') FROM (SELECT `+columns+` AS r FROM `+n+` t) q`).Scan(&text); err != nil {
				t.Fatalf("%s: %v", n, err)
			}
			fmt.Fprintf(&b, "%s\n%s\n", n, text)
		}
		return b.String()
	}
	before := dump()
	r := examine(t, db.URL, doctor.Options{})
	if len(r.Findings) == 0 {
		t.Fatal("nothing was found in the old shop")
	}
	if d := cmp.Diff(before, dump()); d != "" {
		t.Errorf("the catalog changed (-before +after):\n%s", d)
	}
}

// The legacy shop passes, with the warts that it is known for.
func TestLegacyShop(t *testing.T) {
	schema, err := os.ReadFile("../cmd/legacy-shop/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	db := pgtest.New(t, pgtest.Options{SQL: string(schema)})
	r := examine(t, db.URL, doctor.Options{})
	if r.Verdict != doctor.ReadyWithWarnings {
		t.Errorf("verdict %s:\n%s", r.Verdict, ids(r))
	}
	for _, w := range [][2]string{{"no-key", "public.access_log"}, {"trigger-writes", "public.orders"}, {"audit-table", "public.audit_log"},
		{"nullable-parent", "public.orders"}, {"toast", "public.orders"}} {
		if pick(r, w[0], w[1]) == nil {
			t.Errorf("no %s on %s in\n%s", w[0], w[1], ids(r))
		}
	}
}

func TestShapes(t *testing.T) {
	r := doctor.Report{Verdict: doctor.Blocked, Server: "15.18", Database: "shop", Role: "cdc", Tables: 2, Errors: 1, Infos: 1,
		Findings: []doctor.Finding{
			{ID: "wal-level", Severity: doctor.Error, Object: "server", Message: `wal_level is "replica", not logical`,
				Why: "only at wal_level=logical does the WAL carry enough to tell which row changed; it writes a little more WAL",
				Fix: []string{"ALTER SYSTEM SET wal_level = 'logical'", "-- restart the server"}},
			{ID: "toast", Severity: doctor.Info, Object: "public.t", Message: "long", Why: "because", Fix: []string{}},
		}, Unseen: []string{"pg_hba.conf"}}
	const want = `database shop on Postgres 15.18, as role cdc, 2 tables

error   server (wal-level)
  wal_level is "replica", not logical
  why: only at wal_level=logical does the WAL carry enough to tell which row
       changed; it writes a little more WAL
  fix: ALTER SYSTEM SET wal_level = 'logical';
  fix: -- restart the server

info    public.t (toast)
  long
  why: because

not seen:
  - pg_hba.conf

blocked: 1 error, 0 warnings, 1 note
`
	var plain, coloured bytes.Buffer
	if err := r.Text(&plain, false); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, plain.String()); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
	if err := r.Text(&coloured, true); err != nil {
		t.Fatal(err)
	}
	if got := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(coloured.String(), ""); got != want || coloured.String() == want {
		t.Error("colour changes more than colour, or nothing")
	}
	b, err := json.Marshal(doctor.Examine(&wal.Catalog{Version: 130000, VersionText: "13.0", Database: "d", Role: wal.CatalogRole{Name: "r"}}, doctor.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	const wantJSON = `{"verdict":"blocked","server":"13.0","database":"d","role":"r","tables":0,"errors":1,"warnings":0,"infos":0,` +
		`"findings":[{"id":"server-version","severity":"error","object":"server","message":"the server is version 13.0; 14 is the oldest that works",` +
		`"why":"publications of partitioned tables and safe slots came with 13 and 14; upgrade the server first","fix":[]}],"unseen":[]}`
	if d := cmp.Diff(wantJSON, string(b)); d != "" {
		t.Errorf("JSON (-want +got):\n%s", d)
	}
}

func execOn(t *testing.T, url, sql string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	// One statement at a time: ALTER SYSTEM and CHECKPOINT want no transaction.
	for _, s := range strings.Split(sql, "; ") {
		if _, err := conn.Exec(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}
