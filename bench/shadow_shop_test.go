package bench_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"banyan/bus"
	"banyan/event"
	"banyan/expression"
	"banyan/outbox"
	"banyan/projections"
	"banyan/projections/projectiontest"
)

var shopOrders = flag.Int("orders", 10_000, "orders of a made-up shop that a shadow reads")

// shopShape is what the history of a shop that trades is like. What counts for a
// shadow is how many lines there are to compare, and how much comes beside them.
type shopShape struct {
	name    string
	lines   int // of an order, in the mean; each takes stock, which is an event too
	changes int // events of an order, from placed to done; each tells all of its lines
}

// shopShapes are the real year's (26.7 lines and 4 events an order) and one with a
// longer life of smaller orders.
var shopShapes = []shopShape{{"year", 27, 4}, {"long-lived", 20, 8}}

// What the made-up shop has, as the real one.
const (
	shopProducts  = 3684
	shopCustomers = 4372
)

// shopHistory tells the events of a shop as cdc does, one transaction after the other.
type shopHistory struct {
	shopShape
	emit   func(r event.Record, topic string)
	random *rand.Rand
	lsn    uint64
	now    time.Time
	ends   map[string][]int64
	codes  map[string]int // number of a product of the real year
	stock  []int          // by product
	price  []int          // by product, in thousandths
	orders []soldOrder    // that are not done
	told   struct{ orders, lines, events, bytes int64 }
}

// soldItem is a line that is sold; Price is of one piece, in thousandths.
type soldItem struct {
	product, quantity, price int
	description              string
}

// sale is an order that is placed.
type sale struct {
	at       string // RFC 3339
	customer string // "" of a guest
	channel  string
	country  string
	items    []soldItem
}

// soldOrder is an order with the JSON of its state before and behind its status.
type soldOrder struct {
	id           int
	at           string
	head, behind []byte
	status       int
}

var shopStatus = [...][2]string{{"OrderPlaced", "placed"}, {"OrderValidated", "validated"}, {"OrderPaid", "paid"}, {"OrderShipped", "shipped"},
	{"OrderInvoiced", "invoiced"}, {"OrderDelivered", "delivered"}, {"OrderRated", "rated"}, {"OrderClosed", "closed"}}

const (
	topicOrders  = "shop.orders"
	topicStock   = "shop.stock"
	topicPrices  = "shop.prices"
	topicReturns = "shop.returns"
)

var shopTopics = []string{topicOrders, topicReturns, topicPrices, topicStock}

func newShopHistory(shape shopShape, emit func(r event.Record, topic string)) *shopHistory {
	h := &shopHistory{shopShape: shape, emit: emit, random: rand.New(rand.NewPCG(5, 5)), lsn: 0x1000000, now: epoch, ends: map[string][]int64{}, codes: map[string]int{}}
	for _, t := range shopTopics {
		h.ends[t] = make([]int64, partitions)
	}
	return h
}

// open tells of all products.
func (h *shopHistory) open() {
	for range shopProducts {
		h.list(50*(1+h.random.IntN(200)), 1000+h.random.IntN(5000))
	}
}

// list tells of a new product, and gives its number.
func (h *shopHistory) list(price, stock int) int {
	p := len(h.price)
	h.price, h.stock = append(h.price, price), append(h.stock, stock)
	h.begin()
	h.tellPrice(p)
	h.tellStock(p, 1)
	return p
}

// trade tells so many orders, each of which goes on while others are placed, and now
// and then a return and another list price.
func (h *shopHistory) trade(orders int) {
	for range orders {
		h.place(h.drawSale())
		if h.random.IntN(10) == 0 {
			p := h.random.IntN(shopProducts)
			h.price[p] = max(50, h.price[p]*(90+h.random.IntN(25))/100)
			h.begin()
			h.tellPrice(p)
		}
		if h.random.IntN(6) == 0 {
			h.tellReturn()
		}
	}
}

const shopText = "WHITE HANGING HEART T-LIGHT HOLDER"

// drawSale draws an order: a day has 60, of whom a fifth are guests' as a rule.
func (h *shopHistory) drawSale() *sale {
	id := int(h.told.orders)
	s := &sale{at: epoch.AddDate(-1, 0, id/60).Format(time.RFC3339), channel: [...]string{"account", "web", "phone"}[h.random.IntN(3)],
		country: [...]string{"United Kingdom", "United Kingdom", "Germany", "France", "EIRE"}[h.random.IntN(5)]}
	if customer := h.random.IntN(shopCustomers * 5 / 4); customer < shopCustomers {
		s.customer = strconv.Itoa(customer)
	}
	for range 1 + h.random.IntN(2*h.lines-1) {
		p := h.random.IntN(shopProducts)
		s.items = append(s.items, soldItem{p, 1 + h.random.IntN(12), h.price[p] * (95 + h.random.IntN(6)) / 100, shopText})
	}
	return s
}

