package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"
)

// orders is V13 of the house's test vectors: the differences of each customer's
// orders.
var orders = [][]float64{{1, 2}, {.5}, {-1, .25, .25}, {4}, {0, 0}}

// customers gives the sums and counts of orders, and the orders one by one.
func customers() (sums, counts, each []float64) {
	for _, c := range orders {
		var sum float64
		for _, d := range c {
			sum += d
		}
		sums, counts, each = append(sums, sum), append(counts, float64(len(c))), append(each, c...)
	}
	return sums, counts, each
}

// V13: totals and per-order means by customer.
func TestErrorsByCustomer(t *testing.T) {
	sums, counts, each := customers()
	if diff := cmp.Diff([]float64{3, .5, -.5, 4, 0}, sums); diff != "" {
		t.Fatal(diff)
	}
	m := MomentsOf(sums)
	ratio, err := Ratio(sums, counts)
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ Value, SE float64 }
	total, naive := Total(m), Naive(each)
	got := []row{{Value: m.Variance()}, {total.Value, total.SE}, {ratio.Value, ratio.SE}, {naive.Value, naive.SE}}
	want := []row{{Value: 3.925}, {7, 4.430011}, {.777778, .595687}, {.777778, .484919}}
	if diff := cmp.Diff(want, got, within(0.5e-6)); diff != "" {
		t.Error(diff)
	}
	if total.Clusters != 5 || ratio.Clusters != 5 || naive.Clusters != 9 {
		t.Errorf("clusters: %d, %d, %d", total.Clusters, ratio.Clusters, naive.Clusters)
	}
}

// V18: a tenth of the customers of V13 kept.
func TestHorvitzThompson(t *testing.T) {
	sums, _, _ := customers()
	got, err := HorvitzThompson(MomentsOf(sums), .1)
	if err != nil || math.Abs(got.Value-70) > 1e-9 || math.Abs(got.SE-47.906158) > 0.5e-6 {
		t.Errorf("%+v %v, want 70 with 47.906158", got, err)
	}
	if got, err = HorvitzThompson(MomentsOf(sums), 1); err != nil || got.Value != 7 || got.SE != 0 {
		t.Errorf("all kept: %+v %v, want 7 exactly", got, err)
	}
	for _, kept := range []float64{0, -1, 1.5, math.NaN()} {
		if got, err = HorvitzThompson(MomentsOf(sums), kept); err == nil {
			t.Errorf("kept %v gives %+v", kept, got)
		}
	}
}

// The sampling error must be the one that sampling makes.
func TestHorvitzThompsonAgainstSampling(t *testing.T) {
	const seed, kept, runs = 3, .3, 4000
	random := rand.New(rand.NewPCG(seed, 0))
	population := make([]float64, 200)
	var exact float64
	for i := range population {
		population[i] = random.ExpFloat64()
		exact += population[i]
	}
	var totals, variances Moments
	for range runs {
		var m Moments
		for _, s := range population {
			if random.Float64() < kept {
				m.Add(s)
			}
		}
		e, err := HorvitzThompson(m, kept)
		if err != nil {
			t.Fatal(err)
		}
		totals.Add(e.Value)
		variances.Add(e.SE * e.SE)
	}
	if z := (totals.Mean() - exact) / totals.Deviation() * math.Sqrt(runs); math.Abs(z) > 4 {
		t.Errorf("seed %d: the mean of the totals is %v, that of all is %v", seed, totals.Mean(), exact)
	}
	if q := variances.Mean() / totals.Variance(); q < .9 || q > 1.1 {
		t.Errorf("seed %d: the mean variance is %v of the true one", seed, q)
	}
}

// The clusters' error must be the one that drawing other customers makes, for a total
// and for a ratio.
func TestClusterErrorsAgainstDrawing(t *testing.T) {
	const seed, runs = 5, 4000
	random := rand.New(rand.NewPCG(seed, 0))
	var totals, ratios, totalV, ratioV Moments
	for range runs {
		x, n := make([]float64, 150), make([]float64, 150)
		for i := range x {
			n[i] = float64(1 + random.IntN(5))
			x[i] = n[i]*random.NormFloat64() + n[i]
		}
		total := Total(MomentsOf(x))
		ratio, err := Ratio(x, n)
		if err != nil {
			t.Fatal(err)
		}
		totals.Add(total.Value)
		ratios.Add(ratio.Value)
		totalV.Add(total.SE * total.SE)
		ratioV.Add(ratio.SE * ratio.SE)
	}
	for name, q := range map[string]float64{"total": totalV.Mean() / totals.Variance(), "ratio": ratioV.Mean() / ratios.Variance()} {
		if q < .9 || q > 1.1 {
			t.Errorf("seed %d: the mean variance of a %s is %v of the true one", seed, name, q)
		}
	}
}

