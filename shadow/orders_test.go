package shadow

import (
	"testing"

	"banyan/internal/pgtest"
	"banyan/internal/randtest"
	"banyan/projections"
	"banyan/projections/declared"
)

// Both count the same, whatever the shop sells: lines without a price, with too fine a
// one, added later, in three currencies, and orders that cannot be read.
func TestTheProjectionOfOrdersCountsTheSame(t *testing.T) {
	s := newShop(t, randtest.Seed(t))
	s.trade(300)
	h := newHouse(t, pgtest.New(t), s)
	o := named("counted")
	v, program := h.shadow(o, Candidates{InProcess: thrifty{}})
	h.catchUp(program(), v, nil)
	f, faults := declared.Load("orders.yaml", []byte(OrdersProjection(o)))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	orders, faults := declared.Compile(f, nil)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	h.catchUp(orders, h.install(orders), func(o *projections.Options) { o.Poison = projections.Park })

	p := h.picture("counted")
	check := p.Facts.Projection
	if check.State != "equal" || check.Detail != "" {
		t.Errorf("the projection of orders: %s, %q", check.State, check.Detail)
	}
	rows := map[string]bool{}
	for _, r := range check.Rows {
		rows[r.Currency] = true
		if r.Ours != r.Theirs && r.Currency != noCurrency {
			t.Errorf("%s: %+v here, %+v there", r.Currency, r.Ours, r.Theirs)
		}
	}
	if b := p.Ledger.Books["GBP"]; !rows["GBP"] || !rows["EUR"] || b.Excluded["no-actual-price"].Lines == 0 {
		t.Errorf("the shop has not sold all that it may: %v, %v", rows, b.Excluded)
	}
}
