package draft_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"banyan/doctor"
	"banyan/draft"
	"banyan/internal/pgtest"
	"banyan/translate"
	"banyan/wal"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the drafts of testdata anew")

func inspect(t *testing.T, conn *pgx.Conn) *wal.Catalog {
	t.Helper()
	cat, err := wal.Inspect(context.Background(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return cat
}

// compile loads a draft and compiles it against the catalog it was made from.
// A draft has neither faults nor warnings.
func compile(cat *wal.Catalog, text []byte) (*translate.Rules, error) {
	cfg, err := translate.Load("banyan.yaml", text)
	if err != nil {
		return nil, err
	}
	var tables []*wal.Table
	for _, tc := range cfg.Tables {
		tab, err := cat.Table(tc.Name, nil)
		if err != nil {
			return nil, err
		}
		tables = append(tables, tab)
	}
	rules, warnings, err := translate.Compile(cfg, tables, 1)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		return nil, fmt.Errorf("warning: %w", w)
	}
	return rules, nil
}

// The drafts of three schemas, word for word. Each loads, compiles and passes
// doctor.
func TestGolden(t *testing.T) {
	for _, tc := range []struct{ name, schema, more string }{
		{"shop", "../cmd/legacy-shop/schema.sql", `INSERT INTO orders (status, channel, country, total, placed_at, updated_at)
			SELECT s, 'web', 'GB', 1, now(), now() FROM unnest('{placed,rejected,validated,validation_failed,paid,shipped,cancelled,returned}'::text[]) s;
			INSERT INTO carts (status, created_at) VALUES ('open', now()), ('ordered', now())`},
		{"weird", "testdata/weird.sql", ""},
		{"rental", "testdata/rental.sql", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			schema, err := os.ReadFile(tc.schema)
			if err != nil {
				t.Fatal(err)
			}
			db := pgtest.New(t, pgtest.Options{SQL: string(schema)})
			db.Exec(t, tc.more+"; ANALYZE")
			conn := db.Conn(t)
			cat := inspect(t, conn)
			cat.Database = tc.name // the test's own has another name each time
			got, guesses, err := draft.Write(context.Background(), cat, draft.Samples(conn), draft.Options{URL: "postgres://cdc:geheim@db/" + tc.name})
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tc.name+".yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("%s (-want +got; -update writes it anew):\n%s", golden, d)
			}
			if bytes.Contains(got, []byte("geheim")) {
				t.Error("the draft holds the password of the URL")
			}
			rules, err := compile(cat, got)
			if err != nil {
				t.Fatalf("the draft does not run:\n%v", err)
			}
			// Doctor lets what the draft captures pass.
			uses := map[string]doctor.Use{}
			for table, columns := range rules.Capture() {
				uses[table] = doctor.Use{Columns: columns}
			}
			for _, f := range doctor.Examine(cat, doctor.Options{Tables: uses}).Findings {
				if f.Severity == doctor.Error {
					t.Errorf("doctor: %s %s: %s", f.ID, f.Object, f.Message)
				}
			}
			for _, g := range guesses {
				if g.Object == "" || g.Guess == "" || g.Reason == "" {
					t.Errorf("a guess without a reason: %+v", g)
				}
			}
			again, _, err := draft.Write(context.Background(), cat, draft.Samples(conn), draft.Options{URL: "postgres://cdc@db/" + tc.name})
			if err != nil || !bytes.Equal(got, again) {
				t.Errorf("a second draft differs: %v", err)
			}
		})
	}
}

