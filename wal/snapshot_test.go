package wal_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

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

// readKV reads table kv through a snapshot.
func readKV(ctx context.Context, snap *wal.Snapshot, u wal.Unit, into map[string]string, mu *sync.Mutex) error {
	ranges, err := snap.Ranges(ctx, u, 50)
	if err != nil {
		return err
	}
	for _, rg := range ranges {
		if err := snap.Read(ctx, u, rg, func(tree *wal.Tree) error {
			mu.Lock()
			defer mu.Unlock()
			into[string(tree.Row[0].Bytes)] = string(tree.Row[1].Bytes)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// apply is what a consumer does that believes the stream alone.
func apply(t testing.TB, rows map[string]string, tx *wal.Tx) {
	t.Helper()
	for c, err := range tx.All() {
		if err != nil {
			t.Fatal(err)
		}
		if c.Op == wal.Truncate {
			clear(rows)
			continue
		}
		if c.Old != nil {
			k := string(c.Old[0].Bytes)
			if _, ok := rows[k]; !ok {
				t.Errorf("%s of row %s, which is not there", c.Op, k)
			}
			delete(rows, k)
		}
		if c.New == nil {
			continue
		}
		k := string(c.New[0].Bytes)
		if _, ok := rows[k]; ok != (c.Op == wal.Update && c.Old == nil) {
			t.Errorf("%s of row %s: present %v", c.Op, k, ok)
		}
		rows[k] = string(c.New[1].Bytes)
	}
}

// Writers work all the time: the exported snapshot and then the stream give
// exactly the table, and so does a live snapshot with the transactions that it
// does not see. Each step checks that a row is there or not before the change,
// so that neither a doubled nor a lost transaction can cancel out.
func TestSnapshotAndStreamMeet(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	db := pgtest.New(t)
	r := newRig(t, db, wal.Capture{"public.kv": {"k", "v"}}, `CREATE TABLE kv (k int PRIMARY KEY, v text)`)
	unit := wal.Unit{Aggregate: "KV", Root: wal.UnitTable{Table: tableOf(t, db, "public.kv"), Key: []int{0}}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 4 {
		conn := db.Conn(t)
		rng := rand.New(rand.NewPCG(seed, uint64(w)))
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				k, k2 := rng.IntN(300)*4+w, rng.IntN(300)*4+w // each writer its own keys
				sql := fmt.Sprintf("INSERT INTO kv VALUES (%d, 'w%d-%d') ON CONFLICT (k) DO UPDATE SET v = excluded.v", k, w, n)
				switch rng.IntN(8) {
				case 0:
					sql = fmt.Sprintf("DELETE FROM kv WHERE k = %d", k)
				case 1:
					sql = fmt.Sprintf("UPDATE kv SET k = %d WHERE k = %d AND NOT EXISTS (SELECT FROM kv WHERE k = %d)", k2, k, k2)
				case 2:
					sql = fmt.Sprintf("BEGIN; %s; SAVEPOINT a; DELETE FROM kv WHERE k %% 4 = %d; ROLLBACK TO a; DELETE FROM kv WHERE k = %d; COMMIT", sql, w, k2)
				case 3:
					sql = "BEGIN; " + sql + "; ROLLBACK"
				}
				if _, err := conn.Exec(ctx, sql); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", sql, err)
					return
				}
			}
		})
	}
	finish := sync.OnceFunc(func() { close(stop); writers.Wait() })
	defer finish()

	// The rig's own slot keeps the WAL from before; this one exports.
	created, err := wal.CreateSlot(ctx, wal.SlotConfig{URL: db.URL, Slot: db.Name + "_2"})
	if err != nil {
		t.Fatal(err)
	}
	defer created.Close()
	var mu sync.Mutex
	exported := map[string]string{}
	var readers sync.WaitGroup
	for range 2 { // two sessions on one snapshot read the same
		snap, err := wal.ImportSnapshot(ctx, db.URL, created)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		readers.Go(func() {
			mine := map[string]string{}
			var own sync.Mutex
			if err := readKV(ctx, snap, unit, mine, &own); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(exported) > 0 && !maps.Equal(exported, mine) {
				t.Errorf("two sessions on one snapshot read %d and %d rows", len(exported), len(mine))
			}
			exported = mine
		})
	}
	readers.Wait()
	created.Close()

	r.cfg.Slot, r.cfg.From, r.cfg.Expect = db.Name+"_2", created.ConsistentPoint, created.Incarnation
	s := r.open()
	var txs []*wal.Tx
	more := func(until func() bool) {
		for !until() {
			b, err := s.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			txs = append(txs, b.Txs...)
			s.Ack(b.End)
		}
	}
	more(func() bool { return len(txs) > 200 })
	type liveSnapshot struct {
		rows map[string]string
		snap *wal.Snapshot
	}
	var lives []liveSnapshot
	for range 5 {
		snap, err := wal.LiveSnapshot(ctx, db.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		n := len(txs)
		more(func() bool { return len(txs) > n+50 })
		live := liveSnapshot{rows: map[string]string{}, snap: snap}
		if err := readKV(ctx, snap, unit, live.rows, &mu); err != nil {
			t.Fatal(err)
		}
		lives = append(lives, live)
	}
	finish()
	r.exec(`INSERT INTO kv VALUES (-1, 'end')`)
	more(func() bool {
		if len(txs) == 0 {
			return false
		}
		changes, _ := txs[len(txs)-1].InMemory()
		return changes[0].New != nil && string(changes[0].New[0].Bytes) == "-1"
	})

	want := map[string]string{}
	final, err := wal.LiveSnapshot(ctx, db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer final.Close()
	if err := readKV(ctx, final, unit, want, &mu); err != nil {
		t.Fatal(err)
	}
	got := maps.Clone(exported)
	for _, tx := range txs {
		apply(t, got, tx)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seed %d: exported snapshot and stream: -table +got:\n%s", seed, diff)
	}
	for i, live := range lives {
		got := live.rows
		for _, tx := range txs {
			if tx.CommitLSN >= live.snap.LSN || !live.snap.Seen.Visible(tx.XID) {
				apply(t, got, tx)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("seed %d: live snapshot %d (%s at %s) and stream: -table +got:\n%s", seed, i, live.snap.Seen, live.snap.LSN, diff)
		}
	}
	t.Logf("%d transactions, %d rows at the end", len(txs), len(want))
}

// types are values of many types, two rows of each where one is odd.
var types = []struct{ name, first, second string }{
	{"bool", "true", "false"}, {"smallint", "-32768", "32767"}, {"integer", "-1", "2147483647"}, {"bigint", "-9223372036854775808", "9007199254740993"},
	{"real", "'0.1'", "'-Infinity'"}, {"double precision", "'0.1'", "'NaN'"}, {"numeric", "'NaN'", "123456789012345678901234567890.000100"}, {"numeric(12,3)", "2.5", "-0.001"},
	{"numeric(5,-2)", "12345", "'1e4'"}, {"money", "'12.34'", "'-1'"}, {"text", "''", "E'a\\tb\\n\\\\ \"é\" 🌸'"}, {"varchar(5)", "'ab'", "'abcde'"}, {"char(5)", "'ab'", "'é'"}, {`"char"`, "'x'", `'\377'`},
	{"name", "'n'", "'N'"}, {"bytea", `'\x00ff'`, "''"}, {"date", "'infinity'", "'0044-03-15 BC'"}, {"time", "'24:00'", "'01:02:03.000004'"}, {"timetz", "'10:00+05:30'", "'24:00-3'"},
	{"timestamp", "'2024-02-29 12:00:00.1'", "'-infinity'"}, {"timestamptz", "'2024-02-29 12:00:00.123456+05:30'", "'0001-01-01 BC'"}, {"timestamp(0)", "'2024-01-01 00:00:00.7'", "'294276-12-31'"},
	{"interval", "'1 year -3 days 04:05:06.7'", "'-00:00:01'"}, {"uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'00000000-0000-0000-0000-000000000000'"},
	{"json", `'{"b": 1,  "a" : [null]}'`, "'1e5'"}, {"jsonb", `'{"b": 1,  "a" : [null]}'`, "'1e5'"}, {"xml", "'<a>&amp;</a>'", "'x'"},
	{"int[]", "'{1,NULL,3}'", "'[2:3][1:1]={{1},{2}}'"}, {"text[]", `'{"a,b","c\"d",NULL,"NULL",""}'`, "'{}'"}, {"timestamptz[]", "'{2024-02-29 12:00+02}'", "'{}'"}, {"numeric(4,1)[]", "'{1,2.25}'", "'{NaN}'"},
	{"inet", "'10.0.0.1/8'", "'::1'"}, {"cidr", "'10.0.0.0/8'", "'::/0'"}, {"macaddr", "'08-00-2b-01-02-03'", "'000000000000'"}, {"bit(3)", "B'101'", "B'000'"}, {"varbit", "B'1'", "B''"},
	{"point", "'(0.1,2)'", "'(NaN,1e300)'"}, {"box", "'(1,2),(0,0)'", "'(1,1),(1,1)'"}, {"path", "'[(0,0),(1,1)]'", "'((0,0))'"}, {"circle", "'<(0,0),1>'", "'<(0.1,0),0>'"},
	{"int4range", "'[1,5]'", "'empty'"}, {"tstzrange", "'[2024-01-01 00:00+02,)'", "'(,)'"}, {"int4multirange", "'{[1,2],[5,6]}'", "'{}'"}, {"tsvector", "'a fat cat'", "'''it''''s'':1A'"}, {"tsquery", "'a & !b'", "'x <-> y'"},
	{"pg_lsn", "'0/1A2B3C8'", "'FFFFFFFF/0'"}, {"regclass", "'pg_catalog.pg_class'", "'sales.\"odd name\"'"}, {"regtype", "'integer'", "'sales.mood'"}, {"oid", "'4294967295'", "'0'"}, {"xid8", "'1'", "'18446744073709551615'"},
	{"sales.mood", "'so so'", "'Größe'"}, {"sales.amount", "1.005", "0"}, {"sales.pair", "ROW(1, 'a,b')", "ROW(NULL, '')"}, {"sales.mood[]", "'{\"so so\"}'", "'{}'"}, {"sales.pair[]", `ARRAY[ROW(1,'x"y')::sales.pair]`, "'{}'"},
}

// What a snapshot reads is to the byte what the stream carries, also where the
// role has settings of its own for how values look.
func TestSnapshotTextIsTheStreamsText(t *testing.T) {
	var columns, first, second []string
	names := []string{"id"}
	for i, ty := range types {
		name := fmt.Sprintf("c%d", i)
		names = append(names, name)
		columns = append(columns, name+" "+ty.name)
		first = append(first, ty.first)
		second = append(second, ty.second)
	}
	db := pgtest.New(t)
	db.Exec(t, fmt.Sprintf(`CREATE SCHEMA sales; ALTER DATABASE %[1]s SET datestyle = 'German'; ALTER DATABASE %[1]s SET timezone = 'Asia/Kolkata';
		ALTER DATABASE %[1]s SET intervalstyle = 'sql_standard'; ALTER DATABASE %[1]s SET bytea_output = 'escape'; ALTER DATABASE %[1]s SET extra_float_digits = -3;
		ALTER DATABASE %[1]s SET search_path = sales, public; ALTER DATABASE %[1]s SET statement_timeout = '10min'`, db.Name))
	r := newRig(t, db, wal.Capture{"sales.all types": names}, `
		CREATE TYPE mood AS ENUM ('so so', 'Größe'); CREATE DOMAIN amount AS numeric(12,2) CHECK (VALUE >= 0); CREATE TYPE pair AS (n int, t text);
		CREATE TABLE "odd name" (); CREATE TABLE "all types" (id int PRIMARY KEY, `+strings.Join(columns, ", ")+`)`)
	s := r.open()
	null := slices.Repeat([]string{"NULL"}, len(types))
	for i, values := range [][]string{first, second, null} {
		r.exec(fmt.Sprintf(`INSERT INTO "all types" VALUES (%d, %s)`, i, strings.Join(values, ", ")))
	}
	table := tableOf(t, db, "sales.all types")
	snap, err := wal.LiveSnapshot(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	var rows []wal.Row
	u := wal.Unit{Aggregate: "All", Root: wal.UnitTable{Table: table, Key: []int{0}}}
	if err := snap.Read(t.Context(), u, wal.Range{}, func(tree *wal.Tree) error {
		rows = append(rows, tree.Row)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, tx := range r.upTo(s, 3) {
		c, err := firstChange(tx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(table.Columns, c.Table.Columns); diff != "" {
			t.Fatalf("the columns: -catalog +stream:\n%s", diff)
		}
		for k := range c.New {
			if got, want := c.New[k], rows[i][k]; got.Kind != want.Kind || string(got.Bytes) != string(want.Bytes) {
				t.Errorf("column %s: the snapshot has %q, the stream %q", table.Columns[k].TypeName, want.Bytes, got.Bytes)
			}
		}
		if i == 0 { // and they are the forms that we mean, not those of the database's settings
			for k, want := range map[string]string{"timestamp with time zone": "2024-02-29 06:30:00.123456+00", "bytea": `\x00ff`, "interval": "1 year -3 days +04:05:06.7",
				"double precision": "0.1", "date": "infinity", "regclass": "pg_class", "sales.amount": "1.01", "character": "ab   "} {
				at := slices.IndexFunc(table.Columns, func(c wal.Column) bool { return c.TypeName == k })
				if got := string(c.New[at].Bytes); got != want {
					t.Errorf("%s is written %q, want %q", k, got, want)
				}
			}
		}
	}
}
