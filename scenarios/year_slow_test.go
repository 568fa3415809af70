//go:build slow

package main

import "testing"

// TestSalesOfTheYearAreThoseOfTheFile replays the whole year, with all services at
// work. It takes about ten minutes.
func TestSalesOfTheYearAreThoseOfTheFile(t *testing.T) {
	file := dataFile(t, "online_retail_541909.csv.gz")
	o := readOracle(t, file)
	if o.rows != 541_909 || len(o.days) != 305 || pounds(&o.net) != "9747747.934" {
		t.Fatalf("the file has %d rows, %d days and %s pounds, its README says 541,909, 305 and 9,747,747.934", o.rows, len(o.days), pounds(&o.net))
	}
	y := openYear(t)
	token := y.sell(file)
	y.compare(o, token, "live")
	y.live()
	y.weigh(o)
	names := []string{"card_attempts", "customer_360", "daily_sales", "orders_view", "shipping_addresses", "stock_levels"}
	for _, name := range names {
		y.prove(name)
	}
	for _, name := range names {
		y.renew(name)
	}
	y.compare(o, token, "rebuilt")
	for _, name := range names {
		y.prove(name)
	}
}
