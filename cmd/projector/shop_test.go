package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/bus"
	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/internal/randtest"
	"banyan/projections/projectiontest"
)

// shippingYAML is partitioned: what a row says depends on its key's events alone.
// The columns changes tell an event that was applied twice, or not at all.
const shippingYAML = `projection: shipping
tables:
  customers:
    from: shop.customers
    columns:
      id: bigint key
      name: text
      country: text
      changes: integer = (old.changes ?? 0) + 1
  orders:
    from: shop.orders
    columns:
      id: bigint key
      customer_id: bigint
      status: text not null
      total: numeric(12,3)
      history: text = (old.history ?? "") + state.status + " "
    indexes: [customer_id]
  lines:
    from: shop.orders
    each: state.lines
    columns:
      order_id: bigint key = state.id
      line_no: integer key
      quantity: integer
groups:
  customers_by_country:
    from: shop.customers
    by: {country: text}
    measures:
      customers: count
      credit: {sum: state.credit, type: bigint}
  events_by_status:
    from: shop.orders
    of: events
    types: [OrderPlaced, OrderPaid, OrderShipped, OrderCancelled]
    by: {status: text}
    measures:
      events: count
      amount: {sum: state.total, currency: GBP, type: "numeric(14,3)"}
`

// ledgerYAML is aligned: its rows depend on the order of everything.
const ledgerYAML = `projection: ledger
order: aligned
tables:
  people:
    from: shop.customers
    columns: {id: bigint key, country: text}
  purchases:
    from: shop.orders
    columns:
      id: bigint key
      status: text
      placed_from: text = old.placed_from ?? lookup("people", state.customer_id).country ?? "nowhere"
      now_from: text = lookup("people", state.customer_id).country ?? "nowhere"
  overdue:
    from: shop.orders
    delete: [OrderPaid, OrderCancelled]
    ignore: ["*"]
    columns: {id: bigint key, due_at: timestamptz = old.due_at}
windows:
  by_minute:
    from: shop.orders
    types: [OrderPlaced, OrderPaid, OrderShipped, OrderCancelled]
    by: {status: text}
    window: {tumbling: 1m}
    measures: {events: count}
timers:
  unpaid:
    from: shop.orders
    on: [OrderPlaced]
    at: event.time + duration("90s")
    cancel_on: [OrderPaid, OrderCancelled]
    then:
      upsert: {overdue: {id: timer.key, due_at: timer.at}}
`

const (
	customersTopic = "shop.customers"
	ordersTopic    = "shop.orders"
)

type customer struct {
	id      int
	name    string
	country string
	credit  int
	changes int
	gone    bool
}

type order struct {
	id, customer int
	status       string
	total        int // thousandths
	lines        []int
	history      string
	placedFrom   string
	nowFrom      string
	due          time.Time // of the timer that is set; zero for none
	overdue      time.Time
	reminded     int // how often it became overdue
}

// shop makes up a business, tells its events on a real broker as cdc would, and
// keeps books of its own: what tables have to say in the end.
type shop struct {
	t       *testing.T
	seed    uint64
	cluster *bus.Cluster

	mu        sync.Mutex // the shop is open by one hand at a time
	rng       *rand.Rand
	src       *projectiontest.Source
	mark      event.Watermark
	customers map[int]*customer
	orders    map[int]*order
	living    []int // customers
	open      []int // orders that are neither shipped nor cancelled
	statuses  map[string][2]int
	minutes   map[string]int
	told      int
	// mangle, where set, may change an event before it is told.
	mangle func(*projectiontest.Event)
	// fat is how much longer than usual the customers' names are.
	fat int
	// faults of the relay: how many rounds in 100 repeat something.
	repeats int
}

