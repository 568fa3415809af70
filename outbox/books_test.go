package outbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/event"
	"banyan/outbox"
)

func TestParkedChains(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{})
	ref := func(k string) event.Ref { return event.Ref{Aggregate: "Order", Key: k} }
	entry := func(k string, n int) event.Parked {
		return event.Parked{Ref: ref(k), Position: order(k, n, 3).Position, EndLSN: at(n).End, Reason: "no rule\x00 for " + k, Detail: "write one",
			Body: []byte{0, byte(n)}, Counts: map[string]int64{"public.orders": int64(n)}}
	}
	for n := 1; n <= 3; n++ {
		step := event.Step{
			Parked: []event.Parked{entry("a", n), entry("b", n)},
			Counts: map[string]event.Counts{"public.orders": {Changes: int64(2 * n), Parked: int64(2 * n)}},
		}
		if err := o.Commit(ctx, at(n), put(ctx, step)); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := o.Frontier(ctx)
	entries, err := s.ParkedChain(ctx, ref("a"), 1, 1)
	if err != nil || len(entries) != 1 || entries[0].N != 2 {
		t.Fatalf("the second page: %+v, %v", entries, err)
	}
	want := entry("a", 2)
	want.Reason = "no rule for a" // Postgres takes no NUL
	if d := cmp.Diff(want, entries[0].Parked); d != "" {
		t.Errorf("entry (-put +got):\n%s", d)
	}
	chains, err := s.ParkedChains(ctx, "", ref("a"), 10)
	if err != nil || len(chains) != 1 || chains[0].Key != "b" || chains[0].Entries != 3 || chains[0].First != entry("b", 1).Position {
		t.Errorf("chains after a: %+v, %v", chains, err)
	}
	counts, err := s.ParkedCounts(ctx)
	if err != nil || len(counts) != 1 || counts[0].Keys != 2 || counts[0].Entries != 6 || counts[0].Oldest.IsZero() {
		t.Errorf("counts: %+v, %v", counts, err)
	}
	// Release one entry of a, then the rest; discard b.
	take := func(n, limit, wantEntries int, parkedAfter bool) {
		t.Helper()
		if err := o.Commit(ctx, at(n), func(tx *outbox.Tx) error {
			taken, err := tx.TakeChain(ctx, ref("a"), limit)
			if err != nil {
				return err
			}
			if len(taken) != wantEntries {
				t.Errorf("took %d entries, want %d", len(taken), wantEntries)
			}
			parked, err := tx.Parked(ctx, []event.Ref{ref("a"), ref("b"), ref("c")})
			if parked[ref("a")] != parkedAfter || !parked[ref("b")] || parked[ref("c")] {
				t.Errorf("parked: %v", parked)
			}
			return errors.Join(err, tx.Put(ctx, &event.Step{Counts: map[string]event.Counts{"public.orders": {Parked: -sum(taken), Used: sum(taken)}}}))
		}); err != nil {
			t.Fatal(err)
		}
	}
	take(4, 1, 1, true)
	if keys, err := o.ParkedKeys(ctx); err != nil || len(keys) != 2 || keys[0].LSN != at(2).Commit {
		t.Errorf("parked keys: %+v %v", keys, err)
	}
	take(5, 10, 2, false)
	if err := o.Commit(ctx, at(6), func(tx *outbox.Tx) error {
		n, err := tx.DropChain(ctx, ref("b"), 100, outbox.Discarded)
		if n != 3 {
			t.Errorf("dropped %d entries", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	account, err := s.Counts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]event.Counts{"public.orders": {Changes: 12, Discarded: 6, Used: 6}}, account); d != "" || !account["public.orders"].Balanced() {
		t.Errorf("account (-want +got):\n%s", d)
	}
	if keys, err := o.ParkedKeys(ctx); err != nil || len(keys) != 0 {
		t.Errorf("parked keys: %+v %v", keys, err)
	}
	if after, _ := o.Frontier(ctx); after.Parked == before.Parked {
		t.Error("the frontier does not tell that the parked keys have changed")
	}
}

func sum(entries []event.Parked) (n int64) {
	for _, e := range entries {
		for _, c := range e.Counts {
			n += c
		}
	}
	return n
}

func TestRequests(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{})
	if _, err := s.Ask(ctx, "dance", nil); err == nil {
		t.Error("an unknown kind was taken")
	}
	release, err := s.Ask(ctx, outbox.RequestRelease, event.Ref{Aggregate: "Order", Key: "1"})
	if err != nil {
		t.Fatal(err)
	}
	discard, err := s.Ask(ctx, outbox.RequestDiscard, nil)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := s.Ask(ctx, outbox.RequestSnapshot, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Withdraw(ctx, gone); !ok || err != nil {
		t.Errorf("withdraw: %v %v", ok, err)
	}
	pending, err := o.Requests(ctx)
	if err != nil || len(pending) != 2 || pending[0].ID != release || string(pending[0].Args) != `{"Key": "1", "Aggregate": "Order"}` {
		t.Fatalf("pending: %+v, %v", pending, err)
	}
	answered := make(chan outbox.Request)
	go func() {
		r, err := s.WaitRequest(ctx, release)
		if err != nil {
			t.Error(err)
		}
		answered <- r
	}()
	finish := func(fail error) error {
		return o.Commit(ctx, at(1), func(tx *outbox.Tx) error {
			if err := tx.Finish(ctx, release, map[string]int{"released": 3}); err != nil {
				return err
			}
			return fail
		})
	}
	if err := finish(errOnPurpose); !errors.Is(err, errOnPurpose) {
		t.Fatal(err)
	}
	if r, err := s.RequestByID(ctx, release); err != nil || r.State != outbox.RequestPending {
		t.Errorf("a rolled back request is %+v, %v", r, err)
	}
	if err := finish(nil); err != nil {
		t.Fatal(err)
	}
	if r := <-answered; r.State != outbox.RequestDone || string(r.Result) != `{"released": 3}` || r.Finished.IsZero() {
		t.Errorf("answer: %+v", r)
	}
	if err := finish(nil); err == nil {
		t.Error("a request was carried out twice")
	}
	if err := o.Commit(ctx, at(2), func(tx *outbox.Tx) error { return tx.Refuse(ctx, discard, "not parked") }); err != nil {
		t.Fatal(err)
	}
	if r, err := s.RequestByID(ctx, discard); err != nil || r.State != outbox.RequestRefused || r.Error != "not parked" {
		t.Errorf("refused: %+v, %v", r, err)
	}
	if ok, err := s.Withdraw(ctx, discard); ok || err != nil {
		t.Errorf("a refused request could be withdrawn: %v %v", ok, err)
	}
	if _, err := s.WaitRequest(ctx, 999); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("an unknown request: %v", err)
	}
}

func TestSnapshotBooks(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{})
	do := func(n int, fn func(tx *outbox.Tx) error) {
		t.Helper()
		to := at(n)
		if n == 0 {
			to = o.Position()
		}
		if err := o.Commit(ctx, to, fn); err != nil {
			t.Fatal(err)
		}
	}
	if snap, err := s.LastSnapshot(ctx); err != nil || snap.Number != 0 {
		t.Errorf("before the first: %+v %v", snap, err)
	}
	var n int
	do(1, func(tx *outbox.Tx) (err error) {
		n, err = tx.StartSnapshot(ctx, outbox.SnapshotFirst, 55)
		return err
	})
	if err := o.Commit(ctx, o.Position(), func(tx *outbox.Tx) error {
		_, err := tx.StartSnapshot(ctx, outbox.SnapshotFirst, 55)
		return err
	}); err == nil {
		t.Error("a second snapshot could be started beside the first")
	}
	ranges := []outbox.SnapshotRange{
		{Snapshot: n, Aggregate: "Order", N: 0, From: "", To: "500", Aggregates: 2},
		{Snapshot: n, Aggregate: "Order", N: 1, From: "500", To: "", Visible: "10:20:10,14", EndLSN: 70, Aggregates: 1},
	}
	do(0, func(tx *outbox.Tx) error {
		if err := tx.RangeDone(ctx, ranges[0]); err != nil {
			return err
		}
		step := orders(0, 1)
		for i, seen := range []int{1, 0, 1, 0, 0} {
			step.States = append(step.States, event.State{Ref: event.Ref{Aggregate: "Order", Key: fmt.Sprint(i)}, Body: []byte("x"), Snapshot: seen})
		}
		return tx.Put(ctx, &step)
	})
	do(2, func(tx *outbox.Tx) error { return tx.RangeDone(ctx, ranges[1]) })
	if got, err := s.SnapshotRanges(ctx, n); err != nil || cmp.Diff(ranges, got) != "" {
		t.Errorf("ranges: %v %s", err, cmp.Diff(ranges, got))
	}
	do(0, func(tx *outbox.Tx) error {
		var keys []string
		for after := ""; ; {
			page, err := tx.Unseen(ctx, "Order", n, after, 2)
			if err != nil {
				return err
			}
			for _, st := range page {
				keys = append(keys, st.Key)
				after = st.Key
				if err := tx.Put(ctx, &event.Step{States: []event.State{{Ref: st.Ref}}}); err != nil {
					return err
				}
			}
			if len(page) < 2 {
				break
			}
		}
		if d := cmp.Diff([]string{"1", "3", "4"}, keys); d != "" {
			t.Errorf("unseen (-want +got):\n%s", d)
		}
		return nil
	})
	if f, _ := o.Frontier(ctx); f.Complete {
		t.Error("complete while the snapshot runs")
	}
	do(0, func(tx *outbox.Tx) error { return tx.FinishSnapshot(ctx, n) })
	if f, _ := o.Frontier(ctx); !f.Complete {
		t.Error("not complete after the snapshot")
	}
	do(3, func(tx *outbox.Tx) error { return tx.ForgetRanges(ctx, n, 70) })
	if got, err := s.SnapshotRanges(ctx, 0); err != nil || len(got) != 1 || got[0].N != 1 {
		t.Errorf("ranges up to 69 were to be forgotten: %+v %v", got, err)
	}
	var second int
	do(4, func(tx *outbox.Tx) (err error) {
		second, err = tx.StartSnapshot(ctx, outbox.SnapshotRequest, 77)
		return err
	})
	snap, err := s.LastSnapshot(ctx)
	if err != nil || second != n+1 || snap.Number != second || !snap.Running() || snap.LSN != 77 {
		t.Errorf("second snapshot %d: %+v %v", second, snap, err)
	}
	do(5, func(tx *outbox.Tx) error { return tx.DropSnapshot(ctx, second) })
	do(6, func(tx *outbox.Tx) error {
		third, err := tx.StartSnapshot(ctx, outbox.SnapshotRequest, 78)
		if third != second+1 {
			t.Errorf("the third snapshot has number %d", third)
		}
		return err
	})
}

