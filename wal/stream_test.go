package wal_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"banyan/internal/pgtest"
	"banyan/wal"
)

func TestStreamChangesOfOneTable(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.orders": {"id", "status", "note"}},
		`CREATE TABLE orders (id int PRIMARY KEY, secret text, status text NOT NULL, note text)`)
	s := r.open()
	r.exec(`INSERT INTO orders VALUES (1, 'x', 'new', NULL), (2, 'y', 'new', '')`)
	r.exec(`UPDATE orders SET status = 'paid' WHERE id = 1`)
	r.exec(`UPDATE orders SET id = 10 WHERE id = 1`)
	r.exec(`DELETE FROM orders WHERE id = 2`)
	r.exec(`TRUNCATE orders`)
	txs := r.upTo(s, 5)
	var got strings.Builder
	for i, tx := range txs {
		got.WriteString(text(t, tx))
		if i > 0 && tx.CommitLSN < txs[i-1].EndLSN {
			t.Errorf("transaction %d commits at %s, before the end of the one before, %s", i, tx.CommitLSN, txs[i-1].EndLSN)
		}
		if tx.EndLSN <= tx.CommitLSN || time.Since(tx.CommitTime) > time.Hour || tx.XID == 0 {
			t.Errorf("transaction %+v", tx)
		}
	}
	check(t, `
		insert public.orders new(id=1 status=new note=NULL)
		insert public.orders new(id=2 status=new note=)
		update public.orders new(id=1 status=paid note=NULL)
		update public.orders old(id=1 status=<absent> note=<absent>) new(id=10 status=paid note=NULL)
		delete public.orders old(id=2 status=<absent> note=<absent>)
		truncate public.orders
		`, got.String())
	changes, _ := txs[0].InMemory()
	want := &wal.Table{OID: changes[0].Table.OID, Schema: "public", Name: "orders", ReplicaIdentity: 'd', Uncaptured: []string{"secret"},
		Columns: []wal.Column{
			{Name: "id", TypeOID: 23, TypMod: -1, TypeName: "integer", NotNull: true, Identity: true, Key: 1},
			{Name: "status", TypeOID: 25, TypMod: -1, TypeName: "text", NotNull: true},
			{Name: "note", TypeOID: 25, TypMod: -1, TypeName: "text"},
		}}
	if diff := cmp.Diff(want, changes[0].Table); diff != "" {
		t.Errorf("table -want +got:\n%s", diff)
	}
	if later, _ := txs[3].InMemory(); later[0].Table != changes[0].Table {
		t.Error("the table changed although nothing about it did")
	}
}

