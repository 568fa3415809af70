package pricing

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"banyan/event"
)

// tell is an event of a shop, committed at a time.
func tell(topic, kind, key, data string, committed time.Time) *event.Event {
	position := event.Position{Generation: 1, LSN: 0x400}
	aggregate := map[string]string{"prices": "Price", "stock": "Stock", "orders": "Order"}[topic]
	return &event.Event{ID: event.ID{Source: "shop", Aggregate: aggregate, Key: key, Position: position}, Type: kind, Version: 1,
		Topic: "shop." + topic, Time: committed, Position: position, Data: json.RawMessage(data)}
}

var committed = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

func apply(v *View, topic, kind, key, data string) Fact {
	f := Read(tell(topic, kind, key, data, committed))
	v.Apply(&f)
	return f
}

func TestReadFaults(t *testing.T) {
	for _, tc := range []struct{ topic, kind, data, want string }{
		{"prices", "PriceChanged", `{"state":{"price":{"amount":2.5,"scale":3,"currency":"GBP"}}}`, "cannot unmarshal number 2.5"},
		{"prices", "PriceChanged", `{"state":{"price":{"amount":2,"scale":19,"currency":"GBP"}}}`, "an amount has the scale 19"},
		{"prices", "PriceChanged", `{`, "unexpected end"},
		{"stock", "StockChanged", `{"state":{}}`, "state has no stock"},
		{"stock", "StockChanged", `{"state":{"stock":"many"}}`, "cannot unmarshal string"},
		{"orders", "OrderPlaced", `{"state":null}`, "it has no state"},
		{"orders", "OrderPlaced", `{"state":{"lines":[{"product_id":[1]}]}}`, "cannot unmarshal array"},
	} {
		f := Read(tell(tc.topic, tc.kind, "7", tc.data, committed))
		if f.Fault == nil || !strings.Contains(f.Fault.Error(), tc.want) || !strings.Contains(f.Fault.Error(), "@1:0/400.0, "+tc.kind) || !f.Matters() {
			t.Errorf("%s: %v, want %s", tc.data, f.Fault, tc.want)
		}
	}
	if f := Read(tell("orders", "OrderPaid", "7", `nothing`, committed)); f.Matters() || f.Fault != nil {
		t.Errorf("a paid order is read: %+v", f)
	}
	if f := Read(tell("payments", "OrderPlaced", "7", `nothing`, committed)); f.Matters() || f.Fault != nil {
		t.Errorf("a payment is read: %+v", f)
	}
}

const listed = `{"occurredAt":"2010-12-01T08:00:00Z","state":{"price":{"amount":2550,"scale":3,"currency":"GBP"},"tier_quantity":12,"tier_price":{"amount":2100,"scale":3,"currency":"GBP"},"cost":null}}`

func TestProposals(t *testing.T) {
	v := NewView(candidate(t, Default()))
	if _, ok := v.Propose("1", false); ok || v.Changed() != nil {
		t.Error("a view that knows nothing proposes")
	}
	apply(v, "prices", "ProductListed", "1", listed)
	apply(v, "stock", "StockChanged", "1", `{"occurredAt":"2010-12-01T08:00:00Z","state":{"stock":40}}`)
	apply(v, "stock", "StockChanged", "2", `{"occurredAt":"2010-12-01T08:00:00Z","state":{"stock":40}}`)
	apply(v, "orders", "OrderPlaced", "7", `{"occurredAt":"2010-12-01T08:00:00Z","state":{"placed_at":"2010-12-01T08:26:00Z","lines":[{"product_id":1,"quantity":20},{"product_id":"a b","quantity":1},{"product_id":3,"quantity":-4}]}}`)
	if diff := cmp.Diff([]string{"1", "2", "a%20b"}, v.Changed()); diff != "" {
		t.Errorf("changed: -want +got\n%s", diff)
	}
	p, ok := v.Propose("1", false)
	// 40 in stock, 20 in 28 days: 56 days. All of it last week: 400 %, 2 % more.
	want := Proposal{Product: "1", Unit: gbp(2600), TierQuantity: 12, Tier: gbp(2140), Rule: "recent_demand", Propensity: "1"}
	if diff := cmp.Diff(want, p); diff != "" || !ok {
		t.Errorf("-want +got\n%s", diff)
	}
	with, _ := v.Propose("1", true)
	if !with.SamePrices(&p) || len(with.Trail) == 0 {
		t.Errorf("with its trail: %+v", with)
	}
	if _, ok := v.Propose("2", false); ok {
		t.Error("a product without a list price has a proposal")
	}
	apply(v, "prices", "ProductRemoved", "1", `{"state":null}`)
	if _, ok := v.Propose("1", false); ok || !slices.Equal(v.Changed(), []string{"1"}) {
		t.Error("a removed product has a proposal")
	}
	apply(v, "prices", "PriceChanged", "1", listed)
	apply(v, "prices", "PriceChanged", "1", `{"state":{"price":"dear"}}`)
	if _, ok := v.Propose("1", false); ok {
		t.Error("a product whose list price cannot be read has a proposal")
	}
}