// place tells an order, and that it took its products' stock. It goes on later.
func (h *shopHistory) place(s *sale) {
	h.told.orders, h.told.lines = h.told.orders+1, h.told.lines+int64(len(s.items))
	o := soldOrder{id: int(h.told.orders), at: s.at}
	o.head = strconv.AppendInt(append(o.head, `","state":{"id":`...), int64(o.id), 10)
	o.head = strconv.AppendInt(append(o.head, `,"invoice_no":"`...), int64(536_365+o.id), 10)
	if s.customer != "" {
		o.head = append(append(o.head, `","customer_id":`...), s.customer...)
	} else {
		o.head = append(o.head, `","customer_id":null`...)
	}
	o.head = append(o.head, `,"status":"`...)
	b := append(append([]byte(`","channel":"`), s.channel...), `","country":"`...)
	b = append(append(b, s.country...), `","total":{"amount":3193920,"scale":3,"currency":"GBP"},"placed_at":"`...)
	b = append(append(b, s.at...), `","note":null,"attributes":{},"deleted_at":null,"lines":[`...)
	for i := range s.items {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendSold(b, i+1, &s.items[i], s.at)
	}
	o.behind = append(b, `],"rejections":[],"validations":[{"check_type":"details","result":"passed","detail":null,"checked_at":"2010-12-01T09:59:00Z"}],"shipments":[],"payments":[]},"changed":["status","lines"]}`...)
	h.begin()
	h.tellOrder(&o)
	for i, n := range s.items {
		h.stock[n.product] -= n.quantity
		h.tellStock(n.product, int64(i+1))
	}
	h.orders = append(h.orders, o)
	if len(h.orders) > 20 {
		h.goOn()
	}
}

func appendSold(b []byte, no int, n *soldItem, at string) []byte {
	b = strconv.AppendInt(append(b, `{"line_no":`...), int64(no), 10)
	b = strconv.AppendInt(append(b, `,"product_id":`...), int64(n.product), 10)
	b = expression.AppendText(append(b, `,"description":`...), n.description)
	b = strconv.AppendInt(append(b, `,"quantity":`...), int64(n.quantity), 10)
	b = appendPounds(append(b, `,"unit_price":`...), n.price)
	return append(append(append(b, `,"added_at":"`...), at...), `"}`...)
}

// goOn tells the rest of the life of the oldest order, a transaction each.
func (h *shopHistory) goOn() {
	o := &h.orders[0]
	for range h.changes - 1 {
		o.status++
		h.begin()
		h.tellOrder(o)
	}
	h.orders = h.orders[1:]
}

func (h *shopHistory) tellOrder(o *soldOrder) {
	b := append(make([]byte, 0, len(o.head)+len(o.behind)+60), `{"occurredAt":"`...)
	b = append(append(append(b, o.at...), o.head...), shopStatus[o.status][1]...)
	h.tell(topicOrders, "Order", o.id, shopStatus[o.status][0], 0, append(b, o.behind...))
}

func (h *shopHistory) tellStock(p int, ordinal int64) {
	b := append(make([]byte, 0, 300), `{"occurredAt":"2010-12-01T09:58:00Z","state":{"id":`...)
	b = strconv.AppendInt(b, int64(p), 10)
	b = strconv.AppendInt(append(b, `,"stock_code":"22344","description":"WHITE HANGING HEART T-LIGHT HOLDER","stock":`...), int64(h.stock[p]), 10)
	h.tell(topicStock, "Stock", p, "StockChanged", ordinal, append(b, `,"updated_at":"2010-12-01T09:58:00Z"},"changed":["stock","updated_at"]}`...))
}

func (h *shopHistory) tellPrice(p int) {
	b := append(make([]byte, 0, 300), `{"occurredAt":"2010-12-01T09:58:00Z","state":{"id":`...)
	b = strconv.AppendInt(b, int64(p), 10)
	b = append(b, `,"stock_code":"`...)
	b = strconv.AppendInt(b, int64(20_000+p), 10)
	b = append(b, `","description":"WHITE HANGING HEART T-LIGHT HOLDER","price":`...)
	b = appendPounds(b, h.price[p])
	b = append(b, `,"tier_quantity":10,"tier_price":`...)
	b = appendPounds(b, h.price[p]*9/10)
	b = append(b, `,"cost":`...)
	b = appendPounds(b, h.price[p]*6/10)
	h.tell(topicPrices, "Price", p, "PriceChanged", 0, append(b, `},"changed":["price"]}`...))
}

func (h *shopHistory) tellReturn() {
	h.begin()
	p := h.random.IntN(shopProducts)
	b := append(make([]byte, 0, 300), `{"occurredAt":"2010-12-01T09:58:00Z","orderId":null,"state":{"lines":[`...)
	b = appendSold(b, 1, &soldItem{p, -1 - h.random.IntN(6), h.price[p], shopText}, "2010-12-01T09:58:00Z")
	h.tell(topicReturns, "Return", int(h.told.events), "ReturnAccepted", 0, append(b, `]}}`...))
}

