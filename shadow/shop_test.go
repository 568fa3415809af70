package shadow

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"banyan/compare"
	"banyan/event"
	"banyan/projections/projectiontest"
)

// shop makes up the business of a shop, tells it as cdc would, and keeps books of its
// own of what a shadow has to find.
type shop struct {
	t     testing.TB
	rng   *rand.Rand
	src   *projectiontest.Source
	log   *projectiontest.Log
	now   map[string]*ware // as the shop knows it, and so the last transaction has told
	carts map[string]*cart
	next  int
	tidy  bool // it tells no garbage
	books books
}

// ware is a product as the shop knows it.
type ware struct {
	list, tier, tierQuantity int64
	scale                    int
	currency                 string
	listed                   bool
	stock                    *int64
	sold                     []soldOn
}

type soldOn struct {
	day    int64
	pieces int64
}

// cart is an order with all of its lines so far.
type cart struct {
	customer any // an int, or nil for a guest
	channel  string
	lines    []map[string]any
}

var topics = []string{"shop.orders", "shop.returns", "shop.prices", "shop.stock"}

var wares = []struct {
	name, currency string
	scale          int
}{{"p0", "GBP", 3}, {"p1", "GBP", 3}, {"p2", "GBP", 3}, {"p3", "GBP", 2}, {"p4", "GBP", 3}, {"p5", "EUR", 2}, {"p6", "GBP", 3}, {"p7", "JPY", 0}}

const neverListed = "p6"

func newShop(t testing.TB, seed uint64) *shop {
	s := &shop{t: t, rng: rand.New(rand.NewPCG(seed, 7)), src: projectiontest.NewSource("shop"), log: projectiontest.NewLog(), now: map[string]*ware{}, carts: map[string]*cart{}}
	s.src.Partitions, s.src.Tick = 3, 4*time.Hour
	s.src.CreateTopics(s.log, topics...)
	for _, w := range wares {
		s.now[w.name] = &ware{scale: w.scale, currency: w.currency}
	}
	s.snapshot()
	return s
}

// snapshot tells what there was before anybody listened.
func (s *shop) snapshot() {
	for _, w := range wares[:5] {
		s.tell(1, func(tx *transaction) { tx.list(w.name); tx.stock(w.name, s.rng.Int64N(40)) })
	}
	s.tell(1, func(tx *transaction) { tx.order("OrderRecorded", 1) })
	s.tell(1, func(tx *transaction) { tx.order("OrderPlaced", 1) }) // by its old type, within a snapshot
}

// trade makes n transactions happen.
func (s *shop) trade(n int) {
	for range n {
		s.tell(0, func(tx *transaction) {
			name := wares[s.rng.IntN(len(wares))].name
			switch s.rng.IntN(20) {
			case 0, 1:
				tx.list(name)
			case 2:
				tx.stock(name, s.rng.Int64N(40))
			case 3:
				tx.refuse()
			case 4:
				tx.giveBack()
			case 5, 6:
				tx.add()
			case 7:
				if !s.tidy {
					tx.garbage()
				}
			case 8: // two orders of the same goods at one moment, and a new price with them
				tx.order("OrderPlaced", 2)
				tx.order("OrderPlaced", 2)
				tx.list(name)
			case 9:
				tx.order("OrderPlaced", 0)
			default:
				tx.order("OrderPlaced", 1+s.rng.IntN(4))
			}
		})
		topic, part := topics[s.rng.IntN(len(topics))], s.rng.IntN(s.src.Partitions)
		switch s.rng.IntN(15) {
		case 0:
			s.src.Repeat(topic, part, 1+s.rng.IntN(4))
		case 1:
			s.src.Late(topic, part, 1+s.rng.Int64N(20))
		case 2:
			s.src.Mark()
		}
	}
	s.src.Mark()
	if err := s.src.PublishShuffled(s.t.Context(), s.log, s.rng); err != nil {
		s.t.Fatal(err)
	}
}

// transaction is one of the shop: what it tells is known to later ones alone.
type transaction struct {
	*shop
	snapshot bool
	events   []projectiontest.Event
	booked   map[int]int // which event is which order of the books
	after    []func()
}

func (s *shop) tell(snapshot int, do func(tx *transaction)) {
	s.t.Helper()
	tx := &transaction{shop: s, snapshot: snapshot > 0, booked: map[int]int{}}
	do(tx)
	if len(tx.events) == 0 {
		return
	}
	commit := s.src.Commit
	if snapshot > 0 {
		commit = func(e ...projectiontest.Event) ([]event.Event, error) { return s.src.Snapshot(snapshot, e...) }
	}
	told, err := commit(tx.events...)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, at := range tx.booked {
		s.books.orders[at].event = told[i].ID.String()
	}
	for _, f := range tx.after {
		f()
	}
}