func newShop(t *testing.T, broker *kafkatest.Broker) *shop {
	t.Helper()
	s := &shop{t: t, seed: randtest.Seed(t), src: projectiontest.NewSource("shop"), customers: map[int]*customer{}, orders: map[int]*order{},
		statuses: map[string][2]int{}, minutes: map[string]int{}}
	s.rng = rand.New(rand.NewPCG(s.seed, 2))
	s.src.Tick = 250 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if s.cluster, err = bus.Dial(ctx, bus.Config{Brokers: broker.Addrs}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cluster.Close)
	if _, err := s.cluster.EnsureTopics(ctx, []bus.TopicSpec{
		bus.BusinessTopic(customersTopic, s.src.Partitions), bus.BusinessTopic(ordersTopic, s.src.Partitions), bus.WatermarkTopic(s.src.WatermarkTopic()),
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// Produce implements projectiontest.Producer. A broker that is away is tried
// again: what it may have taken already is then a repeat.
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

func (s *shop) round(n int) error {
	for range n {
		if err := s.transaction(); err != nil {
			return err
		}
	}
	if s.rng.IntN(100) < s.repeats {
		s.repeat()
	}
	s.mark = s.src.Mark()
	s.fire(s.mark.Time)
	return s.publish()
}

func (s *shop) publish() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.src.PublishShuffled(ctx, s, s.rng)
}

// repeat is what a relay does that did not hear an answer, or long after it was
// replaced.
func (s *shop) repeat() {
	topic := []string{customersTopic, ordersTopic}[s.rng.IntN(2)]
	part := s.rng.IntN(s.src.Partitions)
	if s.rng.IntN(2) == 0 {
		s.src.Repeat(topic, part, 1+s.rng.IntN(20))
		return
	}
	s.src.Late(topic, part, 1+s.rng.Int64N(20))
}

// load keeps the shop open until ctx ends. The function that it returns waits
// until it has closed.
func (s *shop) load(ctx context.Context) (wait func()) {
	done := make(chan error, 1)
	before := s.told
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			s.mu.Lock()
			err := s.round(1 + s.rng.IntN(30))
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
	return func() {
		s.t.Helper()
		if err := <-done; err != nil {
			s.t.Fatal(err)
		}
		s.t.Logf("%d events were told meanwhile", s.told-before)
	}
}

// settle tells one more watermark, and gives the token of all that was told.
func (s *shop) settle() string {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	token, err := s.stocktake()
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

func (s *shop) stocktake() (token string, err error) {
	s.mark = s.src.Mark()
	s.fire(s.mark.Time)
	return fmt.Sprintf("%d:%X/%X", s.mark.Generation, s.mark.LSN>>32, s.mark.LSN&0xFFFFFFFF), s.publish()
}

var countries = []string{"Peru", "Chile", "Kenya", "Japan", "Wales"}

// transaction makes one up: of one to three aggregates, each once.
func (s *shop) transaction() error {
	s.fire(s.src.Now)
	var first, then []projectiontest.Event
	busy := map[string]bool{}
	for range 1 + s.rng.IntN(3) {
		e := s.happen(busy)
		switch {
		case e == nil:
		case e.Topic == customersTopic:
			first = append(first, *e)
		default:
			then = append(then, *e)
		}
	}
	all := append(first, then...)
	s.look(then)
	// The order within a transaction is that of its changes; a customer of the
	// same transaction is looked up all the same.
	s.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return s.commit(all...)
}

// commit tells one transaction.
func (s *shop) commit(events ...projectiontest.Event) error {
	for i := range events {
		if s.mangle != nil {
			s.mangle(&events[i])
		}
	}
	_, err := s.src.Commit(events...)
	s.told += len(events)
	return err
}

// happen does one thing with an aggregate that is not busy, and writes it into
// the books.
func (s *shop) happen(busy map[string]bool) *projectiontest.Event {
	dice := s.rng.IntN(10)
	switch {
	case dice < 2 || len(s.living) == 0:
		c := &customer{id: len(s.customers) + 1, country: countries[s.rng.IntN(len(countries))], credit: s.rng.IntN(1000)}
		c.name = fmt.Sprintf("customer %d", c.id)
		s.customers[c.id] = c
		s.living = append(s.living, c.id)
		return s.customerEvent(c, "CustomerRegistered", busy)
	case dice < 4:
		c := s.customers[s.living[s.rng.IntN(len(s.living))]]
		if busy["c"+fmt.Sprint(c.id)] {
			return nil
		}
		if s.rng.IntN(10) == 0 {
			c.gone, c.changes = true, 0
			s.living = slices.DeleteFunc(s.living, func(id int) bool { return id == c.id })
			return s.customerEvent(c, "CustomerRemoved", busy)
		}
		c.country, c.credit = countries[s.rng.IntN(len(countries))], s.rng.IntN(1000)
		return s.customerEvent(c, "CustomerMoved", busy)
	case dice < 7 || len(s.open) == 0:
		o := &order{id: len(s.orders) + 1, customer: s.living[s.rng.IntN(len(s.living))], status: "placed", total: s.rng.IntN(1_000_000)}
		for range 1 + s.rng.IntN(4) {
			o.lines = append(o.lines, 1+s.rng.IntN(9))
		}
		s.orders[o.id] = o
		s.open = append(s.open, o.id)
		o.due = s.src.Now.Add(90 * time.Second)
		return s.orderEvent(o, "OrderPlaced", busy)
	}
	o := s.orders[s.open[s.rng.IntN(len(s.open))]]
	if busy["o"+fmt.Sprint(o.id)] {
		return nil
	}
	typ := "OrderPaid"
	switch {
	case s.rng.IntN(4) == 0:
		typ, o.status = "OrderCancelled", "cancelled"
	case o.status == "placed":
		o.status = "paid"
		if len(o.lines) > 1 { // one of its lines is sold out
			o.lines = o.lines[:len(o.lines)-1]
		}
	default:
		typ, o.status = "OrderShipped", "shipped"
	}
	if typ != "OrderShipped" {
		o.due, o.overdue = time.Time{}, time.Time{}
	}
	if typ != "OrderPaid" {
		s.open = slices.DeleteFunc(s.open, func(id int) bool { return id == o.id })
	}
	return s.orderEvent(o, typ, busy)
}

func (s *shop) customerEvent(c *customer, typ string, busy map[string]bool) *projectiontest.Event {
	busy["c"+fmt.Sprint(c.id)] = true
	state := map[string]any{"id": c.id, "name": c.name, "country": c.country, "credit": c.credit}
	data := map[string]any{"state": state}
	if c.gone {
		data = map[string]any{"state": nil, "last": state}
	} else {
		c.changes++
	}
	return &projectiontest.Event{Topic: customersTopic, Type: typ, Aggregate: "Customer", Key: fmt.Sprint(c.id), Data: data}
}

func (s *shop) orderEvent(o *order, typ string, busy map[string]bool) *projectiontest.Event {
	busy["o"+fmt.Sprint(o.id)] = true
	o.history += o.status + " "
	n := s.statuses[o.status]
	s.statuses[o.status] = [2]int{n[0] + 1, n[1] + o.total}
	s.minutes[o.status+"|"+s.src.Now.Truncate(time.Minute).Format("15:04")]++
	return s.orderEventOf(o, typ)
}

// orderEventOf is the event alone; the books stay as they are.
func (s *shop) orderEventOf(o *order, typ string) *projectiontest.Event {
	return &projectiontest.Event{Topic: ordersTopic, Type: typ, Aggregate: "Order", Key: fmt.Sprint(o.id), Data: map[string]any{"state": o.state()}}
}

func (o *order) state() map[string]any {
	lines := []map[string]any{}
	for i, q := range o.lines {
		lines = append(lines, map[string]any{"line_no": i + 1, "quantity": q})
	}
	return map[string]any{"id": o.id, "customer_id": o.customer, "status": o.status, "lines": lines,
		"total": map[string]any{"amount": o.total, "scale": 3, "currency": "GBP"}}
}

// look is what lookups of a transaction's orders find: the customers as that
// transaction leaves them.
func (s *shop) look(events []projectiontest.Event) {
	for _, e := range events {
		var id int
		fmt.Sscan(e.Key, &id)
		o := s.orders[id]
		from := "nowhere"
		if c := s.customers[o.customer]; !c.gone {
			from = c.country
		}
		o.nowFrom = from
		if o.placedFrom == "" {
			o.placedFrom = from
		}
	}
}

// fire makes orders overdue whose time has come.
func (s *shop) fire(now time.Time) {
	for _, id := range s.open {
		if o := s.orders[id]; !o.due.IsZero() && !o.due.After(now) {
			o.due, o.overdue = time.Time{}, o.due
			o.reminded++
		}
	}
}

// books are the rows that a table must have, in the order of their text.
type books struct {
	columns string
	rows    []string
}

func book(columns string) *books { return &books{columns: columns, rows: []string{}} }

func (b *books) add(values ...any) {
	var all []string
	for _, v := range values {
		all = append(all, fmt.Sprint(v))
	}
	b.rows = append(b.rows, strings.Join(all, "|"))
}

// expected is what readers of a projection must see; nil of one that the shop
// does not know.
func (s *shop) expected(projection string) map[string]*books {
	var all map[string]*books
	switch projection {
	case "shipping":
		all = s.shipping()
	case "ledger":
		all = s.ledger()
	case "reminders":
		all = s.reminders()
	case "directory":
		all = s.directory()
	}
	for _, b := range all {
		slices.Sort(b.rows)
	}
	return all
}

func thousandths(n int) string { return fmt.Sprintf("%d.%03d", n/1000, n%1000) }

func (s *shop) shipping() map[string]*books {
	all := map[string]*books{
		"customers": book("id, name, country, changes"), "orders": book("id, customer_id, status, total, history"), "lines": book("order_id, line_no, quantity"),
		"customers_by_country": book("country, customers, credit"), "events_by_status": book("status, events, amount"),
	}
	group := map[string][2]int{}
	for _, c := range s.customers {
		if c.gone {
			continue
		}
		all["customers"].add(c.id, c.name, c.country, c.changes)
		g := group[c.country]
		group[c.country] = [2]int{g[0] + 1, g[1] + c.credit}
	}
	for country, n := range group {
		all["customers_by_country"].add(country, n[0], n[1])
	}
	for _, o := range s.orders {
		all["orders"].add(o.id, o.customer, o.status, thousandths(o.total), o.history)
		for i, q := range o.lines {
			all["lines"].add(o.id, i+1, q)
		}
	}
	for status, n := range s.statuses {
		all["events_by_status"].add(status, n[0], thousandths(n[1]))
	}
	return all
}

func (s *shop) ledger() map[string]*books {
	const at = `to_char(%s AT TIME ZONE 'UTC', 'HH24:MI:SS.MS')`
	all := map[string]*books{
		"people": book("id, country"), "purchases": book("id, status, placed_from, now_from"),
		"overdue": book("id, " + fmt.Sprintf(at, "due_at")), "by_minute": book("status, to_char(window_start AT TIME ZONE 'UTC', 'HH24:MI'), events"),
	}
	for _, c := range s.customers {
		if !c.gone {
			all["people"].add(c.id, c.country)
		}
	}
	for _, o := range s.orders {
		all["purchases"].add(o.id, o.status, o.placedFrom, o.nowFrom)
		if !o.overdue.IsZero() {
			all["overdue"].add(o.id, o.overdue.UTC().Format("15:04:05.000"))
		}
	}
	for k, n := range s.minutes {
		all["by_minute"].add(k, n)
	}
	return all
}
