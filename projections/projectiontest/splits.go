package projectiontest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
)

// Variations say how Splits varies a history.
type Variations struct {
	// Rounds is how many ways are tried; 30 where zero.
	Rounds int
	// Seed makes a run repeatable: the one that a failed run has printed. Zero
	// draws one.
	Seed uint64
	// Pause is how long the source is idle now and then, for timers; ten minutes
	// where zero.
	Pause time.Duration
}

// Each makes a transaction of each event.
func Each(events ...Event) [][]Event {
	all := make([][]Event, len(events))
	for i, e := range events {
		all[i] = []Event{e}
	}
	return all
}

// Splits folds one history in many random ways and wants the same rows each time,
// and the same effects. In each round the partitions are ahead of each other in
// another way, records are told twice, events come in other batches, every now and
// then a batch is lost in a crash and done again, the program starts anew from its
// rows alone, or an event is taken back and applied again. What fails prints the
// seed.
func Splits(t T, p projections.Program, history [][]Event, vary Variations) {
	t.Helper()
	if vary.Rounds <= 0 {
		vary.Rounds = 30
	}
	if vary.Seed == 0 {
		vary.Seed = rand.Uint64()
	}
	if vary.Pause <= 0 {
		vary.Pause = 10 * time.Minute
	}
	s := &splitter{program: p, spec: p.Spec(), vary: vary}
	want, err := s.plain(history)
	if err != nil {
		t.Fatalf("seed %d: %v", vary.Seed, err)
		return
	}
	for round := range vary.Rounds {
		got, story, err := s.varied(uint64(round))
		if err != nil {
			t.Fatalf("seed %d, round %d: %v", vary.Seed, round, err)
			return
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("seed %d, round %d (%s): the rows depend on how the history was split (-at once +in pieces):\n%s", vary.Seed, round, story, d)
			return
		}
	}
}

// splitter is one call of Splits.
type splitter struct {
	program projections.Program
	spec    projections.Spec
	vary    Variations

	log     *Log // the history without faults
	ends    []projections.Reach
	last    event.Watermark
	firings []control.Firing
}

// outcome is what must not depend on the way.
type outcome struct {
	Tables  map[string][]string
	Effects []string
	Parked  []string
}

// plain folds the history as it happens, with idle times in between, and keeps
// what was told.
func (s *splitter) plain(history [][]Event) (*outcome, error) {
	rng := rand.New(rand.NewPCG(s.vary.Seed, 0))
	m, err := newMemory(s.program, true, nil)
	if err != nil {
		return nil, err
	}
	src := NewSource(s.spec.Source)
	src.Partitions = 3
	s.log = NewLog()
	src.CreateTopics(s.log, s.spec.Topics...)
	for _, tx := range history {
		told, err := src.Commit(tx...)
		if err != nil {
			return nil, err
		}
		var made []*projections.Event
		for i := range told {
			if !slices.Contains(s.spec.Topics, told[i].Topic) {
				return nil, fmt.Errorf("event %s: %q is no topic of %s", told[i].Type, told[i].Topic, s.spec.Name)
			}
			e, err := m.made(told[i].Topic, told[i].Record(), told[i].Seq-1)
			if err != nil {
				return nil, err
			}
			made = append(made, e)
		}
		if s.spec.Aligned {
			slices.SortStableFunc(made, func(a, b *projections.Event) int {
				return slices.Index(s.spec.Topics, a.Topic) - slices.Index(s.spec.Topics, b.Topic)
			})
		}
		for _, e := range made {
			if err := ignoreParked(m.take(e)); err != nil {
				return nil, err
			}
		}
		if rng.IntN(5) == 0 {
			src.Now = src.Now.Add(time.Duration(rng.Int64N(int64(s.vary.Pause) + 1)))
			w := src.Mark()
			if err := s.idle(m, w); err != nil {
				return nil, err
			}
		}
	}
	s.last = src.Mark()
	if err := s.idle(m, s.last); err != nil {
		return nil, err
	}
	if err := src.Publish(context.Background(), s.log); err != nil {
		return nil, err
	}
	for _, topic := range s.spec.Topics {
		for part := range src.Partitions {
			_, next, err := s.log.Ends(context.Background(), topic, part)
			if err != nil {
				return nil, err
			}
			s.ends = append(s.ends, projections.Reach{PartID: control.PartID{Topic: topic, Part: part}, Until: next})
		}
	}
	s.firings = m.applier.Firings()
	return outcomeOf(m, m.applier.Effects())
}