func TestTwoWay(t *testing.T) {
	// Two customers by three products, one cell each. By hand, with C var(S):
	// customers 6, 15: 2*40.5 = 81; products 5, 7, 9: 3*4 = 12; cells 1..6: 6*3.5 = 21.
	both := MomentsOf([]float64{1, 2, 3, 4, 5, 6})
	got := TwoWay(MomentsOf([]float64{6, 15}), MomentsOf([]float64{5, 7, 9}), both)
	want := Estimate{Value: 21, SE: 9, Clusters: 2, Floored: true} // 81+12-21 = 72 < 81
	if diff := cmp.Diff(want, got, within(1e-12)); diff != "" {
		t.Errorf("floored:\n%s", diff)
	}
	// The same customers and products, with cells that vary less: 81+12-6*.7.
	got = TwoWay(MomentsOf([]float64{6, 15}), MomentsOf([]float64{5, 7, 9}), MomentsOf([]float64{3, 3, 3, 4, 4, 5}))
	if got.Floored || math.Abs(got.SE*got.SE-(93-6*stat.Variance([]float64{3, 3, 3, 4, 4, 5}, nil))) > 1e-9 {
		t.Errorf("not floored: %+v", got)
	}
	got = TwoWay(MomentsOf([]float64{6, 15}), MomentsOf([]float64{21}), MomentsOf([]float64{6, 15}))
	if got.Interval(.95) != Everything {
		t.Errorf("one product alone gives %+v", got)
	}
}

func TestTwoWayIsNeverBelowOneWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, columns := rapid.IntRange(2, 6).Draw(t, "customers"), rapid.IntRange(2, 6).Draw(t, "products")
		c, p := make([]float64, rows), make([]float64, columns)
		var cells Moments
		for i := range c {
			for j := range p {
				v := float64(rapid.IntRange(-100, 100).Draw(t, "cell"))
				c[i] += v
				p[j] += v
				cells.Add(v)
			}
		}
		got := TwoWay(MomentsOf(c), MomentsOf(p), cells)
		if floor := max(Total(MomentsOf(c)).SE, Total(MomentsOf(p)).SE); got.SE < floor*(1-1e-12) {
			t.Fatalf("%v is below %v", got.SE, floor)
		}
	})
}

func TestIntervalWidensWithFewClusters(t *testing.T) {
	normal := distuv.UnitNormal.Quantile(.975)
	for clusters, want := range map[int]float64{2: 12.7062, 10: 2.2622, 29: 2.0484, 30: normal, 5000: normal} {
		if got := Critical(.95, clusters); math.Abs(got-want) > 0.5e-4 {
			t.Errorf("%d clusters: %v, want %v", clusters, got, want)
		}
	}
	e := Estimate{Value: 10, SE: 2, Clusters: 100}
	if got := e.Interval(.95); math.Abs(got.Low-(10-2*normal)) > 1e-9 || got.Sign() != Positive || e.Z() != 5 {
		t.Errorf("%+v, z %v", got, e.Z())
	}
	for _, e := range []Estimate{Total(Moments{}), Total(MomentsOf([]float64{5})), MeanPerCluster(Moments{}), {Value: 1, SE: math.Inf(1), Clusters: 9}} {
		if got := e.Interval(.95); got.Known() || got.Sign() != Mixed || !got.Contains(0) || e.Z() != 0 {
			t.Errorf("%+v gives %+v, z %v", e, got, e.Z())
		}
	}
	if got := (Interval{}).Sign(); got != Zero {
		t.Errorf("nothing but zero is %v", got)
	}
	if got := (Interval{-3, -1}).Sign(); got != Negative {
		t.Errorf("all below zero is %v", got)
	}
}

func TestRatioOfLittle(t *testing.T) {
	if _, err := Ratio([]float64{1}, []float64{1, 2}); err == nil {
		t.Error("sums and counts of different customers give a ratio")
	}
	for _, tc := range [][2][]float64{{{}, {}}, {{3}, {2}}, {{1, 2}, {0, 0}}} {
		if got, err := Ratio(tc[0], tc[1]); err != nil || got.Interval(.95) != Everything {
			t.Errorf("%v: %+v %v", tc, got, err)
		}
	}
}

