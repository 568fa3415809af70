package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"banyan/bus"
	"banyan/cmd/internal/clitest"
	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/internal/randtest"
	"banyan/projections/projectiontest"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// shop is a source that tells events on a real broker as cdc would.
type shop struct {
	t       testing.TB
	broker  *kafkatest.Broker
	cluster *bus.Cluster
	src     *projectiontest.Source
	rng     *rand.Rand
	day     time.Time
	stock   map[int]int
	orders  int
}

func openShop(t testing.TB) *shop {
	t.Helper()
	s := &shop{t: t, broker: kafkatest.New(t), src: projectiontest.NewSource("shop"), rng: randtest.New(t),
		day: time.Date(2010, 12, 1, 8, 0, 0, 0, time.UTC), stock: map[int]int{}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if s.cluster, err = bus.Dial(ctx, bus.Config{Brokers: s.broker.Addrs}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cluster.Close)
	specs := []bus.TopicSpec{bus.WatermarkTopic("shop.watermarks")}
	for _, topic := range topics("shop") {
		specs = append(specs, bus.BusinessTopic(topic, s.src.Partitions))
	}
	if _, err := s.cluster.EnsureTopics(ctx, specs); err != nil {
		t.Fatal(err)
	}
	return s
}

func gbp(units int) map[string]any {
	return map[string]any{"amount": units, "scale": 3, "currency": "GBP"}
}

// list lists products at a price, some with a tier price, with so much in stock.
func (s *shop) list(products, price, stock int) {
	for id := 1; id <= products; id++ {
		state := map[string]any{"id": id, "price": gbp(price), "cost": gbp(price / 2), "tier_quantity": nil, "tier_price": nil}
		if id%2 == 0 {
			state["tier_quantity"], state["tier_price"] = 12, gbp(price*9/10)
		}
		s.stock[id] = stock
		s.commit(
			projectiontest.Event{Topic: "shop.prices", Type: "ProductListed", Aggregate: "Price", Key: fmt.Sprint(id), Data: map[string]any{"occurredAt": s.day, "state": state}},
			s.shelf(id),
		)
	}
}

func (s *shop) shelf(id int) projectiontest.Event {
	return projectiontest.Event{Topic: "shop.stock", Type: "StockChanged", Aggregate: "Stock", Key: fmt.Sprint(id),
		Data: map[string]any{"occurredAt": s.day, "state": map[string]any{"id": id, "stock": s.stock[id]}}}
}

// order sells pieces of a product.
func (s *shop) order(id, pieces int) {
	s.orders++
	s.stock[id] -= pieces
	s.commit(
		projectiontest.Event{Topic: "shop.orders", Type: "OrderPlaced", Aggregate: "Order", Key: fmt.Sprint(s.orders), Data: map[string]any{"occurredAt": s.day,
			"state": map[string]any{"id": s.orders, "status": "placed", "placed_at": s.day, "lines": []any{map[string]any{"line_no": 1, "product_id": id, "quantity": pieces}}}}},
		s.shelf(id),
	)
}

// trade sells at random for some days.
func (s *shop) trade(days, orders int) {
	for range days {
		for range orders {
			s.order(1+s.rng.IntN(len(s.stock)), 1+s.rng.IntN(20))
		}
		s.day = s.day.AddDate(0, 0, 1)
	}
}

func (s *shop) commit(events ...projectiontest.Event) {
	s.t.Helper()
	if _, err := s.src.Commit(events...); err != nil {
		s.t.Fatal(err)
	}
}

// tell publishes what has happened, with a watermark behind it.
func (s *shop) tell() event.Watermark {
	s.t.Helper()
	w := s.src.Mark()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.src.Publish(ctx, s.cluster); err != nil {
		s.t.Fatal(err)
	}
	return w
}

// says is what a run of the command has said.
type says struct {
	code     int
	out, err string
}

// invoke runs the command until it ends by itself.
func invoke(t testing.TB, args ...string) says {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, err clitest.Buffer
	code := Main(ctx, args, func(string) string { return "" }, &out, &err)
	return says{code, out.String(), err.String()}
}

// running is a run of the command that goes on.
type running struct {
	out, log clitest.Buffer
	cancel   context.CancelFunc
	ended    chan struct{}
	code     int
}

// start runs the command until stop, or until it ends by itself.
func start(t testing.TB, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.code = Main(ctx, args, func(string) string { return "" }, &r.out, &r.log)
	}()
	t.Cleanup(func() { r.stop() })
	return r
}

// stop ends the run, if it has not ended, and gives what it said. It may be called
// again.
func (r *running) stop() says {
	r.cancel()
	<-r.ended
	return says{r.code, r.out.String(), r.log.String()}
}

// poll waits until there is what the test waits for.
func poll(t testing.TB, what string, there func() bool) {
	t.Helper()
	clitest.Eventually(t, patience, "there is a "+what, there)
}

func (s *shop) runArgs(topic string, more ...string) []string {
	return append([]string{"run", "--brokers", strings.Join(s.broker.Addrs, ","), "--topic", topic, "-o", "json", "--every", "10ms"}, more...)
}

// propose runs the command until it has caught up.
func (s *shop) propose(topic string, more ...string) says {
	s.t.Helper()
	said := invoke(s.t, s.runArgs(topic, append(more, "--until-caught-up")...)...)
	if said.code != 0 {
		s.t.Fatalf("pricing run: exit %d, %s", said.code, said.err)
	}
	return said
}

// records gives what lies in a topic, by partition.
func (s *shop) records(topic string) [][]event.Record {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ranges, err := s.cluster.AllEnds(ctx, topic)
	if err != nil {
		s.t.Fatal(err)
	}
	all := make([][]event.Record, len(ranges))
	for part, r := range ranges {
		if r.First == r.Next {
			continue
		}
		for rec, err := range s.cluster.Read(ctx, topic, part, bus.First, r.Next) {
			if err != nil {
				s.t.Fatal(err)
			}
			all[part] = append(all[part], rec)
		}
	}
	return all
}

// told is a record in words.
type told struct {
	Type, Key, At string
	Seq           int64
	Data          string
}

func (s *shop) told(topic string) [][]told {
	s.t.Helper()
	var all [][]told
	for _, records := range s.records(topic) {
		part := []told{}
		for i := range records {
			e, err := event.FromRecord(topic, &records[i])
			if err != nil {
				s.t.Fatal(err)
			}
			part = append(part, told{e.Type, e.ID.Key, e.Position.String(), e.Seq, string(e.Data)})
		}
		all = append(all, part)
	}
	return all
}

// proposals are those of a topic without their seq, which counts progress too, in
// the order of positions and products.
func (s *shop) proposals(topic string) []told {
	s.t.Helper()
	var all []told
	for _, part := range s.told(topic) {
		for _, r := range part {
			if r.Type == proposed {
				r.Seq = 0
				all = append(all, r)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b told) int {
		p, _ := event.ParsePosition(a.At)
		q, _ := event.ParsePosition(b.At)
		if c := p.Compare(q); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return all
}

func decode(t *testing.T, text string) (v struct {
	State struct {
		Product string
		Unit    struct {
			Amount int64
			Scale  int
		}
		Tier         struct{ Amount int64 }
		TierQuantity int64
		Rule         string
		Trail        []struct{ Rule string }
		Propensity   string
	}
	OccurredAt time.Time
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}
