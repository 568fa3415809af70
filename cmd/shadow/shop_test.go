package main_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"banyan/bus"
	"banyan/compare"
	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/internal/randtest"
	"banyan/money"
	"banyan/projections/projectiontest"
)

// Topics of the shop.
const (
	ordersTopic  = "shop.orders"
	returnsTopic = "shop.returns"
	pricesTopic  = "shop.prices"
	stockTopic   = "shop.stock"
)

// product is what the shop knows of one; prices in thousandths.
type product struct {
	id         int
	currency   string
	list, tier int64
	tierQty    int64
	stock      int64
}

// sold is a line of an order in the shop's own books, with what was known of its
// product strictly before the order's commit.
type sold struct {
	event    string
	order    int
	line     int64
	customer int // 0 is a guest
	known    product
	quantity int64
	paid     int64          // for a piece, in thousandths
	own      compare.Reason // why it cannot be compared whatever the candidate says
}

// shop makes up a business, tells its events on a real broker as cdc would, and keeps
// books of its own: what a report has to say in the end.
type shop struct {
	t       *testing.T
	cluster *bus.Cluster

	mu       sync.Mutex // the shop is open by one hand at a time
	rng      *rand.Rand
	src      *projectiontest.Source
	products []*product
	lines    []sold
	orders   int // placed or recorded
	told     []told
	repeats  int // rounds in 100 that repeat something
}

// told is a price with the position at which it was told.
type told struct {
	product product
	at      event.Position
}

func newShop(t *testing.T, broker *kafkatest.Broker) *shop {
	t.Helper()
	s := &shop{t: t, src: projectiontest.NewSource("shop"), rng: rand.New(rand.NewPCG(randtest.Seed(t), 2))}
	s.src.Tick = 15 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if s.cluster, err = bus.Dial(ctx, bus.Config{Brokers: broker.Addrs}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cluster.Close)
	specs := []bus.TopicSpec{bus.WatermarkTopic(s.src.WatermarkTopic())}
	for _, topic := range []string{ordersTopic, returnsTopic, pricesTopic, stockTopic} {
		specs = append(specs, bus.BusinessTopic(topic, s.src.Partitions))
	}
	if _, err := s.cluster.EnsureTopics(ctx, specs); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	return s
}

// open is the first snapshot: products, and an order of the time before.
func (s *shop) open() error {
	for i := range 25 {
		p := &product{id: i + 1, currency: "GBP", list: 500 + s.rng.Int64N(20_000), stock: 5000}
		if i%5 == 4 {
			p.currency = "EUR"
		}
		if i%2 == 0 {
			p.tierQty, p.tier = 10, p.list-p.list/20
		}
		s.products = append(s.products, p)
		events, err := s.src.Snapshot(1, s.priceEvent(p), s.stockEvent(p))
		if err != nil {
			return err
		}
		s.told = append(s.told, told{*p, events[0].Position})
	}
	o := s.placed(1 + s.rng.IntN(3))
	e := s.orderEvent("OrderRecorded", o)
	if err := s.book(o, compare.Recorded, s.src.Snapshot, 1, e); err != nil {
		return err
	}
	s.src.Mark()
	return s.publish()
}

