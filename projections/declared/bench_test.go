package declared

import (
	"fmt"
	"strings"
	"testing"

	"banyan/event"
	"banyan/projections"
)

// orderEvents are orders with lines, as the shop tells them.
func orderEvents(n, lines int) []event.Event {
	h := newHistory()
	for i := range n {
		var list []string
		for l := range lines {
			list = append(list, fmt.Sprintf(`{"line_no":%d,"product_id":%d,"description":"WHITE HANGING HEART T-LIGHT HOLDER","quantity":6,"unit_price":{"amount":2550,"scale":3,"currency":"GBP"},"added_at":"2010-12-01T08:26:00Z"}`, l+1, l*7+1))
		}
		h.add("shop.orders", "OrderPlaced", "Order", fmt.Sprint(i%100_000), fmt.Sprintf(`{"occurredAt":"2010-12-01T08:26:00Z","channel":"account","guest":false,"state":{"id":%d,"invoice_no":"%d","customer_id":%d,"status":"placed","channel":"account","country":"United Kingdom","total":{"amount":46590,"scale":3,"currency":"GBP"},"placed_at":"2010-12-01T08:26:00Z","note":null,"attributes":{},"deleted_at":null,"lines":[%s],"rejections":[],"validations":[],"shipments":[]},"changed":["id"]}`, i%100_000, 536365+i, i%5000, strings.Join(list, ",")))
	}
	var out []event.Event
	for _, one := range h.all {
		out = append(out, one.Event)
	}
	return out
}

// BenchmarkPrepareApply is what a definition costs for one event, into rows in
// memory: Prepare runs on all cores in a runner, Apply on one.
func BenchmarkPrepareApply(b *testing.B) {
	simple := `projection: simple
tables:
  orders: {from: shop.orders, columns: {id: bigint key, customer_id: bigint, status: text, total: "numeric(12,3)", placed_at: timestamptz}}
`
	files := shopFiles(b)
	for _, c := range []struct {
		name, definition string
		lines            int
	}{{"five columns", simple, 2}, {"orders_view", files["orders_view"], 5}, {"daily_sales", files["daily_sales"], 5}} {
		p := must(b, c.name, c.definition)
		all := orderEvents(10_000, c.lines)
		b.Run(c.name+"/prepare", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(all[0].Data)))
			for i := range b.N {
				e := &projections.Event{Event: all[i%len(all)]}
				if err := p.Prepare(e); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/apply", func(b *testing.B) {
			b.ReportAllocs()
			a, err := projections.NewApplier(p, bulk(b, p), nil, event.Position{})
			if err != nil {
				b.Fatal(err)
			}
			events := make([]*projections.Event, len(all))
			for i := range all {
				events[i] = &projections.Event{Event: all[i]}
				if err := p.Prepare(events[i]); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for i := range b.N {
				if err := a.Apply(events[i%len(events)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
