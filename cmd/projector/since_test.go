package main_test

import (
	"fmt"
	"testing"

	"banyan/projections/projectiontest"
)

const calls = `projection: calls
tables:
  customers: {from: shop.customers, columns: {id: bigint key}}
effects:
  greet:
    from: shop.customers
    on: ["*"]
    http: {url: "https://crm.example.org/greet", json: {id: state.id}}
`

// Without any watermark nobody can tell history from news: a new projection with
// effects waits for the first one, and sends nothing for what came before.
func TestEffectsBeginAtTheFirstWatermark(t *testing.T) {
	h := newHouse(t, calls)
	tell := func(from, to int) {
		for i := from; i < to; i++ {
			if _, err := h.shop.src.Commit(projectiontest.Event{Topic: customersTopic, Type: "CustomerRegistered", Aggregate: "Customer",
				Key: fmt.Sprint(i), Data: fmt.Sprintf(`{"state":{"id":%d}}`, i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish := func() {
		if err := h.shop.publish(); err != nil {
			t.Fatal(err)
		}
	}
	tell(1, 20)
	publish()
	if a := h.projector("run", "--until-caught-up", "--no-effects"); a.Code == 0 {
		t.Fatalf("a job ran without a watermark: %s", a)
	}
	run := h.start("--listen", "127.0.0.1:0", "--no-effects")
	run.AwaitLog("waiting for the first watermark")
	h.shop.src.Mark()
	publish()
	run.Await("running")
	tell(20, 23)
	h.shop.src.Mark()
	publish()
	h.eventually("all rows are there", func() bool { return h.one(`SELECT count(*)::text FROM calls.customers`) == "22" })
	if got := h.one(`SELECT count(*)::text FROM banyan.effect`); got != "3" {
		t.Errorf("%s effects were promised, want those of the 3 events after the start", got)
	}
	run.Stop()
}