// Produce implements projectiontest.Producer. A broker that is away is tried again:
// what it may have taken already is then a repeat.
func (s *shop) Produce(ctx context.Context, topic string, part int, recs []event.Record) (int64, error) {
	for {
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		offset, err := s.cluster.Produce(within, topic, part, recs)
		cancel()
		if err == nil || ctx.Err() != nil {
			return offset, err
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// trade makes n transactions up, with a watermark behind them, and tells them.
func (s *shop) trade(n int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.round(n); err != nil {
		s.t.Fatal(err)
	}
}

// sell ends with an order that a candidate is asked about, which a gift is not, and
// behind which no price has been told.
func (s *shop) sell() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for told := -1; told != len(s.told) || s.lines[len(s.lines)-1].own != ""; {
		told = len(s.told)
		if err := s.place(1); err != nil {
			s.t.Fatal(err)
		}
	}
	s.src.Mark()
	if err := s.publish(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) round(n int) error {
	for range n {
		if err := s.transaction(); err != nil {
			return err
		}
	}
	if s.rng.IntN(100) < s.repeats {
		s.repeat()
	}
	s.src.Mark()
	return s.publish()
}

func (s *shop) publish() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.src.PublishShuffled(ctx, s, s.rng)
}

// repeat is what a relay does that did not hear an answer, or long after it was
// replaced: the same bytes under the same seq.
func (s *shop) repeat() {
	topic := []string{ordersTopic, ordersTopic, returnsTopic, pricesTopic, stockTopic}[s.rng.IntN(5)]
	part := s.rng.IntN(s.src.Partitions)
	if s.rng.IntN(2) == 0 {
		s.src.Repeat(topic, part, 1+s.rng.IntN(20))
		return
	}
	s.src.Late(topic, part, 1+s.rng.Int64N(20))
}

// underLoad opens the shop, breaks things, and closes it again.
func (s *shop) underLoad(trouble func()) {
	s.t.Helper()
	s.repeats = 20
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			s.mu.Lock()
			err := s.round(1 + s.rng.IntN(10))
			s.mu.Unlock()
			if err != nil {
				done <- err
				return
			}
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
		}
	}()
	trouble()
	cancel()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
}

func amount(n int64, currency string) map[string]any {
	return map[string]any{"amount": n, "scale": 3, "currency": currency}
}

func (s *shop) priceEvent(p *product) projectiontest.Event {
	state := map[string]any{"stock_code": fmt.Sprintf("P%03d", p.id), "description": fmt.Sprintf("product, \"%d\"", p.id), "price": amount(p.list, p.currency), "cost": amount(p.list*6/10, p.currency)}
	if p.tierQty > 0 {
		state["tier_quantity"], state["tier_price"] = p.tierQty, amount(p.tier, p.currency)
	}
	return projectiontest.Event{Topic: pricesTopic, Type: "PriceChanged", Aggregate: "Price", Key: strconv.Itoa(p.id), Data: map[string]any{"state": state}}
}

func (s *shop) stockEvent(p *product) projectiontest.Event {
	return projectiontest.Event{Topic: stockTopic, Type: "StockChanged", Aggregate: "Stock", Key: strconv.Itoa(p.id), Data: map[string]any{"state": map[string]any{"stock": p.stock}}}
}

// placed makes up an order with so many lines; nothing is told yet.
func (s *shop) placed(lines int) []sold {
	s.orders++
	customer := s.rng.IntN(60) // every so often a guest
	var all []sold
	for i := range lines {
		all = append(all, s.line(all, s.orders, int64(i+1), customer))
	}
	if lines == 0 {
		all = []sold{{order: s.orders, customer: customer, own: compare.NoLines}}
	}
	return all
}

// line makes up a line of an order, in the currency of those that it has.
func (s *shop) line(has []sold, order int, number int64, customer int) sold {
	p := s.products[s.rng.IntN(len(s.products))]
	for len(has) > 0 && p.currency != has[0].known.currency {
		p = s.products[s.rng.IntN(len(s.products))]
	}
	l := sold{order: order, line: number, customer: customer, known: *p, quantity: 1 + s.rng.Int64N(15)}
	l.paid = l.known.base(l.quantity)
	if s.rng.IntN(10) == 0 {
		l.paid -= l.paid / 200
	}
	if s.rng.IntN(25) == 0 { // a gift
		l.paid, l.own = 0, compare.Free
	}
	if s.rng.IntN(200) == 0 {
		l.quantity, l.own = 0, compare.NotSold
	}
	return l
}

// base is the list's price of one of so many pieces.
func (p *product) base(quantity int64) int64 {
	if p.tierQty > 0 && quantity >= p.tierQty {
		return p.tier
	}
	return p.list
}