// oneTable drafts a table and returns the text.
func oneTable(t *testing.T, sql string, opts draft.Options) string {
	t.Helper()
	db := pgtest.New(t, pgtest.Options{SQL: sql})
	conn := db.Conn(t)
	cat := inspect(t, conn)
	got, _, err := draft.Write(context.Background(), cat, draft.Samples(conn), opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := compile(cat, got); err != nil {
		t.Fatalf("the draft does not run:\n%v\n%s", err, got)
	}
	return string(got)
}

func TestSamples(t *testing.T) {
	many := oneTable(t, `CREATE TABLE jobs (id int PRIMARY KEY, status text); INSERT INTO jobs SELECT g, 's' || g FROM generate_series(1, 500) g`, draft.Options{})
	if !strings.Contains(many, "more than 20 values") || strings.Contains(many, "JobS1") {
		t.Errorf("500 values became rules:\n%s", many)
	}
	empty := oneTable(t, `CREATE TABLE jobs (id int PRIMARY KEY, status text)`, draft.Options{})
	if !strings.Contains(empty, "no rows yet") {
		t.Errorf("an empty table:\n%s", empty)
	}
	// A large table is sampled: far fewer rows are looked at than it has.
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE TABLE jobs (id int PRIMARY KEY, status text, filler text);
		INSERT INTO jobs SELECT g, CASE g % 2 WHEN 0 THEN 'queued' ELSE 'finished' END, repeat('x', 100) FROM generate_series(1, 300000) g`})
	db.Exec(t, `ANALYZE`)
	conn := db.Conn(t)
	values, all, err := draft.Samples(conn).Values(context.Background(), inspect(t, conn).Find("public.jobs"), "status", 21)
	if err != nil || all || cmp.Diff([]string{"finished", "queued"}, values) != "" {
		t.Errorf("values %q, all %v, %v", values, all, err)
	}
}

// A table that is locked, or that the role may not read, is drafted without its
// values, and the draft says why.
func TestSamplesThatFail(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE TABLE jobs (id int PRIMARY KEY, status text); INSERT INTO jobs VALUES (1, 'queued')`})
	ctx := context.Background()
	tx, err := db.Conn(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, `LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	conn := db.Conn(t)
	cat := inspect(t, conn)
	got, _, err := draft.Write(ctx, cat, draft.Samples(conn), draft.Options{})
	if err != nil || !strings.Contains(string(got), "could not be sampled: canceling statement due to lock timeout") {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := compile(cat, got); err != nil {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := draft.Write(cancelled, cat, draft.Samples(conn), draft.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context ended: %v", err)
	}
}

func TestNothingToDraft(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE TABLE k (a int)`})
	_, _, err := draft.Write(context.Background(), inspect(t, db.Conn(t)), draft.NoSamples{}, draft.Options{})
	if err == nil || !strings.Contains(err.Error(), "public.k: it has no key") {
		t.Errorf("err = %v", err)
	}
}

func TestOptions(t *testing.T) {
	got := oneTable(t, `CREATE TABLE orders (id int PRIMARY KEY, total numeric(9,2))`, draft.Options{Source: "My Shop", URL: "host=db user=cdc password='a b' dbname=shop",
		Slot: "s1", Publication: "p 1", Currency: "GBP", Store: "postgres://u:pw@h/store", Brokers: []string{"k1:9092", "k2:9092"}})
	for _, want := range []string{"name: my_shop ", `url: "host=db user=cdc dbname=shop"`, "slot: s1", `publication: "p 1"`, "currency: GBP}",
		`store: {url: "postgres://u@h/store"}`, `kafka: {brokers: ["k1:9092", "k2:9092"]}`, "topic: my_shop.orders"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "pw") || strings.Contains(got, "a b'") {
		t.Errorf("a password is in\n%s", got)
	}
}

// fixed is a Sampler that gives the same values for every column.
type fixed []string

func (f fixed) Values(context.Context, *wal.CatalogTable, string, int) ([]string, bool, error) {
	return f, true, nil
}

