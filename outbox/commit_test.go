package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/outbox"
)

func TestCommitStoresAllOfAStep(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{})
	ref := event.Ref{Aggregate: "Order", Key: "7"}
	line := event.RowRef{Table: "public.order_items", Key: "7,1"}
	released := order("8", 1, 1)
	released.ID.Position.LSN = 42
	released.Cause, released.TraceParent = "shop/Order/7@1:0/64.0", "00-1-2-01"
	step := event.Step{
		Events: []event.Event{order("7", 1, 0), released},
		States: []event.State{{Ref: ref, Body: []byte("paid"), Rules: 3, Event: "e", Snapshot: 2}},
		Links:  []event.Link{{RowRef: line, Ref: ref}},
		Traces: []event.Trace{{Generation: 1, CommitLSN: 100, XID: 1 << 31, Time: at(1).Time, Body: []byte{0, 1, 2}}},
		Counts: map[string]event.Counts{"public.orders": {Changes: 3, Used: 2, Ignored: 1}},
	}
	if err := o.Commit(ctx, at(1), put(ctx, step)); err != nil {
		t.Fatal(err)
	}
	if got := o.Position(); got != at(1) {
		t.Errorf("position %v, want %v", got, at(1))
	}
	for i, e := range step.Events {
		if e.Seq != 1 && e.Seq != 2 || e.Writer != o.Epoch() || e.Partition != outbox.PartitionOf(e.ID.Key, 6) {
			t.Errorf("event %d: partition %d, seq %d, writer %d", i, e.Partition, e.Seq, e.Writer)
		}
		got, err := s.Event(ctx, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Errorf("event %d read back (-put +got):\n%s", i, d)
		}
	}
	trace, err := s.Trace(ctx, 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(step.Traces[0], trace); d != "" {
		t.Errorf("trace (-put +got):\n%s", d)
	}
	counts, err := s.Counts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(step.Counts, counts); d != "" {
		t.Errorf("counts (-put +got):\n%s", d)
	}
	// What the past says next, without the memory of this owner.
	if err := o.Close(ctx); err != nil {
		t.Fatal(err)
	}
	o2 := acquire(t, s, shop)
	if o2.Position() != at(1) {
		t.Errorf("successor starts at %v, want %v", o2.Position(), at(1))
	}
	if err := o2.Commit(ctx, at(2), func(tx *outbox.Tx) error {
		states, err := tx.States(ctx, []event.Ref{ref, {Aggregate: "Order", Key: "none"}})
		if err != nil {
			return err
		}
		if d := cmp.Diff(map[event.Ref]event.State{ref: step.States[0]}, states); d != "" {
			t.Errorf("states (-want +got):\n%s", d)
		}
		roots, err := tx.Roots(ctx, []event.RowRef{line, {Table: "x", Key: "y"}})
		if err != nil {
			return err
		}
		if d := cmp.Diff(map[event.RowRef][]event.Ref{line: {ref}}, roots); d != "" {
			t.Errorf("roots (-want +got):\n%s", d)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Event(ctx, order("9", 1, 0).ID); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("an unknown event: %v, want ErrNotFound", err)
	}
	if _, err := s.Trace(ctx, 1, 101); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("an unknown trace: %v, want ErrNotFound", err)
	}
}

func TestTxReadsItsOwnWrites(t *testing.T) {
	for _, spill := range []bool{false, true} {
		t.Run(fmt.Sprintf("spill=%v", spill), func(t *testing.T) {
			ctx := testContext(t)
			_, s, o := start(t, outbox.Options{})
			a, b, c := event.Ref{Aggregate: "Order", Key: "a"}, event.Ref{Aggregate: "Order", Key: "b"}, event.Ref{Aggregate: "Order", Key: "c"}
			row := event.RowRef{Table: "public.order_items", Key: "1"}
			if err := o.Commit(ctx, at(1), put(ctx, event.Step{
				States: []event.State{{Ref: a, Body: []byte("a1")}, {Ref: b, Body: []byte("b1")}},
				Links:  []event.Link{{RowRef: row, Ref: a}},
				Parked: []event.Parked{{Ref: a, Body: []byte("p")}},
			})); err != nil {
				t.Fatal(err)
			}
			big := event.Step{}
			if spill {
				big.States = []event.State{{Ref: event.Ref{Aggregate: "Blob", Key: "big"}, Body: make([]byte, 9<<20)}}
			}
			check := func(tx *outbox.Tx, want string) error {
				states, err := tx.States(ctx, []event.Ref{a, b, c})
				if err != nil {
					return err
				}
				roots, err := tx.Roots(ctx, []event.RowRef{row})
				if err != nil {
					return err
				}
				parked, err := tx.Parked(ctx, []event.Ref{a, b, c})
				if err != nil {
					return err
				}
				got := fmt.Sprintf("a=%s b=%s c=%s row=%v parked=%v,%v,%v", states[a].Body, states[b].Body, states[c].Body, roots[row], parked[a], parked[b], parked[c])
				if got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				return nil
			}
			after := "a=a2 b= c=c1 row=[{Order c}] parked=true,true,false"
			work := func(fail error) func(tx *outbox.Tx) error {
				return func(tx *outbox.Tx) error {
					if err := check(tx, "a=a1 b=b1 c= row=[{Order a}] parked=true,false,false"); err != nil {
						return err
					}
					if err := tx.Put(ctx, &event.Step{
						States: []event.State{{Ref: a, Body: []byte("a2")}, {Ref: b}, {Ref: c, Body: []byte("c1")}},
						Links:  []event.Link{{RowRef: row, Ref: a, Gone: true}, {RowRef: row, Ref: c}},
						Parked: []event.Parked{{Ref: b, Body: []byte("p")}},
					}); err != nil {
						return err
					}
					if err := tx.Put(ctx, &big); err != nil {
						return err
					}
					if err := check(tx, after); err != nil {
						return err
					}
					return fail
				}
			}
			if err := o.Commit(ctx, at(2), work(errOnPurpose)); !errors.Is(err, errOnPurpose) || outbox.Retryable(err) {
				t.Fatalf("commit: %v, want the error of fn", err)
			}
			if o.Position() != at(1) {
				t.Fatalf("a rollback moved the position to %v", o.Position())
			}
			if err := o.Commit(ctx, at(2), work(nil)); err != nil {
				t.Fatal(err)
			}
			var keys []string
			if err := o.Commit(ctx, at(3), func(tx *outbox.Tx) error {
				for k, err := range tx.Keys(ctx, "Order") {
					if err != nil {
						return err
					}
					keys = append(keys, k)
				}
				return check(tx, after)
			}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]string{"a", "b", "c"}, keys); d != "" {
				t.Errorf("keys (-want +got):\n%s", d)
			}
			chain, err := s.ParkedChain(ctx, a, 0, 10)
			if err != nil || len(chain) != 1 {
				t.Errorf("chain of a: %v %v, want one entry", chain, err)
			}
		})
	}
}

