package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func openLive(t testing.TB, opts LiveOptions, tables ...Table) (*Live, *pgx.Conn) {
	t.Helper()
	_, conn := makeTables(t, tables)
	live, err := NewLive(testSchema, tables, opts)
	if err != nil {
		t.Fatal(err)
	}
	return live, conn
}

// inBatch runs do in a transaction and ends both.
func inBatch(t testing.TB, live *Live, conn *pgx.Conn, do func(tx pgx.Tx)) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	live.Open(t.Context(), tx.Conn())
	do(tx)
	if err := live.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	live.Commit()
}

func put(t testing.TB, s Space, table string, rows ...Row) {
	t.Helper()
	for _, row := range rows {
		if err := s.Rows(table).Put(row); err != nil {
			t.Fatal(err)
		}
	}
}

func get(t testing.TB, s Space, table string, key ...any) Row {
	t.Helper()
	k, err := s.Rows(table).Key(key...)
	if err != nil {
		t.Fatal(err)
	}
	row, _, err := s.Rows(table).Get(k)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func keys(t testing.TB, s Space, table string, values ...any) []Key {
	t.Helper()
	out := make([]Key, len(values))
	for i, v := range values {
		var err error
		if out[i], err = s.Rows(table).Key(v); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestLiveReadsAndWritesLittle counts what goes to the database.
func TestLiveReadsAndWritesLittle(t *testing.T) {
	live, conn := openLive(t, LiveOptions{}, customers)
	var last LiveStats
	since := func() [5]int64 {
		s := live.Stats()
		d := [5]int64{s.Hits - last.Hits, s.Reads - last.Reads, s.Written - last.Written, s.Deleted - last.Deleted, s.Unchanged - last.Unchanged}
		last = s
		return d
	}
	expect := func(what string, hits, reads, written, deleted, unchanged int64) {
		t.Helper()
		if diff := cmp.Diff([5]int64{hits, reads, written, deleted, unchanged}, since()); diff != "" {
			t.Errorf("%s: hits, reads, written, deleted, unchanged (-want +got):\n%s", what, diff)
		}
	}
	inBatch(t, live, conn, func(pgx.Tx) {
		put(t, live, "customers", Row{"1", "Ada", int64(1), nil}, Row{"2", "Bob", int64(1), nil}, Row{"1", "Ada", int64(2), nil})
	})
	expect("blind puts", 0, 0, 2, 0, 0)
	inBatch(t, live, conn, func(pgx.Tx) {
		get(t, live, "customers", "1")
		put(t, live, "customers", Row{"1", "Ada", int64(2), nil})
	})
	expect("a put of what is there", 1, 0, 0, 0, 1)
	inBatch(t, live, conn, func(pgx.Tx) {
		for range 2 { // the second time from the cache
			if get(t, live, "customers", "3") != nil {
				t.Error("customer 3 exists")
			}
		}
	})
	expect("a row that is not there", 1, 1, 0, 0, 0)
	inBatch(t, live, conn, func(pgx.Tx) {
		put(t, live, "customers", Row{"3", nil, int64(0), nil})
		if err := live.Rows("customers").Delete("3"); err != nil {
			t.Error(err)
		}
	})
	expect("a row that came and went", 0, 0, 0, 0, 1)
	live.Reset()
	inBatch(t, live, conn, func(pgx.Tx) {
		want := map[string][]Key{"customers": keys(t, live, "customers", "1", "2", "3", "1", "4")}
		for range 2 {
			if err := live.Prefetch(t.Context(), want); err != nil {
				t.Error(err)
			}
		}
		for _, id := range []string{"1", "2", "3", "4"} {
			get(t, live, "customers", id)
		}
		if err := live.Rows("customers").Delete("2"); err != nil {
			t.Error(err)
		}
	})
	expect("a prefetch", 4, 1, 0, 1, 0)
}

// TestLiveCacheIsBounded: rows of a batch stay however small the cache, and go
// after it.
func TestLiveCacheIsBounded(t *testing.T) {
	const bytes = 20_000
	live, conn := openLive(t, LiveOptions{CacheBytes: bytes}, customers)
	ids := make([]any, 500)
	inBatch(t, live, conn, func(pgx.Tx) {
		for i := range ids {
			ids[i] = fmt.Sprint(i)
			put(t, live, "customers", Row{ids[i], strings.Repeat("n", 100), int64(i), nil})
		}
	})
	if s := live.Stats(); s.Bytes > bytes || s.Rows == 0 {
		t.Fatalf("after a batch: %+v", s)
	}
	inBatch(t, live, conn, func(pgx.Tx) {
		if err := live.Prefetch(t.Context(), map[string][]Key{"customers": keys(t, live, "customers", ids...)}); err != nil {
			t.Fatal(err)
		}
		before := live.Stats()
		for i, id := range ids {
			if row := get(t, live, "customers", id); row == nil || row[2] != int64(i) {
				t.Fatalf("customer %s is %v", id, row)
			}
		}
		if after := live.Stats(); after.Misses != before.Misses || after.Rows != len(ids) {
			t.Fatalf("rows of the batch went: %+v", after)
		}
	})
	s := live.Stats()
	if s.Bytes > bytes {
		t.Fatalf("after a prefetch: %+v", s)
	}
	live.Reset()
	if s := live.Stats(); s.Rows != 0 || s.Bytes != 0 {
		t.Fatalf("after a reset: %+v", s)
	}
}

// TestLiveForgetsWhatWasNotCommitted: rows changed behind the last Flush, and
// those of a transaction that failed, are read again.
func TestLiveForgetsWhatWasNotCommitted(t *testing.T) {
	live, conn := openLive(t, LiveOptions{}, customers)
	ctx := t.Context()
	inBatch(t, live, conn, func(pgx.Tx) { put(t, live, "customers", Row{"1", "Ada", int64(1), nil}) })

	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	live.Open(ctx, tx.Conn())
	if err := live.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	put(t, live, "customers", Row{"1", "behind the flush", int64(2), nil})
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	live.Commit()
	inBatch(t, live, conn, func(pgx.Tx) {
		if row := get(t, live, "customers", "1"); row[1] != "Ada" {
			t.Errorf("after a put behind the flush: %v", row)
		}
	})

	tx, err = conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	live.Open(ctx, tx.Conn())
	put(t, live, "customers", Row{"1", "not committed", int64(2), nil}, Row{"2", "nor this", int64(2), nil})
	// The next batch begins although nobody said how this one ended.
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	inBatch(t, live, conn, func(pgx.Tx) {
		if a, b := get(t, live, "customers", "1"), get(t, live, "customers", "2"); a[1] != "Ada" || b != nil {
			t.Errorf("after a rollback: %v, %v", a, b)
		}
	})
}

// TestLiveNamesWhatFails: an error of the database names the table, and after a
// savepoint the batch goes on without the row.
func TestLiveNamesWhatFails(t *testing.T) {
	live, conn := openLive(t, LiveOptions{}, customers, marks)
	execute(t, conn, "ALTER TABLE "+testSchema+".customers ADD CONSTRAINT no_bob CHECK (name <> 'Bob')")
	ctx := t.Context()
	inBatch(t, live, conn, func(tx pgx.Tx) {
		put(t, live, "customers", Row{"1", "Ada", int64(1), nil})
		put(t, live, "marks", Row{time.Unix(0, 0).UTC(), []byte{1}})
		if err := live.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		sp, err := tx.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		live.Begin()
		put(t, live, "customers", Row{"2", "Bob", int64(1), nil}, Row{"1", "Ada", int64(2), nil})
		put(t, live, "marks", Row{time.Unix(0, 0).UTC(), []byte{2}})
		err = live.Flush(ctx)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.ConstraintName != "no_bob" || !strings.Contains(err.Error(), "write rows of table customers") {
			t.Fatalf("the error is %v", err)
		}
		if err := sp.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		live.Undo()
		put(t, live, "customers", Row{"3", "Cyd", int64(1), nil})
	})
	got := scan(t, conn, customers)
	want := []Row{{"1", "Ada", int64(1), nil}, {"3", "Cyd", int64(1), nil}}
	if !slices.EqualFunc(got, want, Equal) {
		t.Fatalf("customers are %v", got)
	}
	if got := scan(t, conn, marks); len(got) != 1 {
		t.Fatalf("marks are %v", got)
	}
	// Between batches nothing is read or written, and that is said.
	if _, _, err := live.Rows("customers").Get("9"); err == nil {
		t.Error("a Get between batches reads")
	}
	if err := live.Flush(ctx); err == nil {
		t.Error("a Flush between batches writes")
	}
	if err := live.Prefetch(ctx, nil); err == nil {
		t.Error("a Prefetch between batches reads")
	}
}

func scan(t testing.TB, conn *pgx.Conn, table Table) []Row {
	t.Helper()
	var rows []Row
	for e, err := range Scan(t.Context(), conn, testSchema, table) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, e.Row)
	}
	return rows
}

// TestLiveNeverGuesses: values that a table should not have, because somebody
// else wrote them, are errors, not other values.
func TestLiveNeverGuesses(t *testing.T) {
	live, conn := openLive(t, LiveOptions{}, wide, customers)
	ctx := context.Background()
	for column, value := range map[string]string{
		"a_timestamptz": "'infinity'", "a_timestamp": "'-infinity'", "a_date": "'infinity'", "a_numeric": "'NaN'", "a_json": `'"\u0000"'`,
	} {
		execute(t, conn, "TRUNCATE "+testSchema+".wide", "INSERT INTO "+testSchema+".wide (region, number, price_key, "+column+") VALUES ('x', 1, 1, "+value+")")
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		live.Open(ctx, tx.Conn())
		k, err := live.Rows("wide").Key("x", 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		if row, _, err := live.Rows("wide").Get(k); err == nil || !strings.Contains(err.Error(), "column wide."+column) {
			t.Errorf("%s %s: %v, %v", column, value, row, err)
		}
		// The connection is of use all the same.
		if get(t, live, "customers", "1") != nil {
			t.Error("customer 1 exists")
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		live.Abort()
	}
}

// TestExpire deletes by age in Postgres, the cache and what waits to be written.
func TestExpire(t *testing.T) {
	live, conn := openLive(t, LiveOptions{}, customers)
	bulk, err := NewBulk([]Table{customers}, BulkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer bulk.Close()
	hour := func(n int) time.Time { return time.Unix(int64(n)*3600, 0).UTC() }
	first := []Row{{"in the cache", "a", int64(1), hour(1)}, {"written anew", "b", int64(1), hour(1)}, {"exact", "c", int64(1), hour(2)}, {"never", "d", int64(1), nil}}
	inBatch(t, live, conn, func(pgx.Tx) { put(t, live, "customers", first...) })
	execute(t, conn, "INSERT INTO "+testSchema+".customers VALUES ('not in the cache', 'e', 1, to_timestamp(3600))")
	inBatch(t, live, conn, func(tx pgx.Tx) {
		put(t, live, "customers", Row{"written anew", "b", int64(2), hour(3)}, Row{"waiting", "f", int64(1), hour(1)})
		n, err := live.Expire(t.Context(), "customers", hour(2).Add(999))
		if err != nil || n != 3 {
			t.Fatalf("expired %d rows, %v; want the 3 of the database", n, err)
		}
		if row := get(t, live, "customers", "waiting"); row != nil {
			t.Errorf("a row that waited was not expired: %v", row)
		}
		// The row that the database had is gone, so it is not "unchanged".
		live.Begin()
		put(t, live, "customers", first[1])
		if err := live.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		var n2 int
		if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM "+testSchema+".customers WHERE id = 'written anew'").Scan(&n2); err != nil || n2 != 1 {
			t.Errorf("put again after it expired: %d rows, %v", n2, err)
		}
		put(t, live, "customers", Row{"written anew", "b", int64(2), hour(3)})
	})
	put(t, bulk, "customers", first...)
	put(t, bulk, "customers", Row{"not in the cache", "e", int64(1), hour(1)}, Row{"written anew", "b", int64(2), hour(3)}, Row{"waiting", "f", int64(1), hour(1)})
	if n, err := bulk.Expire("customers", hour(2)); err != nil || n != 3 {
		t.Fatalf("expired %d rows of the Bulk, %v", n, err)
	}
	want := []Row{{"exact", "c", int64(1), hour(2)}, {"never", "d", int64(1), nil}, {"written anew", "b", int64(2), hour(3)}}
	var fromBulk []Row
	for e, err := range bulk.Each("customers") {
		if err != nil {
			t.Fatal(err)
		}
		fromBulk = append(fromBulk, e.Row)
	}
	for who, got := range map[string][]Row{"Postgres": scan(t, conn, customers), "the Bulk": fromBulk} {
		if !slices.EqualFunc(got, want, Equal) {
			t.Errorf("%s has %v", who, got)
		}
	}
	if _, err := bulk.Expire("nothing", hour(2)); err == nil {
		t.Error("a table that is not there expires")
	}
	if _, err := live.Expire(t.Context(), "customers", hour(2)); err == nil {
		t.Error("rows expire between batches")
	}
}
