package declared

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"banyan/internal/randtest"
	"banyan/projections/projectiontest"
)

// shopHistory makes up transactions as the shop tells them: customers come, move
// and go; orders are placed with lines, grow, are paid, hidden or removed; cards
// are tried.
func shopHistory(random *rand.Rand, n int) [][]projectiontest.Event {
	var out [][]projectiontest.Event
	at := time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC)
	money := func() string {
		return fmt.Sprintf(`{"amount":%d,"scale":3,"currency":"GBP"}`, random.IntN(9000)-500)
	}
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	tell := func(topic, typ, aggregate string, key int, format string, args ...any) projectiontest.Event {
		return projectiontest.Event{Topic: topic, Type: typ, Aggregate: aggregate, Key: fmt.Sprint(key), Data: fmt.Sprintf(format, args...)}
	}
	lines := func() string {
		text := ""
		for i := range random.IntN(4) {
			if i > 0 {
				text += ","
			}
			text += fmt.Sprintf(`{"line_no":%d,"product_id":%d,"description":null,"quantity":%d,"unit_price":%s,"added_at":%q}`,
				i+1+random.IntN(2)*4, random.IntN(9), random.IntN(9)-2, money(), at.Add(time.Duration(random.IntN(50))*time.Hour).Format(time.RFC3339))
		}
		return text
	}
	for range n {
		at = at.Add(time.Duration(random.IntN(90)) * time.Second)
		when := at.Add(-time.Duration(random.IntN(600)) * time.Second).Format(time.RFC3339)
		id := 1 + random.IntN(6)
		var one projectiontest.Event
		switch random.IntN(8) {
		case 0:
			if one = tell("shop.customers", "CustomerRemoved", "Customer", id, `{"state":null,"last":{"id":%d}}`, id); random.IntN(4) > 0 {
				one = tell("shop.customers", pick("CustomerRegistered", "CustomerMoved"), "Customer", id, `{"state":{"id":%d,"customer_no":null,"name":"C","country":%q,"newsletter":true,"registered_at":%q,"deleted_at":null,"addresses":[{"id":1,"kind":%q,"street":"S","city":"C","postcode":"P","country":"UK"}]}}`,
					id, pick("UK", "FR"), when, pick("billing", "shipping"))
			}
		case 1, 2, 3:
			if one = tell("shop.orders", "OrderRemoved", "Order", id, `{"state":null,"last":{"id":%d,"customer_id":1}}`, id); random.IntN(6) > 0 {
				one = tell("shop.orders", pick("OrderPlaced", "OrderLineAdded", "OrderShipped"), "Order", id, `{"state":{"id":%d,"invoice_no":%q,"customer_id":%s,"status":%q,"channel":"web","country":"UK","total":%s,"placed_at":%q,"deleted_at":null,"lines":[%s],"shipments":[{"id":%d,"carrier":"R","tracking":null,"shipped_at":%q}]}}`,
					id, pick("536365", "C536366"), pick("null", "1", "2"), pick("placed", "paid", "cancelled"), money(), when, lines(), random.IntN(3), when)
			}
		case 4:
			payment := random.IntN(1000)
			one = tell("shop.payments", "PaymentAttempted", "Payment", payment, `{"occurredAt":%q,"state":{"id":%d,"order_id":%d,"card_token":%q,"amount":%s,"result":%q,"reason":null,"attempted_at":%q}}`,
				when, payment, id, pick("a", "b"), money(), pick("approved", "declined"), when)
		case 5:
			one = tell("shop.returns", "ReturnAccepted", "Return", id, `{"state":{"id":%d,"invoice_no":"C9","customer_id":%s,"amount":%s,"lines":[%s]}}`, id, pick("null", "1", "2"), money(), lines())
		case 6:
			one = tell("shop.stock", pick("StockAdjusted", "StockChanged"), "Stock", id, `{"by":1,"adjustments":[{"id":1,"invoice_no":"7","quantity":3,"price":%s,"adjusted_at":%q}],"state":{"id":%d,"stock_code":"x","stock":%d}}`, money(), when, id, random.IntN(99))
		default:
			one = tell("shop.fees", "FeeCharged", "Fee", random.IntN(1000), `{"state":{"invoice_no":null,"quantity":1,"price":%s,"charged_at":%q}}`, money(), when)
		}
		if len(out) > 0 && random.IntN(4) == 0 && out[len(out)-1][0].Key != one.Key {
			out[len(out)-1] = append(out[len(out)-1], one)
			continue
		}
		out = append(out, []projectiontest.Event{one})
	}
	return out
}

// TestTheShopsRowsDoNotDependOnBatches gives the shop's projections and those of
// the transcripts a history in many ways.
func TestTheShopsRowsDoNotDependOnBatches(t *testing.T) {
	seed := randtest.Seed(t)
	history := shopHistory(rand.New(rand.NewPCG(seed, 3)), 400)
	files := shopFiles(t)
	for _, name := range sortedNames(files) {
		t.Run(name, func(t *testing.T) {
			p := must(t, name+".yaml", files[name])
			projectiontest.Splits(t, p, only(p, history), projectiontest.Variations{Rounds: 8, Seed: seed})
		})
	}
	paths, err := filepath.Glob("testdata/runs/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			p, h := transcript(t, path)
			var all [][]projectiontest.Event
			for _, one := range h.all {
				if one.idle != nil || one.Data == nil {
					continue // a Source tells neither idleness at a place nor tombstones
				}
				e := projectiontest.Event{Topic: one.Topic, Type: one.Type, Aggregate: one.ID.Aggregate, Key: one.ID.Key, Data: one.Data, Version: one.Version}
				if one.Position.Ordinal > 0 {
					all[len(all)-1] = append(all[len(all)-1], e)
					continue
				}
				all = append(all, []projectiontest.Event{e})
			}
			projectiontest.Splits(t, p, only(p, all), projectiontest.Variations{Rounds: 8, Seed: seed})
		})
	}
}

// only keeps the events of a program's topics.
func only(p *Program, history [][]projectiontest.Event) [][]projectiontest.Event {
	topics := map[string]bool{}
	for _, topic := range p.spec.Topics {
		topics[topic] = true
	}
	var out [][]projectiontest.Event
	for _, tx := range history {
		var kept []projectiontest.Event
		for _, e := range tx {
			if topics[e.Topic] {
				kept = append(kept, e)
			}
		}
		if len(kept) > 0 {
			out = append(out, kept)
		}
	}
	return out
}
