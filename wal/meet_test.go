package wal_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/internal/pgtest"
	"banyan/internal/randtest"
	"banyan/wal"
)

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
	seed := randtest.Seed(t)
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
