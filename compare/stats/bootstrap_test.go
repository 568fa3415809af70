package stats

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gonum.org/v1/gonum/stat"
)

// V12: the data of scipy's tests (test_resampling.py), whose figures are R's boot with
// a million repetitions.
func TestBootstrapAgainstR(t *testing.T) {
	values := []float64{10, 12, 12.5, 12.5, 13.9, 15, 21, 22, 23, 34, 50, 81, 89, 121, 134, 213}
	got, err := Bootstrap{Seed: 1, Reps: 1_000_000}.Mean(values)
	if err != nil {
		t.Fatal(err)
	}
	mean, variance := stat.MeanVariance(values, nil)
	half := 2.131450 * math.Sqrt(variance/16) // t(15)
	for _, tc := range []struct {
		name      string
		got, want Interval
	}{
		{"basic", got.Basic, Interval{23.77, 79.12}},
		{"percentile", got.Percentile, Interval{28.86, 84.21}},
		{"BCa", got.BCa, Interval{32.31, 91.43}},
		{"Student", got.Student, Interval{mean - half, mean + half}},
	} {
		if diff := cmp.Diff(tc.want, tc.got, cmpopts.EquateApprox(.005, 0)); diff != "" {
			t.Errorf("%s:\n%s", tc.name, diff)
		}
	}
	if math.Abs(got.Bias-.0595) > .004 || math.Abs(got.Acceleration-.06153) > 0.5e-5 {
		t.Errorf("bias %v, acceleration %v, want .0595 and .06153", got.Bias, got.Acceleration)
	}
}

func TestBootstrapIsReproducible(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 0))
	sums := make([]float64, 777)
	for i := range sums {
		sums[i] = random.NormFloat64()
	}
	b := Bootstrap{Seed: 42, Reps: 333}
	first, err := b.Total(sums)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Total(sums)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the same seed gives another interval:\n%s", diff)
	}
	b.Seed = 43
	other, err := b.Total(sums)
	if err != nil {
		t.Fatal(err)
	}
	if other.BCa == first.BCa {
		t.Error("another seed gives the same interval")
	}
	// Both are near the formula: 333 repetitions know the error to 4 %.
	if q := first.SE / Total(MomentsOf(sums)).SE; q < .85 || q > 1.15 {
		t.Errorf("the error is %v of the formula's", q)
	}
}

// Every cluster must come as often as every other.
func TestDrawnIsEven(t *testing.T) {
	const seed, draws = 9, 100_000
	values := make([]float64, 7)
	random := rand.NewPCG(seed, 0)
	var counts [7]int64
	for i := range values {
		values[i] = 1
		for range draws / 7 {
			counts[i] += int64(drawn(random, values))
		}
		values[i] = 0
	}
	if _, p, err := SampleRatio(counts[:], nil); err != nil || p < 1e-4 {
		t.Errorf("seed %d: drawn %v, p %v, %v", seed, counts, p, err)
	}
}

func TestBootstrapOfLittle(t *testing.T) {
	for _, sums := range [][]float64{nil, {5}} {
		if got, err := (Bootstrap{}).Total(sums); !errors.Is(err, ErrTooFew) {
			t.Errorf("%v gives %+v %v", sums, got, err)
		}
	}
	got, err := Bootstrap{}.Total([]float64{3, 3, 3})
	if err != nil {
		t.Fatal(err)
	}
	want := Interval{9, 9}
	if got.Reps != DefaultReps || got.BCa != want || got.Percentile != want || got.Basic != want || got.Student != want {
		t.Errorf("equal clusters: %+v", got)
	}
	for _, b := range []Bootstrap{{Reps: 5}, {Level: 1}, {Level: -1}} {
		if _, err := b.Total([]float64{1, 2}); err == nil {
			t.Errorf("%+v resamples", b)
		}
	}
}

