package wal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/internal/pgtest"
	"banyan/wal"
)

const shopSchema = `
	CREATE TABLE customers (id int PRIMARY KEY, name text);
	CREATE TABLE orders (shop text COLLATE "und-x-icu", no int, customer_id int, note text, PRIMARY KEY (shop, no));
	CREATE TABLE lines (shop text, order_no int, line int, product text, PRIMARY KEY (shop, order_no, line));
	CREATE TABLE allocations (id int PRIMARY KEY, shop text, order_no int, line int, bin text);
	CREATE TABLE payments (id int PRIMARY KEY, shop text, order_no int, paid numeric(12,3)) PARTITION BY RANGE (id);
	CREATE TABLE payments_low PARTITION OF payments FOR VALUES FROM (MINVALUE) TO (100);
	CREATE TABLE payments_high PARTITION OF payments FOR VALUES FROM (100) TO (MAXVALUE);
	CREATE TABLE lines_archive () INHERITS (lines);`

// tableOf takes a table from the catalog, with all its columns.
func tableOf(t testing.TB, r *pgtest.DB, full string) *wal.Table {
	t.Helper()
	cat, err := wal.Inspect(t.Context(), r.Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	table, err := cat.Table(full, nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// shopUnit is orders with their lines, the lines' allocations, and payments.
func shopUnit(t testing.TB, db *pgtest.DB) wal.Unit {
	orders, lines, allocations, payments := tableOf(t, db, "public.orders"), tableOf(t, db, "public.lines"), tableOf(t, db, "public.allocations"), tableOf(t, db, "public.payments")
	return wal.Unit{Aggregate: "Order", Root: wal.UnitTable{Table: orders, Key: []int{0, 1}, Children: []wal.UnitTable{
		{Table: lines, Key: []int{0, 1, 2}, Parent: [][2]int{{0, 0}, {1, 1}}, Children: []wal.UnitTable{
			{Table: allocations, Key: []int{0}, Parent: [][2]int{{1, 0}, {2, 1}, {3, 2}}},
		}},
		{Table: payments, Key: []int{0}, Parent: [][2]int{{1, 0}, {2, 1}}},
	}}}
}

func treeText(u *wal.UnitTable, tree *wal.Tree, indent string) string {
	s := indent + u.Table.Name + rowText(u.Table, tree.Row) + "\n"
	for i := range tree.Children {
		for k := range tree.Children[i] {
			s += treeText(&u.Children[i], &tree.Children[i][k], indent+"  ")
		}
	}
	return s
}

// late is a context whose deadline passes when the test says so, and which ends later:
// between the two a connection fails by the deadline, and the context knows of nothing.
type late struct {
	context.Context
	passed atomic.Bool
}

func (c *late) Deadline() (time.Time, bool) {
	if c.passed.Load() {
		return time.Now().Add(-time.Millisecond), true
	}
	return time.Now().Add(time.Hour), true
}

// Which transaction keeps a settled snapshot from being had is told, also where it is
// while a connection is being made that the time is up.
func TestSettledSnapshotNamesWhoIsOpen(t *testing.T) {
	db := pgtest.New(t)
	tx, err := db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var open uint64
	if err := tx.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&open); err != nil {
		t.Fatal(err)
	}
	unsettled := func(ctx context.Context, after func()) {
		t.Helper()
		done := make(chan error, 1)
		go func() {
			s, err := wal.SettledSnapshot(ctx, db.URL)
			s.Close() //nolint:errcheck // there is none
			done <- err
		}()
		// The second look at the tables has begun, so the first has found who is open.
		pids := map[string]bool{}
		for len(pids) < 2 {
			if len(done) > 0 {
				t.Fatalf("it did not wait: %v", <-done)
			}
			for _, pid := range db.Column(t, `SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'banyan'`) {
				pids[pid] = true
			}
		}
		after()
		err := <-done
		var u *wal.UnsettledError
		if !errors.As(err, &u) || u.XID > open || u.Err == nil { // others are on this server too
			t.Errorf("want that transaction %d is open, got %v", open, err)
		}
	}
	l := &late{Context: t.Context()}
	unsettled(l, func() { l.passed.Store(true) })
	ctx, cancel := context.WithCancel(t.Context())
	unsettled(ctx, cancel)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := wal.SettledSnapshot(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.Close() //nolint:errcheck // a reader
}

func TestSnapshotReadsTrees(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: shopSchema + `
		INSERT INTO orders VALUES ('b', 1, 7, NULL), ('A', 2, 7, 'it''s'), ('a', 1, NULL, ''), ('Z', 10, 1, 'last');
		INSERT INTO lines VALUES ('a', 1, 2, 'tea'), ('a', 1, 1, 'pot'), ('Z', 10, 1, 'cup'), ('nobody', 1, 1, 'orphan');
		INSERT INTO lines_archive VALUES ('a', 1, 3, 'another table''s row');
		INSERT INTO allocations VALUES (1, 'a', 1, 1, 'p1'), (2, 'a', 1, 2, 't1'), (3, 'a', 1, 1, 'p2'), (4, 'Z', 10, 1, 'c1'), (5, 'b', 1, 1, 'orphan');
		INSERT INTO payments VALUES (150, 'a', 1, 1.5), (1, 'a', 1, 2), (2, 'b', 1, 3.333)`})
	snap, err := wal.LiveSnapshot(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	u := shopUnit(t, db)
	var whole strings.Builder
	if err := snap.Read(t.Context(), u, wal.Range{}, func(tree *wal.Tree) error {
		whole.WriteString(treeText(&u.Root, tree, ""))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	check(t, `
orders(shop=a no=1 customer_id=NULL note=)
  lines(shop=a order_no=1 line=1 product=pot)
    allocations(id=1 shop=a order_no=1 line=1 bin=p1)
    allocations(id=3 shop=a order_no=1 line=1 bin=p2)
  lines(shop=a order_no=1 line=2 product=tea)
    allocations(id=2 shop=a order_no=1 line=2 bin=t1)
  payments(id=1 shop=a order_no=1 paid=2.000)
  payments(id=150 shop=a order_no=1 paid=1.500)
orders(shop=A no=2 customer_id=7 note=it's)
orders(shop=b no=1 customer_id=7 note=NULL)
  payments(id=2 shop=b order_no=1 paid=3.333)
orders(shop=Z no=10 customer_id=1 note=last)
  lines(shop=Z order_no=10 line=1 product=cup)
    allocations(id=4 shop=Z order_no=10 line=1 bin=c1)
`, whole.String())

	var picked strings.Builder
	keys := [][]string{{"Z", "10"}, {"a", "99"}, {"A", "2"}, {"it's", "0"}}
	if err := snap.ReadKeys(t.Context(), u, keys, func(tree *wal.Tree) error {
		picked.WriteString(rowText(u.Root.Table, tree.Row) + fmt.Sprint(len(tree.Children[0])) + "\n")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	check(t, `
		(shop=A no=2 customer_id=7 note=it's)0
		(shop=Z no=10 customer_id=1 note=last)1
		`, picked.String())

	stop := errors.New("enough")
	if err := snap.Read(t.Context(), u, wal.Range{}, func(*wal.Tree) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the callback came back as %v", err)
	}
	if err := snap.Read(t.Context(), u, wal.Range{From: []string{"x"}}, nil); err == nil {
		t.Error("a bound of one column for a key of two was taken")
	}
}

// However the roots are cut, the ranges together read each root once.
func TestSnapshotRangesCoverEverything(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: shopSchema + `
		INSERT INTO orders SELECT chr(65 + g % 2 * 32 + g % 26) || E'\'', g, g, repeat('x', 3000) FROM generate_series(1, 60) g;
		INSERT INTO lines SELECT shop, no, l, 'p' FROM orders, generate_series(1, 3) l;
		INSERT INTO allocations SELECT row_number() OVER (), shop, order_no, line, 'b' FROM lines`})
	snap, err := wal.LiveSnapshot(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	u := shopUnit(t, db)
	for _, size := range []int64{1, 7, 50, 59, 60, 61, 5000} {
		ranges, err := snap.Ranges(t.Context(), u, size)
		if err != nil {
			t.Fatal(err)
		}
		if want := (60 + size - 1) / size; int64(len(ranges)) != want {
			t.Errorf("%d ranges of %d rows, want %d", len(ranges), size, want)
		}
		var roots, lines, allocations int
		seen := map[string]bool{}
		for _, rg := range ranges {
			n := int64(0)
			if err := snap.Read(t.Context(), u, rg, func(tree *wal.Tree) error {
				n++
				roots++
				seen[string(tree.Row[1].Bytes)] = true
				lines += len(tree.Children[0])
				for _, l := range tree.Children[0] {
					allocations += len(l.Children[0])
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if n != rg.Rows {
				t.Errorf("range %s has %d roots, expected %d", rg, n, rg.Rows)
			}
		}
		if roots != 60 || len(seen) != 60 || lines != 180 || allocations != 180 {
			t.Errorf("ranges of %d: %d roots (%d different), %d lines, %d allocations", size, roots, len(seen), lines, allocations)
		}
	}
	snap.Close() // its ACCESS SHARE lock goes with it
	db.Exec(t, `TRUNCATE orders`)
	empty, err := wal.LiveSnapshot(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	ranges, err := empty.Ranges(t.Context(), u, 10)
	if diff := cmp.Diff([]wal.Range{{}}, ranges); err != nil || diff != "" {
		t.Errorf("an empty table: %v\n%s", err, diff)
	}
}

// A key whose type comes from an extension is compared as it is sorted, and a
// child finds its parent as the application's own joins do.
func TestSnapshotOfACitextKey(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE EXTENSION citext; CREATE DOMAIN email AS citext;
		CREATE TABLE people (email email, n int, PRIMARY KEY (email, n)); CREATE TABLE notes (id int PRIMARY KEY, who citext, n int);
		INSERT INTO people SELECT chr(65 + g % 2 * 32 + g % 26) || g, g FROM generate_series(1, 100) g;
		INSERT INTO notes SELECT n, upper(email::text), n FROM people`})
	snap, err := wal.LiveSnapshot(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	u := wal.Unit{Aggregate: "Person", Root: wal.UnitTable{Table: tableOf(t, db, "public.people"), Key: []int{0, 1}, Children: []wal.UnitTable{
		{Table: tableOf(t, db, "public.notes"), Key: []int{0}, Parent: [][2]int{{1, 0}, {2, 1}}}}}}
	ranges, err := snap.Ranges(t.Context(), u, 9)
	if err != nil {
		t.Fatal(err)
	}
	var roots, notes int64
	count := func(tree *wal.Tree) error {
		roots++
		notes += int64(len(tree.Children[0]))
		return nil
	}
	for _, rg := range ranges {
		before := roots
		if err := snap.Read(t.Context(), u, rg, count); err != nil {
			t.Fatal(err)
		}
		if roots-before != rg.Rows {
			t.Errorf("range %s has %d roots, expected %d", rg, roots-before, rg.Rows)
		}
	}
	if roots != 100 || notes != 100 {
		t.Errorf("%d roots and %d notes, want 100 of each", roots, notes)
	}
	roots = 0
	if err := snap.ReadKeys(t.Context(), u, [][]string{{"B1", "1"}, {"b27", "27"}, {"b27", "28"}}, count); err != nil || roots != 2 {
		t.Errorf("%d roots by key, %v; want 2", roots, err)
	}
}

func TestSnapshotFailsWhereRowsAreHidden(t *testing.T) {
	db := pgtest.New(t)
	role := "hidden_from_" + db.Name
	db.Exec(t, `CREATE ROLE "`+role+`" LOGIN; CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1), (2); GRANT SELECT ON a TO "`+role+`";
		ALTER TABLE a ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON a USING (id > 1)`)
	t.Cleanup(func() { db.Exec(t, `DROP OWNED BY "`+role+`"; DROP ROLE "`+role+`"`) })
	snap, err := wal.LiveSnapshot(t.Context(), db.UserURL(role, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	u := wal.Unit{Aggregate: "A", Root: wal.UnitTable{Table: tableOf(t, db, "public.a"), Key: []int{0}}}
	if err := snap.Read(t.Context(), u, wal.Range{}, func(*wal.Tree) error { return nil }); err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("reading what is partly hidden: %v", err)
	}
}

func TestVisibility(t *testing.T) {
	const epoch = 5 << 32
	for _, c := range []struct {
		snapshot string
		xid      uint32
		want     bool
	}{
		{"751:753:751", 750, true}, {"751:753:751", 751, false}, {"751:753:751", 752, true}, {"751:753:751", 753, false}, {"751:753:751", 900, false},
		{"100:100:", 99, true}, {"100:100:", 100, false},
		// Just before and after the 32-bit counter wraps.
		{fmt.Sprintf("%d:%d:%d", epoch-2, uint64(epoch)+4, uint64(epoch)+3), 0xFFFFFFFD, true},
		{fmt.Sprintf("%d:%d:%d", epoch-2, uint64(epoch)+4, uint64(epoch)+3), 0xFFFFFFFE, true},
		{fmt.Sprintf("%d:%d:%d", epoch-2, uint64(epoch)+4, uint64(epoch)+3), 3, false},
		{fmt.Sprintf("%d:%d:%d", epoch-2, uint64(epoch)+4, uint64(epoch)+3), 2, true},
		{fmt.Sprintf("%d:%d:%d", epoch-2, uint64(epoch)+4, uint64(epoch)+3), 5, false},
		{fmt.Sprintf("%d:%d:", epoch-2, epoch-2), 3, false},
	} {
		v, err := wal.ParseVisibility(c.snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Visible(c.xid); got != c.want {
			t.Errorf("transaction %d in snapshot %s: visible %v, want %v", c.xid, c.snapshot, got, c.want)
		}
	}
	for _, bad := range []string{"", "1:2", "a:b:", "3:2:", "1:2:x", "1:2:3:4"} {
		if _, err := wal.ParseVisibility(bad); err == nil {
			t.Errorf("%q was taken for a snapshot", bad)
		}
	}
}
