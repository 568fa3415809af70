package rebuild_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/rebuild"
	"banyan/projections/state"
)

// What a rebuild makes is what the live runner has made, offsets included, and
// both go on alike.
func TestRebuildEqualsLive(t *testing.T) {
	for name, c := range map[string]struct {
		program projections.Program
		happen  func(w *world)
	}{
		"partitioned": {balances{}, func(w *world) { w.trade(400) }},
		"aligned":     {joined{}, func(w *world) { w.sell(400) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			v1 := w.install(c.program)
			c.happen(w)
			w.catchUp(v1)
			w.proved(v1)
			v2 := w.rebuild(c.program)
			if r := w.made; r.Records == 0 || r.Events == 0 || r.Records != r.Events+r.Repeats || name == "partitioned" && r.Repeats == 0 {
				t.Errorf("%+v", r)
			}
			w.same(v1, v2)
			w.sameParts(v1, v2)
			w.proved(v2)
			c.happen(w)
			w.catchUp(v1)
			w.catchUp(v2)
			w.same(v1, v2)
			w.proved(v1)
			w.proved(v2)
		})
	}
}

func (w *world) same(a, b control.Version) {
	w.t.Helper()
	one, two := w.rows(a), w.rows(b)
	if len(one) == 0 || !reflect.DeepEqual(one, two) {
		w.t.Fatalf("versions %d and %d differ:\n%v\n%v", a.Number, b.Number, one, two)
	}
}

// sameParts wants two versions to stand at one place.
func (w *world) sameParts(a, b control.Version) {
	w.t.Helper()
	read := func(v control.Version) []control.Part {
		parts, err := w.store.Parts(w.t.Context(), w.pool, v.Projection, v.Number)
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range parts {
			// Of two marks at one LSN one version may have seen the first, the other
			// the second.
			parts[i].Owner, parts[i].Epoch, parts[i].Passed.Time = "", 0, time.Time{}
		}
		return parts
	}
	one, two := read(a), read(b)
	for i := range one {
		one[i].UpdatedAt = two[i].UpdatedAt
	}
	if d := cmp.Diff(one, two); d != "" {
		w.t.Fatalf("versions %d and %d do not stand at one place:\n%s", a.Number, b.Number, d)
	}
}

func TestPoisonEndsARebuildOrIsParked(t *testing.T) {
	w := newWorld(t)
	v1 := w.install(balances{})
	w.trade(50)
	w.commit(bad("7"))
	w.commit(moved("7", 100))
	w.trade(50)
	w.catchUp(v1)
	w.proved(v1) // the parked ones apart

	cfg := w.config(balances{})
	plan, err := rebuild.MakePlan(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rebuild.Run(t.Context(), cfg, plan)
	var poison *rebuild.PoisonError
	if !errors.As(err, &poison) || !errors.Is(err, errBad) || !strings.Contains(err.Error(), "Account/7@") {
		t.Fatalf("want a poison error that names the event, got %v", err)
	}
	if n := w.count(`SELECT count(*) FROM banyan.version`); n != 1 {
		t.Errorf("%d versions after a rebuild that failed", n)
	}
	if n := w.count(`SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'balances\_v%'`); n != 1 {
		t.Errorf("%d schemas after a rebuild that failed", n)
	}

	cfg.Park = true
	res, err := rebuild.Run(t.Context(), cfg, plan)
	if err != nil {
		t.Fatal(err)
	}
	v2, err := w.store.Version(t.Context(), "balances", res.Version)
	if err != nil {
		t.Fatal(err)
	}
	w.same(v1, v2)
	one, err := w.store.Chains(t.Context(), w.pool, "balances", v1.Number)
	if err != nil {
		t.Fatal(err)
	}
	two, err := w.store.Chains(t.Context(), w.pool, "balances", v2.Number)
	if err != nil {
		t.Fatal(err)
	}
	if len(one) != 1 || len(two) != 1 || one[0].Events != two[0].Events || one[0].Events < 2 || one[0].First != two[0].First {
		t.Fatalf("chains differ:\n%+v\n%+v", one, two)
	}
	if r := w.verify(v2); r.Verdict != rebuild.Proved || len(r.Parked) != 1 || r.Parked[0].Key != "7" {
		t.Errorf("%+v", r)
	}
}

// cities keeps the latest city of each customer, which the compacted twin of the
// topic is enough for.
type cities struct{ topic string }

func (c cities) Spec() projections.Spec {
	return projections.Spec{Name: "cities", Source: "shop", Topics: []string{c.topic}, Digest: "cities of " + c.topic,
		Tables: []state.Table{{Name: "cities", Key: []string{"id"}, Columns: []state.Column{{Name: "id", Type: "text", NotNull: true}, {Name: "city", Type: "text"}}}}}
}

func (c cities) Prepare(e *projections.Event) error { return parse(e) }

func (c cities) Apply(tx *projections.Tx, e *projections.Event) error {
	m, _ := e.Prepared.(*move)
	if m == nil {
		k, err := tx.Rows("cities").Key(e.ID.Key)
		if err != nil {
			return err
		}
		return tx.Rows("cities").Delete(k)
	}
	return tx.Rows("cities").Put(state.Row{e.ID.Key, m.City})
}

// The twin gives the same rows as the history, live and rebuilt, compacted or not,
// late repeats and tombstones included.
func TestRebuildFromLatest(t *testing.T) {
	w := newWorld(t)
	w.src.Twins = true
	w.src.CreateTopics(w.log, customers)
	const twin = customers + ".latest"
	for i := range 300 {
		key := fmt.Sprint(w.rng.IntN(20))
		if w.rng.IntN(5) == 0 {
			w.commit(told(customers, "CustomerRemoved", "Customer", key, nil))
		} else {
			w.commit(customer(key, fmt.Sprint("city ", i)))
		}
		if w.rng.IntN(10) == 0 {
			part := w.rng.IntN(w.src.Partitions)
			w.src.Late(twin, part, 1+w.rng.Int64N(5))
		}
	}
	w.publish()
	v1 := w.install(cities{twin})
	w.catchUp(v1)
	w.proved(v1)
	w.log.Compact(twin)
	v2 := w.rebuild(cities{twin})
	w.proved(v2)
	all := newWorld(t)
	all.log, all.from, all.to, all.src = w.log, w.log, w.log, w.src
	whole := all.install(cities{customers})
	all.catchUp(whole)
	want := all.rows(whole)["cities"]
	if got := w.rows(v2)["cities"]; len(want) == 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("from the twin:\n%v\nfrom the history:\n%v", got, want)
	}
	if got := w.rows(v1)["cities"]; !reflect.DeepEqual(got, want) {
		t.Errorf("live from the twin:\n%v\nfrom the history:\n%v", got, want)
	}

	// What needs every event says so.
	_, err := rebuild.MakePlan(t.Context(), w.config(elsewhere{balances{}, "shop", []string{accounts + ".latest"}}))
	if err == nil || !strings.Contains(err.Error(), "counts events") {
		t.Errorf("want a refusal that says why, got %v", err)
	}
}
