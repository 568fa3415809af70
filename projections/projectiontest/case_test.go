package projectiontest_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"banyan/money"
	"banyan/projections"
	"banyan/projections/projectiontest"
	"banyan/projections/state"
)

// tally is a projection in Go, the smallest that has something of everything:
// sums by key, a join, a timer and effects.
type tally struct {
	fault string // what is wrong with it
	seen  *int   // what a faulty one keeps beside its rows
}

type sale struct {
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
	Name     string `json:"name"`
}

func (p tally) Spec() projections.Spec {
	return projections.Spec{
		Name: "tally", Source: "shop", Topics: []string{"shop.customers", "shop.sales"}, Aligned: true, Timers: true, Effects: true,
		Tables: []state.Table{
			{Name: "names", Key: []string{"customer"}, Columns: []state.Column{{Name: "customer", Type: "text", NotNull: true}, {Name: "name", Type: "text"}}},
			{Name: "totals", Key: []string{"customer"}, Columns: []state.Column{{Name: "customer", Type: "text", NotNull: true}, {Name: "name", Type: "text"},
				{Name: "sales", Type: "integer", NotNull: true}, {Name: "total", Type: "numeric(12,2)", NotNull: true}, {Name: "quiet_since", Type: "timestamptz"}}},
		},
	}
}

func (p tally) Prepare(e *projections.Event) error {
	var d struct{ State sale }
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return err
	}
	e.Prepared = &d.State
	return nil
}

func (p tally) Apply(tx *projections.Tx, e *projections.Event) error {
	s := e.Prepared.(*sale)
	if e.Topic == "shop.customers" {
		return tx.Rows("names").Put(state.Row{e.ID.Key, s.Name})
	}
	if s.Cents < 0 {
		return fmt.Errorf("a sale of %d cents", s.Cents)
	}
	var name any
	k, err := tx.Rows("names").Key(s.Customer)
	if err != nil {
		return err
	}
	if row, ok, err := tx.Rows("names").Get(k); err != nil {
		return err
	} else if ok {
		name = row[1]
	}
	row, err := p.total(tx, s.Customer)
	if err != nil {
		return err
	}
	cents := s.Cents
	switch p.fault {
	case "memory":
		if *p.seen++; *p.seen%7 == 0 {
			cents++
		}
	case "prepared":
		cents, s.Cents = s.Cents, s.Cents+1
	}
	tx.SetTimer(projections.Timer{Name: "quiet", Key: s.Customer, At: tx.StreamTime.Add(time.Hour)})
	if cents >= 10_000 {
		tx.Effect(projections.Effect{Name: "thanks", Kind: "mail", Payload: json.RawMessage(`{"to":"` + s.Customer + `"}`)})
	}
	return tx.Rows("totals").Put(state.Row{s.Customer, name, row[2].(int64) + 1, row[3].(money.Decimal).Add(money.NewDecimal(cents, 2)), nil})
}

func (p tally) total(tx *projections.Tx, customer string) (state.Row, error) {
	k, err := tx.Rows("totals").Key(customer)
	if err != nil {
		return nil, err
	}
	row, ok, err := tx.Rows("totals").Get(k)
	if err != nil || ok {
		return row, err
	}
	return state.Row{customer, nil, int64(0), money.NewDecimal(0, 2), nil}, nil
}

func (p tally) Fire(tx *projections.Tx, t projections.Timer) error {
	row, err := p.total(tx, t.Key)
	if err != nil {
		return err
	}
	return tx.Rows("totals").Put(state.Row{row[0], row[1], row[2], row[3], tx.StreamTime})
}

func named(customer, name string) projectiontest.Event {
	return projectiontest.Event{Topic: "shop.customers", Type: "CustomerMoved", Aggregate: "Customer", Key: customer, Data: map[string]any{"state": sale{Name: name}}}
}

func sold(key, customer string, cents int64) projectiontest.Event {
	return projectiontest.Event{Topic: "shop.sales", Type: "SaleMade", Aggregate: "Sale", Key: key, Data: map[string]any{"state": sale{Customer: customer, Cents: cents}}}
}

