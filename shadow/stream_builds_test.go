package shadow

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"banyan/quote"
)

// Prices of two builds in one topic are those of no candidate: the shadow knows which
// were used, and of none that were not.
func TestAStreamSaysWhichBuildsPriced(t *testing.T) {
	p := newPublisher(t, 1)
	for _, r := range []struct {
		product, build string
		lsn            uint64
	}{{"a", "one", 0x10}, {"b", "one", 0x11}, {"a", "two", 0x20}, {"b", "three", 0x50}} {
		p.put(0, p.record(0, PriceProposed, r.product, r.lsn, fmt.Sprintf(`{"build":%q,"state":{"unit":{"amount":1000,"scale":3,"currency":"GBP"}}}`, r.build)))
	}
	p.reach(0x60)
	s := &Stream{Log: p.log, Topic: proposals}
	for _, c := range []struct {
		order quote.Order
		want  []string
	}{{orderAt(0x12, "a", "b"), []string{"one"}}, {orderAt(0x13, "b"), []string{"one"}}, {orderAt(0x30, "a", "b"), []string{"one", "two"}}} {
		if _, err := s.Price(t.Context(), []quote.Order{c.order}); err != nil {
			t.Fatal(err)
		}
		if name, builds := s.Named(); name != "" || !slices.Equal(builds, c.want) {
			t.Errorf("after %s: %q %q, want %q", c.order.ID, name, builds, c.want)
		}
	}
}

// A partition that was added is noticed before an order is joined without it.
func TestAStreamThatGetsPartitions(t *testing.T) {
	p := newPublisher(t, 1)
	p.price(0, "a", 0x10, 1000)
	p.reach(0x60)
	s := &Stream{Log: p.log, Topic: proposals}
	if _, err := s.Price(t.Context(), []quote.Order{orderAt(0x12, "a")}); err != nil {
		t.Fatal(err)
	}
	p.log.DeleteTopic(proposals)
	p.log.CreateTopic(proposals, 2)
	if _, err := s.Price(t.Context(), []quote.Order{orderAt(0x13, "a")}); err == nil || !strings.Contains(err.Error(), "had 1 partitions and has 2") {
		t.Errorf("a partition more: %v", err)
	}
}
