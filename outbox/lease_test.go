package outbox_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/outbox"
)

func TestOpenTogetherMigratesOnce(t *testing.T) {
	db := pgtest.New(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := outbox.Open(testContext(t), db.URL, outbox.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
	var n int
	if err := db.Pool(t).QueryRow(testContext(t), `SELECT count(*) FROM banyan.migration`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d migrations recorded, want 1 (%v)", n, err)
	}
}

func TestOpenRefusesWhatIsNotItsOwn(t *testing.T) {
	for _, c := range []struct{ name, sql, want string }{
		{"something else", `CREATE SCHEMA banyan; CREATE TABLE banyan.trees (id int)`, "something else"},
		{"newer", `CREATE SCHEMA banyan; CREATE TABLE banyan.migration (version int, digest text, at timestamptz);
			INSERT INTO banyan.migration SELECT n, '' FROM generate_series(1, 999) n`, "another build"},
		{"a role without rights", "", "CREATE SCHEMA banyan AUTHORIZATION"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := pgtest.New(t)
			u := db.URL
			if c.sql == "" {
				u = db.UserURL("poor", "")
				db.Exec(t, `DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN`)
			} else {
				db.Exec(t, c.sql)
			}
			s, err := outbox.Open(testContext(t), u, outbox.Options{})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			var schema *outbox.SchemaError
			if !strings.Contains(err.Error(), c.want) || c.sql != "" && !errors.As(err, &schema) {
				t.Errorf("error %q, want a SchemaError with %q", err, c.want)
			}
		})
	}
}

func TestOpenRefusesANewerSchema(t *testing.T) {
	db := pgtest.New(t)
	open(t, db.URL, outbox.Options{})
	db.Exec(t, `INSERT INTO banyan.migration (version, digest) VALUES (2, 'later')`)
	_, err := outbox.Open(testContext(t), db.URL, outbox.Options{})
	if err == nil || !strings.Contains(err.Error(), "use the newer program") {
		t.Errorf("error %v", err)
	}
}

// A role that owns the schema and nothing else can do all of it.
func TestLeastPrivilege(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `DO $$ BEGIN CREATE ROLE banyan_store LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
		CREATE SCHEMA banyan AUTHORIZATION banyan_store`)
	s := open(t, db.UserURL("banyan_store", ""), outbox.Options{})
	first := acquire(t, s, shop)
	commit(t, first, 1, 5)
	stall(t, db, first)
	second := acquire(t, s, shop) // ends a session of its own role
	commit(t, second, 2, 5)
	if got := stored(t, second); len(got) != 10 {
		t.Errorf("%d events, want 10", len(got))
	}
}

// stall makes the lease look as if its holder had not been heard of for an hour.
func stall(t *testing.T, db *pgtest.DB, o *outbox.Owner) {
	t.Helper()
	db.Exec(t, `UPDATE banyan.lease SET ttl = '-1 hour' WHERE epoch = $1`, o.Epoch())
}

