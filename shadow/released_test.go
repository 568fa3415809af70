package shadow

import (
	"testing"

	"banyan/compare"
	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
)

// An order that was parked comes after the stock that it took and after orders that were
// placed later: a candidate that is asked then knows the future.
func TestAReleasedOrderIsNotCompared(t *testing.T) {
	r := newReader(ShopMapping())
	placed := func(key string, lsn uint64) *projections.Event {
		return at(r, lsn, 0, "shop.orders", "OrderPlaced", key, orderOf("p"))
	}
	released := placed("late", 40)
	released.ID.Position = event.Position{Generation: 1, LSN: 20}
	for _, c := range []struct {
		name  string
		since uint64
		want  compare.Reason
	}{{"released after the start", 0, compare.Released}, {"placed before the start", 30, compare.BeforeStart}} {
		o, l := named("released"), &listening{}
		if c.since > 0 {
			o.Since = control.Mark{Generation: 1, LSN: c.since}
		}
		s := newCore(o)
		s.candidate = l
		if err := s.take(t.Context(), []*projections.Event{placed("a", 31), released, placed("b", 41)}); err != nil {
			t.Fatal(err)
		}
		b := s.ledger.Books["GBP"]
		if s.ledger.Excluded[c.want] != 1 || b.Excluded[c.want].Lines != 1 || s.ledger.Compared != 2 {
			t.Errorf("%s: %d compared, %v set aside, want one as %s", c.name, s.ledger.Compared, s.ledger.Excluded, c.want)
		}
		// Orders after it know of it: it was told by then.
		if len(l.heard) != 2 || l.heard[1].Demand.Days28 != 4 {
			t.Errorf("%s: the candidate was asked %+v", c.name, l.heard)
		}
	}
}
