package stats

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// V17, after the definitions of Holm, and of Benjamini and Hochberg.
func TestAdjustedP(t *testing.T) {
	p := []float64{.01, .04, .03, .005}
	if diff := cmp.Diff([]float64{.03, .06, .06, .02}, Holm(p), within(1e-12)); diff != "" {
		t.Errorf("Holm:\n%s", diff)
	}
	if diff := cmp.Diff([]float64{.02, .04, .04, .02}, BenjaminiHochberg(p), within(1e-12)); diff != "" {
		t.Errorf("Benjamini-Hochberg:\n%s", diff)
	}
	if len(Holm(nil)) != 0 || len(BenjaminiHochberg(nil)) != 0 {
		t.Error("no questions have answers")
	}
}

func TestAdjustedPProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SliceOf(rapid.Float64Range(0, 1)).Draw(t, "p")
		holm, bh := Holm(p), BenjaminiHochberg(p)
		for i := range p {
			if !(p[i] <= bh[i]+1e-15 && bh[i] <= holm[i]+1e-12 && holm[i] <= 1) {
				t.Fatalf("p %v, Benjamini-Hochberg %v, Holm %v", p[i], bh[i], holm[i])
			}
			for j := range p {
				if p[i] < p[j] && (holm[i] > holm[j] || bh[i] > bh[j]) {
					t.Fatalf("%v and %v change places", p[i], p[j])
				}
			}
		}
	})
}

func TestSides(t *testing.T) {
	got := []float64{TwoSided(1.959964), TwoSided(-1.959964), Upper(1.644854), Lower(1.644854), Upper(-1.644854)}
	if diff := cmp.Diff([]float64{.05, .05, .05, .95, .95}, got, within(1e-6)); diff != "" {
		t.Error(diff)
	}
	if p := TwoSided(20); !(p > 0) {
		t.Errorf("far out, p is %v", p)
	}
}

// V22: a split of 5000 to 5200 is no alarm.
func TestSampleRatio(t *testing.T) {
	chi2, p, err := SampleRatio([]int64{5000, 5200}, nil)
	if err != nil || math.Abs(chi2-3.921569) > 0.5e-6 || math.Abs(p-.047670) > 0.5e-6 || p < MismatchAlarm {
		t.Errorf("chi2 %v, p %v, %v", chi2, p, err)
	}
	if _, p, err = SampleRatio([]int64{9000, 1300}, []float64{.9, .1}); err != nil || p > MismatchAlarm {
		t.Errorf("9000 to 1300 for nine to one: p %v, %v", p, err)
	}
	for _, tc := range []struct {
		counts []int64
		shares []float64
	}{{[]int64{1}, nil}, {[]int64{1, 2}, []float64{1}}, {[]int64{-1, 2}, nil}, {[]int64{1, 2}, []float64{0, 1}}} {
		if _, _, err := SampleRatio(tc.counts, tc.shares); err == nil {
			t.Errorf("%+v is tested", tc)
		}
	}
	if _, _, err := SampleRatio([]int64{0, 0}, nil); !errors.Is(err, ErrTooFew) {
		t.Errorf("nobody: %v", err)
	}
}

func TestMissing(t *testing.T) {
	if diff := cmp.Diff(Interval{-60, 260}, Missing(100, 2000, .08)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Interval{100, 100}, Missing(100, 0, .08)); diff != "" {
		t.Errorf("all answered:\n%s", diff)
	}
	// Goods taken back have a negative revenue; the bounds stay in order.
	if got := Missing(0, -50, .1); got != (Interval{-5, 5}) {
		t.Errorf("%+v", got)
	}
}

