package outbox_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/outbox"
)

// padded gives count events at position n with kilobytes of data each.
func padded(n, count, kilobytes int) event.Step {
	step := orders(n, count)
	for i := range step.Events {
		step.Events[i].Data = fmt.Appendf(nil, `{"pad":%q}`, make([]byte, kilobytes<<8)) // \x00 is four characters
	}
	return step
}

// size is asked by pollers: it leaves no connection behind.
func size(t testing.TB, db *pgtest.DB, like string) (bytes int64, tables int) {
	t.Helper()
	for _, text := range db.Column(t, `SELECT coalesce(pg_total_relation_size(oid), 0)::text FROM pg_class
		WHERE relnamespace = 'banyan'::regnamespace AND relkind = 'r' AND relname LIKE $1`, like) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		bytes += n
		tables++
	}
	return bytes, tables
}

// What is published leaves the disk, however long it goes on, and nothing
// leaves it before.
func TestDiskStaysBounded(t *testing.T) {
	ctx := testContext(t)
	db, _, o := start(t, outbox.Options{SlabBytes: 256 << 10, TraceBytes: 1 << 20})
	var most int64
	trace := make([]byte, 20<<10)
	for n := 1; n <= 150; n++ {
		step := padded(n, 40, 1)
		step.Traces = []event.Trace{{Generation: 1, CommitLSN: at(n).Commit, Time: at(n).Time, Body: trace}}
		step.States = []event.State{{Ref: event.Ref{Aggregate: "Order", Key: fmt.Sprint(n % 10)}, Body: []byte("s")}}
		if err := o.Commit(ctx, at(n), put(ctx, step)); err != nil {
			t.Fatal(err)
		}
		if n%5 == 0 {
			if got := stored(t, o); len(got) != 200 {
				t.Fatalf("%d events wait, want 200", len(got))
			}
			acknowledgeAll(t, o)
		}
		if n > 10 && n%10 == 0 {
			eventually(t, "slabs are pruned", func() bool { _, n := size(t, db, "event_%"); return n <= 2 })
			bytes, _ := size(t, db, "%")
			most = max(most, bytes)
		}
	}
	t.Logf("150 cycles of 40 KiB of events and 20 KiB of traces; at most %d KiB on disk", most>>10)
	if most > 5<<20 {
		t.Errorf("%d bytes on disk", most)
	}
	if b := o.Budget(); b.Used > 2<<20 {
		t.Errorf("budget says %d bytes are used", b.Used)
	}
}

