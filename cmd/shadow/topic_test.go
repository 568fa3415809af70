package main_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/bus"
	"banyan/compare"
	"banyan/event"
)

// publisher is the candidate dearer as one that publishes prices by itself.
type publisher struct {
	t     *testing.T
	shop  *shop
	topic string
	parts int
	seqs  []int64
	told  int // of the shop's prices
}

func newPublisher(h *house, topic string) *publisher {
	h.t.Helper()
	p := &publisher{t: h.t, shop: h.shop, topic: topic, parts: 3, seqs: make([]int64, 3)}
	if _, err := h.shop.cluster.EnsureTopics(context.Background(), []bus.TopicSpec{bus.BusinessTopic(topic, p.parts)}); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// tell publishes an event as of a position.
func (p *publisher) tell(part int, typ, key, data string, at event.Position) {
	p.t.Helper()
	p.seqs[part]++
	e := event.Event{ID: event.ID{Source: "pricing", Aggregate: "Price", Key: key, Position: at}, Type: typ, Version: 1, Topic: p.topic, Time: p.shop.src.Now.UTC(),
		Position: at, Rules: 1, Data: []byte(data), Partition: part, Seq: p.seqs[part], Writer: 1}
	if _, err := p.shop.Produce(context.Background(), p.topic, part, []event.Record{e.Record()}); err != nil {
		p.t.Fatal(err)
	}
}

// propose publishes a price for each list price that the shop has told since, as of its
// position.
func (p *publisher) propose() {
	p.t.Helper()
	for _, told := range p.shop.told[p.told:] {
		money := func(n int64) string {
			return fmt.Sprintf(`{"amount":%d,"scale":3,"currency":%q}`, dearer(n), told.product.currency)
		}
		data := fmt.Sprintf(`{"state":{"product":"%d","unit":%s,"rule":"dearer"`, told.product.id, money(told.product.list))
		if told.product.tierQty > 0 {
			data += fmt.Sprintf(`,"tierQuantity":%d,"tier":%s`, told.product.tierQty, money(told.product.tier))
		}
		p.tell(told.product.id%p.parts, "PriceProposed", strconv.Itoa(told.product.id), data+"}}", told.at)
	}
	p.told = len(p.shop.told)
}

// progress says that nothing more comes as of what the shop has told.
func (p *publisher) progress(parts ...int) {
	p.t.Helper()
	for _, part := range parts {
		p.tell(part, "PricingProgress", "progress", `{}`, event.Position{Generation: p.shop.src.Generation, LSN: p.shop.src.LSN + 1})
	}
}

// A candidate that publishes: each order is joined with what was published as of before
// it, the shadow waits for what lacks, and says so.
func TestCandidateTopic(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.repeats = 50
	p := newPublisher(h, "shadow.prices.dearer")
	h.shop.trade(200)
	p.propose()
	p.progress(0, 1, 2)
	p.tell(1, "PriceProposed", "x", `{"state":17}`, event.Position{Generation: 1, LSN: h.shop.src.LSN + 1}) // passed over
	args := []string{"--candidate-topic", p.topic, "--from", "start"}
	h.books(h.caughtUp(0, args...), nil)
	r := h.start(append(args, "--live", "127.0.0.1:0")...)
	live := r.Listening()
	h.shop.trade(100)
	h.shop.sell()
	p.propose()
	p.progress(0, 2) // one partition lacks
	h.eventually("/readyz says what it waits for", func() bool {
		code, body := h.ask(live + "/readyz")
		return code == 503 && strings.Contains(body, "waiting for the candidate") && strings.Contains(body, p.topic)
	})
	if _, page := h.ask(live + "/"); !strings.Contains(page, "waiting for the candidate") {
		t.Error("the live page does not say that the shadow waits")
	}
	r.StopWithin(quick)
	r = h.start(args...)
	p.progress(1)
	h.eventually("all is compared", func() bool { return h.consumed() == h.shop.orders })
	r.StopWithin(quick)
	h.books(h.caughtUp(0, args...), nil)
	at := h.query(`SELECT 'shop.orders/' || part || '/' || off FROM ` + h.schema() + `.journal ORDER BY part, off LIMIT 1`)[0]
	if a := h.must(0, "replay", at, "--candidate-topic", p.topic); !strings.Contains(a.Out, "the same, to the byte") {
		t.Errorf("replay: %s", a)
	}
	// It falls silent for good: with a bound on patience the rest is unproven.
	before := len(h.shop.lines)
	h.shop.trade(50)
	r2 := h.caughtUp(1, append(args, "--patience", "1s")...)
	unproven := map[string]bool{}
	for _, l := range h.shop.lines[before:] {
		unproven[l.event] = true
	}
	h.books(r2, func(l *sold) compare.Reason {
		if unproven[l.event] {
			return compare.Unproven
		}
		return ""
	})
}

// schema is where the state of the only shadow lies.
func (h *house) schema() string { return "shadow_" + h.onlyShadow() + "_v1" }

// What production reads is no candidate's topic.
func TestTopicOfProductionIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p := newPublisher(h, "shadow.prices.live")
	p.propose()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	joined, gone := make(chan struct{}), make(chan error, 1)
	var once sync.Once // a member that was slow joins again
	go func() {
		gone <- h.shop.cluster.JoinGroup(ctx, bus.GroupConfig{ID: "checkout", Topics: []string{p.topic}, CommitInterval: 50 * time.Millisecond,
			Applied: func() map[string]map[int]int64 { return map[string]map[int]int64{p.topic: {0: 1}} }}, func(ctx context.Context, _ map[string][]int) error {
			once.Do(func() { close(joined) })
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-joined
	h.eventually("the group has committed", func() bool {
		readers, err := h.shop.cluster.Readers(ctx, p.topic)
		return err == nil && len(readers) == 1
	})
	a := h.must(2, "run", "--candidate-topic", p.topic, "--until-caught-up")
	for _, want := range []string{p.topic, "checkout", "topic of its own"} {
		if !strings.Contains(a.Err, want) {
			t.Errorf("it does not say %q: %s", want, a)
		}
	}
	cancel()
	<-gone
	if names := h.query(`SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'shadow%'`); len(names) > 0 {
		t.Errorf("refused, and yet made: %v", names)
	}
}

// ends are all topics with where they end: whoever writes moves them.
func (h *house) ends() []string {
	h.t.Helper()
	ctx := context.Background()
	topics, err := h.shop.cluster.Topics(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for _, topic := range topics {
		for part := range topic.Partitions {
			first, next, err := h.shop.cluster.Ends(ctx, topic.Name, part)
			if err != nil {
				h.t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s/%d: %d to %d", topic.Name, part, first, next))
		}
	}
	slices.Sort(all)
	return all
}

// unwritten wants that nothing was written to any topic, and no topic made.
func (h *house) unwritten(before []string) {
	h.t.Helper()
	if diff := cmp.Diff(before, h.ends()); diff != "" {
		h.t.Errorf("topics were written to (-before +after):\n%s", diff)
	}
}