func TestGivenWhenThen(t *testing.T) {
	c := projectiontest.New(t, tally{})
	c.At(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	c.Given(named("ann", "Ann")).Given(sold("1", "ann", 250))
	c.When(sold("2", "ann", 10_000), sold("3", "bob", 1))
	c.Then("totals",
		projectiontest.Row{"customer": "bob", "name": nil, "sales": 1, "total": "0.01", "quiet_since": nil},
		projectiontest.Row{"customer": "ann", "name": "Ann", "sales": 2, "total": "102.5", "quiet_since": nil})
	c.ThenEffects(projectiontest.Effect{Name: "thanks", Kind: "mail", Payload: `{"to":"ann"}`})

	c.When(sold("4", "ann", -5), sold("4", "ann", 5), sold("5", "bob", 4))
	c.ThenParked("Sale", "4", "a sale of -5 cents")
	c.ThenEffects()
	c.Then("totals", projectiontest.Row{"customer": "ann", "total": 102.5}, projectiontest.Row{"customer": "bob", "total": 0.05})

	c.Wait(30 * time.Minute)
	c.Then("totals", projectiontest.Row{"quiet_since": nil}, projectiontest.Row{"quiet_since": nil})
	c.Wait(30 * time.Minute)
	c.Then("totals",
		projectiontest.Row{"customer": "ann", "quiet_since": "2026-03-01T10:00:02Z"},
		projectiontest.Row{"customer": "bob", "quiet_since": time.Date(2026, 3, 1, 10, 0, 3, 0, time.UTC)})
	c.Then("banyan_timers")
}

// notebook is a T that writes down what fails.
type notebook struct {
	testing.TB
	lines []string
}

type failed struct{}

func (n *notebook) Errorf(format string, args ...any) {
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}
func (n *notebook) Fatalf(format string, args ...any) {
	n.Errorf(format, args...)
	panic(failed{})
}

// failing runs something with a T that fails and gives what it says.
func failing(t *testing.T, do func(n *notebook)) string {
	n := &notebook{TB: t}
	func() {
		defer func() {
			if r := recover(); r != nil && r != (failed{}) {
				panic(r)
			}
		}()
		do(n)
	}()
	return strings.Join(n.lines, "\n")
}

func TestTheKitFindsFaults(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(n *notebook)
		want []string
	}{
		"another value": {func(n *notebook) {
			projectiontest.New(n, tally{}).When(sold("1", "ann", 5)).Then("totals", projectiontest.Row{"customer": "ann", "total": "0.06"})
		}, []string{"table totals (-want +got)", "customer=ann total=0.06", "customer=ann total=0.05"}},
		"a row too many": {func(n *notebook) {
			projectiontest.New(n, tally{}).When(sold("1", "ann", 5)).Then("totals")
		}, []string{"+", "customer=ann name=NULL sales=1"}},
		"a row too few": {func(n *notebook) {
			projectiontest.New(n, tally{}).Then("totals", projectiontest.Row{"customer": "ann"})
		}, []string{"-", "customer=ann"}},
		"no such table": {func(n *notebook) { projectiontest.New(n, tally{}).Then("total") }, []string{"there is no table total"}},
		"no such column": {func(n *notebook) {
			projectiontest.New(n, tally{}).Then("totals", projectiontest.Row{"sum": 1})
		}, []string{"table totals has no column sum"}},
		"a value that no column holds": {func(n *notebook) {
			projectiontest.New(n, tally{}).Then("totals", projectiontest.Row{"sales": "many"})
		}, []string{"row 1 of totals", "totals.sales", "many"}},
		"a column left out": {func(n *notebook) {
			projectiontest.New(n, tally{}).Then("totals", projectiontest.Row{"sales": 1, "customer": "a"}, projectiontest.Row{"sales": 1})
		}, []string{"row 2 of totals", "nothing of customer"}},
		"no such topic": {func(n *notebook) {
			projectiontest.New(n, tally{}).Given(projectiontest.Event{Topic: "shop.orders", Type: "OrderPlaced"})
		}, []string{`"shop.orders" is no topic of tally`}},
		"no JSON": {func(n *notebook) {
			projectiontest.New(n, tally{}).Given(projectiontest.Event{Topic: "shop.sales", Type: "SaleMade", Data: "{"})
		}, []string{"SaleMade", "no JSON"}},
		"poison where none is expected": {func(n *notebook) {
			projectiontest.New(n, tally{}).Given(sold("1", "ann", -1))
		}, []string{"SaleMade of Sale/1", "a sale of -1 cents"}},
		"not parked": {func(n *notebook) {
			projectiontest.New(n, tally{}).When(sold("1", "ann", 1)).ThenParked("Sale", "1", "")
		}, []string{"Sale/1 is not parked"}},
		"no effect": {func(n *notebook) {
			projectiontest.New(n, tally{}).When(sold("1", "ann", 1)).ThenEffects(projectiontest.Effect{Name: "thanks"})
		}, []string{"effects (-want +got)", "thanks"}},
		"the clock turned back": {func(n *notebook) { projectiontest.New(n, tally{}).At(time.Unix(0, 0)) }, []string{"cannot go back"}},
		"a fault in the Spec":   {func(n *notebook) { projectiontest.New(n, broken{tally{}}) }, []string{"no source"}},
	} {
		t.Run(name, func(t *testing.T) {
			said := failing(t, c.do)
			for _, want := range c.want {
				// cmp.Diff may use another kind of space.
				if !strings.Contains(strings.ReplaceAll(said, "\u00a0", " "), want) {
					t.Errorf("want %q in:\n%s", want, said)
				}
			}
		})
	}
}