func appendPounds(b []byte, thousandths int) []byte {
	b = strconv.AppendInt(append(b, `{"amount":`...), int64(thousandths), 10)
	return append(b, `,"scale":3,"currency":"GBP"}`...)
}

// begin begins a transaction.
func (h *shopHistory) begin() { h.lsn, h.now = h.lsn+0x400, h.now.Add(20*time.Millisecond) }

func (h *shopHistory) tell(topic, aggregate string, key int, kind string, ordinal int64, data []byte) {
	pos := event.Position{Generation: 1, LSN: h.lsn, Ordinal: ordinal}
	e := event.Event{ID: event.ID{Source: "shop", Aggregate: aggregate, Key: strconv.Itoa(key), Position: pos}, Type: kind, Version: 1,
		Topic: topic, Time: h.now, Position: pos, Rules: 1, Writer: 1, Data: data}
	e.Partition = outbox.PartitionOf(e.Key(), partitions)
	h.ends[topic][e.Partition]++
	e.Seq = h.ends[topic][e.Partition]
	r := e.Record()
	h.told.events, h.told.bytes = h.told.events+1, h.told.bytes+int64(r.Size())
	h.emit(r, topic)
}

// mark is a watermark behind all that was told.
func (h *shopHistory) mark(t testing.TB) event.Record {
	t.Helper()
	w := event.Watermark{Source: "shop", Generation: 1, LSN: h.lsn + 0x300, Writer: 1, Time: h.now, Seqs: h.ends}
	value, err := w.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return event.Record{Key: []byte("shop"), Value: value, Time: h.now}
}

// publisher sends records to their partitions, many in a request, all partitions at
// once.
type publisher struct {
	t       testing.TB
	to      projectiontest.Producer
	lanes   map[topicPart]*outgoing
	senders errgroup.Group
}

type topicPart struct {
	topic string
	part  int
}

type outgoing struct {
	records []event.Record
	size    int
	full    chan []event.Record
}

func newPublisher(t testing.TB, to projectiontest.Producer) *publisher {
	return &publisher{t: t, to: to, lanes: map[topicPart]*outgoing{}}
}

func (p *publisher) emit(r event.Record, topic string) {
	at := topicPart{topic, r.Partition}
	o := p.lanes[at]
	if o == nil {
		o = &outgoing{full: make(chan []event.Record, 1)}
		p.lanes[at] = o
		p.senders.Go(func() error {
			var first error
			for records := range o.full {
				if first == nil {
					_, first = p.to.Produce(context.Background(), at.topic, at.part, records)
				}
			}
			return first
		})
	}
	if o.size+r.Size() > bus.MaxRequestBytes*9/10 {
		o.full <- o.records
		o.records, o.size = nil, 0
	}
	o.records, o.size = append(o.records, r), o.size+r.Size()
}

// flush sends the rest and waits until all of it is taken.
func (p *publisher) flush() {
	p.t.Helper()
	for _, o := range p.lanes {
		o.full <- o.records
		close(o.full)
	}
	p.lanes = map[topicPart]*outgoing{}
	if err := p.senders.Wait(); err != nil {
		p.t.Fatalf("fill the topics: %v", err)
	}
}

// fill makes the topics of a shop and fills them with what tell tells.
func fill(t testing.TB, cluster *bus.Cluster, shape shopShape, tell func(h *shopHistory)) *shopHistory {
	t.Helper()
	specs := []bus.TopicSpec{bus.WatermarkTopic("shop.watermarks")}
	for _, topic := range shopTopics {
		specs = append(specs, bus.BusinessTopic(topic, partitions))
	}
	if _, err := cluster.EnsureTopics(context.Background(), specs); err != nil {
		t.Fatal(err)
	}
	return publish(t, cluster, shape, tell)
}

func publish(t testing.TB, to projectiontest.Producer, shape shopShape, tell func(h *shopHistory)) *shopHistory {
	t.Helper()
	p := newPublisher(t, to)
	h := newShopHistory(shape, p.emit)
	tell(h)
	for len(h.orders) > 0 {
		h.goOn()
	}
	p.flush()
	if _, err := to.Produce(context.Background(), "shop.watermarks", 0, []event.Record{h.mark(t)}); err != nil {
		t.Fatal(err)
	}
	return h
}

// madeUp tells so many orders of the made-up shop.
func madeUp(orders int) func(h *shopHistory) {
	return func(h *shopHistory) { h.open(); h.trade(orders) }
}

// shopLog is a history that lies in memory.
func shopLog(t testing.TB, orders int, shape shopShape) (projections.Log, *shopHistory) {
	t.Helper()
	log := projectiontest.NewLog()
	for _, topic := range shopTopics {
		log.CreateTopic(topic, partitions)
	}
	log.CreateTopic("shop.watermarks", 1)
	return log, publish(t, log, shape, madeUp(orders))
}
