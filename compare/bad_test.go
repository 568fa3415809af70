package compare

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// A candidate that is bad where somebody may not look: each of these was once ready for
// a live test.
var badCandidates = []rung{
	{name: "lost where no cost is known", make: func(d *trade) {
		d.edit = func(i int, s *sale) {
			if s.control < pounds(30) {
				s.noCost = true
				s.candidate = s.control * 8 / 10
			}
		}
	}, want: DoNot, why: "is lost where they are not", change: "lose nothing where the cost is not known"},
	{name: "perhaps lost where no cost is known", make: func(d *trade) {
		d.edit = func(i int, s *sale) {
			if s.control < pounds(30) {
				s.noCost = true
				s.candidate = s.control * 940 / 1000
			}
		}
	}, want: Review, why: "may be lost where they are not", change: "Costs for more of the revenue"},
	{name: "sold below cost, as others are no longer", make: func(d *trade) {
		d.edit = func(i int, s *sale) {
			switch i % 30 {
			case 0:
				s.cost = s.control + 100
			case 1:
				s.candidate = s.cost - 100
			}
		}
	}, want: DoNot, why: "beyond those sold so already: 30", change: "lines below cost"},
	{name: "bounds too narrow for how prices move", make: func(d *trade) {
		d.factor = func(p int) float64 { return 1.03 - 0.2*float64(p/39) }
		d.edit = func(i int, s *sale) {
			if i == 5 {
				s.quantity, s.reason = 600, Declined
			}
		}
	}, want: Review, why: "prices that it did answer move by up to 17 %", change: "Answers for the lines"},
}

func TestABadCandidateIsNotReady(t *testing.T) {
	for _, r := range badCandidates {
		t.Run(r.name, func(t *testing.T) {
			v := r.try(t, nil)
			if why := strings.Join(v.Why, "\n"); v.Rung != r.want || !strings.Contains(why, r.why) {
				t.Errorf("rung %q, want %q because of %q: %s\n%s", v.Rung, r.want, r.why, v.Sentence, why)
			}
			if changes := strings.Join(v.Changes, "\n"); !strings.Contains(changes, r.change) {
				t.Errorf("changes, want %q in:\n%s", r.change, changes)
			}
		})
	}
}

// A currency with few lines may hold most of the money: nobody here can say how much it
// is beside the rest.
func TestALossInASmallCurrencyIsNotPassedOver(t *testing.T) {
	shopWith := func(customers, lines int, factor float64) Verdict {
		drawn := gain().sales()
		for i := range lines {
			drawn = append(drawn, sale{product: "W", quantity: 10_000, control: pounds(10), candidate: pounds(10 * factor), cost: pounds(7.5), currency: "EUR",
				customer: fmt.Sprint("wholesale ", i%customers), day: int32(i % 14)})
		}
		return analysed(t, shop(drawn...), facts, func(s *Settings) { s.MinMargin = -1 }).Verdict
	}
	for _, c := range []struct {
		name             string
		customers, lines int
		factor           float64
		want             Rung
	}{
		{"a loss of few", 10, 10, 0.9, Review},
		{"a loss in one line", 1, 1, 0.9, Ready},
		{"a loss of some", 20, 40, 0.9, Review},
		{"a loss of one", 1, 40, 0.9, Review},
		{"a gain of some", 20, 40, 1.03, Ready},
		{"a loss of as many as a verdict needs", 100, 40 + 60, 0.9, DoNot},
	} {
		v := shopWith(c.customers, c.lines, c.factor)
		if v.Rung != c.want || !strings.Contains(strings.Join(v.Why, "\n"), "EUR") {
			t.Errorf("%s: rung %q, want %q: %s\n%s", c.name, v.Rung, c.want, v.Sentence, strings.Join(v.Why, "\n"))
		}
	}
}

func TestReadySaysWhatNobodyHasLookedAt(t *testing.T) {
	r := rung{make: func(d *trade) { d.missing(50) }, set: func(s *Settings) { s.MaxMissing, s.MaxRise = -1, -1 }}
	v := r.try(t, nil)
	why := strings.Join(v.Why, "\n")
	for _, want := range []string{"turned off: lines without an answer, the largest rise of a price", "gave no price for 18 lines"} {
		if v.Rung != Ready || !strings.Contains(why, want) {
			t.Errorf("rung %q, want %q in:\n%s", v.Rung, want, why)
		}
	}
}

// What was compared under a large sample is not to be divided by a small one.
func TestASampleThatVariedSaysNothingOfAll(t *testing.T) {
	d := gain()
	d.edit = func(i int, s *sale) {
		if i%9 == 0 {
			s.reason = Sampled
		}
	}
	f := facts
	f.Operations, f.SampleVaried = &Operations{Sampled: 10}, true
	r := analysed(t, shop(d.sales()...), f, nil)
	p := r.Currencies[0].Projection
	for _, i := range p.Intervals {
		if strings.Contains(i.Method, "Horvitz-Thompson") {
			t.Errorf("an estimate of all customers: %+v", i)
		}
	}
	if !strings.Contains(strings.Join(p.Thin, "\n"), "not the same all the time") || !strings.Contains(strings.Join(r.Assumptions, "\n"), "only a part of the orders") {
		t.Errorf("it is not told: %q, %q", p.Thin, r.Assumptions)
	}
}

func TestAGuardrailIsANumber(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		s := Defaults()
		s.RisenBy = f
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), "risenBy") {
			t.Errorf("risenBy %v: %v", f, err)
		}
	}
}
