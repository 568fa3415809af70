package declared

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
	"banyan/projections"
	"banyan/projections/state"
)

// TestLiveRowsAreThoseInMemory runs the transcripts in Postgres too: cut into
// batches at random, with a cache that holds next to nothing, partitions ahead of
// each other where their order does not count. The rows are those of one go in
// memory, and what Wants leaves out only costs time.
func TestLiveRowsAreThoseInMemory(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{})
	pool := db.Pool(t)
	seed := randtest.Seed(t)
	random := rand.New(rand.NewPCG(seed, 1))
	paths, err := filepath.Glob("testdata/runs/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no transcripts", err)
	}
	for n, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			p, h := transcript(t, path)
			want := h.run(t, p)
			all := h.all
			if !p.spec.Aligned {
				all = shuffled(random, all)
			}
			conn, err := pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			schema := fmt.Sprintf("live_%d", n)
			l := makeLive(t, conn.Conn(), schema, p)
			parked := l.give(t, random, p, all)
			if len(parked) != len(want.parked) {
				t.Errorf("parked %q, in memory %q", parked, want.parked)
			}
			for _, table := range p.spec.AllTables() {
				var got []string
				for e, err := range state.Scan(t.Context(), conn.Conn(), schema, table) {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, rowText(t, table, e.Row))
				}
				if d := cmp.Diff(want.rows[table.Name], got); d != "" {
					t.Errorf("seed %d: %s differs:\n%s", seed, table.Name, d)
				}
			}
		})
	}
}

func transcript(t testing.TB, path string) (*Program, *history) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	definition, rest, _ := strings.Cut(string(text), "---- events ----\n")
	events, _, _ := strings.Cut(rest, "---- outcome ----\n")
	h := newHistory()
	for _, line := range strings.Split(strings.TrimSpace(events), "\n") {
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		if err := h.line(line); err != nil {
			t.Fatal(err)
		}
	}
	return must(t, path, definition), h
}

// shuffled moves partitions ahead of each other; each keeps its own order.
func shuffled(random *rand.Rand, all []told) []told {
	parts := map[string][]told{}
	for _, one := range all {
		id := fmt.Sprintf("%s/%d", one.Topic, one.Partition)
		parts[id] = append(parts[id], one)
	}
	names := sortedNames(parts)
	var out []told
	for len(names) > 0 {
		i := random.IntN(len(names))
		id := names[i]
		out = append(out, parts[id][0])
		if parts[id] = parts[id][1:]; len(parts[id]) == 0 {
			names = slices.Delete(names, i, i+1)
		}
	}
	return out
}

type live struct {
	conn  *pgx.Conn
	space *state.Live
}

