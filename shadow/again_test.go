package shadow

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/compare"
	"banyan/internal/randtest"
	"banyan/quote"
)

// Each comparison of a history can be done again, to the byte.
func TestReplayGivesTheJournalsBytes(t *testing.T) {
	seed := randtest.Seed(t)
	shop := newShop(t, seed)
	shop.trade(120)
	o := named("again")
	var journal [][]byte
	s := inProcess(o, &journal)
	if err := s.take(t.Context(), all(t, shop.log, o)); err != nil {
		t.Fatal(err)
	}
	who := thriftyOne
	for i, want := range journal {
		topic, part, offset, err := ParseAt(entries(t, [][]byte{want})[0].At)
		if err != nil || topic != "shop.orders" {
			t.Fatal(topic, err)
		}
		who.InProcess, who.Pricer = thrifty{}, nil
		if i%2 == 0 {
			who.InProcess, who.Pricer = nil, &answering{rng: rand.New(rand.NewPCG(seed, 1))}
		}
		again, err := Replay(t.Context(), shop.log, o, who, part, offset)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(again.Entry)); diff != "" {
			t.Fatalf("again (-journal +replay):\n%s", diff)
		}
		if (again.Order == nil) != (again.Answer == nil) {
			t.Fatalf("asked %+v, answered %+v", again.Order, again.Answer)
		}
	}
}

func TestReplayOfNothing(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	shop.trade(10)
	shop.tell(0, func(tx *transaction) { tx.refuse() })
	shop.trade(0)
	o := named("nothing")
	for _, e := range all(t, shop.log, o) {
		if e.Type == "OrderRejected" {
			if _, err := Replay(t.Context(), shop.log, o, thriftyOne, e.Partition, e.Offset); !errors.Is(err, ErrNotCompared) {
				t.Errorf("a refused order: %v", err)
			}
		}
	}
	if _, err := Replay(t.Context(), shop.log, o, thriftyOne, 0, 100_000); !errors.Is(err, ErrNotCompared) {
		t.Errorf("an offset beyond the end: %v", err)
	}
}

// moody answers differently each time.
type moody struct {
	thrifty
	times *int64
}

func (m moody) Price(o *quote.Order, into *quote.Answer) error {
	*m.times++
	if err := m.thrifty.Price(o, into); err != nil {
		return err
	}
	for i := range into.Lines {
		into.Lines[i].Unit.Amount += *m.times
	}
	return nil
}

// Control against control differs nowhere: what would is an error of ours. A candidate
// that says another thing each time is found by being asked twice.
func TestNoise(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	shop.trade(1200) // more orders than are asked about twice
	o := named("noise")
	o.Sample = 1
	clean, err := Noise(t.Context(), shop.log, o, thriftyOne)
	if err != nil {
		t.Fatal(err)
	}
	if clean.Lines == 0 || clean.Differ != 0 || clean.RepeatLines == 0 || clean.RepeatDiffer != 0 || clean.At == "" {
		t.Errorf("clean: %+v", clean)
	}
	for _, d := range clean.Diff {
		if d.Amount != 0 {
			t.Errorf("clean: a difference of %+v", d)
		}
	}
	times := int64(0)
	noisy, err := Noise(t.Context(), shop.log, o, Candidates{InProcess: moody{times: &times}})
	if err != nil {
		t.Fatal(err)
	}
	if noisy.Differ != 0 || noisy.RepeatDiffer == 0 || noisy.RepeatLines != clean.RepeatLines {
		t.Errorf("of a moody candidate: %+v", noisy)
	}
	alone, err := Noise(t.Context(), shop.log, o, Candidates{})
	if err != nil {
		t.Fatal(err)
	}
	if alone.Lines != clean.Lines || alone.RepeatLines != 0 {
		t.Errorf("without a candidate: %+v", alone)
	}
}

// Control against control through a run's own way has one cause alone.
func TestControlIsTheSame(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	shop.trade(200)
	s := newCore(named("control"))
	s.control = true
	if err := s.take(t.Context(), all(t, shop.log, s.opts)); err != nil {
		t.Fatal(err)
	}
	compared := int64(0)
	for currency, b := range s.ledger.Books {
		compared += b.Compared.Lines
		if b.Candidate != b.Compared.Control || b.Causes[compare.Same].Lines != b.Compared.Lines {
			t.Errorf("%s: %+v", currency, b.Causes)
		}
	}
	if compared == 0 {
		t.Error("nothing was compared")
	}
}