// Whatever the names, types, keys and values are, the draft loads and compiles
// without a warning, names are of the right form, and no line is broken by them.
func TestAnyCatalog(t *testing.T) {
	name := rapid.OneOf(
		rapid.SampledFrom([]string{"orders", "order", "Order", "order_items", "order items", "orderItems", "select", "in", "new", "old", "state", "status", "items",
			"users", "user_tokens", "status", "deleted_at", "is_deleted", "paid", "updated_at", "created_at", "updated at", "price", "on", "null", "true", "1", "日本", "a.b",
			"payment", "payments", "payment_attempts", "watermarks", "latest", "x.latest", "op", "key", "last", "rows", "id", "_", "-", "#x", "%s", "a: b", "'", `"`, "\\", "{", "- a"}),
		rapid.StringMatching(`[a-z]{1,6}(_[a-z]{1,6}){0,2}s?`), rapid.StringN(1, 20, 60).Filter(func(s string) bool { return !strings.Contains(s, "\x00") }))
	kinds := []struct {
		oid  uint32
		mod  int32
		name string
	}{{23, -1, "integer"}, {20, -1, "bigint"}, {25, -1, "text"}, {1700, 12<<16 | 3 + 4, "numeric"}, {1700, -1, "numeric"}, {16, -1, "boolean"}, {1114, -1, "timestamp without time zone"},
		{1184, -1, "timestamp with time zone"}, {1082, -1, "date"}, {3802, -1, "jsonb"}, {99999, -1, "public.mood"}, {1009, -1, "text[]"}, {17, -1, "bytea"}, {1042, 7, "character"}}
	rapid.Check(t, func(t *rapid.T) {
		cat := &wal.Catalog{Version: 150000, Database: rapid.String().Draw(t, "database")}
		seen := map[string]bool{}
		for n := range rapid.IntRange(1, 7).Draw(t, "tables") {
			tab := &wal.CatalogTable{OID: uint32(n + 1), Schema: rapid.SampledFrom([]string{"public", "public", "legacy", "Odd One", "a"}).Draw(t, "schema"),
				Name: name.Draw(t, "table"), Kind: wal.KindOrdinary, ReplicaIdentity: 'd', Rows: -1, Bytes: -1, Select: true, Owned: true}
			if seen[tab.FullName()] {
				continue
			}
			seen[tab.FullName()] = true
			columns := map[string]bool{}
			for range rapid.IntRange(1, 8).Draw(t, "columns") {
				c := name.Draw(t, "column")
				if columns[c] {
					continue
				}
				columns[c] = true
				k := rapid.SampledFrom(kinds).Draw(t, "type")
				col := wal.CatalogColumn{Name: c, Number: int16(len(tab.Columns) + 1), TypeOID: k.oid, TypMod: k.mod, TypeName: k.name, Declared: k.name, BaseType: k.name,
					BaseTypMod: k.mod, NotNull: rapid.Bool().Draw(t, "not null"), Select: true}
				if k.name == "public.mood" {
					col.Labels = []string{"sad", "happy", "Happy", "so-so"}
				}
				tab.Columns = append(tab.Columns, col)
			}
			for i := range rapid.IntRange(1, min(3, len(tab.Columns))).Draw(t, "key") {
				tab.Columns[i].NotNull = true
				tab.PrimaryKey = append(tab.PrimaryKey, tab.Columns[i].Name)
			}
			cat.Tables = append(cat.Tables, tab)
		}
		// Foreign keys from any columns of a fitting type to any primary key.
		for _, tab := range cat.Tables {
			for range rapid.IntRange(0, 2).Draw(t, "foreign keys") {
				to := rapid.SampledFrom(cat.Tables).Draw(t, "to")
				fk := wal.ForeignKey{References: to.FullName(), Referenced: to.PrimaryKey, OnDelete: rapid.SampledFrom([]byte("ac")).Draw(t, "on delete")}
				for _, k := range to.PrimaryKey {
					for _, c := range tab.Columns {
						if c.TypeName == to.Column(k).TypeName && !contains(fk.Columns, c.Name) {
							fk.Columns = append(fk.Columns, c.Name)
							fk.Nullable = fk.Nullable || !c.NotNull
							break
						}
					}
				}
				if len(fk.Columns) == len(to.PrimaryKey) {
					tab.ForeignKeys = append(tab.ForeignKeys, fk)
				}
			}
		}
		sortTables(cat)
		values := fixed(rapid.SliceOfNDistinct(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"shipped", "Shipped", "SHIPPED ", "in progress", "placed", "rejected",
			"removed", "changed", "deleted", "recorded", "N", "", "0", "é", "created"})), 0, 12, rapid.ID[string]).Draw(t, "values"))
		got, guesses, err := draft.Write(context.Background(), cat, values, draft.Options{URL: "postgres://h/" + "x"})
		if err != nil {
			if strings.Contains(err.Error(), "can be captured") {
				return
			}
			t.Fatal(err)
		}
		rules, err := compile(cat, got)
		if err != nil {
			t.Fatalf("the draft does not run:\n%v\n%s", err, got)
		}
		for _, topic := range rules.Topics() {
			if !topicForm.MatchString(topic.Name) {
				t.Errorf("topic %q", topic.Name)
			}
		}
		for _, a := range rules.Config.Aggregates {
			if !wordForm.MatchString(a.Name) {
				t.Errorf("aggregate %q", a.Name)
			}
			for _, e := range a.Events {
				if !wordForm.MatchString(e.Type) {
					t.Errorf("event %q", e.Type)
				}
			}
		}
		if len(guesses) == 0 {
			t.Error("no guesses")
		}
	})
}

var (
	topicForm = regexp.MustCompile(`^[a-z0-9._-]+$`)
	wordForm  = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
)

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func sortTables(cat *wal.Catalog) {
	for i := range cat.Tables {
		for j := i; j > 0 && cat.Tables[j].FullName() < cat.Tables[j-1].FullName(); j-- {
			cat.Tables[j], cat.Tables[j-1] = cat.Tables[j-1], cat.Tables[j]
		}
	}
}
