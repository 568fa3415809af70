package rebuild_test

import (
	"errors"
	"strings"
	"testing"

	"banyan/projections/control"
	"banyan/projections/rebuild"
)

// What is parked in the active version has not had its effects, and the new one
// promises nothing from before the swap: a swap says so instead of losing them.
func TestSwapLosesNoEffects(t *testing.T) {
	w := newWorld(t)
	v1 := w.install(balances{Effects: true})
	w.commit(moved("a", 5000), bad("b"), moved("b", 7000))
	w.publish()
	stop := w.follow(v1)
	w.eventually("the large move is promised", func() bool { return w.count(`SELECT count(*) FROM banyan.effect`) == 1 })
	w.eventually("a key is parked", func() bool { return w.count(`SELECT count(*) FROM banyan.parked WHERE version = 1`) == 2 })
	v2 := w.rebuild(balances{Effects: true, Lenient: true})
	stop2 := w.follow(v2)
	cfg := w.swap()
	cfg.Projection = "balances"
	_, err := rebuild.Swap(t.Context(), cfg)
	var r *rebuild.Refused
	if !errors.As(err, &r) || !strings.Contains(err.Error(), "2 events of 1 keys are parked in version 1") {
		t.Fatalf("want a refusal that names what is parked, got %v", err)
	}
	if _, err := w.store.Ask(t.Context(), "balances", 1, control.Discard); err != nil {
		t.Fatal(err)
	}
	w.eventually("the key is discarded", func() bool { return w.count(`SELECT count(*) FROM banyan.parked`) == 0 })
	if _, err := rebuild.Swap(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	stop()
	stop2()
	w.proved(v2)
}
