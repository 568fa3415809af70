package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"banyan/bus"
	"banyan/event"
	"banyan/pricing"
	"banyan/projections"
	"banyan/projections/control"
)

// cutOff copies a topic as a kill would have left it: another number of records of
// each partition. It gives the numbers.
func (s *shop) cutOff(whole [][]event.Record, to string) (kept []int) {
	s.t.Helper()
	ctx := s.t.Context()
	if _, err := s.cluster.EnsureTopics(ctx, []bus.TopicSpec{bus.BusinessTopic(to, bus.Partitions)}); err != nil {
		s.t.Fatal(err)
	}
	for part, records := range whole {
		n := s.rng.IntN(len(records) + 1)
		kept = append(kept, n)
		if n > 0 {
			if _, err := s.cluster.Produce(ctx, to, part, records[:n]); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	return kept
}

// TestKilledAnywhereItGoesOnTheSame kills a run in its first round.
func TestKilledAnywhereItGoesOnTheSame(t *testing.T) {
	s := openShop(t)
	s.list(15, 2550, 400)
	s.trade(30, 8)
	s.tell()
	s.propose(topic)
	whole := s.records(topic)
	for try := range 12 {
		cut := fmt.Sprintf("shadow.cut%d", try)
		kept := s.cutOff(whole, cut)
		s.propose(cut)
		if diff := cmp.Diff(s.told(topic), s.told(cut)); diff != "" {
			t.Fatalf("cut off after %v records: -whole +gone on\n%s", kept, diff)
		}
	}
}

// TestKilledBetweenRoundsItRepeatsNothing kills one that had gone through several: the
// progress of the new run is another one, its proposals are the same.
func TestKilledBetweenRoundsItRepeatsNothing(t *testing.T) {
	s := openShop(t)
	s.list(15, 2550, 400)
	for range 4 {
		s.trade(8, 8)
		s.tell()
		s.propose(topic)
	}
	whole, want := s.records(topic), s.proposals(topic)
	for try := range 12 {
		cut := fmt.Sprintf("shadow.cut%d", try)
		kept := s.cutOff(whole, cut)
		s.propose(cut)
		if diff := cmp.Diff(want, s.proposals(cut)); diff != "" {
			t.Fatalf("cut off after %v records: -whole +gone on\n%s", kept, diff)
		}
		s.checkSeqs(cut)
	}
}

// checkSeqs reads a topic as any reader does: no gaps, and repeats of the same bytes
// alone.
func (s *shop) checkSeqs(topic string) (repeats int) {
	s.t.Helper()
	for part, records := range s.records(topic) {
		seq := projections.NewSequence(control.Part{PartID: control.PartID{Topic: topic, Part: part}})
		for i := range records {
			fresh, err := seq.Take(&records[i])
			if err != nil {
				s.t.Fatal(err)
			}
			if !fresh {
				repeats++
			}
		}
	}
	return repeats
}

// TestLostAnswers loses the answers to requests that were carried out: what is sent
// again is the same under the same seq, and later runs read over it.
func TestLostAnswers(t *testing.T) {
	s := openShop(t)
	s.list(15, 2550, 400)
	s.trade(20, 8)
	s.tell()
	s.propose("shadow.well")
	s.broker.Control().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut})
	s.propose(topic)
	if n := s.checkSeqs(topic); n == 0 {
		t.Error("no answer was lost")
	}
	s.trade(5, 8)
	s.tell()
	s.propose("shadow.well")
	s.broker.Control().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition})
	s.propose(topic)
	s.checkSeqs(topic)
	if diff := cmp.Diff(s.proposals("shadow.well"), distinct(s.proposals(topic))); diff != "" {
		t.Errorf("-well +with losses\n%s", diff)
	}
}

// TestOnlyOurRecordsMayComeBetween has an attempt land late, and then somebody else.
func TestOnlyOurRecordsMayComeBetween(t *testing.T) {
	s := openShop(t)
	s.list(6, 2550, 400)
	s.tell()
	s.propose(topic)
	ctx := t.Context()
	d, err := pricing.New(pricing.Default())
	if err != nil {
		t.Fatal(err)
	}
	p, err := openProposals(ctx, s.cluster, topic, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	late := s.records(topic)[0]
	seq, _ := late[0].Seq()
	if _, err := s.cluster.Produce(ctx, topic, 0, late[:1]); err != nil {
		t.Fatal(err)
	}
	w := s.tell()
	w.LSN++
	p.parts[0].doubt = map[int64]event.Record{seq: late[0]}
	if err := p.endRound(ctx, &w); err != nil {
		t.Errorf("an attempt that lands late is taken for somebody else's: %v", err)
	}
	if _, err := s.cluster.Produce(ctx, topic, 0, late[1:2]); err != nil {
		t.Fatal(err)
	}
	w.LSN++
	if err := p.endRound(ctx, &w); !errors.As(err, new(*otherWriter)) {
		t.Errorf("somebody else writes: %v", err)
	}
}