func (s *splitter) idle(m *memory, w event.Watermark) error {
	if !s.spec.Aligned {
		return nil
	}
	return m.applier.Idle(control.MarkOf(&w))
}

func ignoreParked(err error) error {
	var poison *projections.PoisonError
	if errors.As(err, &poison) {
		return nil
	}
	return err
}

// outcomeOf reads what has come of it. Effects are compared as a set: in a
// partitioned projection their order is nobody's business.
func outcomeOf(m *memory, effects []projections.Promise) (*outcome, error) {
	o := &outcome{Tables: make(map[string][]string)}
	for name, shape := range m.shapes {
		columns, err := named(shape, nil)
		if err != nil {
			return nil, err
		}
		for e, err := range m.bulk.Each(name) {
			if err != nil {
				return nil, err
			}
			o.Tables[name] = append(o.Tables[name], line(shape, columns, e.Row))
		}
	}
	for _, e := range effects {
		o.Effects = append(o.Effects, fmt.Sprintf("%s of %s (%d): %s %s", e.Name, e.Source, e.N, e.Kind, e.Payload))
	}
	slices.Sort(o.Effects)
	for ref, first := range m.parked {
		o.Parked = append(o.Parked, ref.Aggregate+"/"+ref.Key+" from "+first)
	}
	slices.Sort(o.Parked)
	return o, nil
}

// varied folds the history in a random way. The story says which.
func (s *splitter) varied(round uint64) (*outcome, string, error) {
	rng := rand.New(rand.NewPCG(s.vary.Seed, round+1))
	log, err := s.retold(rng)
	if err != nil {
		return nil, "", err
	}
	events, err := s.ordered(log, rng)
	if err != nil {
		return nil, "", err
	}
	m, err := newMemory(s.program, false, s.firings)
	if err != nil {
		return nil, "", err
	}
	w := &walk{splitter: s, rng: rng, log: log, m: m}
	if err := w.all(events); err != nil {
		return nil, "", err
	}
	if err := s.idle(w.m, s.last); err != nil {
		return nil, "", err
	}
	o, err := outcomeOf(w.m, append(w.effects, w.m.applier.Effects()...))
	return o, fmt.Sprintf("%d batches, %d crashes, %d restarts, %d taken back", w.batches, w.crashes, w.restarts, w.undone), err
}

// retold is the same history with repeats in it.
func (s *splitter) retold(rng *rand.Rand) (*Log, error) {
	l := NewLog()
	ctx := context.Background()
	for _, r := range s.ends {
		n, err := s.log.Partitions(ctx, r.Topic)
		if err != nil {
			return nil, err
		}
		l.CreateTopic(r.Topic, n)
		var told []event.Record
		for rec, err := range s.log.Read(ctx, r.Topic, r.Part, 0, r.Until) {
			if err != nil {
				return nil, err
			}
			told = append(told, rec)
			again := []event.Record{rec}
			switch rng.IntN(10) {
			case 0:
				again = append(again, rec)
			case 1:
				again = append(again, told[rng.IntN(len(told)):]...)
			}
			if _, err := l.Produce(ctx, r.Topic, r.Part, again); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// ordered gives the events in one order that a runner could give them in: the one
// order of an aligned projection, or the partitions in a random mixture.
func (s *splitter) ordered(log *Log, rng *rand.Rand) ([]*projections.Event, error) {
	prep, err := projections.NewPreparer(s.program)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	var groups [][]projections.Reach
	for _, r := range s.ends {
		if _, r.Until, err = log.Ends(ctx, r.Topic, r.Part); err != nil {
			return nil, err
		}
		if s.spec.Aligned && len(groups) > 0 {
			groups[0] = append(groups[0], r)
		} else {
			groups = append(groups, []projections.Reach{r})
		}
	}
	var queues [][]*projections.Event
	for _, g := range groups {
		var q []*projections.Event
		replay := projections.Replay{Log: log, Preparer: prep, Parts: g}
		for events, err := range replay.Events(ctx) {
			if err != nil {
				return nil, err
			}
			q = append(q, events...)
		}
		if len(q) > 0 {
			queues = append(queues, q)
		}
	}
	var all []*projections.Event
	for len(queues) > 0 {
		i := rng.IntN(len(queues))
		n := 1 + rng.IntN(min(len(queues[i]), 20))
		all = append(all, queues[i][:n]...)
		if queues[i] = queues[i][n:]; len(queues[i]) == 0 {
			queues = slices.Delete(queues, i, i+1)
		}
	}
	return all, nil
}