func (s *shop) orderEvent(typ string, lines []sold) projectiontest.Event {
	state := map[string]any{"channel": []string{"web", "phone"}[lines[0].order%2], "country": []string{"Peru", "Kenya", "Wales"}[lines[0].order%3]}
	if lines[0].customer > 0 {
		state["customer_id"] = lines[0].customer
	}
	items := []map[string]any{}
	for i := range lines {
		if l := &lines[i]; l.own != compare.NoLines {
			items = append(items, map[string]any{"line_no": l.line, "product_id": l.known.id, "quantity": l.quantity, "unit_price": amount(l.paid, l.known.currency)})
		}
	}
	state["lines"] = items
	data := map[string]any{"occurredAt": s.src.Now.Add(-time.Second).UTC().Format(time.RFC3339), "state": state}
	if typ == "OrderLineAdded" {
		data["line"] = lines[len(lines)-1].line
	}
	return projectiontest.Event{Topic: ordersTopic, Type: typ, Aggregate: "Order", Key: strconv.Itoa(lines[0].order), Data: data}
}

// book tells a transaction whose first event is about lines, and writes those down.
func (s *shop) book(lines []sold, own compare.Reason, tell func(int, ...projectiontest.Event) ([]event.Event, error), snapshot int, events ...projectiontest.Event) error {
	done, err := tell(snapshot, events...)
	if err != nil {
		return err
	}
	for _, l := range lines {
		l.event = done[0].ID.String()
		l.own = cmp.Or(l.own, own)
		s.lines = append(s.lines, l)
	}
	return nil
}

func (s *shop) commit(_ int, events ...projectiontest.Event) ([]event.Event, error) {
	return s.src.Commit(events...)
}

// transaction makes one up.
func (s *shop) transaction() error {
	switch dice := s.rng.IntN(20); dice {
	case 0, 1, 2:
		return s.reprice(s.products[s.rng.IntN(len(s.products))])
	case 3:
		p := s.products[s.rng.IntN(len(s.products))]
		p.stock = s.rng.Int64N(5000)
		_, err := s.src.Commit(s.stockEvent(p))
		return err
	case 4:
		return s.giveBack()
	case 5:
		return s.refuse()
	case 6:
		return s.addLine()
	case 7:
		return s.place(0)
	}
	return s.place(1 + s.rng.IntN(4))
}

func (s *shop) move(p *product) {
	p.list = max(100, p.list+p.list*(s.rng.Int64N(7)-3)/100)
	if p.tierQty > 0 {
		p.tier = p.list - p.list/20
	}
}

func (s *shop) reprice(p *product) error {
	s.move(p)
	events, err := s.src.Commit(s.priceEvent(p))
	if err == nil {
		s.told = append(s.told, told{*p, events[0].Position})
	}
	return err
}

// place tells of an order with the stock it took, and sometimes of a new price in the
// same transaction, which no candidate may see for this order.
func (s *shop) place(lines int) error {
	o := s.placed(lines)
	events := []projectiontest.Event{s.orderEvent("OrderPlaced", o)}
	done := map[int]bool{}
	var moved []*product
	for _, l := range o {
		if l.own == compare.NoLines || done[l.known.id] {
			continue
		}
		done[l.known.id] = true
		p := s.products[l.known.id-1]
		p.stock = max(0, p.stock-l.quantity)
		events = append(events, s.stockEvent(p))
		if s.rng.IntN(8) == 0 {
			s.move(p)
			moved = append(moved, p)
			events = append(events, s.priceEvent(p))
		}
	}
	if err := s.book(o, "", s.commit, 0, events...); err != nil {
		return err
	}
	for _, p := range moved {
		s.told = append(s.told, told{*p, event.Position{Generation: s.src.Generation, LSN: s.src.LSN}})
	}
	return nil
}

// addLine tells of a line more of an order.
func (s *shop) addLine() error {
	last := s.lines[len(s.lines)-1]
	if last.own == compare.NoLines || last.own == compare.Recorded {
		return s.place(1)
	}
	var all []sold
	for _, l := range s.lines {
		if l.order == last.order {
			all = append(all, l)
		}
	}
	all = append(all, s.line(all, last.order, last.line+1, last.customer))
	return s.book(all[len(all)-1:], "", s.commit, 0, s.orderEvent("OrderLineAdded", all))
}

