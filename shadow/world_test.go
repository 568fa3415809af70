package shadow

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
	"banyan/money"
	"banyan/projections"
	"banyan/projections/projectiontest"
	"banyan/quote"
)

// all gives what lies in a log in the order of commits.
func all(t testing.TB, log *projectiontest.Log, o Options) []*projections.Event {
	t.Helper()
	var events []*projections.Event
	for some, err := range history(t.Context(), log, o) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, some...)
	}
	return events
}

// inProcess is a core that keeps its journal.
func inProcess(o Options, journal *[][]byte) *core {
	s := newCore(o)
	s.candidate = thrifty{}
	s.done = func(c *comparison, _ *quote.Answer) error {
		*journal = append(*journal, appendEntry(nil, c))
		return nil
	}
	return s
}

func entries(t testing.TB, raw [][]byte) []Entry {
	t.Helper()
	var read []Entry
	for _, r := range raw {
		e, err := ParseEntry(r)
		if err != nil {
			t.Fatalf("%s: %v", r, err)
		}
		read = append(read, e)
	}
	return read
}

// A history gives what the shop's own books say, however it is cut into batches.
func TestTheLedgerIsWhatTheBooksSay(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	shop.trade(600)
	o := DefaultOptions()
	o.Name = "test"
	events := all(t, shop.log, o)
	var want string
	for _, size := range []int{len(events), 1, 7} {
		var journal [][]byte
		s := inProcess(o, &journal)
		for rest := events; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if err := s.take(t.Context(), rest[:min(size, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		shop.books.check(t, s.ledger)
		shop.books.checkJournal(t, entries(t, journal))
		if got := whole(t, s.ledger); want == "" {
			want = got
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("in batches of %d (-want +got):\n%s", size, diff)
		}
	}
}

// An order is priced with what was known strictly before its commit, also where a
// batch ends and the process dies in the middle of a transaction.
func TestARestartBetweenAnyTwoEvents(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	shop.trade(60)
	o := named("restart")
	h := newHouse(t, pgtest.New(t), shop)
	v, program := h.shadow(o, thriftyOne)
	for _, e := range all(t, shop.log, o) {
		p := program()
		err := p.Ask(t.Context(), []*projections.Event{e})
		if err == nil {
			err = pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
				return projections.ApplyBatch(t.Context(), tx, v.Schema, p, []*projections.Event{e})
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	shop.books.check(t, h.picture("restart").Ledger)
	shop.books.checkJournal(t, entries(t, h.journal(v)))
}

// at is an event as it comes out of a log.
func at(r *reader, lsn uint64, snapshot int, topic, kind, key, data string) *projections.Event {
	p := event.Position{Generation: 1, LSN: lsn, Snapshot: snapshot}
	e := &projections.Event{Event: event.Event{ID: event.ID{Source: "shop", Aggregate: "Order", Key: key, Position: p}, Type: kind, Version: 1, Topic: topic,
		Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Position: p, Data: json.RawMessage(data)}, Offset: int64(lsn)}
	if n := r.read(e); n != nil {
		e.Prepared = n
	}
	return e
}

func orderOf(product string) string {
	return `{"state":{"customer_id":1,"lines":[{"line_no":1,"product_id":"` + product + `","quantity":2,"unit_price":{"amount":100,"scale":2,"currency":"GBP"}}]}}`
}

// listening keeps what it is asked.
type listening struct {
	thrifty
	heard []quote.Product
}

func (l *listening) Price(o *quote.Order, into *quote.Answer) error {
	for _, n := range o.Lines {
		l.heard = append(l.heard, n.Known)
		into.Lines = append(into.Lines, quote.Price{Line: n.Line, Unit: money.Amount{Amount: 100, Scale: 2, Currency: "GBP"}})
	}
	return nil
}

func TestWhatAnOrderSees(t *testing.T) {
	r := newReader(ShopMapping())
	price := func(lsn uint64, snapshot int, amount string) *projections.Event {
		return at(r, lsn, snapshot, "shop.prices", "PriceChanged", "p", `{"state":{"price":{"amount":`+amount+`,"scale":2,"currency":"GBP"}}}`)
	}
	stock := func(lsn uint64, snapshot int, pieces string) *projections.Event {
		return at(r, lsn, snapshot, "shop.stock", "StockChanged", "p", `{"state":{"stock":`+pieces+`}}`)
	}
	placed := func(lsn uint64) *projections.Event {
		return at(r, lsn, 0, "shop.orders", "OrderPlaced", "1", orderOf("p"))
	}
	when := `{"state":{"placed_at":"2026-02-28T10:00:00Z",`
	recorded := at(r, 10, 1, "shop.orders", "OrderRecorded", "0", strings.Replace(orderOf("p"), `{"state":{`, when, 1))
	untimed := at(r, 10, 1, "shop.orders", "OrderRecorded", "0", orderOf("p"))
	type seen struct {
		List   int64
		Stock  int64 // -1 where it is not known
		Demand int64
	}
	for _, c := range []struct {
		name   string
		events []*projections.Event
		want   []seen
	}{
		{"nothing is known", []*projections.Event{placed(20)}, []seen{{0, -1, 0}}},
		{"a snapshot is known at once", []*projections.Event{recorded, price(10, 1, "99"), stock(10, 1, "7"), placed(20)}, []seen{{99, 7, 2}}},
		{"an order of a snapshot that nobody knows the day of is no demand of any", []*projections.Event{untimed, price(10, 1, "99"), placed(20)}, []seen{{99, -1, 0}}},
		{"a snapshot at the same commit, too", []*projections.Event{price(20, 1, "99"), placed(20)}, []seen{{99, -1, 0}}},
		{"its own transaction is not", []*projections.Event{placed(20), price(20, 0, "99"), stock(20, 0, "7")}, []seen{{0, -1, 0}}},
		{"nor is it where it comes first", []*projections.Event{price(20, 0, "99"), stock(20, 0, "7"), placed(20)}, []seen{{0, -1, 0}}},
		{"the transaction before is", []*projections.Event{price(19, 0, "99"), stock(19, 0, "7"), placed(20)}, []seen{{99, 7, 0}}},
		{"another order of the same transaction is not", []*projections.Event{placed(20), placed(20), placed(21)}, []seen{{0, -1, 0}, {0, -1, 0}, {0, -1, 4}}},
		{"the last word counts", []*projections.Event{price(18, 0, "99"), price(19, 0, "98"), stock(19, 0, "7"), stock(19, 0, "6"), placed(20)}, []seen{{98, 6, 0}}},
		{"an unreadable price leaves the one of before", []*projections.Event{price(18, 0, "99"), at(r, 19, 0, "shop.prices", "PriceChanged", "p", `[`), placed(20)}, []seen{{99, -1, 0}}},
		{"stock that is gone is not known", []*projections.Event{stock(18, 0, "7"), stock(19, 0, "null"), placed(20)}, []seen{{0, -1, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, l := newCore(named("see")), &listening{}
			s.candidate = l
			if err := s.take(t.Context(), c.events); err != nil {
				t.Fatal(err)
			}
			var got []seen
			for _, k := range l.heard {
				n := seen{k.List.Amount, -1, k.Demand.Days28}
				if k.Stock != nil {
					n.Stock = *k.Stock
				}
				got = append(got, n)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("seen (-want +got):\n%s", diff)
			}
		})
	}
}

func TestThePriceOfBefore(t *testing.T) {
	w := newWorld()
	tell := func(amount, cost int64) {
		w.apply(&change{Kind: priceTold, Product: "p", List: priceOf(gbp(amount)), Cost: priceOf(gbp(cost))})
	}
	for i, c := range []struct{ amount, cost, list, previous int64 }{
		{1000, 1, 10_000, 0}, {1000, 2, 10_000, 0}, {1100, 2, 11_000, 10_000}, {1100, 3, 11_000, 10_000}, {900, 3, 9_000, 11_000},
	} {
		tell(c.amount, c.cost)
		if got := w.products["p"].clues("GBP"); got.List != c.list || got.Previous != c.previous {
			t.Errorf("price %d: %+v, want list %d and %d before", i, got, c.list, c.previous)
		}
		if got := w.products["p"].clues("EUR"); got.List != 0 || got.Previous != 0 {
			t.Errorf("price %d in another currency: %+v", i, got)
		}
	}
	w.apply(&change{Kind: priceTold, Product: "p"}) // it is not sold any more
	if got := w.products["p"].clues("GBP"); got.List != 0 || got.Previous != 9_000 {
		t.Errorf("after the end: %+v", got)
	}
}

// Demand is of the days that end with the order's own, whatever was told late, and what
// is read from a database says the same.
func TestDaysOfDemand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d, read days
		sold := map[int32]int64{}
		today, pieces := int32(20_000), rapid.OneOf(rapid.Int64Range(1, 1000), rapid.Just(int64(math.MaxInt64)))
		for range rapid.IntRange(0, 80).Draw(t, "orders") {
			today += rapid.SampledFrom([]int32{0, 0, 0, 1, 1, 2, 5, 29, 400}).Draw(t, "gap")
			day := today - rapid.SampledFrom([]int32{0, 0, 0, 1, 3, 20, 27, 30, 500}).Draw(t, "late")
			n := pieces.Draw(t, "pieces")
			d.add(day, n)
			sold[day] = plus(sold[day], n)
			raw, err := json.Marshal(read)
			if err == nil {
				read = days{}
				err = json.Unmarshal(raw, &read)
			}
			if err != nil {
				t.Fatal(err)
			}
			read.add(day, n)
			for ago := int32(0); ago < 60; ago++ {
				one, week, month := d.sums(today - ago)
				if o, w, m := read.sums(today - ago); o != one || w != week || m != month {
					t.Fatalf("%d days ago: %d, %d, %d after a restart, else %d, %d, %d", ago, o, w, m, one, week, month)
				}
			}
			var want [3]int64
			for back := range int32(window) {
				n := sold[today-back]
				if want[2] = plus(want[2], n); back < 7 {
					want[1] = plus(want[1], n)
				}
				if back == 0 {
					want[0] = n
				}
			}
			if one, week, month := d.sums(today); want != [3]int64{one, week, month} {
				t.Fatalf("today: %d, %d, %d, want %v", one, week, month, want)
			}
		}
	})
}

func TestDaysAreCountedFrom1970(t *testing.T) {
	for text, want := range map[string]int32{"1970-01-01T00:00:00Z": 0, "1969-12-31T23:59:59Z": -1, "1969-12-31T00:00:00Z": -1, "2026-03-01T23:59:59Z": 20_513, "2026-03-02T01:00:00+02:00": 20_513} {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := dayOf(at); got != want {
			t.Errorf("%s is day %d, want %d", text, got, want)
		}
	}
}