func (tx *transaction) put(topic, kind, aggregate, key string, data map[string]any) {
	tx.events = append(tx.events, projectiontest.Event{Topic: topic, Type: kind, Aggregate: aggregate, Key: key, Data: data})
}

func sumOf(amount int64, scale int, currency string) map[string]any {
	return map[string]any{"amount": amount, "scale": scale, "currency": currency}
}

func (tx *transaction) list(name string) {
	if name == neverListed {
		return
	}
	w := tx.now[name]
	list, tier, least := 200+tx.rng.Int64N(9_000), int64(0), int64(0)
	state := map[string]any{"stock_code": "code of " + name, "description": "a " + name}
	if tx.rng.IntN(2) == 0 {
		tier, least = list*9/10, 1+tx.rng.Int64N(8)
		state["tier_quantity"], state["tier_price"] = least, sumOf(tier, w.scale, w.currency)
	}
	if tx.rng.IntN(3) > 0 {
		state["cost"] = sumOf(list/2, w.scale, w.currency)
	}
	state["price"] = sumOf(list, w.scale, w.currency)
	tx.put("shop.prices", "PriceChanged", "Price", name, map[string]any{"state": state})
	tx.after = append(tx.after, func() { w.list, w.tier, w.tierQuantity, w.listed = list, tier, least, true })
}

func (tx *transaction) stock(name string, pieces int64) {
	tx.put("shop.stock", "StockChanged", "Stock", name, map[string]any{"state": map[string]any{"stock": pieces}})
	tx.after = append(tx.after, func() { tx.now[name].stock = &pieces })
}

func (tx *transaction) order(kind string, lines int) {
	tx.next++
	key := strconv.Itoa(tx.next)
	c := &cart{channel: []string{"web", "web", "phone", "shop"}[tx.rng.IntN(4)], lines: []map[string]any{}}
	if tx.rng.IntN(3) > 0 {
		c.customer = tx.rng.IntN(12)
	}
	for range lines {
		c.lines = append(c.lines, tx.line(int64(len(c.lines)+1)))
	}
	if !tx.snapshot {
		tx.carts[key] = c
	}
	tx.tellOrder(kind, key, c, c.lines, nil)
	if lines > 0 && !tx.snapshot { // what it took is told in the same transaction
		if q, ok := c.lines[0]["quantity"].(int64); ok {
			name := c.lines[0]["product_id"].(string)
			if w := tx.now[name]; w.stock != nil {
				tx.stock(name, max(*w.stock-q, 0))
			}
		}
	}
}

// line is one of an order: now and then with what cannot be compared.
func (tx *transaction) line(number int64) map[string]any {
	w := wares[tx.rng.IntN(len(wares))]
	known := tx.now[w.name]
	paid := known.list
	if paid == 0 || tx.rng.IntN(4) == 0 {
		paid = 100 + tx.rng.Int64N(9_000)
	}
	n := map[string]any{"line_no": number, "product_id": w.name, "quantity": 1 + tx.rng.Int64N(12), "unit_price": sumOf(paid, w.scale, w.currency)}
	switch tx.rng.IntN(25) {
	case 0:
		n["unit_price"] = sumOf(12_345, 5, "GBP")
	case 1:
		delete(n, "unit_price")
	case 2:
		n["unit_price"] = sumOf(0, w.scale, w.currency)
	case 3:
		n["quantity"] = -tx.rng.Int64N(3)
	case 4:
		n["unit_price"] = sumOf(paid, w.scale, "GBP")
	}
	return n
}

// add adds a line to an order of before.
func (tx *transaction) add() {
	keys := slices.Sorted(maps.Keys(tx.carts))
	if len(keys) == 0 {
		return
	}
	key := keys[tx.rng.IntN(len(keys))]
	c := tx.carts[key]
	n := tx.line(int64(len(c.lines) + 1))
	c.lines = append(c.lines, n)
	tx.tellOrder("OrderLineAdded", key, c, c.lines[len(c.lines)-1:], n["line_no"])
}

