package proof

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"banyan/wal"
)

// TestSnapshotLivesOnWithoutItsSlot holds what the proof is gentle by: the slot
// is gone before the first row is read, and still the rows are those of the
// point.
func TestSnapshotLivesOnWithoutItsSlot(t *testing.T) {
	p := newPipeline(t)
	p.stop()
	snap, err := Postgres{URL: p.db.URL}.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	conn := p.db.Conn(t)
	one := func(sql string) (n int64) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// The slot goes with its session, which ends a moment after its client.
	for deadline := time.Now().Add(time.Minute); one(`SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'banyan\_verify%' AND database = current_database()`) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the temporary slot is still there")
		}
	}
	p.db.Exec(t, `DELETE FROM accounts`)
	p.db.Exec(t, `VACUUM accounts`)
	var n int
	err = snap.Read(t.Context(), p.unit, wal.Range{}, func(*wal.Tree) error {
		if n++; n == 1 {
			locks := one(`SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
				WHERE a.application_name = 'banyan' AND a.datname = current_database() AND l.locktype = 'relation' AND l.mode <> 'AccessShareLock'`)
			if locks != 0 {
				t.Errorf("%d locks beyond ACCESS SHARE", locks)
			}
		}
		return nil
	})
	if err != nil || n != 500 {
		t.Errorf("%d rows under the snapshot, %v; want 500", n, err)
	}
	if err := snap.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); one(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'banyan' AND datname = current_database()`) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("a session of the proof is still there")
		}
	}
}

// TestSnapshotNamesWhoBlocksIt: a transaction that stays open keeps a slot from
// being made.
func TestSnapshotNamesWhoBlocksIt(t *testing.T) {
	p := newPipeline(t)
	tx, err := p.db.Conn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	var pid int
	if err := tx.QueryRow(t.Context(), `UPDATE accounts SET balance = 0 WHERE id = 1 RETURNING pg_backend_pid()`).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	r := p.verify(func(c *Config) { c.Database = Postgres{URL: p.db.URL, Wait: 300 * time.Millisecond} })
	if r.Verdict != Unfinished || len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], fmt.Sprintf("process %d of ", pid)) {
		t.Fatalf("%s, %q; want the process %d named", r.Verdict, r.Reasons, pid)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := p.verify(); r.Verdict != Proved {
		t.Errorf("after its end: %s", text(r))
	}
}

func TestSourceThatIsNotThere(t *testing.T) {
	_, err := Postgres{URL: "postgres://nobody:secret@127.0.0.1:1/none?connect_timeout=1"}.Snapshot(t.Context())
	var blocked *BlockedError
	if err == nil || errors.As(err, &blocked) || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