func makeLive(t *testing.T, conn *pgx.Conn, schema string, p *Program) *live {
	t.Helper()
	statements := append([]string{"CREATE SCHEMA " + schema}, state.CreateSQL(schema, p.spec.AllTables())...)
	statements = append(append(statements, state.KeySQL(schema, p.spec.AllTables())...), state.IndexSQL(schema, p.spec.AllTables())...)
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	space, err := state.NewLive(schema, p.spec.AllTables(), state.LiveOptions{CacheBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	return &live{conn, space}
}

// give applies events in batches of random size.
func (l *live) give(t *testing.T, random *rand.Rand, p *Program, all []told) (parked []string) {
	t.Helper()
	timers := projections.NewTimers(event.Position{})
	timers.Originate = true
	a, err := projections.NewApplier(p, l.space, timers, event.Position{})
	if err != nil {
		t.Fatal(err)
	}
	for len(all) > 0 {
		n := min(len(all), 1+random.IntN(4))
		parked = append(parked, l.batch(t, random, a, p, all[:n])...)
		all = all[n:]
	}
	return parked
}

func (l *live) batch(t *testing.T, random *rand.Rand, a *projections.Applier, p *Program, batch []told) (parked []string) {
	t.Helper()
	ctx := context.Background()
	tx, err := l.conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l.space.Open(ctx, l.conn)
	events := make([]*projections.Event, len(batch))
	want := map[string][]state.Key{}
	for i := range batch {
		if batch[i].idle != nil {
			continue
		}
		e := &projections.Event{Event: batch[i].Event, Tombstone: batch[i].Data == nil}
		if err := p.liftEvent(&e.Event); err != nil {
			t.Fatal(err)
		}
		e.Fault = p.Prepare(e)
		events[i] = e
		if err := a.Wants(e, func(table string, key state.Key) {
			if random.IntN(5) > 0 {
				want[table] = append(want[table], key)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.space.Prefetch(ctx, want); err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		if e == nil {
			if err := a.Idle(*batch[i].idle); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := a.Advance(e); err != nil {
			t.Fatal(err)
		}
		if err := a.Apply(e); err != nil {
			parked = append(parked, err.Error())
		}
	}
	if err := l.space.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	l.space.Commit()
	return parked
}

// TestViewsAddUpPartialResults looks at groups and windows as readers do.
func TestViewsAddUpPartialResults(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{})
	pool := db.Pool(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ transcript, query, want string }{
		{"groups", "SELECT string_agg(concat_ws(' ', country, customers, letters, credit, trim_scale(mean), cities), ', ' ORDER BY country) FROM by_country", "FR 2 1 1.500 31 1"},
		{"groups", "SELECT string_agg(concat_ws(' ', day, rows, pieces), ', ' ORDER BY day) FROM lines_by_day", "2010-12-01 3 0"},
		{"groups", "SELECT concat_ws(' ', card, first_at AT TIME ZONE 'UTC', most) FROM tried", "a 2010-12-01 10:00:03 12.50"},
		{"windows", "SELECT string_agg(concat_ws(' ', card, attempts, orders, trim_scale(round(mean, 3))), ', ' ORDER BY card, window_start) FROM cards", "a 3 2 2.333, b 1 1 5, b 4 1 6.75, c 1 1 7"},
		{"windows", "SELECT string_agg(concat_ws(' ', card, attempts), ', ' ORDER BY card) FROM cards_alerts", "a 3, b 4"},
		{"windows", "SELECT string_agg(concat_ws(' ', card, attempts, total), ', ' ORDER BY card, window_start) FROM visits_alerts", "a 4 14.00, b 5 32.00"},
		{"aligned", "SELECT string_agg(concat_ws(' ', country, orders), ', ' ORDER BY country) FROM orders_by_country", "FR 1, none 1"},
	} {
		schema := "views_" + c.transcript
		p, h := transcript(t, "testdata/runs/"+c.transcript+".txt")
		var there bool
		if err := conn.QueryRow(t.Context(), "SELECT to_regnamespace($1) IS NOT NULL", schema).Scan(&there); err != nil {
			t.Fatal(err)
		}
		if !there {
			makeLive(t, conn.Conn(), schema, p).give(t, random, p, h.all)
			for _, sql := range append([]string{"SET search_path = " + schema}, viewSQL(p)...) {
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
		}
		var got string
		if err := conn.QueryRow(t.Context(), c.query).Scan(&got); err != nil || got != c.want {
			t.Errorf("%s gives %q, %v; want %q", c.query, got, err, c.want)
		}
	}
}

func viewSQL(p *Program) []string {
	var out []string
	for _, v := range p.spec.Views {
		out = append(out, "CREATE VIEW "+quote(v.Name)+" AS "+v.SQL)
	}
	return out
}

func TestCheckViews(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{})
	pool := db.Pool(t)
	for name, text := range shopFiles(t) {
		faults, err := CheckViews(t.Context(), pool, must(t, name+".yaml", text))
		if err != nil || len(faults) > 0 {
			t.Errorf("%s: %v, %v", name, faults, err)
		}
	}
	p := must(t, "shipping.yaml", `projection: shipping
tables:
  orders: {from: shop.orders, columns: {id: bigint key, total: numeric}}
views:
  big: SELECT id, totl FROM orders WHERE total > 100
  small: {sql: "SELECT id FROM orders WHERE total < 'x'"}
  none: SELECT id, total FROM nowhere
  good: SELECT id FROM orders
api:
  good: {of: good, key: [id, no]}
`)
	faults, err := CheckViews(t.Context(), pool, p)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`shipping.yaml:5:8: views.big: value "SELECT id, totl FROM...": column "totl" does not exist; Perhaps you meant to reference the column "orders.total"`,
		`shipping.yaml:6:16: views.small: value "SELECT id FROM order...": invalid input syntax for type numeric: "x"`,
		`shipping.yaml:7:9: views.none: value "SELECT id, total FRO...": relation "nowhere" does not exist`,
		`shipping.yaml:8:9: api.good: value "id, no": column "no" does not exist`,
	}
	if d := cmp.Diff(strings.Join(want, "\n"), faults.Error()); d != "" {
		t.Error(d)
	}
	var left int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname = $1", scratch).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d schemas are left, %v", left, err)
	}
}