func TestConcentration(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = -1
	}
	hundred[7] = 101
	for _, tc := range []struct {
		name string
		sums []float64
		top  float64
		want float64
	}{
		{"one of a hundred", hundred, .01, .505},
		{"three of a hundred", hundred, .025, 103. / 200},
		{"gains and losses that cancel", []float64{5, -5, 0, 0}, .01, .5},
		{"no movement", []float64{0, 0}, .01, 0},
		{"nobody", nil, .01, 0},
	} {
		if got := Concentration(tc.sums, tc.top); math.Abs(got-tc.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestMomentsAgainstGonum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) float64 {
			return float64(rapid.IntRange(-1000, 1000).Draw(t, "value"))
		}), 3, 50).Draw(t, "values")
		m := MomentsOf(values[:1])
		m.Merge(MomentsOf(values[1:]))
		m.Add(77)
		m.Remove(77)
		n := float64(len(values))
		mean, variance := stat.MeanVariance(values, nil)
		got, want := []float64{m.Mean(), m.Variance()}, []float64{mean, variance}
		if variance > 0 {
			// gonum corrects for small samples; the population's is the mean cube of the
			// standardised values.
			second := variance * (n - 1) / n
			got, want = append(got, m.Skewness()), append(want, stat.Moment(3, values, nil)/math.Pow(second, 1.5))
		}
		if diff := cmp.Diff(want, got, within(1e-6)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestSkewRule(t *testing.T) {
	// One in ten: skewness (1-2p)/sqrt(p(1-p)) = 8/3, so more than 355*64/9 = 2524.4.
	sample := func(n int) (m Moments) {
		for i := range n {
			if i%10 == 0 {
				m.Add(1)
			} else {
				m.Add(0)
			}
		}
		return m
	}
	small, large := sample(2520), sample(2530)
	if small.Needed() != 2525 || small.Enough() || !large.Enough() {
		t.Errorf("needs %d, enough at 2520 %v, at 2530 %v", small.Needed(), small.Enough(), large.Enough())
	}
	if m := MomentsOf([]float64{.1, .1, .1, .1}); m.Skewness() != 0 || !m.Enough() {
		t.Errorf("equal values have skewness %v", m.Skewness())
	}
	if (Moments{}).Enough() || MomentsOf([]float64{1}).Enough() {
		t.Error("a single value is enough")
	}
}

// V7, from GrowthBook's tests (test_tests.py): two arms, absolute and relative
// difference. A shadow has no arms; the building blocks must give the same.
func TestTwoArmsOfGrowthBook(t *testing.T) {
	a := Moments{N: 3407, Sum: 1396.87, Square: 52377.9767}
	b := Moments{N: 3461, Sum: 2422.7, Square: 134698.29}
	va, vb := a.Variance()/float64(a.N), b.Variance()/float64(b.N)
	ma, mb := a.Mean(), b.Mean()
	for _, tc := range []struct {
		name                   string
		value, v, va, vb       float64
		wantValue, se, low, hi float64
		p                      float64
	}{
		{"absolute", mb - ma, va + vb, va, vb, .29, .12478, .04538, .53462, .02016},
		{"relative", (mb - ma) / ma, vb/(ma*ma) + va*mb*mb/math.Pow(ma, 4), va * mb * mb / math.Pow(ma, 4), vb / (ma * ma),
			.70732, .37879, -.03526, 1.44989, .06191},
	} {
		// GrowthBook takes Student's t with Welch's degrees of freedom, of the absolute
		// difference for both.
		freedom := (va + vb) * (va + vb) / (va*va/float64(a.N-1) + vb*vb/float64(b.N-1))
		se := math.Sqrt(tc.v)
		student := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: freedom}
		half := student.Quantile(.975) * se
		got := []float64{tc.value, se, tc.value - half, tc.value + half, 2 * student.Survival(math.Abs(tc.value)/se)}
		want := []float64{tc.wantValue, tc.se, tc.low, tc.hi, tc.p}
		if diff := cmp.Diff(want, got, within(0.6e-5)); diff != "" {
			t.Errorf("%s:\n%s", tc.name, diff)
		}
	}
}
