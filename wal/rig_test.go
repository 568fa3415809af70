package wal_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"banyan/internal/pgtest"
	"banyan/wal"
)

// patience bounds every wait for a signal in these tests.
const patience = 60 * time.Second

// rig is a database with a publication of the captured tables and a slot.
type rig struct {
	t    testing.TB
	db   *pgtest.DB
	conn *pgx.Conn
	cfg  wal.StreamConfig
}

// newRig runs the SQL and makes the publication and the slot.
func newRig(t testing.TB, db *pgtest.DB, capture wal.Capture, sql string) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := &rig{t: t, db: db, conn: db.Conn(t)}
	r.exec(sql)
	list := make([]string, 0, len(capture))
	for name := range capture {
		schema, table, _ := strings.Cut(name, ".")
		list = append(list, pgx.Identifier{schema, table}.Sanitize())
	}
	r.exec("CREATE PUBLICATION pub FOR TABLE " + strings.Join(list, ", ") + " WITH (publish_via_partition_root = true)")
	slot := db.Name
	created, err := wal.CreateSlot(ctx, wal.SlotConfig{URL: db.URL, Slot: slot})
	if err != nil {
		t.Fatal(err)
	}
	if err := created.Close(); err != nil {
		t.Fatal(err)
	}
	r.cfg = wal.StreamConfig{URL: db.URL, Slot: slot, Publication: "pub", Capture: capture, From: created.ConsistentPoint,
		SpillDir: t.TempDir(), IdleInterval: 10 * time.Millisecond}
	return r
}

func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := r.conn.Exec(ctx, sql, args...); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

func (r *rig) open() *wal.Stream {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := wal.Open(ctx, r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			r.t.Errorf("close the stream: %v", err)
		}
	})
	return s
}

// lsn is where the server's WAL ends now.
func (r *rig) lsn() wal.LSN {
	r.t.Helper()
	var text string
	if err := r.conn.QueryRow(context.Background(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		r.t.Fatal(err)
	}
	l, err := wal.ParseLSN(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// collect takes batches until there are n transactions.
func (r *rig) collect(s *wal.Stream, n int) (txs []*wal.Tx, end wal.LSN) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(txs) < n {
		b, err := s.Next(ctx)
		if err != nil {
			r.t.Fatalf("after %d of %d transactions: %v", len(txs), n, err)
		}
		txs, end = append(txs, b.Txs...), b.End
	}
	if len(txs) > n {
		r.t.Fatalf("%d transactions, want %d", len(txs), n)
	}
	return txs, end
}

// upTo is collect with an acknowledgement.
func (r *rig) upTo(s *wal.Stream, n int) []*wal.Tx {
	r.t.Helper()
	txs, end := r.collect(s, n)
	s.Ack(end)
	return txs
}

// text writes changes one a line, so that a test can say what it expects.
func text(t testing.TB, tx *wal.Tx) string {
	t.Helper()
	var b strings.Builder
	ordinal := int64(0)
	for c, err := range tx.All() {
		if err != nil {
			t.Fatal(err)
		}
		if c.Ordinal != ordinal {
			t.Errorf("ordinal %d, want %d", c.Ordinal, ordinal)
		}
		ordinal++
		fmt.Fprintf(&b, "%s %s", c.Op, c.Table.FullName())
		if c.Old != nil {
			b.WriteString(" old" + rowText(c.Table, c.Old))
		}
		if c.New != nil {
			b.WriteString(" new" + rowText(c.Table, c.New))
		}
		b.WriteByte('\n')
	}
	if ordinal != tx.Len {
		t.Errorf("Len is %d, but there are %d changes", tx.Len, ordinal)
	}
	return b.String()
}

func rowText(table *wal.Table, row wal.Row) string {
	var b strings.Builder
	b.WriteByte('(')
	for i, v := range row {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(table.Columns[i].Name + "=")
		switch v.Kind {
		case wal.Null:
			b.WriteString("NULL")
		case wal.Unchanged:
			b.WriteString("<unchanged>")
		case wal.Absent:
			b.WriteString("<absent>")
		default:
			if s := string(v.Bytes); len(s) > 40 {
				fmt.Fprintf(&b, "%s..%d", s[:4], len(s))
			} else {
				b.WriteString(s)
			}
		}
	}
	b.WriteByte(')')
	return b.String()
}

func check(t testing.TB, want, got string) {
	t.Helper()
	want = strings.ReplaceAll(strings.TrimPrefix(want, "\n"), "\t", "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// eventually polls a condition that has no signal of its own.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for: %s", patience, what)
		}
		<-tick.C
	}
}

func (r *rig) slot() *wal.Slot {
	r.t.Helper()
	s, err := wal.SlotInfo(context.Background(), r.conn, r.cfg.Slot)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}
