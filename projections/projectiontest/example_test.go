package projectiontest_test

import (
	"fmt"
	"time"

	"banyan/projections/projectiontest"
)

// printer stands for a *testing.T here.
type printer struct{}

func (printer) Helper()                           {}
func (printer) Logf(format string, args ...any)   { fmt.Printf(format+"\n", args...) }
func (printer) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (printer) Fatalf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func Example() {
	var t printer // in a test: t *testing.T

	c := projectiontest.New(t, tally{})
	c.At(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	c.Given(projectiontest.Event{Topic: "shop.customers", Type: "CustomerMoved", Aggregate: "Customer", Key: "42",
		Data: `{"state": {"name": "Ann"}}`})
	c.When(projectiontest.Event{Topic: "shop.sales", Type: "SaleMade", Aggregate: "Sale", Key: "1",
		Data: `{"state": {"customer": "42", "cents": 1250}}`})
	c.Then("totals", projectiontest.Row{"customer": "42", "name": "Ann", "total": "12.50"})

	c.Wait(time.Hour) // a timer fires
	fmt.Print(c.Table("totals"))
	// Output:
	// customer=42 name=Ann sales=1 total=12.50 quiet_since=2026-03-01 10:00:01Z
}
