package wal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"banyan/internal/pgtest"
	"banyan/wal"
)

func planned(t testing.TB, p *wal.Plan) string {
	t.Helper()
	var b strings.Builder
	for _, s := range p.Statements {
		if s.Why == "" {
			t.Errorf("no reason for %s", s.SQL)
		}
		b.WriteString(s.SQL + "\n")
	}
	for _, o := range p.Obstacles {
		b.WriteString("! " + o + "\n")
	}
	return b.String()
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := wal.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(t.Context()) })
	return c
}

func run(t testing.TB, c *pgx.Conn, p *wal.Plan) {
	t.Helper()
	for _, s := range p.Statements {
		if _, err := c.Exec(t.Context(), s.SQL); err != nil {
			t.Fatalf("%s: %v", s.SQL, err)
		}
	}
}

// setup plans, checks the plan against want and runs it.
func setup(t testing.TB, c *pgx.Conn, a wal.Access, want string) {
	t.Helper()
	p, err := a.Setup(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	check(t, strings.ReplaceAll(want, "READER", a.Role), strings.ReplaceAll(planned(t, p), `"`+a.Role+`"`, a.Role))
	run(t, c, p)
	again, err := a.Setup(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "", planned(t, again))
}

func TestSetupMakesWhatIsMissingAndNoMore(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `
		CREATE SCHEMA "Sales dept";
		CREATE TABLE customers (id int PRIMARY KEY, name text, password_hash text);
		CREATE TABLE "Sales dept"."Größe ""x""" (id int PRIMARY KEY, total numeric, double numeric GENERATED ALWAYS AS (total * 2) STORED);
		CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
		CREATE TABLE base (id int PRIMARY KEY); CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (base);
		INSERT INTO customers VALUES (1, 'Ann', 'hash'); INSERT INTO parts VALUES (1, 1)`})
	super := connect(t, db.URL)
	a := wal.Access{Role: "reader of " + db.Name, Publication: "what we tell", Slot: db.Name, Capture: wal.Capture{
		"public.customers": {"id", "name"}, `Sales dept.Größe "x"`: {"id", "total"}, "public.parts": {"id", "v"}, "public.base": {"id"}}}
	setup(t, super, a, `
		CREATE ROLE READER LOGIN REPLICATION
		GRANT CONNECT ON DATABASE "`+db.Name+`" TO READER
		GRANT USAGE ON SCHEMA "Sales dept" TO READER
		GRANT USAGE ON SCHEMA "public" TO READER
		GRANT SELECT ON TABLE "Sales dept"."Größe ""x""" TO READER
		GRANT SELECT ON TABLE "public"."base" TO READER
		GRANT SELECT ("id", "name") ON TABLE "public"."customers" TO READER
		GRANT SELECT ON TABLE "public"."parts" TO READER
		CREATE PUBLICATION "what we tell" FOR TABLE "Sales dept"."Größe ""x""", ONLY "public"."base", "public"."customers", "public"."parts" WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)
		`)

	t.Run("the role can do all that we do", func(t *testing.T) {
		url := db.UserURL(a.Role, "")
		created, err := wal.CreateSlot(t.Context(), wal.SlotConfig{URL: url, Slot: a.Slot})
		if err != nil {
			t.Fatal(err)
		}
		defer created.Close()
		unit := wal.Unit{Aggregate: "Customer", Root: wal.UnitTable{Key: []int{0}}}
		cat, err := wal.Inspect(t.Context(), connect(t, url))
		if err != nil {
			t.Fatal(err)
		}
		if unit.Root.Table, err = cat.Table("public.customers", a.Capture["public.customers"]); err != nil {
			t.Fatal(err)
		}
		imported, err := wal.ImportSnapshot(t.Context(), url, created)
		if err != nil {
			t.Fatal(err)
		}
		defer imported.Close()
		live, err := wal.LiveSnapshot(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer live.Close()
		for _, snap := range []*wal.Snapshot{imported, live} {
			ranges, err := snap.Ranges(t.Context(), unit, 10)
			if err != nil || len(ranges) != 1 || ranges[0].Rows != 1 {
				t.Fatalf("%v %v", ranges, err)
			}
			if err := snap.Read(t.Context(), unit, ranges[0], func(tree *wal.Tree) error {
				check(t, "(id=1 name=Ann)", rowText(unit.Root.Table, tree.Row))
				return nil
			}); err != nil {
				t.Error(err)
			}
			snap.Close() // or its locks would hold up the ALTER below
		}
		temp, err := wal.TemporarySlot(t.Context(), url, a.Slot+"_verify")
		if err != nil {
			t.Fatal(err)
		}
		temp.Close()
		if _, err := connect(t, url).Exec(t.Context(), "SELECT password_hash FROM public.customers"); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("the role may read what is left out: %v", err)
		}
		s, err := wal.Open(t.Context(), wal.StreamConfig{URL: url, Slot: a.Slot, Publication: a.Publication, Capture: a.Capture,
			From: created.ConsistentPoint, Expect: created.Incarnation, SpillDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		db.Exec(t, `UPDATE customers SET name = 'Anna'; INSERT INTO heir VALUES (1); ALTER TABLE customers ADD more int; INSERT INTO base VALUES (2)`)
		r := &rig{t: t, db: db}
		txs := r.upTo(s, 1)
		check(t, "update public.customers new(id=1 name=Anna)\ninsert public.base new(id=2)\n", text(t, txs[0]))
	})
	t.Run("changes of the capture", func(t *testing.T) {
		a.Capture["public.parts"] = []string{"id"}
		a.Capture["public.customers"] = []string{"id"}
		delete(a.Capture, "public.base")
		db.Exec(t, `ALTER PUBLICATION "what we tell" SET (publish = 'insert')`)
		setup(t, super, a, `
			REVOKE SELECT ("name") ON TABLE "public"."customers" FROM READER
			REVOKE SELECT ON TABLE "public"."parts" FROM READER
			GRANT SELECT ("id") ON TABLE "public"."parts" TO READER
			ALTER PUBLICATION "what we tell" SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)
			ALTER PUBLICATION "what we tell" SET TABLE "Sales dept"."Größe ""x""", "public"."customers", "public"."parts"
			`)
	})
	t.Run("teardown", func(t *testing.T) {
		eventually(t, "the slot to be free", func() bool {
			s, err := wal.SlotInfo(t.Context(), super, a.Slot)
			return err == nil && s.ActivePID == 0
		})
		p, err := a.Teardown(t.Context(), super)
		if err != nil {
			t.Fatal(err)
		}
		run(t, super, p)
		if len(p.Statements) < 6 || p.Obstacles != nil {
			t.Errorf("%s", planned(t, p))
		}
		again, err := a.Teardown(t.Context(), super)
		if err != nil {
			t.Fatal(err)
		}
		check(t, "", planned(t, again))
		var left int
		if err := super.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_roles WHERE rolname = $1) + (SELECT count(*) FROM pg_publication)
			+ (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $2)`, a.Role, a.Slot).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d things left, %v", left, err)
		}
	})
}

func TestSetupRefusesWhatWouldBreakTheApplication(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `
		CREATE TABLE keyless (id int); CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);
		CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100); ALTER TABLE parts_1 REPLICA IDENTITY NOTHING;
		CREATE TABLE good (id int PRIMARY KEY); CREATE PUBLICATION everything FOR ALL TABLES`})
	c := connect(t, db.URL)
	a := wal.Access{Role: "r", Publication: "everything", Capture: wal.Capture{"public.keyless": {"id"}, "public.fleeting": {"id"}, "public.nothing": {"id"},
		"public.parts": {"id"}, "public.good": {"id", "gone"}, "public.missing": {"id"}}}
	_, err := a.Setup(t.Context(), c)
	e, ok := errors.AsType[*wal.SetupError](err)
	if !ok {
		t.Fatal(err)
	}
	var got []string
	for _, p := range e.Problems {
		got = append(got, strings.SplitN(p, ":", 2)[0])
	}
	want := []string{"table public.fleeting is unlogged", "table public.good", "table public.keyless has no replica identity", "table public.missing",
		"table public.nothing has no replica identity", "table public.parts_1 has no replica identity", `publication "everything" is FOR ALL TABLES`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s\n%s", diff, err)
	}
}

func TestSetupSaysWhoMustRunIt(t *testing.T) {
	db := pgtest.New(t)
	clerk, boss := "clerk_"+db.Name, "boss_"+db.Name
	db.Exec(t, `CREATE ROLE "`+clerk+`" LOGIN; CREATE ROLE "`+boss+`" LOGIN;
		CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a OWNER TO "`+boss+`"; CREATE TABLE b (id int PRIMARY KEY); ALTER TABLE b OWNER TO "`+clerk+`"`)
	t.Cleanup(func() {
		db.Exec(t, `DROP OWNED BY "`+clerk+`", "`+boss+`"; DROP ROLE "`+clerk+`"; DROP ROLE "`+boss+`"`)
	})
	a := wal.Access{Role: "reader_" + db.Name, Publication: "p", Capture: wal.Capture{"public.a": {"id"}, "public.b": {"id"}}}
	p, err := a.Setup(t.Context(), connect(t, db.UserURL(clerk, "")))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`role "` + clerk + `" may not make a role with REPLICATION: a superuser must run that line`,
		`only the owner of database "` + db.Name + `" may grant CONNECT on it`,
		`role "` + clerk + `" may not grant on table public.a: its owner "` + boss + `" must run that line`,
		`role "` + clerk + `" needs CREATE on database "` + db.Name + `" to make a publication`,
		`role "` + clerk + `" may not publish table public.a: its owner "` + boss + `" must run that line`,
	}
	if diff := cmp.Diff(want, p.Obstacles); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
