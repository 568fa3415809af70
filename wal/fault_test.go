package wal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/internal/pgtest"
	"banyan/wal"
)

func TestSlotMovesWhileOnlyANeighbourIsBusy(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.quiet": {"id"}},
		`CREATE TABLE quiet (id int PRIMARY KEY); CREATE TABLE busy (id int)`)
	s := r.open()
	r.exec(`INSERT INTO busy SELECT generate_series(1, 1000)`)
	target := r.lsn()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for end := wal.LSN(0); end < target; {
		b, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Txs) > 0 {
			t.Fatalf("%d transactions of tables that are not captured", len(b.Txs))
		}
		if b.End <= end {
			t.Fatalf("the position went from %s to %s", end, b.End)
		}
		if confirmed := r.slot().Confirmed; confirmed >= b.End {
			t.Fatalf("the slot is at %s before %s was acknowledged", confirmed, b.End)
		}
		end = b.End
		s.Ack(end)
	}
	eventually(t, "the slot to move past the neighbour's rows", func() bool { return r.slot().Confirmed >= target })
}

func TestStreamNeverFlushesWhatIsNotAcknowledged(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	r.cfg.StatusInterval = 5 * time.Millisecond
	s := r.open()
	before := r.slot().Confirmed
	r.exec(`INSERT INTO a VALUES (1)`)
	r.collect(s, 1)
	// The server has heard from us after it sent the row.
	eventually(t, "a status after the row", func() bool {
		var n int
		err := r.conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_replication p JOIN pg_replication_slots s ON s.active_pid = p.pid
			WHERE s.slot_name = $1 AND p.write_lsn >= $2::pg_lsn`, r.cfg.Slot, s.Status().Handed.String()).Scan(&n)
		return err == nil && n == 1
	})
	if now := r.slot().Confirmed; now != before {
		t.Errorf("the slot went from %s to %s without an acknowledgement", before, now)
	}
	s.Ack(1 << 60) // too far counts as the last batch
	eventually(t, "the acknowledgement to arrive", func() bool { return r.slot().Confirmed == s.Status().Handed })
}

func TestSlowConsumerKeepsItsWalsender(t *testing.T) {
	srv := pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{"wal_sender_timeout": "2s"}})
	r := newRig(t, srv.NewDB(t), wal.Capture{"public.a": {"id", "pad"}}, `CREATE TABLE a (id int PRIMARY KEY, pad text)`)
	r.cfg.MemoryLimit = 64 << 10 // so that reading stops
	s := r.open()
	const rows = 4000
	for i := range rows / 100 {
		r.exec(`INSERT INTO a SELECT g, repeat('x', 1000) FROM generate_series($1::int, $1::int + 99) g`, i*100)
	}
	var pid int
	// Nobody calls Next; the sender must outlive its timeout several times.
	eventually(t, "replies of a stream that nobody reads, for longer than wal_sender_timeout", func() bool {
		var long bool
		if err := r.conn.QueryRow(t.Context(), `SELECT pid, coalesce(reply_time - backend_start > interval '5 s', false) FROM pg_stat_replication`).Scan(&pid, &long); err != nil {
			t.Fatalf("the walsender is gone: %v", err)
		}
		return long
	})
	n := int64(0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for n < rows {
		b, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range b.Txs {
			n += tx.Len
		}
		s.Ack(b.End)
	}
	st := s.Status()
	if st.Reconnects != 0 || int(r.slot().ActivePID) != pid || n != rows {
		t.Errorf("%d rows, %d reconnects, walsender %d, then %d", n, st.Reconnects, pid, r.slot().ActivePID)
	}
	if st.PeakBytes > 2*r.cfg.MemoryLimit {
		t.Errorf("held %d bytes with a limit of %d", st.PeakBytes, r.cfg.MemoryLimit)
	}
}

// consume reads and acknowledges rows with rising ids until the last one, and
// returns an error for every id that is missing, doubled or out of order.
func consume(ctx context.Context, s *wal.Stream, last int) error {
	next := 1
	for next <= last {
		b, err := s.Next(ctx)
		if err != nil {
			return fmt.Errorf("before row %d: %w", next, err)
		}
		for _, tx := range b.Txs {
			for c, err := range tx.All() {
				if err != nil {
					return err
				}
				if got := string(c.New[0].Bytes); got != fmt.Sprint(next) {
					return fmt.Errorf("row %s, want %d", got, next)
				}
				next++
			}
		}
		s.Ack(b.End)
	}
	return nil
}

func TestStreamSurvivesServerRestarts(t *testing.T) {
	srv := pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{"fsync": "on"}})
	r := newRig(t, srv.NewDB(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	s := r.open()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	const each = 300
	done := make(chan error, 1)
	go func() { done <- consume(ctx, s, 4*each) }()
	id := 0
	// The stream is back before the next end: it may wait for some seconds between two
	// tries, after a server that took long to start.
	insert := func(reconnects int) {
		for range each {
			id++
			r.db.Exec(t, fmt.Sprintf("INSERT INTO a VALUES (%d)", id))
		}
		eventually(t, "the stream to be back", func() bool { return s.Status().Reconnects == reconnects })
	}
	insert(0)
	srv.Restart(t) // fast: the server waits until we have everything
	insert(1)
	srv.Kill(t)
	srv.Start(t)
	insert(2)
	srv.Stop(t, pgtest.Immediate)
	srv.Start(t)
	insert(3)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := s.Status().Reconnects; n != 3 {
		t.Errorf("%d reconnects, want 3", n)
	}
}

// A consumer that has stopped, perhaps because its store is on the same server,
// does not keep that server from shutting down.
func TestServerShutsDownInSpiteOfAStoppedConsumer(t *testing.T) {
	srv := pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{"wal_sender_timeout": "2s", "fsync": "on"}})
	r := newRig(t, srv.NewDB(t), wal.Capture{"public.a": {"id", "pad"}}, `CREATE TABLE a (id int PRIMARY KEY, pad text)`)
	r.cfg.MemoryLimit = 64 << 10
	s := r.open()
	const rows = 30_000
	r.exec(`DO $$ BEGIN FOR i IN 0..2999 LOOP INSERT INTO a SELECT i*10 + g, repeat('x', 1000) FROM generate_series(1, 10) g; COMMIT; END LOOP; END $$`)
	eventually(t, "the stream to be full", func() bool { return s.Status().HeldBytes > r.cfg.MemoryLimit/4 })
	srv.Restart(t) // fails the test if the server does not end
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := consume(ctx, s, rows); err != nil {
		t.Error(err)
	}
}

func TestWalsenderTerminatedInMidTransaction(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id", "pad"}}, `CREATE TABLE a (id int PRIMARY KEY, pad text)`)
	s := r.open()
	const rows = 150_000
	r.exec(`INSERT INTO a SELECT g, repeat('x', 100) FROM generate_series(1, $1::int) g`, rows)
	eventually(t, "the transaction to be on its way", func() bool { st := s.Status(); return st.HeldBytes > 0 })
	if _, err := wal.TerminateSlotUser(t.Context(), r.conn, r.cfg.Slot); err != nil {
		t.Fatal(err)
	}
	r.exec(`INSERT INTO a VALUES ($1)`, rows+1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := consume(ctx, s, rows+1); err != nil {
		t.Error(err)
	}
	if n := s.Status().Reconnects; n != 1 {
		t.Errorf("%d reconnects, want 1: was the walsender ended in time?", n)
	}
}

// What was handed out and not acknowledged is sent again by the server; the
// stream must not hand it out again.
func TestReconnectHandsNothingOutTwice(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	s := r.open()
	r.exec(`INSERT INTO a VALUES (1)`)
	r.collect(s, 1) // no acknowledgement
	r.exec(`INSERT INTO a VALUES (2)`)
	eventually(t, "the second row to wait", func() bool { return s.Status().HeldBytes > 0 })
	if _, err := wal.TerminateSlotUser(t.Context(), r.conn, r.cfg.Slot); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a reconnect", func() bool { return s.Status().Reconnects == 1 })
	r.exec(`INSERT INTO a VALUES (3)`)
	var got strings.Builder
	txs, end := r.collect(s, 2)
	for _, tx := range txs {
		got.WriteString(text(t, tx))
	}
	check(t, "insert public.a new(id=2)\ninsert public.a new(id=3)\n", got.String())
	if c := r.slot().Confirmed; c > r.cfg.From {
		t.Errorf("the slot is at %s without an acknowledgement", c)
	}
	s.Ack(end)
	s.Close()
	eventually(t, "the server to hear the last acknowledgement from Close", func() bool { return r.slot().Confirmed == end })
	if _, err := s.Next(t.Context()); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
}

func openError(t *testing.T, cfg wal.StreamConfig) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := wal.Open(ctx, cfg)
	if err == nil {
		s.Close()
		t.Fatal("opened")
	}
	return err
}

func TestOpenRefuses(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)`)

	t.Run("a slot that is ahead", func(t *testing.T) {
		cfg := r.cfg
		r.exec(`INSERT INTO a VALUES (1)`)
		r.exec(`SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, cfg.Slot)
		err := openError(t, cfg)
		ahead, ok := errors.AsType[*wal.SlotAheadError](err)
		if !ok || ahead.From != cfg.From || ahead.Confirmed <= cfg.From {
			t.Fatalf("%v", err)
		}
		if !strings.Contains(err.Error(), ahead.From.String()) || !strings.Contains(err.Error(), ahead.Confirmed.String()) {
			t.Errorf("the message names not both positions: %v", err)
		}
		r.cfg.From = ahead.Confirmed
	})
	t.Run("a missing slot", func(t *testing.T) {
		cfg := r.cfg
		cfg.Slot = "nobody"
		if _, ok := errors.AsType[*wal.SlotMissingError](openError(t, cfg)); !ok {
			t.Fail()
		}
	})
	t.Run("a physical slot", func(t *testing.T) {
		cfg := r.cfg
		cfg.Slot = r.cfg.Slot + "_phys"
		r.exec(`SELECT pg_create_physical_replication_slot($1)`, cfg.Slot)
		defer r.exec(`SELECT pg_drop_replication_slot($1)`, cfg.Slot)
		if e, ok := errors.AsType[*wal.SlotUnfitError](openError(t, cfg)); !ok || e.What != "type" {
			t.Errorf("%v", e)
		}
	})
	t.Run("a slot of another database", func(t *testing.T) {
		cfg := r.cfg
		other := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
		cfg.Slot = other.cfg.Slot
		if e, ok := errors.AsType[*wal.SlotUnfitError](openError(t, cfg)); !ok || e.What != "database" || e.Want != r.db.Name {
			t.Errorf("%v", e)
		}
	})
	t.Run("a slot in use", func(t *testing.T) {
		s := r.open()
		defer s.Close()
		cfg := r.cfg
		cfg.ActiveWait = time.Millisecond
		if e, ok := errors.AsType[*wal.SlotActiveError](openError(t, cfg)); !ok || e.PID != r.slot().ActivePID {
			t.Errorf("%v", e)
		}
	})
	eventually(t, "the slot to be free", func() bool { return r.slot().ActivePID == 0 })
	t.Run("another incarnation", func(t *testing.T) {
		cfg := r.cfg
		inc, err := wal.Identify(t.Context(), cfg.URL, cfg.Slot)
		if err != nil {
			t.Fatal(err)
		}
		inc.Timeline++
		cfg.Expect = inc
		if e, ok := errors.AsType[*wal.IncarnationError](openError(t, cfg)); !ok || e.Got.Timeline != inc.Timeline-1 {
			t.Errorf("%v", e)
		}
	})
	t.Run("publications that lack something", func(t *testing.T) {
		cfg := r.cfg
		cfg.Capture = wal.Capture{"public.a": {"id"}, "public.b": {"id"}, "public.c": {"id"}}
		r.exec(`ALTER PUBLICATION pub SET (publish = 'insert', publish_via_partition_root = false)`)
		r.exec(`ALTER PUBLICATION pub SET TABLE a WHERE (id > 5)`)
		e, ok := errors.AsType[*wal.PublicationError](openError(t, cfg))
		if !ok {
			t.Fatal("another error")
		}
		want := []string{"it does not publish all of insert, update, delete and truncate", "publish_via_partition_root is off",
			"table public.a has a row filter", "table public.b is not published", "table public.c does not exist"}
		if diff := cmp.Diff(want, e.Problems); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		cfg.Publication = "none"
		if e, ok := errors.AsType[*wal.PublicationError](openError(t, cfg)); !ok || e.Problems[0] != "it does not exist" {
			t.Errorf("%v", e)
		}
	})
	t.Run("an incomplete configuration", func(t *testing.T) {
		err := openError(t, wal.StreamConfig{})
		for _, f := range []string{"URL", "Slot", "Publication", "Capture", "From", "SpillDir"} {
			if !strings.Contains(err.Error(), f+" is not set") {
				t.Errorf("no word of %s in %v", f, err)
			}
		}
	})
	t.Run("a password in no message", func(t *testing.T) {
		cfg := r.cfg
		cfg.URL = strings.Replace(cfg.URL, "postgres@", "nobody:hunter2@", 1)
		if err := openError(t, cfg); strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
		cfg.URL = "postgres://u:hunter2@[bad/x"
		if err := openError(t, cfg); strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
	})
}

func TestCancelledCreateSlotLeavesNone(t *testing.T) {
	db := pgtest.New(t)
	conn, old := db.Conn(t), db.Conn(t)
	// A transaction that has written must end before a slot can be made.
	if _, err := old.Exec(t.Context(), `CREATE TABLE a (id int); BEGIN; INSERT INTO a VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		created, err := wal.CreateSlot(ctx, wal.SlotConfig{URL: db.URL, Slot: db.Name})
		if err == nil {
			created.Close()
		}
		failed <- err
	}()
	eventually(t, "the slot to be in the making", func() bool {
		s, err := wal.SlotInfo(t.Context(), conn, db.Name)
		return err == nil && s.Confirmed == 0
	})
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("creating a slot behind an open transaction: %v", err)
	}
	eventually(t, "the slot to be gone", func() bool {
		_, err := wal.SlotInfo(t.Context(), conn, db.Name)
		return isMissing(err)
	})
}

func TestTemporarySlotGoesWithItsConnection(t *testing.T) {
	db := pgtest.New(t)
	conn := db.Conn(t)
	c, err := wal.TemporarySlot(t.Context(), db.URL, db.Name)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := wal.SlotInfo(t.Context(), conn, db.Name); err != nil || !s.Temporary || s.Confirmed != c.ConsistentPoint || s.Plugin != "pgoutput" {
		t.Errorf("%+v, %v", s, err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "the slot to be gone", func() bool {
		_, err := wal.SlotInfo(t.Context(), conn, db.Name)
		return isMissing(err)
	})
}

func TestSlotDroppedInMidStream(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	s := r.open()
	r.exec(`INSERT INTO a VALUES (1)`)
	r.upTo(s, 1)
	eventually(t, "the slot to be dropped", func() bool {
		if _, err := wal.TerminateSlotUser(t.Context(), r.conn, r.cfg.Slot); err != nil {
			t.Fatal(err)
		}
		err := wal.DropSlot(t.Context(), r.conn, r.cfg.Slot)
		if _, active := errors.AsType[*wal.SlotActiveError](err); err != nil && !active {
			t.Fatal(err)
		}
		return err == nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		b, err := s.Next(ctx)
		if err == nil && len(b.Txs) == 0 {
			continue
		}
		if _, ok := errors.AsType[*wal.SlotMissingError](err); !ok {
			t.Fatalf("%d transactions, %v", len(b.Txs), err)
		}
		break
	}
	if err := wal.DropSlot(t.Context(), r.conn, r.cfg.Slot); !isMissing(err) {
		t.Errorf("dropping a missing slot: %v", err)
	}
}

func isMissing(err error) bool {
	_, ok := errors.AsType[*wal.SlotMissingError](err)
	return ok
}

func TestSlotThatLostItsWAL(t *testing.T) {
	srv := pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}})
	r := newRig(t, srv.NewDB(t), wal.Capture{"public.a": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY)`)
	eventually(t, "the server to give the slot up", func() bool {
		r.exec(`SELECT pg_switch_wal()`)
		r.exec(`INSERT INTO a SELECT coalesce(max(id), 0) + 1 FROM a`)
		r.exec(`CHECKPOINT`)
		return r.slot().WALStatus == "lost"
	})
	err := openError(t, r.cfg)
	if _, ok := errors.AsType[*wal.SlotLostError](err); !ok {
		t.Error(err)
	}
}