// On symmetric data all intervals must cover what they say, and on long tails BCa more
// often than the percentiles.
func TestBootstrapCoverage(t *testing.T) {
	const seed, runs = 13, 400
	random := rand.New(rand.NewPCG(seed, 0))
	cover := func(draw func() float64, mean float64) (bca, percentile float64) {
		for i := range runs {
			values := make([]float64, 60)
			for j := range values {
				values[j] = draw()
			}
			r, err := Bootstrap{Seed: uint64(i), Reps: 1000}.Mean(values)
			if err != nil {
				t.Fatal(err)
			}
			if r.BCa.Contains(mean) {
				bca += 1. / runs
			}
			if r.Percentile.Contains(mean) {
				percentile += 1. / runs
			}
		}
		return bca, percentile
	}
	if bca, percentile := cover(random.NormFloat64, 0); bca < .91 || percentile < .91 || bca > .98 {
		t.Errorf("seed %d: normal values are covered in %v and %v of runs", seed, bca, percentile)
	}
	bca, percentile := cover(func() float64 { return math.Exp(2 * random.NormFloat64()) }, math.Exp(2))
	t.Logf("lognormal, sigma 2, 60 clusters: BCa covers %.3f, percentiles %.3f", bca, percentile)
	if bca < percentile || bca > .9 {
		t.Errorf("seed %d: long tails are covered in %v and %v of runs", seed, bca, percentile)
	}
}

func TestBlocksKeepTheWeek(t *testing.T) {
	// Ten weeks that are all alike: whole weeks, at whatever day they begin, vary not.
	var days []float64
	for range 10 {
		days = append(days, 1, 1, 1, 1, 1, 50, 80)
	}
	got, interval, err := Bootstrap{Seed: 1}.Blocks(days, 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Estimate{Value: 1350, Clusters: 10}); got != want || interval != (Interval{1350, 1350}) {
		t.Errorf("alike weeks: %+v %+v", got, interval)
	}
	// Weeks with a level of their own hang together: blocks must see more than days.
	const seed = 17
	random := rand.New(rand.NewPCG(seed, 0))
	days = days[:0]
	for range 30 {
		level := 10 * random.NormFloat64()
		for range Week {
			days = append(days, level+random.NormFloat64())
		}
	}
	got, interval, err = Bootstrap{Seed: 1}.Blocks(days, 0)
	if err != nil {
		t.Fatal(err)
	}
	single, _, err := Bootstrap{Seed: 1}.Blocks(days, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.SE < 1.5*single.SE || !interval.Contains(got.Value) {
		t.Errorf("seed %d: error %v by week, %v by day, interval %+v about %v", seed, got.SE, single.SE, interval, got.Value)
	}
	if q := single.SE / Total(MomentsOf(days)).SE; q < .9 || q > 1.1 {
		t.Errorf("blocks of one day give %v of the formula's error", q)
	}
	if _, _, err := (Bootstrap{}).Blocks(days[:13], 0); !errors.Is(err, ErrTooFew) {
		t.Errorf("thirteen days: %v", err)
	}
}

func TestBlocksAtTheEnds(t *testing.T) {
	// Five days in blocks of two: the third block is cut to its first day, which the
	// last day never is. So it comes with the two others only, each with one chance in
	// four: variance 2 * 3/16. Uncut, it would be 3 * 3/16.
	days := []float64{0, 0, 0, 0, 1}
	got, _, err := Bootstrap{Reps: 20_000}.Blocks(days, 2)
	if err != nil || math.Abs(got.SE-math.Sqrt(.375)) > .02 {
		t.Errorf("error %v %v, want %v", got.SE, err, math.Sqrt(.375))
	}
	// The first day is in one of eight blocks: two blocks bring 25 of its 100 in the
	// mean, and 0 to 100 in all but extreme repetitions. The other 75 are put back.
	days = make([]float64, 14)
	days[0] = 100
	_, interval, err := Bootstrap{Reps: 20_000}.Blocks(days, 0)
	if diff := cmp.Diff(Interval{75, 175}, interval, within(2)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func BenchmarkBootstrap(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	sums := make([]float64, 10_000)
	for i := range sums {
		sums[i] = random.NormFloat64()
	}
	for b.Loop() {
		if _, err := (Bootstrap{Seed: 1}).Total(sums); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBlocks(b *testing.B) {
	days := make([]float64, 365)
	for i := range days {
		days[i] = float64(i % 13)
	}
	for b.Loop() {
		if _, _, err := (Bootstrap{Seed: 1}).Blocks(days, 0); err != nil {
			b.Fatal(err)
		}
	}
}