type broken struct{ tally }

func (b broken) Spec() projections.Spec {
	s := b.tally.Spec()
	s.Source = ""
	return s
}

func salesHistory(n int) (history [][]projectiontest.Event) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		customer := fmt.Sprint("c", rng.IntN(6))
		switch rng.IntN(5) {
		case 0:
			history = append(history, []projectiontest.Event{named(customer, fmt.Sprint("name ", i))})
		case 1:
			history = append(history, []projectiontest.Event{sold(fmt.Sprint(i), customer, int64(rng.IntN(20_000))), named(customer, fmt.Sprint("name ", i))})
		case 2:
			history = append(history, projectiontest.Each(sold(fmt.Sprint(rng.IntN(4)), customer, int64(rng.IntN(100)-3)))...)
		default:
			history = append(history, projectiontest.Each(sold(fmt.Sprint(i), customer, int64(rng.IntN(20_000))))...)
		}
	}
	return history
}

func TestSplits(t *testing.T) {
	projectiontest.Splits(t, tally{}, salesHistory(150), projectiontest.Variations{})
}

// What Splits is for: programs that are right when all goes well.
func TestSplitsFindsImpurePrograms(t *testing.T) {
	for _, fault := range []string{"memory", "prepared"} {
		t.Run(fault, func(t *testing.T) {
			seen := 0
			said := failing(t, func(n *notebook) {
				projectiontest.Splits(n, tally{fault: fault, seen: &seen}, salesHistory(60), projectiontest.Variations{Seed: 5})
			})
			if !strings.Contains(said, "seed 5, round ") || !strings.Contains(said, "depend on how the history was split") {
				t.Errorf("a program with a %s fault passed: %s", fault, said)
			}
		})
	}
}

// perKey is partitioned: what it does must not depend on the order of partitions.
type perKey struct{ ordered bool }

func (p perKey) Spec() projections.Spec {
	return projections.Spec{Name: "per_key", Source: "shop", Topics: []string{"shop.sales"}, Tables: []state.Table{
		{Name: "last", Key: []string{"id"}, Columns: []state.Column{{Name: "id", Type: "text", NotNull: true}, {Name: "events", Type: "text"}}}}}
}

func (p perKey) Prepare(*projections.Event) error { return nil }

func (p perKey) Apply(tx *projections.Tx, e *projections.Event) error {
	id := e.ID.Key
	if p.ordered {
		id = "all of them" // shared by all partitions, and order matters
	}
	rows := tx.Rows("last")
	k, err := rows.Key(id)
	if err != nil {
		return err
	}
	list := e.ID.Key
	if row, ok, err := rows.Get(k); err != nil {
		return err
	} else if ok {
		list = row[1].(string) + "," + e.ID.Key
	}
	return rows.Put(state.Row{id, list})
}

func TestSplitsOfPartitions(t *testing.T) {
	var history [][]projectiontest.Event
	for i := range 60 {
		history = append(history, projectiontest.Each(sold(fmt.Sprint(i%7), "c", 1))...)
	}
	projectiontest.Splits(t, perKey{}, history, projectiontest.Variations{})
	said := failing(t, func(n *notebook) {
		projectiontest.Splits(n, perKey{ordered: true}, history, projectiontest.Variations{Rounds: 5})
	})
	if !strings.Contains(said, "depend on how the history was split") {
		t.Errorf("a program that depends on the order of partitions passed: %s", said)
	}
}
