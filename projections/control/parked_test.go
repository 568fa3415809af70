package control

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"banyan/event"
)

func parkedEvent(ref event.Ref, part int, n int64, lsn uint64, reason string) ParkedEvent {
	return ParkedEvent{Projection: "shipping", Version: 1, Ref: ref, PartID: PartID{"shop.orders", part}, Offset: n + 100, Seq: n,
		Position: event.Position{Generation: 1, LSN: lsn, Ordinal: 2}, ID: fmt.Sprintf("shop/%s/%s@1:0/%X.2", ref.Aggregate, ref.Key, lsn), Type: "OrderPlaced",
		Reason: reason, Record: event.Record{Key: []byte(ref.Key), Value: []byte{'{', 0, 0xff, '}'}, Time: time.UnixMilli(1_700_000_000_123).UTC(),
			Headers: []event.Header{{Key: "ce_id", Value: []byte("x")}, {Key: "empty", Value: []byte{}}}, Partition: part, Offset: n + 100}}
}

func TestChains(t *testing.T) {
	r := newRig(t)
	r.shipping(2)
	a, b := event.Ref{Aggregate: "Order", Key: "1"}, event.Ref{Aggregate: "Order", Key: "2,ü"}
	all := []ParkedEvent{
		parkedEvent(b, 1, 1, 10, "too long"), parkedEvent(a, 0, 5, 20, "bad sum"), parkedEvent(b, 1, 2, 30, "behind the first"),
		parkedEvent(b, 1, 3, 25, "behind the first"), // released at the source: its position is not the highest
	}
	all[2].Record.Value = nil // a tombstone
	r.in(func(tx pgx.Tx) error { return r.Park(r.ctx, tx, all[:2]) })
	r.in(func(tx pgx.Tx) error { return r.Park(r.ctx, tx, all[2:]) })
	r.in(func(tx pgx.Tx) error { return r.Park(r.ctx, tx, nil) })

	chains, err := r.Chains(r.ctx, r.pool, "shipping", 1)
	must(t, err)
	if len(chains) != 2 || chains[0].Since.IsZero() {
		t.Fatalf("chains: %+v", chains)
	}
	chains[0].Since = time.Time{}
	want := Chain{Ref: b, Version: 1, PartID: PartID{"shop.orders", 1}, Events: 3, Reason: "too long", First: all[0].ID, Type: "OrderPlaced",
		From: all[0].Position, Until: all[3].Position}
	if d := cmp.Diff(want, chains[0]); d != "" || chains[1].Ref != a {
		t.Errorf("the first chain (-want +got):\n%s\nthe second: %+v", d, chains[1])
	}
	got, err := r.Chain(r.ctx, r.pool, "shipping", 1, b, 0)
	must(t, err)
	for i := range got {
		if got[i].ParkedAt.IsZero() {
			t.Error("no time")
		}
		got[i].ParkedAt = time.Time{}
	}
	if d := cmp.Diff([]ParkedEvent{all[0], all[2], all[3]}, got); d != "" {
		t.Errorf("the chain (-want +got):\n%s", d)
	}
	if got, err := r.Chain(r.ctx, r.pool, "shipping", 1, b, 1); err != nil || len(got) != 1 {
		t.Errorf("one of the chain: %v, %v", got, err)
	}
	refs, err := r.ParkedRefs(r.ctx, r.pool, "shipping", 1, []PartID{{"shop.orders", 1}, {"shop.stock", 0}})
	must(t, err)
	if d := cmp.Diff(map[PartID][]event.Ref{{"shop.orders", 1}: {b}}, refs); d != "" {
		t.Errorf("refs (-want +got):\n%s", d)
	}

	settled := []Settled{
		{Ref: b, PartID: PartID{"shop.orders", 1}, Offset: 101, Seq: 1, ID: all[0].ID, Fate: Released, At: event.Position{Generation: 1, LSN: 40}},
		{Ref: a, PartID: PartID{"shop.orders", 0}, Offset: 105, Seq: 5, ID: all[1].ID, Fate: Discarded, At: event.Position{Generation: 1, LSN: 40, Ordinal: 1}},
	}
	r.in(func(tx pgx.Tx) error {
		n, err := r.Unpark(r.ctx, tx, "shipping", 1, b)
		if n != 3 {
			t.Errorf("%d events removed", n)
		}
		return errors.Join(err, r.Settle(r.ctx, tx, "shipping", 1, settled))
	})
	if back, err := r.Settlements(r.ctx, r.pool, "shipping", 1); err != nil || cmp.Diff(settled, back) != "" {
		t.Errorf("settlements: %v\n%s", err, cmp.Diff(settled, back))
	}
	if chains, err = r.Chains(r.ctx, r.pool, "shipping", 1); err != nil || len(chains) != 1 || chains[0].Ref != a {
		t.Errorf("what is left: %+v, %v", chains, err)
	}
}

func TestRequests(t *testing.T) {
	r := newRig(t)
	r.shipping(2)
	a, b := event.Ref{Aggregate: "Order", Key: "1"}, event.Ref{Aggregate: "Order", Key: "2"}
	if _, err := r.Ask(r.ctx, "shipping", 1, Release); !errors.Is(err, ErrNotParked) {
		t.Errorf("all of nothing: %v", err)
	}
	r.in(func(tx pgx.Tx) error {
		return r.Park(r.ctx, tx, []ParkedEvent{parkedEvent(a, 0, 1, 10, "x"), parkedEvent(a, 0, 2, 11, "x"), parkedEvent(b, 1, 1, 12, "y")})
	})
	if _, err := r.Ask(r.ctx, "shipping", 1, Release, a, event.Ref{Aggregate: "Order", Key: "3"}); !errors.Is(err, ErrNotParked) {
		t.Errorf("one that is not parked: %v", err)
	}
	mine := []PartID{{"shop.orders", 0}}
	if left, err := r.Pending(r.ctx, r.pool, "shipping", 1, mine); err != nil || len(left) != 0 {
		t.Errorf("half a request is left: %+v, %v", left, err)
	}
	id, err := r.Ask(r.ctx, "shipping", 1, Release)
	must(t, err)
	later, err := r.Ask(r.ctx, "shipping", 1, Discard, a)
	must(t, err)
	pending, err := r.Pending(r.ctx, r.pool, "shipping", 1, mine)
	must(t, err)
	if len(pending) != 2 || pending[0].ID != id || pending[0].Ref != a || pending[0].Kind != Release || pending[1].ID != later || pending[1].Kind != Discard {
		t.Fatalf("pending: %+v", pending)
	}

	type result struct {
		all []Request
		err error
	}
	done := make(chan result, 1)
	go func() {
		all, err := r.Await(r.ctx, id)
		done <- result{all, err}
	}()
	r.in(func(tx pgx.Tx) error { return r.Finish(r.ctx, tx, pending[0], 2, nil) })
	select {
	case <-done:
		t.Fatal("one chain is still open")
	default:
	}
	theirs, err := r.Pending(r.ctx, r.pool, "shipping", 1, []PartID{{"shop.orders", 1}})
	must(t, err)
	must(t, r.Finish(r.ctx, r.pool, theirs[0], 0, errors.New("still too long")))
	got := <-done
	must(t, got.err)
	if len(got.all) != 2 || got.all[0].Error != "" || got.all[0].Events != 2 || got.all[1].Error != "still too long" || got.all[1].DoneAt.IsZero() {
		t.Errorf("the result: %+v", got.all)
	}
	over, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := r.Await(over, later); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody does it: %v", err)
	}
	if _, err := r.Result(r.ctx, 999); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such request: %v", err)
	}
}
