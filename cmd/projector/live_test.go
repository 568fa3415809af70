package main_test

import "testing"

func TestRowsAreWhatTheShopHasInItsBooks(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.shop.trade(300)
	h.must(0, "check")
	r := h.start()
	r.Await("installed: shipping")
	r.Await("running: shipping")
	h.exact("shipping", "ledger")
	for range 20 {
		h.shop.trade(50)
	}
	h.exact("shipping", "ledger")
	r.Stop()
}