func TestWinsorize(t *testing.T) {
	sums := make([]float64, 1000) // most customers see no change
	for i := range 10 {
		sums[i] = float64(i + 1)
	}
	sums[10] = -1000
	got, err := Winsorize(sums, .9)
	want := Capped{Total: 55 - 10, Exact: 55 - 1000, Cap: 10, Clusters: 1}
	if diff := cmp.Diff(want, got, within(1e-9)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got, err = Winsorize(sums, 1); err != nil || got.Total != got.Exact || got.Clusters != 0 {
		t.Errorf("cap at the largest: %+v %v", got, err)
	}
	if got, err = Winsorize(sums, 0); err != nil || got.Cap <= 10 || got.Cap >= 1000 {
		t.Errorf("cap by default: %+v %v", got, err)
	}
	if got, err = Winsorize(make([]float64, 5), 0); err != nil || got != (Capped{}) {
		t.Errorf("no movement: %+v %v", got, err)
	}
	if _, err = Winsorize(sums, 2); err == nil {
		t.Error("a quantile of 2 is taken")
	}
}

// A window that begins on a Saturday and has three of them must not make each week
// richer.
func TestRunRate(t *testing.T) {
	var days []float64
	for i := range 15 {
		if i%7 == 0 {
			days = append(days, 100+float64(i))
		} else {
			days = append(days, 10)
		}
	}
	got, err := RunRate(time.Saturday, days)
	if err != nil {
		t.Fatal(err)
	}
	want := Rate{PerWeek: 167, SE: 7 / math.Sqrt(3), Weekdays: [Week]float64{10, 10, 10, 10, 10, 10, 107}, Days: 15}
	if diff := cmp.Diff(want, got, within(1e-9)); diff != "" {
		t.Error(diff)
	}
	month := got.For(28)
	if diff := cmp.Diff(Estimate{Value: 668, SE: 28 / math.Sqrt(3), Clusters: 2}, month, within(1e-9)); diff != "" {
		t.Error(diff)
	}
	if got, err := RunRate(time.Monday, days[:13]); !errors.Is(err, ErrTooFew) {
		t.Errorf("thirteen days give %+v %v", got, err)
	}
}

// V21, from GrowthBook's documentation.
func TestScaledImpact(t *testing.T) {
	if got := ScaledImpact(.31, 5000, .05, 20); math.Abs(got-1550) > 1e-9 {
		t.Errorf("%v a day, want 1550", got)
	}
}

// The textbook's sixteen sd^2/effect^2 units in each arm for 80 % power (van Belle): the
// exact factor is 15.698.
func TestLiveTest(t *testing.T) {
	live := LiveTest{Effect: .5, Deviation: 10, PerDay: 400}
	days, err := live.Days(.8)
	if err != nil || days != 32 { // 15.698*400/200 = 31.4
		t.Errorf("%d days %v, want 32", days, err)
	}
	if before, after := live.Power(31), live.Power(32); before > .8 || after < .8 {
		t.Errorf("power %v after 31 days, %v after 32", before, after)
	}
	if got := live.Detectable(31.3956, .8); math.Abs(got-.5) > 1e-4 {
		t.Errorf("detectable %v, want .5", got)
	}
	if got := (LiveTest{Deviation: 1, PerDay: 10}).Power(5); math.Abs(got-.05) > 1e-9 {
		t.Errorf("power against nothing %v, want alpha", got)
	}
	if live.Power(0) != 0 || !math.IsInf(live.Detectable(0, .8), 1) {
		t.Error("no days find something")
	}
	for _, bad := range []LiveTest{{}, {Effect: 1, Deviation: 1}, {Effect: 1, PerDay: 1}, {Deviation: 1, PerDay: 1}, {Effect: 1e-9, Deviation: 1e9, PerDay: 1}} {
		if days, err := bad.Days(.8); err == nil {
			t.Errorf("%+v takes %d days", bad, days)
		}
	}
}

func TestLiveTestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live := LiveTest{
			Effect:    rapid.Float64Range(.01, 10).Draw(t, "effect"),
			Deviation: rapid.Float64Range(1, 50).Draw(t, "deviation"),
			PerDay:    rapid.Float64Range(1, 1e4).Draw(t, "per day"),
		}
		power := rapid.Float64Range(.1, .99).Draw(t, "power")
		days, err := live.Days(power)
		if err != nil {
			return // more days than there will be
		}
		if got := live.Power(float64(days)); got < power-1e-9 {
			t.Fatalf("%d days give %v, want %v", days, got, power)
		}
	})
}