// giveBack tells of a return, sometimes of more than was bought, or of what nobody
// knows.
func (s *shop) giveBack() error {
	l := s.lines[s.rng.IntN(len(s.lines))]
	if l.own == compare.NoLines {
		return s.place(1)
	}
	data := map[string]any{"orderId": l.order, "state": map[string]any{"lines": []any{map[string]any{"line_no": 1, "product_id": l.known.id,
		"quantity": -(l.quantity * 3), "unit_price": amount(l.paid, l.known.currency)}}}}
	if s.rng.IntN(3) == 0 {
		data["orderId"] = nil
	}
	_, err := s.src.Commit(projectiontest.Event{Topic: returnsTopic, Type: "ReturnAccepted", Aggregate: "Return", Key: strconv.Itoa(s.rng.IntN(1e9)), Data: data})
	return err
}

// refuse tells of an order that was refused for lack of stock.
func (s *shop) refuse() error {
	p := s.products[s.rng.IntN(len(s.products))]
	data := map[string]any{"state": map[string]any{"rejections": []any{map[string]any{"product_id": p.id, "wanted": 50, "available": 7, "unit_price": amount(p.list, p.currency)}}}}
	_, err := s.src.Commit(projectiontest.Event{Topic: ordersTopic, Type: "OrderRejected", Aggregate: "Order", Key: "r" + strconv.Itoa(s.rng.IntN(1e9)), Data: data})
	return err
}

// tally is what the shop's books say of a currency.
type tally struct {
	Consumed, Compared, Missing int64 // lines
	// Paid of all lines; Control and Candidate of those that are compared; Owed of
	// those that the candidate owes. In compare.Units.
	Paid, Control, Candidate, Owed int64
	Excluded                       map[compare.Reason]int64
}

// expected is what a report of the candidate dearer has to say, where it answers as
// reason says: "" is well.
func (s *shop) expected(reason func(l *sold) compare.Reason) map[string]*tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]*tally{}
	for i := range s.lines {
		l := &s.lines[i]
		if l.own == compare.NoLines {
			continue
		}
		t := all[l.known.currency]
		if t == nil {
			t = &tally{Excluded: map[compare.Reason]int64{}}
			all[l.known.currency] = t
		}
		paid := l.paid * l.quantity * 10
		t.Consumed++
		t.Paid += paid
		why := l.own
		if why == "" && reason != nil {
			why = reason(l)
		}
		switch {
		case why == "":
			t.Compared++
			t.Control += paid
			t.Candidate += dearer(l.known.base(l.quantity)) * l.quantity * 10
			continue
		case why.Missing() && why != compare.Sampled:
			t.Missing++
			t.Owed += paid
		}
		t.Excluded[why]++
	}
	return all
}

// said is what a report says of the same.
func said(r *compare.Report) map[string]*tally {
	all := map[string]*tally{}
	for _, rows := range r.Reconciliation.Currencies {
		t := &tally{Excluded: map[compare.Reason]int64{}}
		all[rows.Currency] = t
		for _, row := range rows.Rows {
			switch row.What {
			case "consumed":
				t.Consumed, t.Paid = row.Lines, units(row.Control)
			case "compared":
				t.Compared = row.Lines
			default:
				t.Excluded[compare.Reason(row.What)] = row.Lines
			}
		}
	}
	for _, m := range r.Currencies {
		t := all[m.Currency]
		t.Control, t.Candidate = units(m.Headline.Control), units(m.Headline.Candidate)
		t.Missing, t.Owed = m.Bounds.Missing, units(m.Bounds.Control)
	}
	return all
}

// units is an amount in compare.Units; a report leaves out zeros behind the minor unit.
func units(a money.Amount) int64 {
	for ; a.Scale < compare.Scale; a.Scale++ {
		a.Amount *= 10
	}
	return a.Amount
}

// placeAt tells of an order with a business time of its own.
func (s *shop) placeAt(at string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.placed(2)
	e := s.orderEvent("OrderPlaced", o)
	e.Data.(map[string]any)["occurredAt"] = at
	if err := s.book(o, "", s.commit, 0, e); err != nil {
		s.t.Fatal(err)
	}
	s.src.Mark()
	if err := s.publish(); err != nil {
		s.t.Fatal(err)
	}
}
