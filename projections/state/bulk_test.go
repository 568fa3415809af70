package state

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"banyan/internal/embedded"
	"banyan/internal/pgtest"
)

// TestBulkKeepsToItsBudget folds more rows than memory has room for, with values
// that grow: memory stays bounded, every row is found, and is right.
func TestBulkKeepsToItsBudget(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		const budget, keys = leastMemory, 20_000
		b, err := NewBulk([]Table{customers}, BulkOptions{Dir: dir, MemoryBytes: budget})
		if err != nil {
			t.Fatal(err)
		}
		rows, random := b.Rows("customers"), rand.New(rand.NewPCG(4, 2))
		orders := make([]int64, keys)
		most := int64(0)
		for range 10 * keys {
			b.Begin()
			id := random.IntN(keys)
			orders[id]++
			row, ok, err := rows.Get(Key(fmt.Sprint(id)))
			if err != nil || ok != (orders[id] > 1) || ok && row[2] != orders[id]-1 {
				t.Fatalf("customer %d is %v, %v, %v; want %d orders", id, row, ok, err, orders[id]-1)
			}
			if err := rows.Put(Row{fmt.Sprint(id), strings.Repeat("n", int(orders[id])*20), orders[id], nil}); err != nil {
				t.Fatal(err)
			}
			if memory, _ := b.Bytes(); memory > most {
				most = memory
			}
		}
		_, disk := b.Bytes()
		switch {
		case dir != "" && (most > budget+2*chunkBytes || disk == 0):
			t.Errorf("memory grew to %d bytes of %d, %d on disk", most, budget, disk)
		case dir == "" && (most < 2*budget || most > 15<<20 || disk != 0):
			t.Errorf("without a folder memory grew to %d bytes, %d on disk", most, disk)
		}
		n := 0
		for e, err := range b.Each("customers") {
			if err != nil {
				t.Fatal(err)
			}
			var id int
			if _, err := fmt.Sscan(string(e.Key), &id); err != nil || e.Row[2] != orders[id] || len(e.Row[1].(string)) != int(orders[id])*20 {
				t.Fatalf("row %q is %.80v, %v", e.Key, e.Row, err)
			}
			n++
		}
		if n != b.Len("customers") {
			t.Errorf("%d rows, Len says %d", n, b.Len("customers"))
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := rows.Put(Row{"1", nil, int64(1), nil}); !errors.Is(err, errClosed) {
			t.Errorf("after Close: %v", err)
		}
		if memory, disk := b.Bytes(); memory > 100 || disk != 0 || b.Len("customers") != 0 {
			t.Errorf("after Close: %d bytes, %d on disk, %d rows", memory, disk, b.Len("customers"))
		}
	}
}

// TestBulksCopyIntoOneTable: each partition's rows go into the same tables, at
// the same time; progress ends at the number of rows.
func TestBulksCopyIntoOneTable(t *testing.T) {
	db, conn := makeTables(t, testTables)
	var group errgroup.Group
	const parts, each = 3, 4000
	for part := range parts {
		b, err := NewBulk(testTables, BulkOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for i := range each {
			put(t, b, "customers", Row{fmt.Sprintf("%d-%d", part, i), strings.Repeat("x", 100), int64(i), nil})
		}
		c, err := pgx.Connect(t.Context(), db.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(t.Context())
		group.Go(func() error {
			last := map[string]int64{}
			if err := b.Copy(t.Context(), c, testSchema, func(table string, rows int64) { last[table] = rows }); err != nil {
				return err
			}
			if last["customers"] != each || last["wide"] != 0 || len(last) != len(testTables) {
				return fmt.Errorf("progress ended at %v", last)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if rows := scan(t, conn, customers); len(rows) != parts*each {
		t.Fatalf("%d rows, want %d", len(rows), parts*each)
	}
}

// TestCopyFails: a table that refuses rows, or is not there, is named, and the
// connection is of use afterwards.
func TestCopyFails(t *testing.T) {
	_, conn := makeTables(t, []Table{customers})
	execute(t, conn, "ALTER TABLE "+testSchema+".customers ADD CHECK (orders < 2999)")
	b, err := NewBulk([]Table{customers}, BulkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for i := range int64(3000) {
		put(t, b, "customers", Row{fmt.Sprintf("%08d", i), strings.Repeat("x", 1000), i, nil})
	}
	for schema, want := range map[string]string{testSchema: "copy rows into shipping_v1.customers: ERROR: new row", "gone": "copy rows into gone.customers: ERROR: schema"} {
		if err := b.Copy(t.Context(), conn, schema, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("copy into %s: %v", schema, err)
		}
	}
	if rows := scan(t, conn, customers); len(rows) != 0 {
		t.Errorf("%d rows were copied", len(rows))
	}
	for _, err := range Scan(t.Context(), conn, "gone", customers) {
		if err == nil || !strings.Contains(err.Error(), "read the rows of gone.customers") {
			t.Errorf("scan a table that is not there: %v", err)
		}
	}
	for range Scan(t.Context(), conn, testSchema, customers) {
		t.Error("an empty table has rows")
	}
	for range b.Each("customers") {
		break
	}
	for _, err := range b.Each("nothing") {
		if err == nil {
			t.Error("a table that is not there has rows")
		}
	}
}

// TestServerDies: the error of a read or a write comes back, and nothing is taken
// as written.
func TestServerDies(t *testing.T) {
	server := pgtest.NewServer(t)
	db := server.NewDB(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	execute(t, conn, "CREATE SCHEMA "+testSchema)
	execute(t, conn, CreateSQL(testSchema, []Table{customers})...)
	execute(t, conn, KeySQL(testSchema, []Table{customers})...)
	live, err := NewLive(testSchema, []Table{customers}, LiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	inBatch(t, live, conn, func(pgx.Tx) { put(t, live, "customers", Row{"1", "Ada", int64(1), nil}) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	live.Open(t.Context(), tx.Conn())
	put(t, live, "customers", Row{"1", "Ada", int64(2), nil})
	backend := int(conn.PgConn().PID())
	server.Kill(t)
	// A backend outlives its postmaster until it looks, and may answer meanwhile.
	if err := syscall.Kill(backend, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
	if !embedded.WaitGone(backend, time.Minute) {
		t.Fatalf("backend %d does not end", backend)
	}
	if err := live.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "write rows of table customers") {
		t.Errorf("a flush to a dead server: %v", err)
	}
	if _, _, err := live.Rows("customers").Get("2"); err == nil || !strings.Contains(err.Error(), "read rows") {
		t.Errorf("a read from a dead server: %v", err)
	}
	live.Abort()
	server.Start(t)
	again, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(t.Context())
	inBatch(t, live, again, func(pgx.Tx) {
		if row := get(t, live, "customers", "1"); row == nil || row[2] != int64(1) {
			t.Errorf("after the server came back: %v", row)
		}
	})
}
