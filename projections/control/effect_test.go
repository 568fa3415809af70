package control

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

func effects(from, to int) []Effect {
	var all []Effect
	for i := from; i < to; i++ {
		all = append(all, Effect{Projection: "shipping", Source: fmt.Sprintf("shop/Order/%d@1:0/%X.0", i, i), Name: "confirmation", Kind: "mail",
			Payload: fmt.Appendf(nil, `{"to": %d}`, i), Position: event.Position{Generation: 1, LSN: uint64(i), Ordinal: 7}})
	}
	return all
}

func (r *rig) promise(all []Effect) int64 {
	r.t.Helper()
	var n int64
	r.in(func(tx pgx.Tx) (err error) {
		n, err = r.Promise(r.ctx, tx, all)
		return err
	})
	return n
}

func TestPromiseOnce(t *testing.T) {
	r := newRig(t)
	r.shipping(1)
	if n := r.promise(effects(1, 4)); n != 3 {
		t.Errorf("%d promised, want 3", n)
	}
	// Applied again by another version, a repeat or a rollback: only what is new.
	if n := r.promise(append(effects(1, 5), effects(4, 5)...)); n != 1 {
		t.Errorf("%d promised again, want 1", n)
	}
	second := effects(1, 2)
	second[0].N = 1
	if n := r.promise(second); n != 1 {
		t.Error("a second one of one event is its own")
	}
	if n := r.promise(nil); n != 0 {
		t.Error("nothing is promised")
	}
	// Their commit is on disk before anything is sent.
	r.in(func(tx pgx.Tx) error {
		if _, err := r.Promise(r.ctx, tx, effects(9, 10)); err != nil {
			return err
		}
		var mode string
		err := tx.QueryRow(r.ctx, `SHOW synchronous_commit`).Scan(&mode)
		if mode != "on" {
			t.Errorf("synchronous_commit is %s", mode)
		}
		return err
	})
	all, err := r.Effects(r.ctx, "shipping", EffectFilter{})
	must(t, err)
	want := effects(1, 2)[0]
	if len(all) != 6 || all[0].Source != want.Source || string(all[0].Payload) != string(want.Payload) || all[0].Position != want.Position ||
		all[0].State != Promised || all[0].PromisedAt.IsZero() || all[0].Key() != "shipping/confirmation/0/"+want.Source {
		t.Errorf("the ledger: %+v", all)
	}
}