func TestStreamRolledBackSavepointsLeaveNothing(t *testing.T) {
	// 64 kB of work_mem make the server spill, which is where readers of
	// streamed transactions see rolled-back rows.
	srv := pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{"logical_decoding_work_mem": "64kB"}})
	r := newRig(t, srv.NewDB(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY, pad text)`)
	s := r.open()
	r.exec(`BEGIN; INSERT INTO a SELECT g, repeat('x', 200) FROM generate_series(1, 500) g;
		SAVEPOINT s; INSERT INTO a SELECT g, repeat('x', 200) FROM generate_series(1001, 1500) g; ROLLBACK TO s;
		SAVEPOINT t; INSERT INTO a VALUES (501, ''); SAVEPOINT u; INSERT INTO a VALUES (9999, ''); ROLLBACK TO u; RELEASE t;
		INSERT INTO a SELECT g, '' FROM generate_series(502, 505) g; COMMIT`)
	r.exec(`DO $$ BEGIN
			INSERT INTO a VALUES (600, '');
			BEGIN INSERT INTO a VALUES (601, ''); INSERT INTO a VALUES (600, ''); EXCEPTION WHEN unique_violation THEN NULL; END;
			INSERT INTO a VALUES (602, '');
		END $$`)
	txs := r.upTo(s, 2)
	next := 1
	for c, err := range txs[0].All() {
		if err != nil {
			t.Fatal(err)
		}
		if got := string(c.New[0].Bytes); got != fmt.Sprint(next) {
			t.Fatalf("row %s, want %d", got, next)
		}
		next++
	}
	if next != 506 {
		t.Errorf("rows up to %d, want 505", next-1)
	}
	check(t, `
		insert public.a new(id=600)
		insert public.a new(id=602)
		`, text(t, txs[1]))
}

func TestStreamPreparedTransactions(t *testing.T) {
	srv := pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{"max_prepared_transactions": "5"}})
	r := newRig(t, srv.NewDB(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	s := r.open()
	r.exec(`BEGIN; INSERT INTO a VALUES (1); PREPARE TRANSACTION 'kept'`)
	r.exec(`BEGIN; INSERT INTO a VALUES (2); PREPARE TRANSACTION 'undone'`)
	r.exec(`INSERT INTO a VALUES (3)`)
	r.exec(`COMMIT PREPARED 'kept'`)
	r.exec(`ROLLBACK PREPARED 'undone'`)
	r.exec(`INSERT INTO a VALUES (4)`)
	var got strings.Builder
	for _, tx := range r.upTo(s, 3) {
		got.WriteString(text(t, tx))
	}
	check(t, `
		insert public.a new(id=3)
		insert public.a new(id=1)
		insert public.a new(id=4)
		`, got.String())
}

func TestStreamLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	s := r.open()
	r.exec(`INSERT INTO a VALUES (1)`)
	r.upTo(s, 1)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}

func TestStreamCopySharesOneLSN(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	s := r.open()
	if _, err := r.conn.PgConn().CopyFrom(t.Context(), strings.NewReader("1\n2\n3\n4\n5\n"), "COPY a FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	txs := r.upTo(s, 1)
	check(t, `
		insert public.a new(id=1)
		insert public.a new(id=2)
		insert public.a new(id=3)
		insert public.a new(id=4)
		insert public.a new(id=5)
		`, text(t, txs[0]))
}

// Of two transactions at once the one that commits first comes first, although
// the other wrote first.
func TestStreamInterleavedTransactions(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	long := r.db.Conn(t)
	if _, err := long.Exec(t.Context(), `BEGIN; INSERT INTO a VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	r.exec(`INSERT INTO a VALUES (2)`)
	if _, err := long.Exec(t.Context(), `INSERT INTO a VALUES (3); COMMIT`); err != nil {
		t.Fatal(err)
	}
	r.exec(`INSERT INTO a VALUES (4)`)

	s := r.open()
	var got []string
	for _, tx := range r.upTo(s, 3) {
		got = append(got, text(t, tx))
	}
	want := []string{"insert public.a new(id=2)\n", "insert public.a new(id=1)\ninsert public.a new(id=3)\n", "insert public.a new(id=4)\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A start after any of them loses none of the later ones: nothing is decided by
// the LSN of a row.
func TestStreamResumesBetweenInterleavedTransactions(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	long := r.db.Conn(t)
	if _, err := long.Exec(t.Context(), `BEGIN; INSERT INTO a VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	r.exec(`INSERT INTO a VALUES (2)`)
	if _, err := long.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	r.exec(`INSERT INTO a VALUES (3)`)

	s := r.open()
	all, _ := r.collect(s, 3) // without an acknowledgement
	s.Close()
	for i, tx := range all {
		r.cfg.From = tx.EndLSN
		s := r.open()
		r.exec(`INSERT INTO a VALUES ($1)`, 100+i)
		var got, want []string
		for _, tx := range all[i+1:] {
			want = append(want, text(t, tx))
		}
		for k := 0; k <= i; k++ {
			want = append(want, fmt.Sprintf("insert public.a new(id=%d)\n", 100+k))
		}
		txs, _ := r.collect(s, len(want))
		for _, tx := range txs {
			got = append(got, text(t, tx))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("from %s: -want +got:\n%s", r.cfg.From, diff)
		}
		s.Close()
	}
}

func TestStreamUnchangedToast(t *testing.T) {
	// Random text does not compress below the size that is stored out of line.
	r := newRig(t, pgtest.New(t), wal.Capture{"public.d": {"id", "n", "big"}, "public.f": {"id", "n", "big"}, "public.i": {"id", "n", "big"}, "public.n": {"id", "n", "big"}}, `
		CREATE TABLE d (id int PRIMARY KEY, n int, big text);
		ALTER TABLE d ALTER big SET STORAGE EXTERNAL;
		CREATE TABLE f (LIKE d INCLUDING ALL); ALTER TABLE f REPLICA IDENTITY FULL;
		CREATE TABLE i (LIKE d INCLUDING ALL); ALTER TABLE i ALTER n SET NOT NULL; CREATE UNIQUE INDEX i_n ON i (n); ALTER TABLE i REPLICA IDENTITY USING INDEX i_n;
		CREATE TABLE n (LIKE d INCLUDING ALL); ALTER TABLE n REPLICA IDENTITY NOTHING;
		INSERT INTO d VALUES (1, 1, repeat('x', 5000)); INSERT INTO f SELECT * FROM d; INSERT INTO i SELECT * FROM d`)
	s := r.open()
	for _, table := range []string{"d", "f", "i"} {
		r.exec("UPDATE " + table + " SET n = 2")
		r.exec("UPDATE " + table + " SET id = 7")
		r.exec("UPDATE " + table + " SET big = NULL")
		r.exec("DELETE FROM " + table)
	}
	r.exec("INSERT INTO n VALUES (1, 1, 'x')")
	var got strings.Builder
	for _, tx := range r.upTo(s, 13) {
		got.WriteString(text(t, tx))
	}
	check(t, `
		update public.d new(id=1 n=2 big=<unchanged>)
		update public.d old(id=1 n=<absent> big=<absent>) new(id=7 n=2 big=<unchanged>)
		update public.d new(id=7 n=2 big=NULL)
		delete public.d old(id=7 n=<absent> big=<absent>)
		update public.f old(id=1 n=1 big=xxxx..5000) new(id=1 n=2 big=xxxx..5000)
		update public.f old(id=1 n=2 big=xxxx..5000) new(id=7 n=2 big=xxxx..5000)
		update public.f old(id=7 n=2 big=xxxx..5000) new(id=7 n=2 big=NULL)
		delete public.f old(id=7 n=2 big=NULL)
		update public.i old(id=<absent> n=1 big=<absent>) new(id=1 n=2 big=<unchanged>)
		update public.i new(id=7 n=2 big=<unchanged>)
		update public.i new(id=7 n=2 big=NULL)
		delete public.i old(id=<absent> n=2 big=<absent>)
		insert public.n new(id=1 n=1 big=x)
		`, got.String())
}

func TestStreamPartitionsComeAsTheirRoot(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.sales": {"region", "id", "total"}}, `
		CREATE TABLE sales (region text, id int, gone int, total numeric(12,3), PRIMARY KEY (region, id)) PARTITION BY LIST (region);
		CREATE TABLE sales_north PARTITION OF sales FOR VALUES IN ('north');
		CREATE TABLE sales_south (total numeric(12,3), id int NOT NULL, region text NOT NULL, gone int);
		ALTER TABLE sales ATTACH PARTITION sales_south FOR VALUES IN ('south')`)
	s := r.open()
	r.exec(`INSERT INTO sales VALUES ('north', 1, 0, 1.5), ('south', 2, 0, 2.250)`)
	r.exec(`UPDATE sales SET total = 3 WHERE id = 2`)
	r.exec(`UPDATE sales SET region = 'south' WHERE id = 1`)
	r.exec(`DELETE FROM sales WHERE id = 2`)
	// The server does not publish the truncation of one partition under the
	// root's name: nobody can see it in the stream.
	r.exec(`TRUNCATE sales_north`)
	r.exec(`TRUNCATE sales`)
	var got strings.Builder
	for _, tx := range r.upTo(s, 5) {
		got.WriteString(text(t, tx))
		for c := range tx.All() {
			if k := c.Table.Columns; k[0].Key != 1 || k[1].Key != 2 || k[2].Key != 0 {
				t.Errorf("key columns %+v", k)
			}
		}
	}
	check(t, `
		insert public.sales new(region=north id=1 total=1.500)
		insert public.sales new(region=south id=2 total=2.250)
		update public.sales new(region=south id=2 total=3.000)
		delete public.sales old(region=north id=1 total=<absent>)
		insert public.sales new(region=south id=1 total=1.500)
		delete public.sales old(region=south id=2 total=<absent>)
		truncate public.sales
		`, got.String())
}

func TestStreamSpillsALongTransaction(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id", "pad"}, "public.b": {"id"}}, `
		CREATE TABLE a (id int PRIMARY KEY, pad text, dropped text); CREATE TABLE b (id int PRIMARY KEY)`)
	r.cfg.MemoryLimit = 1 << 20
	s := r.open()
	const rows = 20_000 // about 5 MB of images
	r.exec(`INSERT INTO a SELECT g, repeat('p', 100), repeat('d', 100) FROM generate_series(1, 10) g`)
	r.exec(fmt.Sprintf(`BEGIN; INSERT INTO a SELECT g, repeat('p', 100), repeat('d', 100) FROM generate_series(11, %d) g; INSERT INTO b VALUES (1);
		UPDATE a SET id = -1 WHERE id = 1; ALTER TABLE a ADD late int; INSERT INTO a VALUES (0, NULL, '', 1); COMMIT`, rows))
	r.exec(`INSERT INTO b VALUES (2)`)
	txs, end := r.collect(s, 3)
	long := txs[1]
	if _, ok := long.InMemory(); ok || long.Len != rows-10+3 {
		t.Errorf("%d changes, in memory %v; want %d, on disk", long.Len, ok, rows-10+3)
	}
	if st := s.Status(); st.PeakBytes > r.cfg.MemoryLimit || st.HeldBytes != 0 {
		t.Errorf("held %d bytes at most and %d now, with a limit of %d", st.PeakBytes, st.HeldBytes, r.cfg.MemoryLimit)
	}
	if left, err := os.ReadDir(r.cfg.SpillDir); err != nil || len(left) > 0 {
		t.Errorf("the spill directory shows %v, %v; an open file needs no name", left, err)
	}
	for range 2 { // a spilled transaction can be read again
		lines := strings.Split(text(t, long), "\n")
		check(t, `
			insert public.a new(id=11 pad=pppp..100)
			insert public.b new(id=1)
			update public.a old(id=1 pad=<absent>) new(id=-1 pad=pppp..100)
			insert public.a new(id=0 pad=NULL)
			`, strings.Join(append(lines[:1], lines[len(lines)-4:]...), "\n"))
	}
	var tables []*wal.Table
	for c, err := range long.All() {
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(tables, c.Table) {
			tables = append(tables, c.Table)
		}
	}
	if len(tables) != 3 || !slices.Contains(tables[2].Uncaptured, "late") {
		t.Errorf("%d tables, want a, b and a with its new column; %+v", len(tables), tables)
	}
	s.Ack(end)
	if _, err := firstChange(long); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading a spilled transaction after it was acknowledged: %v, want a closed file", err)
	}
}

func firstChange(tx *wal.Tx) (*wal.Change, error) {
	for c, err := range tx.All() {
		return c, err
	}
	return nil, errors.New("no change")
}