// tellOrder tells of an order and books it, with what the candidate has to say.
func (tx *transaction) tellOrder(kind, key string, c *cart, lines []map[string]any, added any) {
	at := tx.src.Now
	if tx.rng.IntN(6) == 0 {
		at = at.Add(-time.Duration(tx.rng.IntN(14*24)) * time.Hour) // told late
	}
	data := map[string]any{"state": map[string]any{"customer_id": c.customer, "channel": c.channel, "country": "France", "lines": c.lines}}
	if added != nil {
		data["line"] = added
	}
	timed := true
	switch tx.rng.IntN(9) {
	case 0:
		at = tx.src.Now      // the commit's,
		timed = !tx.snapshot // which says nothing of when a snapshot's order was placed
	case 1:
		data["state"].(map[string]any)["placed_at"] = at.Format(time.RFC3339)
	default:
		data["occurredAt"] = at.Format(time.RFC3339)
	}
	day := at.Unix() / 86_400
	b := booked{order: key, customer: "order " + key, added: added != nil}
	if c.customer != nil {
		b.customer = fmt.Sprint(c.customer)
	}
	if len(lines) == 0 {
		b.reason = compare.NoLines
	}
	for _, n := range lines {
		b.lines = append(b.lines, tx.book(n, c, day))
		if q := n["quantity"].(int64); q > 0 && timed {
			w := tx.now[n["product_id"].(string)]
			tx.after = append(tx.after, func() { w.sold = append(w.sold, soldOn{day, q}) })
		}
	}
	// A line without a price is in the currency of the order's first that has one.
	for i := range b.lines {
		if b.lines[i].Currency == "" {
			b.lines[i].Currency = "XXX"
			if k := slices.IndexFunc(b.lines, func(l bookedLine) bool { return l.Currency != "" && l.Currency != "XXX" }); k >= 0 {
				b.lines[i].Currency = b.lines[k].Currency
			}
		}
	}
	tx.keep(kind, key, b, data)
}

func (tx *transaction) keep(kind, key string, b booked, data map[string]any) {
	tx.booked[len(tx.events)] = len(tx.books.orders)
	tx.books.orders = append(tx.books.orders, b)
	tx.put("shop.orders", kind, "Order", key, data)
}

func (tx *transaction) refuse() {
	tx.next++
	w := wares[tx.rng.IntN(5)]
	wanted, there := 5+tx.rng.Int64N(5), tx.rng.Int64N(9)
	state := map[string]any{"customer_id": 3, "rejections": []any{map[string]any{"product_id": w.name, "wanted": wanted, "available": there, "unit_price": sumOf(100, w.scale, w.currency)}}}
	tx.put("shop.orders", "OrderRejected", "Order", strconv.Itoa(tx.next), map[string]any{"state": state})
	tx.books.refused++
	tx.books.wanted += wanted
	tx.books.short += max(wanted-there, 0)
}

func (tx *transaction) giveBack() {
	tx.next++
	w := wares[tx.rng.IntN(3)]
	pieces := -1 - tx.rng.Int64N(3)
	data := map[string]any{"orderId": 1, "state": map[string]any{"lines": []any{
		map[string]any{"line_no": 1, "product_id": w.name, "quantity": pieces, "unit_price": sumOf(1_000, w.scale, "GBP")}}}}
	if tx.rng.IntN(2) == 0 {
		data["orderId"] = nil
		tx.books.unlinked++
	}
	tx.put("shop.returns", "ReturnAccepted", "Return", strconv.Itoa(tx.next), data)
	tx.books.returned++
	tx.books.back += pieces * units(1_000, w.scale)
}

// garbage tells what is not as the mapping says.
func (tx *transaction) garbage() {
	tx.next++
	key := strconv.Itoa(tx.next)
	bad := booked{order: key, customer: "order " + key, reason: compare.Unreadable}
	state := func(lines any) map[string]any { return map[string]any{"state": map[string]any{"lines": lines}} }
	switch tx.rng.IntN(7) {
	case 0:
		tx.keep("OrderPlaced", key, bad, state(5))
	case 1:
		tx.keep("OrderPlaced", key, bad, state([]any{map[string]any{"line_no": "one"}}))
	case 2:
		tx.keep("OrderLineAdded", key, bad, state([]any{7}))
	case 3:
		tx.keep("OrderLineAdded", key, bad, state([]any{map[string]any{"line_no": 1, "product_id": "p1", "quantity": 1}})) // which was added?
	case 4:
		tx.put("shop.returns", "ReturnAccepted", "Return", key, state([]any{map[string]any{"product_id": "p1", "quantity": -1}, "odd"}))
		tx.books.unread++
	case 5:
		tx.put("shop.orders", "OrderRejected", "Order", key, map[string]any{"state": map[string]any{"rejections": []any{nil}}})
		tx.books.unread++
	case 6:
		bad.reason = compare.NoLines
		tx.keep("OrderPlaced", key, bad, map[string]any{"state": nil})
	}
}