// Two senders share the ledger and each effect is had by one; what a sender was
// about when it died becomes doubtful, and only by hand is sent again.
func TestTwoSenders(t *testing.T) {
	r := newRig(t)
	r.shipping(1)
	const n = 300
	r.promise(effects(0, n))
	var mu sync.Mutex
	had := map[int64]int{}
	var wg sync.WaitGroup
	var leases [2]*Lease
	for i := range leases {
		lease, err := r.Lease(r.ctx, "shipping", 0, Sending, fmt.Sprint(i))
		must(t, err)
		leases[i] = lease
		first := true
		mine, err := r.Claim(r.ctx, "shipping", lease, 7) // both have some, whoever is faster
		must(t, err)
		wg.Go(func() {
			for got := mine; ; {
				for j, e := range got {
					if e.State != InSend || e.Sender != lease.ID || e.Attempts != 1 || j > 0 && got[j-1].ID > e.ID {
						t.Errorf("claimed %+v", e)
					}
					mu.Lock()
					had[e.ID]++
					mu.Unlock()
					if i == 0 && (first || e.ID%10 == 0) { // one that it never says anything about
						first = false
						continue
					}
					if err := r.MarkSent(r.ctx, lease, e.ID); err != nil {
						t.Error(err)
					}
				}
				var err error
				if got, err = r.Claim(r.ctx, "shipping", lease, 7); err != nil || len(got) == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	if len(had) != n {
		t.Errorf("%d effects were had, want %d", len(had), n)
	}
	for id, times := range had {
		if times != 1 {
			t.Errorf("effect %d was had %d times", id, times)
		}
	}
	counts, err := r.EffectCounts(r.ctx, "shipping")
	must(t, err)
	open := counts[InSend]
	if counts[Sent]+open != n {
		t.Errorf("counts: %v", counts)
	}
	if found, err := r.Doubt(r.ctx, "shipping"); err != nil || found != 0 {
		t.Errorf("doubted while their sender lives: %d, %v", found, err)
	}
	leases[0].Close()
	defer leases[1].Close()
	if found, err := r.Doubt(r.ctx, "shipping"); err != nil || found != open {
		t.Errorf("%d doubted, want %d: %v", found, open, err)
	}
	if got, err := r.Claim(r.ctx, "shipping", leases[1], 100); err != nil || len(got) != 0 {
		t.Errorf("doubtful ones are sent again by themselves: %v, %v", got, err)
	}
	doubtful, err := r.Effects(r.ctx, "shipping", EffectFilter{States: []EffectState{Doubtful}})
	must(t, err)
	if err := r.MarkSent(r.ctx, leases[0], doubtful[0].ID); !errors.Is(err, ErrFenced) {
		t.Errorf("the dead one speaks: %v", err)
	}
	if again, err := r.Resend(r.ctx, "shipping"); err != nil || again != open {
		t.Errorf("resent %d, %v", again, err)
	}
	if got, err := r.Claim(r.ctx, "shipping", leases[1], 1); err != nil || len(got) != 1 || got[0].Attempts != 2 {
		t.Errorf("claimed again: %+v, %v", got, err)
	}
}

func TestFailedAndPruned(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(1)
	r.promise(effects(1, 5))
	lease, err := r.Lease(r.ctx, "shipping", 0, Sending, "me")
	must(t, err)
	defer lease.Close()
	got, err := r.Claim(r.ctx, "shipping", lease, 10)
	must(t, err)
	must(t, r.MarkFailed(r.ctx, lease, got[0].ID, errors.New("451 try later"), time.Now().Add(time.Hour)))
	must(t, r.MarkFailed(r.ctx, lease, got[1].ID, errors.New("451 at once"), time.Now().Add(-time.Second)))
	must(t, r.MarkFailed(r.ctx, lease, got[2].ID, errors.New("550 no such user"), time.Time{}))
	must(t, r.MarkDoubtful(r.ctx, lease, got[3].ID, errors.New("no answer")))
	again, err := r.Claim(r.ctx, "shipping", lease, 10)
	must(t, err)
	if len(again) != 1 || again[0].ID != got[1].ID || again[0].Error != "451 at once" {
		t.Errorf("due again: %+v", again)
	}
	must(t, r.MarkSent(r.ctx, lease, again[0].ID))
	if err := r.MarkSent(r.ctx, lease, again[0].ID); !errors.Is(err, ErrFenced) {
		t.Errorf("sent twice: %v", err)
	}
	if n, err := r.Dismiss(r.ctx, "shipping", "it has arrived", got[3].ID); err != nil || n != 1 {
		t.Errorf("dismissed %d, %v", n, err)
	}
	if n, err := r.Resend(r.ctx, "shipping", got[2].ID); err != nil || n != 1 {
		t.Errorf("resent %d, %v", n, err)
	}

	// Nothing was passed: an effect's event could come again, so the keys stay and
	// only payloads go.
	if n, err := r.PruneEffects(r.ctx, "shipping", time.Now().Add(time.Minute)); err != nil || n != 0 {
		t.Errorf("pruned %d, %v", n, err)
	}
	all, err := r.Effects(r.ctx, "shipping", EffectFilter{States: []EffectState{Sent}})
	must(t, err)
	if len(all) != 2 || all[0].Payload != nil {
		t.Errorf("sent: %+v", all)
	}
	must(t, r.advance(v.Number, step(&parts[0], 1, 4)))
	if n, err := r.PruneEffects(r.ctx, "shipping", time.Now().Add(-time.Minute)); err != nil || n != 0 {
		t.Errorf("pruned too early: %d, %v", n, err)
	}
	// Another version may have the event parked, and be gone back to.
	r.db.Exec(t, `INSERT INTO banyan.parked (projection, version, aggregate, key, topic, part, "offset", seq, generation, lsn, ordinal, snapshot, event, type, reason, header_names, header_values)
		SELECT projection, 1, 'A', '1', 't', 0, 1, 1, 1, 1, 0, 0, source, 'T', '', '{}', '{}' FROM banyan.effect WHERE state = 'sent'`)
	if n, err := r.PruneEffects(r.ctx, "shipping", time.Now().Add(time.Minute)); err != nil || n != 0 {
		t.Errorf("pruned what is parked: %d, %v", n, err)
	}
	r.db.Exec(t, `DELETE FROM banyan.parked`)
	if n, err := r.PruneEffects(r.ctx, "shipping", time.Now().Add(time.Minute)); err != nil || n != 1 {
		t.Errorf("pruned %d, %v", n, err)
	}
	if n := r.promise(effects(4, 5)); n != 0 {
		t.Error("the one that was not passed yet is promised again")
	}
}
