package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/bus"
	"banyan/event"
	"banyan/outbox"
	"banyan/projections/projectiontest"
	"banyan/quote"
)

const topic = "shadow.prices.demand"

// TestProposalsAreWhatTheRulesSay follows one product through a short life.
func TestProposalsAreWhatTheRulesSay(t *testing.T) {
	s := openShop(t)
	s.list(2, 2550, 1000)
	s.order(2, 11) // too thin to say anything
	s.order(2, 9)  // 980 in stock, 20 in 28 days: 1372 days; all of it in the last week: 400 %
	s.tell()
	said := s.propose(topic)
	if !strings.Contains(said.out, `"stage":"running","build":"rules-`) && !strings.Contains(said.out, `"stage":"caught-up"`) {
		t.Errorf("it says %s", said.out)
	}
	all := s.proposals(topic)
	if len(all) != 2 {
		t.Fatalf("there are %d proposals, want 2: the list price of each product\n%v", len(all), all)
	}
	one, two := decode(t, all[0].Data), decode(t, all[1].Data)
	if one.State.Product != "1" || one.State.Unit.Amount != 2550 || one.State.Rule != "list" || one.State.TierQuantity != 0 || one.State.Propensity != "1" {
		t.Errorf("product 1: %+v", one)
	}
	// Cover and trend contradict each other and are of one size: nothing moves.
	if two.State.Unit.Amount != 2550 || two.State.Tier.Amount != 2295 || two.State.TierQuantity != 12 || len(two.State.Trail) == 0 || !two.OccurredAt.Equal(s.day) {
		t.Errorf("product 2: %+v", two)
	}
	// Nearly all is sold: cover for a few days, 3 % more; the trend 2 %; most is 4 %.
	s.order(2, 970)
	s.tell()
	s.propose(topic)
	all = s.proposals(topic)
	if len(all) != 3 {
		t.Fatalf("there are %d proposals, want one more\n%v", len(all), all)
	}
	two = decode(t, all[2].Data)
	if two.State.Unit.Amount != 2650 || two.State.Tier.Amount != 2390 || two.State.Rule != "recent_demand" {
		t.Errorf("product 2, sold out: %+v", two)
	}
	// A month later there is no demand any more, and the list price is back.
	s.day = s.day.AddDate(0, 0, 28)
	s.order(1, 1)
	s.tell()
	s.propose(topic)
	all = s.proposals(topic)
	if len(all) != 4 {
		t.Fatalf("there are %d proposals, want one more\n%v", len(all), all)
	}
	if two = decode(t, all[3].Data); all[3].Key != "2" || two.State.Unit.Amount != 2550 || two.State.Tier.Amount != 2295 {
		t.Errorf("product 2, a month later: %+v", two)
	}
}

// TestTopicIsWellMade reads what a run has written as any reader would.
func TestTopicIsWellMade(t *testing.T) {
	s := openShop(t)
	s.list(20, 2550, 400)
	s.trade(20, 10)
	w := s.tell()
	s.propose(topic)
	s.trade(5, 10)
	w2 := s.tell()
	s.propose(topic)
	proposals := 0
	for part, records := range s.records(topic) {
		var last event.Position
		marks := 0
		for i := range records {
			e, err := event.FromRecord(topic, &records[i])
			if err != nil {
				t.Fatal(err)
			}
			if e.Seq != int64(i+1) || e.Position.Compare(last) < 0 || e.ID.Source != "pricing" || e.Version != 1 || e.ID.Position != e.Position {
				t.Errorf("partition %d, record %d: %+v after %s", part, i, e, last)
			}
			last = e.Position
			switch e.Type {
			case proposed:
				proposals++
				if outbox.PartitionOf(e.Key(), len(s.records(topic))) != part || e.ID.Aggregate != "Proposal" {
					t.Errorf("%s lies in partition %d", e.ID, part)
				}
			case progress:
				marks++
				want := []event.Watermark{w, w2}[marks-1]
				if e.Key() != fmt.Sprintf("p%d", part) || e.ID.Aggregate != "Progress" || e.Position != (event.Position{Generation: want.Generation, LSN: want.LSN}) || !e.Time.Equal(want.Time) {
					t.Errorf("partition %d: %+v, want the mark %+v", part, e, want)
				}
			}
		}
		if marks != 2 || records[len(records)-1].Key[0] != 'p' {
			t.Errorf("partition %d has %d progresses", part, marks)
		}
	}
	if proposals < 100 {
		t.Errorf("there are %d proposals only", proposals)
	}
}