func TestOneOwnerAtATime(t *testing.T) {
	ctx := testContext(t)
	const expiry = 2 * time.Second // longer than a heartbeat is ever late
	db, s, first := start(t, outbox.Options{Expiry: expiry})
	commit(t, first, 1, 1)
	waiting := make(chan outbox.Holder, 10)
	got := make(chan *outbox.Owner)
	go func() {
		o, err := open(t, db.URL, outbox.Options{}).Acquire(ctx, shop, func(h outbox.Holder) { waiting <- h })
		if err != nil {
			t.Error(err)
		}
		got <- o
	}()
	h := <-waiting
	if h.Epoch != first.Epoch() || h.Host != "here" || !h.Alive {
		t.Errorf("waits for %+v, want epoch %d", h, first.Epoch())
	}
	// Longer than the expiry: heartbeats keep it.
	n := 1
	eventually(t, "the lease outlives its expiry", func() bool {
		n++
		commit(t, first, n, 1)
		h, err := s.Holder(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return h.Beat.Sub(h.Since) > expiry*5/4
	})
	select {
	case o := <-got:
		t.Fatalf("epoch %d took over from a living owner", o.Epoch())
	default:
	}
	if err := first.Close(ctx); err != nil {
		t.Fatal(err)
	}
	second := <-got
	defer second.Close(ctx)
	if second.Epoch() != first.Epoch()+1 || second.Position() != at(n) {
		t.Errorf("successor: epoch %d at %v, want %d at %v", second.Epoch(), second.Position(), first.Epoch()+1, at(n))
	}
	if err := first.Commit(ctx, at(n+1), put(ctx, event.Step{})); !errors.Is(err, outbox.ErrClosed) {
		t.Errorf("commit after Close: %v, want ErrClosed", err)
	}
	if h, err := s.Holder(ctx); err != nil || h.Epoch != second.Epoch() || !h.Alive {
		t.Errorf("holder %+v, %v", h, err)
	}
	if err := first.Close(ctx); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if h, err := s.Holder(ctx); err != nil || !h.Alive {
		t.Errorf("a second Close released the successor's lease: %+v, %v", h, err)
	}
}

// An owner that was stopped (SIGSTOP, a long pause) in the middle of a
// transaction must not hold its successor up, nor write when it goes on.
func TestZombie(t *testing.T) {
	ctx := testContext(t)
	db, s, zombie := start(t, outbox.Options{})
	commit(t, zombie, 1, 10)
	inside, wake, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- zombie.Commit(ctx, at(2), func(tx *outbox.Tx) error {
			step := orders(2, 10)
			if err := tx.Put(ctx, &step); err != nil {
				return err
			}
			for range tx.Keys(ctx, "Order") { // the events are in the database now
			}
			close(inside)
			<-wake
			return nil
		})
	}()
	<-inside
	stall(t, db, zombie)
	successor := acquire(t, open(t, db.URL, outbox.Options{}), shop)
	commit(t, successor, 2, 7)
	close(wake)
	if err := <-done; !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("the zombie's commit: %v, want ErrFenced", err)
	}
	if err := zombie.Commit(ctx, at(3), put(ctx, orders(3, 1))); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("the zombie's next commit: %v, want ErrFenced", err)
	}
	select {
	case <-zombie.Lost():
	case <-ctx.Done():
		t.Error("the zombie never learnt that it has lost")
	}
	if err := zombie.Acknowledge(ctx, nil); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("the zombie asks whether it still owns the source: %v, want ErrFenced", err)
	}
	err := zombie.Acknowledge(ctx, []outbox.Ack{{Topic: "shop.orders", Partition: outbox.PartitionOf("1-0", 6), Seq: 1}})
	if !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("the zombie's acknowledgement: %v, want ErrFenced", err)
	}
	if err := zombie.Close(ctx); err != nil {
		t.Error(err)
	}
	if h, err := s.Holder(ctx); err != nil || !h.Alive || h.Epoch != successor.Epoch() {
		t.Errorf("holder after the zombie's end: %+v %v", h, err)
	}
	if err := successor.Acknowledge(ctx, nil); err != nil {
		t.Errorf("the owner asks: %v", err)
	}
	if got := stored(t, successor); len(got) != 17 {
		t.Errorf("%d events, want 17", len(got))
	}
}

// A zombie whose session is idle learns it at its next commit.
func TestIdleZombieIsFenced(t *testing.T) {
	ctx := testContext(t)
	db, _, zombie := start(t, outbox.Options{Heartbeat: time.Hour, Expiry: time.Hour})
	commit(t, zombie, 1, 1)
	stall(t, db, zombie)
	successor := acquire(t, open(t, db.URL, outbox.Options{}), shop)
	err := zombie.Commit(ctx, at(2), put(ctx, orders(2, 1)))
	if outbox.Retryable(err) { // its session was ended
		err = zombie.Commit(ctx, at(2), put(ctx, orders(2, 1)))
	}
	if !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("the zombie's commit: %v, want ErrFenced", err)
	}
	if got := stored(t, successor); len(got) != 1 {
		t.Errorf("%d events, want 1", len(got))
	}
}