// TestBusinessTime has events of today about business of long ago, and slips.
func TestBusinessTime(t *testing.T) {
	f := Read(tell("prices", "PriceRecorded", "1", `{"state":{}}`, committed))
	if !f.At.IsZero() || !f.BusinessTime().Equal(committed) {
		t.Errorf("without a business time: %v", f.BusinessTime())
	}
	f = Read(tell("orders", "OrderPlaced", "1", `{"occurredAt":"2010-12-01T08:00:00Z","state":{"lines":[]}}`, committed))
	if want := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC); !f.BusinessTime().Equal(want) {
		t.Errorf("with one: %v", f.BusinessTime())
	}
	f = Read(tell("orders", "OrderPlaced", "1", `{"state":{"placed_at":"2062-12-01T08:00:00Z","lines":[]}}`, committed))
	if !f.BusinessTime().Equal(committed) {
		t.Errorf("an order of the future is of %v", f.BusinessTime())
	}
	// What has no business time does not move the day: demand of 2010 stays recent.
	v := NewView(candidate(t, Default()))
	apply(v, "prices", "PriceRecorded", "1", `{"state":{"price":{"amount":2550,"scale":3,"currency":"GBP"}}}`)
	if p, ok := v.Propose("1", false); !ok || p.Unit != gbp(2550) {
		t.Errorf("before any day of business: %+v", p)
	}
	apply(v, "orders", "OrderPlaced", "7", `{"state":{"placed_at":"2010-12-01T08:26:00Z","lines":[{"product_id":1,"quantity":20}]}}`)
	apply(v, "prices", "PriceRecorded", "1", `{"state":{"price":{"amount":2550,"scale":3,"currency":"GBP"}}}`)
	if p, ok := v.Propose("1", false); !ok || p.Unit != gbp(2600) {
		t.Errorf("after an order of 2010: %+v", p)
	}
}

// TestDemandIsThatOfTheLastDays holds the window against a plain list of orders.
func TestDemandIsThatOfTheLastDays(t *testing.T) {
	type sale struct {
		day      Day
		quantity int64
	}
	d := candidate(t, Default())
	start := day(t, "2010-12-01")
	rapid.Check(t, func(t *rapid.T) {
		v := NewView(d)
		var sales []sale
		today := Day(0)
		for i := range rapid.IntRange(1, 60).Draw(t, "orders") {
			on := start + Day(rapid.IntRange(0, 120).Draw(t, "day"))
			if rapid.Bool().Draw(t, "soon") {
				on = max(today, start) + Day(rapid.IntRange(-2, 2).Draw(t, "later"))
			}
			quantity := rapid.Int64Range(1, 50).Draw(t, "quantity")
			f := Fact{about: aboutOrder, At: on.Time(), Time: committed, order: fmt.Sprint(i), lines: []piece{{"1", quantity}}}
			v.Apply(&f)
			if rapid.Bool().Draw(t, "told twice") {
				v.Apply(&f)
			}
			today = max(today, on)
			sales = append(sales, sale{on, quantity})
			sum := func(days Day) (n int64) {
				// An order that came late counts if it was in the window when it came.
				for _, s := range sales {
					if s.day > today-days && s.day <= today {
						n += s.quantity
					}
				}
				return n
			}
			p := v.products["1"]
			if p == nil {
				continue // so late that it was never in the window
			}
			p.until(v.day)
			if got, want := [3]int64{p.sum(1), p.sum(7), p.sum(28)}, [3]int64{sum(1), sum(7), sum(28)}; got != want {
				t.Fatalf("on %s demand is %v, want %v", today, got, want)
			}
		}
	})
}

// TestChangedAfterADay: a new day makes all products look again.
func TestChangedAfterADay(t *testing.T) {
	v := NewView(candidate(t, Default()))
	for _, key := range []string{"3", "1", "2"} {
		apply(v, "prices", "ProductListed", key, listed)
	}
	v.Changed()
	apply(v, "stock", "StockChanged", "2", `{"occurredAt":"2010-12-01T20:00:00Z","state":{"stock":4}}`)
	if got := v.Changed(); !slices.Equal(got, []string{"2"}) {
		t.Errorf("on the same day: %v", got)
	}
	apply(v, "stock", "StockChanged", "2", `{"occurredAt":"2010-12-02T00:00:00Z","state":{"stock":4}}`)
	if got := v.Changed(); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("on the next day: %v", got)
	}
	if got := v.Changed(); len(got) != 0 {
		t.Errorf("asked again: %v", got)
	}
}

func BenchmarkView(b *testing.B) {
	v := NewView(candidate(b, Default()))
	for i := range 1000 {
		apply(v, "prices", "ProductListed", fmt.Sprint(i), listed)
	}
	v.Changed()
	at := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		key := fmt.Sprint(i % 1000)
		v.Apply(&Fact{about: aboutOrder, At: at, Time: committed, order: fmt.Sprint(i), lines: []piece{{key, 1}}})
		for _, name := range v.Changed() {
			v.Propose(name, false)
		}
	}
}