// TestRerunIsTheSameToTheByte reads one history into two topics.
func TestRerunIsTheSameToTheByte(t *testing.T) {
	s := openShop(t)
	s.list(20, 2550, 400)
	s.trade(40, 10)
	s.tell()
	s.propose(topic)
	s.propose("shadow.again")
	if diff := cmp.Diff(s.records(topic), s.records("shadow.again"), cmp.Transformer("record", func(r event.Record) string {
		return fmt.Sprintf("%d %s %s %s %d", r.Offset, r.Key, r.Value, r.Headers, r.Time.UnixMilli())
	})); diff != "" {
		t.Errorf("-first +second\n%s", diff)
	}
	before := s.records(topic)
	s.propose(topic)
	if after := s.records(topic); len(slices.Concat(after...)) != len(slices.Concat(before...)) {
		t.Errorf("a restart without news has written %d records", len(slices.Concat(after...))-len(slices.Concat(before...)))
	}
}

// TestRoundsDoNotShow proposes live, round by round with restarts, and all at once:
// the proposals are the same.
func TestRoundsDoNotShow(t *testing.T) {
	s := openShop(t)
	s.list(15, 2550, 300)
	s.tell()
	r := start(t, s.runArgs(topic)...)
	for i := range 12 {
		s.trade(2, 8)
		w := s.tell()
		if i%4 == 3 {
			r.stop()
			r = start(t, s.runArgs(topic)...)
		}
		if i%3 == 2 {
			s.awaitProgress(topic, w)
		}
	}
	s.awaitProgress(topic, s.tell())
	if said := r.stop(); said.code != 0 || !strings.Contains(said.out, "caught-up") {
		t.Errorf("exit %d: %s", said.code, said.err)
	}
	s.propose("shadow.atonce")
	if diff := cmp.Diff(s.proposals("shadow.atonce"), s.proposals(topic)); diff != "" {
		t.Errorf("-at once +live\n%s", diff)
	}
	for part, records := range s.told(topic) {
		for i, r := range records {
			if r.Seq != int64(i+1) {
				t.Fatalf("partition %d: record %d has seq %d", part, i, r.Seq)
			}
		}
	}
}

// awaitProgress waits until every partition of a topic says that it has passed a
// watermark.
func (s *shop) awaitProgress(topic string, w event.Watermark) {
	s.t.Helper()
	at := event.Position{Generation: w.Generation, LSN: w.LSN}
	poll(s.t, "progress up to "+quote.FormatAsOf(w.Generation, w.LSN), func() bool {
		if _, err := s.cluster.Partitions(s.t.Context(), topic); err != nil {
			return false // not made yet
		}
		for _, part := range s.told(topic) {
			passed := slices.ContainsFunc(part, func(r told) bool {
				p, err := event.ParsePosition(r.At)
				return err == nil && r.Type == progress && p.Compare(at) >= 0
			})
			if !passed {
				return false
			}
		}
		return true
	})
}

// TestNothingBeyondTheWatermark tells events and holds their watermark back.
func TestNothingBeyondTheWatermark(t *testing.T) {
	s := openShop(t)
	s.list(4, 2550, 300)
	s.tell()
	s.order(1, 299)
	if err := s.src.Publish(t.Context(), s.cluster); err != nil { // without a mark
		t.Fatal(err)
	}
	s.propose(topic)
	if n := len(s.proposals(topic)); n != 4 {
		t.Errorf("there are %d proposals, want the four list prices", n)
	}
	s.tell()
	s.propose(topic)
	if n := len(s.proposals(topic)); n != 5 {
		t.Errorf("with the watermark there are %d proposals, want one more", n)
	}
}

