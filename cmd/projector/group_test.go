package main_test

import (
	"testing"

	"github.com/segmentio/kafka-go"
)

// Tools that show a group's lag see where a run ended, however short it was: one that
// lives for less than the interval of its commits too.
func TestShortRunCommitsItsOffsets(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	h.shop.trade(60)
	h.shop.settle()
	h.must(0, "run", "--until-caught-up")
	client := &kafka.Client{Addr: kafka.TCP(h.broker.Addrs...)}
	res, err := client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: "banyan-shipping-v1", Topics: map[string][]int{"shop.orders": {0, 1, 2, 3, 4, 5}}})
	if err != nil || res.Error != nil {
		t.Fatal(err, res)
	}
	some := false
	for _, p := range res.Topics["shop.orders"] {
		end := h.end("shop.orders", p.Partition)
		some = some || end > 0
		if p.CommittedOffset != end {
			t.Errorf("partition %d: committed is %d, the topic ends at %d", p.Partition, p.CommittedOffset, end)
		}
	}
	if !some {
		t.Error("the shop has told nothing")
	}
}