func TestUnacknowledgedEventsStay(t *testing.T) {
	ctx := testContext(t)
	db, s, o := start(t, outbox.Options{SlabBytes: 128 << 10, Partitions: 2, Twins: true})
	for n := 1; n <= 20; n++ {
		if err := o.Commit(ctx, at(n), put(ctx, padded(n, 20, 1))); err != nil {
			t.Fatal(err)
		}
	}
	_, before := size(t, db, "event_%")
	if before < 3 {
		t.Fatalf("%d slabs, want several", before)
	}
	shelves, err := o.Shelves(ctx)
	if err != nil {
		t.Fatal(err)
	}
	last := func(i int) outbox.Ack {
		return outbox.Ack{Topic: "shop.orders", Partition: i, Seq: shelves[i].Assigned, Offset: 7}
	}
	twin := func(i int) outbox.Ack {
		return outbox.Ack{Topic: "shop.orders", Partition: i, TwinSeq: shelves[i].Assigned, TwinNext: 9}
	}
	// One partition is published, the other is not; then its twin is not.
	for _, acks := range [][]outbox.Ack{{last(0)}, {twin(0)}, {last(1)}} {
		if err := o.Acknowledge(ctx, acks); err != nil {
			t.Fatal(err)
		}
		if _, n := size(t, db, "event_%"); n != before {
			t.Fatalf("%d slabs are left of %d after %+v", n, before, acks)
		}
	}
	if err := o.Acknowledge(ctx, []outbox.Ack{twin(1), {Topic: "shop.orders", Partition: 1, Seq: 1, Offset: 1}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all but the open slab go", func() bool { _, n := size(t, db, "event_%"); return n == 1 })
	shelves, _ = o.Shelves(ctx)
	want := outbox.Shelf{Topic: "shop.orders", Partition: 1, Assigned: shelves[1].Assigned, Acked: shelves[1].Assigned, Offset: 7, TwinSeq: shelves[1].Assigned, TwinNext: 9}
	if d := cmp.Diff(want, shelves[1]); d != "" {
		t.Errorf("an old acknowledgement moved the shelf back (-want +got):\n%s", d)
	}
	if err := o.Close(ctx); err != nil {
		t.Fatal(err)
	}
	again, _ := acquire(t, s, shop).Shelves(ctx)
	if d := cmp.Diff(shelves, again); d != "" {
		t.Errorf("shelves of the successor (-before +after):\n%s", d)
	}
	if err := o.Acknowledge(ctx, []outbox.Ack{{Topic: "shop.orders", Partition: 1, Seq: 1 << 40}}); err == nil {
		t.Error("an event that was never assigned could be acknowledged")
	}
}

func TestFullOutboxWaitsForTheBroker(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{MaxBytes: 1 << 20, SlabBytes: 128 << 10})
	n := 0
	var full *outbox.FullError
	for {
		n++
		err := o.Commit(ctx, at(n), put(ctx, padded(n, 20, 1)))
		if errors.As(err, &full) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n > 1000 {
			t.Fatal("never full")
		}
	}
	if !errors.Is(full, outbox.ErrFull) || outbox.Retryable(full) || full.Used < full.Max || full.Used > 3*full.Max/2 {
		t.Errorf("full: %v", full)
	}
	if o.Position() != at(n-1) {
		t.Errorf("a refused commit moved the position to %v", o.Position())
	}
	st, err := s.Status(ctx)
	if err != nil || !st.Outbox.Full || st.Outbox.Events != int64(20*(n-1)) {
		t.Errorf("status %+v, %v", st.Outbox, err)
	}
	if !st.Outbox.Oldest.Equal(at(1).Time) {
		t.Errorf("the oldest is of %v, want %v", st.Outbox.Oldest, at(1).Time)
	}
	room := make(chan error)
	go func() { room <- o.WaitRoom(ctx) }()
	select {
	case err := <-room:
		t.Fatalf("room (%v) before anything was published", err)
	case <-time.After(150 * time.Millisecond):
	}
	acknowledgeAll(t, o)
	if err := <-room; err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(ctx, at(n), put(ctx, padded(n, 20, 1))); err != nil {
		t.Fatal(err)
	}
}

// A single commit larger than the budget fills it; published, it must go even
// though it lies in the open slab.
func TestOneCommitLargerThanTheBudget(t *testing.T) {
	ctx := testContext(t)
	db, _, o := start(t, outbox.Options{MaxBytes: 512 << 10, SlabBytes: 64 << 20})
	if err := o.Commit(ctx, at(1), put(ctx, padded(1, 1000, 1))); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(ctx, at(2), put(ctx, orders(2, 1))); !errors.Is(err, outbox.ErrFull) {
		t.Fatalf("commit: %v, want ErrFull", err)
	}
	acknowledgeAll(t, o)
	if err := o.WaitRoom(ctx); err != nil {
		t.Fatal(err)
	}
	commit(t, o, 2, 1)
	if bytes, _ := size(t, db, "event_%"); bytes > 512<<10 {
		t.Errorf("%d bytes of events on disk", bytes)
	}
	if got := stored(t, o); len(got) != 1 {
		t.Errorf("%d events wait, want 1", len(got))
	}
}

// A transaction that is too large for memory is flushed in parts, rolls slabs
// over, and still appears at once or not at all.
func TestHugeTransaction(t *testing.T) {
	ctx := testContext(t)
	db, s, o := start(t, outbox.Options{SlabBytes: 4 << 20})
	work := func(end error) func(*outbox.Tx) error {
		return func(tx *outbox.Tx) error {
			for part := range 10 {
				step := event.Step{}
				for i := range 2000 {
					e := order(fmt.Sprint(part, "-", i), 1, part*2000+i)
					e.Data = make([]byte, 1000)
					step.Events = append(step.Events, e)
				}
				if err := tx.Put(ctx, &step); err != nil {
					return err
				}
			}
			return end
		}
	}
	if err := o.Commit(ctx, at(1), work(errOnPurpose)); !errors.Is(err, errOnPurpose) {
		t.Fatal(err)
	}
	if _, n := size(t, db, "event_%"); n != 0 {
		t.Errorf("%d slabs are left of a rollback", n)
	}
	if err := o.Commit(ctx, at(1), work(nil)); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, o); len(got) != 20000 {
		t.Errorf("%d events, want 20000", len(got))
	}
	commit(t, o, 2, 10)
	if err := o.Close(ctx); err != nil {
		t.Fatal(err)
	}
	o2 := acquire(t, s, shop)
	commit(t, o2, 3, 10)
	if got := stored(t, o2); len(got) != 20020 {
		t.Errorf("%d events, want 20020", len(got))
	}
}