// TestOtherRulesGoOnInTheSameTopic changes the rules between two runs.
func TestOtherRulesGoOnInTheSameTopic(t *testing.T) {
	s := openShop(t)
	s.list(6, 2550, 300)
	s.tell()
	s.propose(topic)
	rules := write(t, `rules:
  - {name: nothing_above_two, kind: bounds, currency: GBP, ceiling: 2.00}
`)
	s.order(1, 1)
	s.tell()
	s.propose(topic, "--rules", rules)
	all := s.proposals(topic)
	if len(all) != 12 {
		t.Fatalf("there are %d proposals, want 12: each product twice", len(all))
	}
	for _, r := range all[6:] {
		if p := decode(t, r.Data); p.State.Unit.Amount != 2000 || p.State.Rule != "nothing_above_two" {
			t.Errorf("by the other rules: %s", r.Data)
		}
	}
}

// TestRepeatsSnapshotsAndFailovers has all that a source may do to its readers.
func TestRepeatsSnapshotsAndFailovers(t *testing.T) {
	s := openShop(t)
	if _, err := s.src.Snapshot(1,
		projectiontest.Event{Topic: "shop.prices", Type: "PriceRecorded", Aggregate: "Price", Key: "1", Data: `{"state":{"id":1,"price":{"amount":1000,"scale":3,"currency":"GBP"}}}`},
		projectiontest.Event{Topic: "shop.stock", Type: "StockRecorded", Aggregate: "Stock", Key: "1", Data: `{"state":{"id":1,"stock":5}}`},
		projectiontest.Event{Topic: "shop.orders", Type: "OrderRecorded", Aggregate: "Order", Key: "900",
			Data: `{"state":{"id":900,"placed_at":"2010-11-30T10:00:00Z","lines":[{"product_id":1,"quantity":40},{"product_id":null,"quantity":1}]}}`},
	); err != nil {
		t.Fatal(err)
	}
	s.stock[1] = 5
	s.tell()
	s.propose(topic)
	all := s.proposals(topic)
	if len(all) != 1 || decode(t, all[0].Data).State.Unit.Amount != 1040 || !strings.HasSuffix(all[0].At, ".s1") {
		t.Fatalf("after the snapshot: %v", all)
	}
	s.src.Repeat("shop.orders", outbox.PartitionOf("900", 6), 1)
	s.src.Failover()
	s.order(1, 2)
	s.tell()
	s.propose(topic)
	// The same order, told again by a second snapshot, counts once.
	if _, err := s.src.Snapshot(2, projectiontest.Event{Topic: "shop.orders", Type: "OrderRecorded", Aggregate: "Order", Key: "900",
		Data: `{"state":{"id":900,"placed_at":"2010-11-30T10:00:00Z","lines":[{"product_id":1,"quantity":40}]}}`}); err != nil {
		t.Fatal(err)
	}
	s.tell()
	s.propose(topic)
	if got := s.proposals(topic); len(got) != 1 {
		t.Errorf("repeats have changed prices: %v", got)
	}
	// A removed product is not proposed any more, one that cannot be read neither.
	s.commit(projectiontest.Event{Topic: "shop.prices", Type: "ProductRemoved", Aggregate: "Price", Key: "1", Data: `{"state":null,"last":{"id":1}}`},
		projectiontest.Event{Topic: "shop.prices", Type: "ProductListed", Aggregate: "Price", Key: "2", Data: `{"state":{"price":"dear"}}`})
	s.tell()
	if said := s.propose(topic); !strings.Contains(said.err, "shop/Price/2@2:") {
		t.Errorf("nobody is told of the event that cannot be read: %s", said.err)
	}
	if got := s.proposals(topic); len(got) != 1 {
		t.Errorf("a product without a list price has one: %v", got)
	}
}