func TestIncarnations(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{})
	commit(t, o, 3, 1)
	if o.Generation() != 1 {
		t.Errorf("the first generation is %d", o.Generation())
	}
	// Refused while somebody works, and after.
	other := outbox.Source{Name: "shop", SystemID: "7002", Timeline: 2, Slot: "banyan_shop"}
	for _, alive := range []bool{true, false} {
		if !alive {
			if err := o.Close(ctx); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.Acquire(ctx, other, nil)
		var in *outbox.IncarnationError
		if !errors.As(err, &in) || len(in.Differs) != 2 || in.Generation != 1 {
			t.Fatalf("another incarnation: %v", err)
		}
		for _, want := range []string{"7001", "7002", "timeline", "cdc repair"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not name %q", err, want)
			}
		}
		var src *outbox.SourceError
		if _, err := s.Acquire(ctx, outbox.Source{Name: "bank"}, nil); !errors.As(err, &src) {
			t.Errorf("another source: %v", err)
		}
	}
	if h, err := s.Holder(ctx); err != nil || h.Alive || h.Epoch != o.Epoch() {
		t.Errorf("a refused owner left its mark: %+v %v", h, err)
	}
	other.NewGeneration = true
	o2 := acquire(t, s, other)
	if o2.Generation() != 2 || o2.Position().End != 0 || !o2.Position().Time.Equal(at(3).Time) {
		t.Errorf("after the repair: generation %d at %v", o2.Generation(), o2.Position())
	}
	if f, err := o2.Frontier(ctx); err != nil || f.Complete {
		t.Errorf("a new generation is complete before its snapshot: %+v %v", f, err)
	}
	commit(t, o2, 1, 1)
	if err := o2.Close(ctx); err != nil {
		t.Fatal(err)
	}
	// A slot of the same name, made again.
	other.NewGeneration, other.SlotStart = false, "0/10"
	o3 := acquire(t, s, other)
	if err := o3.Close(ctx); err != nil {
		t.Fatal(err)
	}
	other.SlotStart = "0/20"
	var in *outbox.IncarnationError
	if _, err := s.Acquire(ctx, other, nil); !errors.As(err, &in) {
		t.Errorf("a slot made again: %v", err)
	}
}

func TestAcquireGivesUpWithItsContext(t *testing.T) {
	db, _, _ := start(t, outbox.Options{})
	ctx, cancel := context.WithCancel(testContext(t))
	_, err := open(t, db.URL, outbox.Options{}).Acquire(ctx, shop, func(outbox.Holder) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("acquire: %v, want the context's error", err)
	}
}

func TestTeardown(t *testing.T) {
	ctx := testContext(t)
	db, s, o := start(t, outbox.Options{})
	commit(t, o, 1, 10)
	things, err := s.Contents(ctx)
	if err != nil || len(things) < 10 || things[0].Kind != "schema" || things[0].Bytes == 0 {
		t.Errorf("contents %v, %v", things, err)
	}
	var lease *outbox.LeaseError
	if err := s.Drop(ctx); !errors.As(err, &lease) {
		t.Errorf("drop under a living owner: %v", err)
	}
	if err := o.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(ctx); err != nil {
		t.Fatal(err)
	}
	var there bool
	if err := db.Pool(t).QueryRow(ctx, `SELECT to_regnamespace('banyan') IS NOT NULL`).Scan(&there); err != nil || there {
		t.Errorf("schema still there: %v %v", there, err)
	}
}

// The epoch alone fences, where position and session are still the same.
func TestTheEpochIsTheFence(t *testing.T) {
	ctx := testContext(t)
	db, _, o := start(t, outbox.Options{Heartbeat: time.Hour, Expiry: time.Hour})
	commit(t, o, 1, 3)
	db.Exec(t, `UPDATE banyan.source SET epoch = epoch + 1`)
	if err := o.Commit(ctx, at(2), put(ctx, orders(2, 1))); !errors.Is(err, outbox.ErrFenced) || outbox.Retryable(err) {
		t.Errorf("commit: %v, want ErrFenced", err)
	}
	var commits, events int
	if err := db.Pool(t).QueryRow(ctx, `SELECT commits, (SELECT count(*) FROM banyan.event_1) FROM banyan.source`).Scan(&commits, &events); err != nil || commits != 1 || events != 3 {
		t.Errorf("%d commits and %d events (%v), want 1 and 3", commits, events, err)
	}
}