func TestTracesNewestFirst(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{TraceBytes: 4 << 20})
	var want []uint64
	for n := 1; n <= 30; n++ {
		var step event.Step
		for i := range 30 {
			lsn := at(n).Commit + uint64(i)
			step.Traces = append(step.Traces, event.Trace{Generation: 1, CommitLSN: lsn, Time: at(n).Time, Body: make([]byte, 1<<10)})
			want = append([]uint64{lsn}, want...)
		}
		if err := o.Commit(ctx, at(n), put(ctx, step)); err != nil {
			t.Fatal(err)
		}
	}
	var got []uint64
	for tr, err := range s.Traces(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, tr.CommitLSN)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("traces (-want +got):\n%s", d)
	}
	for range s.Traces(ctx) {
		break // the iterator lets go
	}
}

// The ranges of one snapshot share a position.
func TestTracesOfOnePosition(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{})
	const count = 450 // more than a page
	var step event.Step
	for i := range count {
		step.Traces = append(step.Traces, event.Trace{Generation: 1, CommitLSN: 100, XID: uint32(i), Time: at(1).Time, Body: []byte("x")})
	}
	if err := o.Commit(ctx, at(1), put(ctx, step)); err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]bool{}
	for tr, err := range s.Traces(ctx) {
		if err != nil || seen[tr.XID] {
			t.Fatalf("trace %d for the second time, or %v", tr.XID, err)
		}
		seen[tr.XID] = true
	}
	if len(seen) != count {
		t.Errorf("%d traces, want %d", len(seen), count)
	}
	if all, err := s.TracesAt(ctx, 1, 100); err != nil || len(all) != count {
		t.Errorf("%d traces at the position (%v), want %d", len(all), err, count)
	}
	if tr, err := s.Trace(ctx, 1, 100); err != nil || tr.CommitLSN != 100 {
		t.Errorf("one of them is %+v, %v", tr, err)
	}
}

func TestOldTracesGo(t *testing.T) {
	ctx := testContext(t)
	db, s, o := start(t, outbox.Options{TraceAge: 400 * time.Millisecond})
	put1 := func(n int) {
		if err := o.Commit(ctx, at(n), put(ctx, event.Step{Traces: []event.Trace{{Generation: 1, CommitLSN: at(n).Commit, Time: at(n).Time, Body: []byte("x")}}})); err != nil {
			t.Fatal(err)
		}
	}
	n := 1
	put1(n)
	eventually(t, "the first trace goes", func() bool {
		n++
		put1(n)
		_, err := s.Trace(ctx, 1, at(1).Commit)
		return errors.Is(err, outbox.ErrNotFound)
	})
	if _, err := s.Trace(ctx, 1, at(n).Commit); err != nil {
		t.Errorf("the newest trace: %v", err)
	}
	if _, tables := size(t, db, "trace_%"); tables > 20 {
		t.Errorf("%d trace slabs", tables)
	}
}