func TestFaultsOfTheTopics(t *testing.T) {
	t.Run("a hole in the source", func(t *testing.T) {
		s := openShop(t)
		s.list(4, 2550, 300)
		s.tell()
		s.order(1, 1)
		s.src.Hole("shop.stock", outbox.PartitionOf("1", 6), 1)
		s.order(1, 1)
		s.tell()
		said := invoke(t, s.runArgs(topic, "--until-caught-up")...)
		if said.code != 1 || !strings.Contains(said.err, "records are missing") {
			t.Errorf("exit %d: %s", said.code, said.err)
		}
	})
	t.Run("somebody else's topic", func(t *testing.T) {
		s := openShop(t)
		s.list(4, 2550, 300)
		s.tell()
		ctx := t.Context()
		if _, err := s.cluster.EnsureTopics(ctx, []bus.TopicSpec{bus.BusinessTopic(topic, bus.Partitions)}); err != nil {
			t.Fatal(err)
		}
		for _, records := range s.records("shop.prices") {
			if len(records) > 0 {
				if _, err := s.cluster.Produce(ctx, topic, records[0].Partition, records); err != nil {
					t.Fatal(err)
				}
			}
		}
		said := invoke(t, s.runArgs(topic, "--until-caught-up")...)
		if said.code != 1 || !strings.Contains(said.err, "is not ours") {
			t.Errorf("exit %d: %s", said.code, said.err)
		}
	})
	t.Run("two runs at once", func(t *testing.T) {
		s := openShop(t)
		s.list(4, 2550, 300)
		first := s.tell()
		one := start(t, s.runArgs(topic)...)
		s.awaitProgress(topic, first)
		two := start(t, s.runArgs(topic)...)
		poll(t, "second run", func() bool { return strings.Contains(two.out.String(), "caught-up") })
		poll(t, "end of one of them", func() bool {
			s.order(1, 1)
			s.tell()
			select {
			case <-one.ended:
			case <-two.ended:
			default:
				return false
			}
			return true
		})
		noticed := func(r *running) bool {
			said := r.stop()
			return said.code == 1 && strings.Contains(said.err, "stop the other one")
		}
		if a, b := noticed(one), noticed(two); !a && !b {
			t.Errorf("none has noticed: %+v %+v", one.stop(), two.stop())
		}
	})
	t.Run("no watermark", func(t *testing.T) {
		s := openShop(t)
		said := invoke(t, s.runArgs(topic, "--until-caught-up")...)
		if said.code != 3 || !strings.Contains(said.err, "there is no watermark in shop.watermarks") {
			t.Errorf("exit %d: %s", said.code, said.err)
		}
	})
	t.Run("other partitions", func(t *testing.T) {
		s := openShop(t)
		s.broker.CreateTopic(t, topic, 3, nil)
		if said := invoke(t, s.runArgs(topic)...); said.code != 1 || !strings.Contains(said.err, "partitions") {
			t.Errorf("exit %d: %s", said.code, said.err)
		}
	})
}

// TestBrokerRestarts stops the broker while a run works.
func TestBrokerRestarts(t *testing.T) {
	s := openShop(t)
	s.list(10, 2550, 300)
	s.awaitStart()
	for range 3 {
		s.trade(3, 8)
		s.broker.Restart(t)
		s.awaitProgress(topic, s.tellPatiently())
	}
	s.propose("shadow.atonce")
	if diff := cmp.Diff(s.proposals("shadow.atonce"), distinct(s.proposals(topic))); diff != "" {
		t.Errorf("-at once +through restarts\n%s", diff)
	}
}

func (s *shop) awaitStart() {
	s.t.Helper()
	w := s.tell()
	start(s.t, s.runArgs(topic)...)
	s.awaitProgress(topic, w)
}

// tellPatiently publishes through a broker that has just come back.
func (s *shop) tellPatiently() event.Watermark {
	s.t.Helper()
	poll(s.t, "broker", func() bool { return s.cluster.Ping(context.Background()) == nil })
	return s.tell()
}

// distinct drops repeats: an attempt whose end nobody saw may have landed.
func distinct(all []told) []told { return slices.Compact(all) }