func TestSeqIsDensePerPartition(t *testing.T) {
	ctx := testContext(t)
	_, _, o := start(t, outbox.Options{Partitions: 3})
	commit(t, o, 1, 50)
	if err := o.Commit(ctx, at(2), func(tx *outbox.Tx) error {
		step := orders(2, 50)
		if err := tx.Put(ctx, &step); err != nil {
			return err
		}
		return errOnPurpose
	}); !errors.Is(err, errOnPurpose) {
		t.Fatal(err)
	}
	commit(t, o, 2, 50)
	if got := stored(t, o); len(got) != 100 { // stored fails on a gap
		t.Errorf("%d events stored, want 100", len(got))
	}
}

func TestCommitNeverStepsBack(t *testing.T) {
	ctx := testContext(t)
	_, _, o := start(t, outbox.Options{})
	commit(t, o, 5, 1)
	if err := o.Commit(ctx, at(4), put(ctx, event.Step{})); err == nil {
		t.Error("a commit to an older position was taken")
	}
	// A snapshot range leaves the position where it is.
	if err := o.Commit(ctx, o.Position(), put(ctx, orders(6, 1))); err != nil {
		t.Fatal(err)
	}
	early := at(6)
	early.Time = day
	if err := o.Commit(ctx, early, put(ctx, event.Step{})); err != nil {
		t.Fatal(err)
	}
	if got := o.Position().Time; !got.Equal(at(5).Time) {
		t.Errorf("time stepped back from %v to %v", at(5).Time, got)
	}
}

func TestCommitWhoseAnswerIsLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   cut
		events bool
		done   bool // the server has committed
	}{
		{"commit never arrives", beforeIt, false, false},
		{"answer is lost", afterIt, false, true},
		{"copy is lost", beforeIt, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := testContext(t)
			db, s, first := start(t, outbox.Options{})
			commit(t, first, 1, 3)
			if err := first.Close(ctx); err != nil {
				t.Fatal(err)
			}
			p, via := newProxy(t, db.URL)
			o := acquire(t, open(t, via, outbox.Options{}), shop)
			ref := event.Ref{Aggregate: "Order", Key: "x"}
			// A commit before, so that nothing has to be prepared any more.
			step := event.Step{States: []event.State{{Ref: ref, Body: []byte("old")}}}
			if c.events {
				step.Events = []event.Event{order("x", 2, 0)}
			}
			if err := o.Commit(ctx, at(2), put(ctx, step)); err != nil {
				t.Fatal(err)
			}
			next := event.Step{States: []event.State{{Ref: ref, Body: []byte("new")}}}
			if c.events {
				next.Events = []event.Event{order("x", 3, 0)}
			}
			runs := 0
			work := func(tx *outbox.Tx) error {
				err := tx.Put(ctx, &next)
				if runs++; runs == 1 {
					p.set(c.mode) // what is sent next is the end of the transaction
				}
				return err
			}
			err := o.Commit(ctx, at(3), work)
			select {
			case <-p.hit:
			default:
				t.Fatal("the proxy cut nothing")
			}
			if c.done != (err == nil) || err != nil && !outbox.Retryable(err) {
				t.Fatalf("commit: %v (retryable %v), but the server committed: %v", err, outbox.Retryable(err), c.done)
			}
			if err != nil {
				if o.Position() != at(2) {
					t.Errorf("position %v after a commit that did not happen", o.Position())
				}
				if err := o.Commit(ctx, at(3), work); err != nil {
					t.Fatal(err)
				}
			}
			if err := o.Commit(ctx, at(4), func(tx *outbox.Tx) error {
				states, err := tx.States(ctx, []event.Ref{ref})
				if string(states[ref].Body) != "new" {
					t.Errorf("state is %q", states[ref].Body)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			want := 3
			if c.events {
				want = 5
			}
			if got := stored(t, o); len(got) != want {
				t.Errorf("%d events stored, want %d", len(got), want)
			}
			st, err := s.Status(ctx)
			if err != nil || st.Position.EndLSN != "0/19A" {
				t.Errorf("status: position %v, %v", st.Position, err)
			}
		})
	}
}

// A caller that gives up while the store is away must not be left to believe
// anything about its last commit.
func TestCommitLeftOpen(t *testing.T) {
	db, s, first := start(t, outbox.Options{})
	if err := first.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	p, via := newProxy(t, db.URL)
	o := acquire(t, open(t, via, outbox.Options{Expiry: 400 * time.Millisecond}), shop) // and so long is the last commit waited for
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	step := event.Step{States: []event.State{{Ref: event.Ref{Aggregate: "Order", Key: "x"}, Body: []byte("1")}}}
	if err := o.Commit(ctx, at(1), put(ctx, step)); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-p.hit
		cancel()
	}()
	if err := o.Commit(ctx, at(2), func(tx *outbox.Tx) error {
		defer p.setThen(afterIt, refuseAll)
		return tx.Put(ctx, &step)
	}); !errors.Is(err, outbox.ErrUnsettled) {
		t.Fatalf("commit: %v, want ErrUnsettled", err)
	}
	p.set(whole)
	if err := o.Commit(testContext(t), at(3), put(ctx, step)); !errors.Is(err, outbox.ErrUnsettled) {
		t.Errorf("the next commit: %v, want ErrUnsettled", err)
	}
	if err := o.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	o2 := acquire(t, s, shop)
	if o2.Position() != at(2) {
		t.Errorf("the successor reads %v, want %v", o2.Position(), at(2))
	}
}

func TestServerRestart(t *testing.T) {
	ctx := testContext(t)
	server := pgtest.NewServer(t)
	s := open(t, server.NewDB(t).URL, outbox.Options{})
	o := acquire(t, s, shop)
	commit(t, o, 1, 10)
	server.Kill(t)
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		server.Start(t)
	}()
	var err error
	for try := 0; ; try++ {
		// The first may find its connection dead; the next waits for the server.
		if err = o.Commit(ctx, at(2), put(ctx, orders(2, 10))); !outbox.Retryable(err) || try == 20 {
			break
		}
	}
	<-restarted
	if err != nil {
		t.Fatal(err)
	}
	if got := stored(t, o); len(got) != 20 {
		t.Errorf("%d events stored, want 20", len(got))
	}
	select {
	case <-o.Lost():
		t.Error("a restart of the store cost the owner its epoch")
	default:
	}
}
