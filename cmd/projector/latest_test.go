package main_test

import (
	"context"
	"strings"
	"testing"

	"banyan/bus"
)

// directoryYAML takes compacted topics: of each key the last event is enough.
const directoryYAML = `projection: directory
tables:
  customers:
    from: shop.customers.latest
    columns: {id: bigint key, name: text, country: text}
  orders:
    from: shop.orders.latest
    columns: {id: bigint key, status: text}
  lines:
    from: shop.orders.latest
    each: state.lines
    columns: {order_id: bigint key = state.id, line_no: integer key, quantity: integer}
`

func (s *shop) directory() map[string]*books {
	all := map[string]*books{"customers": book("id, name, country"), "orders": book("id, status"), "lines": book("order_id, line_no, quantity")}
	for _, c := range s.customers {
		if !c.gone {
			all["customers"].add(c.id, c.name, c.country)
		}
	}
	for _, o := range s.orders {
		all["orders"].add(o.id, o.status)
		for i, q := range o.lines {
			all["lines"].add(o.id, i+1, q)
		}
	}
	return all
}

// twins makes the compacted twins of the topics; from now on the shop tells its
// events there too.
func (s *shop) twins(config map[string]string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var specs []bus.TopicSpec
	for _, topic := range []string{customersTopic, ordersTopic} {
		spec := bus.LatestTopic(topic+".latest", s.src.Partitions)
		for k, v := range config {
			spec.Config[k] = v
		}
		specs = append(specs, spec)
	}
	if _, err := s.cluster.EnsureTopics(ctx, specs); err != nil {
		s.t.Fatal(err)
	}
	s.src.Twins = true
}

func TestLatestTopicsAreEnoughForState(t *testing.T) {
	t.Parallel()
	h := newHouse(t, directoryYAML)
	h.shop.twins(nil)
	h.shop.repeats = 30
	h.shop.trade(300)
	r := h.start("--instance", "only")
	r.Await("running")
	h.exact("directory")
	h.underLoad(func() {
		r.Kill()
		r = h.start("--instance", "only")
		r.Await("running")
		h.must(0, "rebuild", "directory", "--wait")
		h.exchange("swap", "directory")
	})
	h.exact("directory")
	r.Stop()
}

// What needs every event is refused with the reason.
func TestLatestTopicsAreNotEnoughForHistory(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.twins(nil)
	h.shop.trade(50)
	h.writeAs("history.yaml", strings.ReplaceAll(strings.ReplaceAll(shippingYAML, "shop.orders", "shop.orders.latest"), "shop.customers", "shop.customers.latest"))
	a := h.must(2, "check")
	for _, want := range []string{"history.yaml:4:", "history.yaml:11:", "looks at the row before", "counts events"} {
		if !strings.Contains(a.Err, want) {
			t.Errorf("%q is not told: %s", want, a)
		}
	}
	h.writeAs("history.yaml", strings.ReplaceAll(ledgerYAML, "shop.orders", "shop.orders.latest"))
	if a := h.must(2, "check"); !strings.Contains(a.Err, "without .latest") {
		t.Errorf("an aligned projection of a compacted topic: %s", a)
	}
}
