package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/stat/distuv"
)

// V9: half-widths over sigma at the defaults, and how many times a fixed interval's.
func TestSequenceWidths(t *testing.T) {
	for _, tc := range []struct {
		n           int64
		half, times float64
	}{
		{100, .669439, 3.416}, {1000, .106375, 1.716}, {5000, .042924, 1.549}, {10000, .030615, 1.562}, {100000, .010552, 1.703},
	} {
		half := Sequence{}.HalfWidth(tc.n, 1)
		times := half * math.Sqrt(float64(tc.n)) / distuv.UnitNormal.Quantile(.975)
		if math.Abs(half-tc.half) > 0.5e-6 || math.Abs(times-tc.times) > 0.5e-3 {
			t.Errorf("n %d: %v (x%v), want %v (x%v)", tc.n, half, times, tc.half, tc.times)
		}
		// The paper's own words, equation 9, with its rho.
		a := -2 * math.Log(.05)
		rho := math.Sqrt((a + math.Log(a+1)) / 5000)
		n := float64(tc.n)
		paper := math.Sqrt(2 * (n*rho*rho + 1) / math.Pow(n*rho, 2) * math.Log(math.Sqrt(n*rho*rho+1)/.05))
		if math.Abs(half-paper) > 1e-12 {
			t.Errorf("n %d: %v, equation 9 gives %v", tc.n, half, paper)
		}
	}
	if !math.IsInf(Sequence{}.HalfWidth(0, 1), 1) {
		t.Error("nothing gives a width")
	}
}

// V10: the unit tests of confseq (Howard and others), two-sided normal mixture.
func TestMixtureOfConfseq(t *testing.T) {
	m := BestMixture(100, .05)
	got := []float64{m.Rho, m.Bound(100), m.Log(10, 100)}
	if diff := cmp.Diff([]float64{12.60056, 30.35209, -.6510052}, got, within(0.5e-5)); diff != "" {
		t.Error(diff)
	}
	// At the bound, the evidence is 1/alpha.
	if got := m.Log(m.Bound(300), 300); math.Abs(got-math.Log(20)) > 1e-12 {
		t.Errorf("evidence at the bound %v, want ln 20", got)
	}
}

// V11, and a second opinion: the mSPRT of Johari and others is another road to the same
// mixture, so that its half-width must be ours with rho = V/tau^2. Only one of the two
// is offered, for a page with two would be read for the better.
func TestMixtureAgainstMSPRT(t *testing.T) {
	const v, tau2, d, alpha = .0025, .01, .12, .05
	l := math.Sqrt(v/(v+tau2)) * math.Exp(tau2*d*d/(2*v*(v+tau2)))
	half := math.Sqrt(2 * v * (v + tau2) / tau2 * math.Log(math.Sqrt((v+tau2)/v)/alpha))
	if diff := cmp.Diff([]float64{4.478468, .223291, .154119}, []float64{l, min(1, 1/l), half}, within(0.5e-6)); diff != "" {
		t.Fatalf("mSPRT:\n%s", diff)
	}
	// A mean with variance v is a sum of n values with variance n v, seen as s/sqrt(n v).
	m := Mixture{Alpha: alpha, Rho: v / tau2}
	if got := math.Exp(m.Log(d/math.Sqrt(v), 1)); math.Abs(got-l) > 1e-9 {
		t.Errorf("the mixture gives %v, mSPRT %v", got, l)
	}
	if got := m.Bound(1) * math.Sqrt(v); math.Abs(got-half) > 1e-9 {
		t.Errorf("the mixture's half-width is %v, mSPRT's %v", got, half)
	}
}

// A hundred looks at nothing: the sequence must be right in at least 95 of 100 runs, at
// all looks, and the fixed interval is not. Half of the runs have lopsided values.
func TestSequenceUnderAHundredLooks(t *testing.T) {
	const seed, runs, looks, between = 2025, 2000, 100, 100
	random := rand.New(rand.NewPCG(seed, 0))
	var wrong, fixed int
	for run := range runs {
		var m Moments
		watch, anyFixed := Watch{}, false
		for range looks {
			for range between {
				if run%2 == 0 {
					m.Add(random.NormFloat64())
				} else {
					m.Add(random.ExpFloat64() - 1)
				}
			}
			watch.Look(m)
			anyFixed = anyFixed || MeanPerCluster(m).Interval(.95).Sign() != Mixed
		}
		if watch.Sign != Mixed {
			wrong++
		}
		if anyFixed {
			fixed++
		}
	}
	t.Logf("seed %d: wrong at some look: sequence %.2f %%, fixed interval %.1f %%", seed, 100*float64(wrong)/runs, 100*float64(fixed)/runs)
	if wrong > runs*5/100 {
		t.Errorf("seed %d: the sequence is wrong in %d of %d runs", seed, wrong, runs)
	}
	if fixed < runs*25/100 {
		t.Errorf("seed %d: the fixed interval is wrong in %d of %d runs only, so that this test tells nothing", seed, fixed, runs)
	}
}

func TestSequenceNeeded(t *testing.T) {
	s := Sequence{}
	// V9: at 5000 clusters the half-width is .042924 deviations.
	n, ok := s.Needed(-.042924, 1)
	if !ok || n < 4990 || n > 5010 || s.HalfWidth(n, 1) >= .042924 || s.HalfWidth(n-1, 1) < .042924 {
		t.Errorf("%d %v, want about 5000", n, ok)
	}
	if n, ok := s.Needed(50, 1); !ok || n != LeastClusters {
		t.Errorf("a plain difference needs %d %v", n, ok)
	}
	if n, ok := s.Needed(0, 1); ok {
		t.Errorf("no difference is found after %d", n)
	}
}

func TestWatch(t *testing.T) {
	// Values of 1 and -1 by turns, then of 2 and 0, then -8.
	var m Moments
	var w Watch
	feed := func(n int, a, b float64) {
		for range n / 2 {
			m.Add(a)
			m.Add(b)
		}
	}
	feed(LeastClusters-2, 2, 1.5)
	if s := w.Look(m); s != Mixed {
		t.Errorf("%v after %d clusters", s, m.N)
	}
	if got := (Sequence{}).Total(m); got != Everything {
		t.Errorf("%d clusters give %+v", m.N, got)
	}
	feed(2, 2, 1.5)
	if s := w.Look(m); s != Positive || w.Since != LeastClusters || w.Looks != 2 {
		t.Errorf("%+v", w)
	}
	total, mean := (Sequence{}).Total(m), (Sequence{}).Mean(m)
	if !total.Contains(m.Sum) || math.Abs(total.Low-mean.Low*LeastClusters) > 1e-9 {
		t.Errorf("total %+v, mean %+v", total, mean)
	}
	feed(20000, 1, -3)
	if s := w.Look(m); s != Positive || !w.Reversed || w.Since != LeastClusters {
		t.Errorf("after a change: %+v", w)
	}
	var zeros Moments
	for range 500 {
		zeros.Add(0)
	}
	nothing := Watch{}
	if s := nothing.Look(zeros); s != Mixed {
		t.Errorf("no difference at all is %v", s)
	}
}