func TestRuleSets(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{})
	if r, err := s.CurrentRules(ctx); err != nil || r.Version != 0 {
		t.Errorf("before the first: %+v %v", r, err)
	}
	for n, c := range []struct {
		digest string
		want   int
	}{{"a", 1}, {"a", 1}, {"b", 2}, {"a", 3}} {
		if err := o.Commit(ctx, at(n+1), func(tx *outbox.Tx) error {
			v, err := tx.PutRules(ctx, c.digest, "yaml "+c.digest, map[string]string{"Order": "shop.orders"})
			if v != c.want {
				t.Errorf("rules %s are version %d, want %d", c.digest, v, c.want)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := s.RulesVersion(ctx, 2); err != nil || r.YAML != "yaml b" || r.Since != at(2).End || r.Generation != 1 {
		t.Errorf("version 2: %+v %v", r, err)
	}
	if _, err := s.RulesVersion(ctx, 9); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("version 9: %v", err)
	}
	// The rules tell the topic of a key that is parked before its first event.
	if err := o.Commit(ctx, at(9), put(ctx, event.Step{Parked: []event.Parked{{Ref: event.Ref{Aggregate: "Order", Key: "1"}}}})); err != nil {
		t.Fatal(err)
	}
	if keys, err := o.ParkedKeys(ctx); err != nil || len(keys) != 1 || keys[0].Topic != "shop.orders" {
		t.Errorf("parked keys: %+v %v", keys, err)
	}
}

func TestStatusIsJSON(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{Partitions: 2})
	commit(t, o, 1, 10)
	st, err := s.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if st.Source != "shop" || st.Generation != 1 || !st.Owner.Alive || st.Owner.PID == 0 || st.Outbox.Events != 10 || len(st.Topics) != 2 ||
		st.Position.EndLSN != "0/6E" || st.Topics[0].Assigned+st.Topics[1].Assigned != 10 || st.Outbox.Used == 0 {
		t.Errorf("status: %+v", st)
	}
	b, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	var shape map[string]any
	if err := json.Unmarshal(b, &shape); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"source", "generation", "owner", "position", "outbox", "topics", "parked", "parked_keys", "tables", "traces", "requests", "appended"} {
		if _, ok := shape[key]; !ok {
			t.Errorf("status has no %q: %s", key, b)
		}
	}
}
