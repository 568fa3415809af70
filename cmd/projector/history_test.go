package main_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"banyan/bus"
	"banyan/cmd/internal/clitest"
	"banyan/event"
)

// breaks runs the projections, does something to the history behind the shop's
// back, and wants the run, and every later one, to end with exit code 1, to say
// all that want lists, and to leave the rows as they were.
func breaks(t *testing.T, what func(h *house), want ...string) {
	t.Helper()
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.shop.trade(200)
	r := h.start()
	h.exactAfter(r, "shipping", "ledger")
	what(h)
	if code := r.End(); code != 1 {
		t.Errorf("the run exits with %d, want 1:\n%s", code, r.Log())
	}
	text := r.Log()
	for range 2 {
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("it does not say %q:\n%s", w, text)
			}
		}
		text = h.must(1, "run", "--assign", "all").Err
	}
	h.booked("shipping")
	h.booked("ledger")
}

// exactAfter is exact for a run that begins.
func (h *house) exactAfter(r *clitest.Process, projections ...string) {
	h.t.Helper()
	r.Await("running: " + projections[len(projections)-1])
	h.exact(projections...)
}

// end is the offset at which the next record of a partition will lie.
func (h *house) end(topic string, part int) int64 {
	h.t.Helper()
	_, next, err := h.shop.cluster.Ends(h.t.Context(), topic, part)
	if err != nil {
		h.t.Fatal(err)
	}
	return next
}

// tell tells what waits, and nothing of it is in the books.
func (h *house) tell(do func()) {
	h.t.Helper()
	h.shop.mu.Lock()
	defer h.shop.mu.Unlock()
	do()
	if err := h.shop.publish(); err != nil {
		h.t.Fatal(err)
	}
}

func TestRepeatsAreAppliedOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.shop.repeats = 100
	h.shop.trade(100)
	r := h.start()
	r.Await("running: shipping")
	for range 30 {
		h.shop.trade(20)
	}
	h.exact("shipping", "ledger")
	r.Stop()
}

// Another incarnation of the source, whose log begins anew: the generation orders
// first.
func TestSourceFailsOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.shop.repeats = 30
	h.shop.trade(200)
	r := h.start("--instance", "only")
	h.exactAfter(r, "shipping", "ledger")
	old := h.shop.settle()
	for generation := 2; generation < 4; generation++ {
		h.shop.mu.Lock()
		h.shop.src.Failover()
		h.shop.mu.Unlock()
		h.shop.trade(150)
		if generation == 3 {
			r.Kill()
			r = h.start("--instance", "only")
		}
		token := h.shop.settle()
		if !strings.HasPrefix(token, fmt.Sprint(generation)+":0/") {
			t.Fatalf("token %s in generation %d", token, generation)
		}
		h.exact("shipping", "ledger")
		for _, p := range []string{"shipping", "ledger"} {
			h.must(0, "wait", p, old, "--for", "1s")
			h.must(0, "rebuild", p, "--wait")
			h.exchange("swap", p)
		}
		h.exact("shipping", "ledger")
	}
	r.Stop()
}

func TestHoleStopsAndIsNamed(t *testing.T) {
	t.Parallel()
	breaks(t, func(h *house) {
		h.tell(func() {
			for part := range h.shop.src.Partitions {
				h.shop.src.Hole(ordersTopic, part, 3)
			}
			h.commitStrangers(20)
		})
	}, "shop.orders/", "at offset ", "seq", "3 ")
}

// commitStrangers commits orders that the shop does not have in its books.
func (h *house) commitStrangers(n int) {
	h.t.Helper()
	for i := range n {
		o := &order{id: 1_000_000 + i, customer: 1, status: "placed"}
		if err := h.shop.commit(*h.shop.orderEventOf(o, "OrderPlaced")); err != nil {
			h.t.Fatal(err)
		}
	}
}

func TestOtherBytesUnderOneNumberStop(t *testing.T) {
	t.Parallel()
	breaks(t, func(h *house) {
		n := h.end(ordersTopic, 2)
		h.tell(func() { h.shop.src.Forge(ordersTopic, 2, n-1) })
	}, "shop.orders/2 at offset ", "other bytes")
}

func TestForeignRecordStops(t *testing.T) {
	t.Parallel()
	var at int64
	breaks(t, func(h *house) {
		at = h.end(customersTopic, 1)
		if _, err := h.shop.cluster.Produce(h.t.Context(), customersTopic, 1, []event.Record{{Key: []byte("1"), Value: []byte(`{"state":{"id":1}}`)}}); err != nil {
			h.t.Fatal(err)
		}
	}, "shop.customers", "offset ")
	if at == 0 {
		t.Error("the partition was empty")
	}
}

func TestTopicMadeAnewStops(t *testing.T) {
	t.Parallel()
	breaks(t, func(h *house) {
		ctx, cancel := context.WithTimeout(h.t.Context(), patience)
		defer cancel()
		if err := h.shop.cluster.DeleteTopics(ctx, ordersTopic); err != nil {
			h.t.Fatal(err)
		}
		if _, err := h.shop.cluster.EnsureTopics(ctx, []bus.TopicSpec{bus.BusinessTopic(ordersTopic, h.shop.src.Partitions)}); err != nil {
			h.t.Fatal(err)
		}
	}, "shop.orders/", "was deleted and made anew", "projector rebuild")
}

func TestPartitionAddedIsRefused(t *testing.T) {
	t.Parallel()
	breaks(t, func(h *house) {
		c := &kafka.Client{Addr: kafka.TCP(h.broker.Addrs...), Timeout: time.Minute}
		res, err := c.CreatePartitions(h.t.Context(), &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: ordersTopic, Count: 7}}})
		if err == nil {
			err = res.Errors[ordersTopic]
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}, "shop.orders", fmt.Sprint(7), "rebuild")
}
