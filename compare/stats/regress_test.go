package stats

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// panel is five firms over four years, two of whose pairs come twice, with effects of
// firm and year in x and in what is left of y.
var panel = struct {
	firm, year []int
	x, w, y    []float64
}{
	firm: []int{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 0, 3},
	year: []int{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 1, 2},
	x:    []float64{9, 2, 1, 3, 3, -4, -5, -2, 4, -3, -5, -2, 6, 0, -3, 2, 8, 1, 0, 4, 3, -2},
	w:    []float64{0, 2, 5, 0, 3, 5, 3, 1, 1, 5, 3, 2, 0, 1, 2, 1, 1, 1, 1, 4, 2, 4},
	y:    []float64{14, 4, 1, 0, 3, -8, -10, -8, 7, -4, -7, -6, 15, 6, 0, 5, 14, 4, 2, 5, 3, 3},
}

// V15 is the set of 5000 rows by M. Petersen (kellogg.northwestern.edu, test_data.htm),
// which is not ours to keep here: with it, as the package statsmodels 0.15.0 carries
// it, this code gives b 1.0348 and the errors .0286 (OLS), .0284 (White), .0506 (firm),
// .0334 (year), .0536 (both), all as Petersen prints them. What follows are the same
// five on a panel of our own, worked out apart with numpy 2.4.6 from the definitions of
// the matrices.
func TestErrorsOfAPanel(t *testing.T) {
	fit, err := OLS(panel.y, panel.x, panel.w)
	if err != nil {
		t.Fatal(err)
	}
	firm, err := fit.Clustered(Group(panel.firm))
	if err != nil {
		t.Fatal(err)
	}
	year, err := fit.Clustered(Group(panel.year))
	if err != nil {
		t.Fatal(err)
	}
	both, err := fit.TwoWay(Group(panel.firm), Group(panel.year))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float64{0.9226171299, 1.5721630051, -0.1859752545}, fit.Coefficients, within(1e-9)); diff != "" {
		t.Errorf("coefficients:\n%s", diff)
	}
	for _, tc := range []struct {
		name string
		got  Errors
		want Errors
	}{
		{"classical", fit.Classical(), Errors{SE: []float64{1.4096427654, 0.2151957406, 0.5179369015}}},
		{"White", fit.White(), Errors{SE: []float64{1.6959011202, 0.1861487957, 0.5199268202}}},
		{"firm", firm, Errors{SE: []float64{2.4352990295, 0.2082830244, 0.4509833316}, Groups: 5}},
		{"year", year, Errors{SE: []float64{2.4340215869, 0.1968682126, 0.6518581254}, Groups: 4}},
		// For the third the sum is 0.632391449 squared, below that of the years alone.
		{"both", both, Errors{SE: []float64{3.012988285, 0.212514692, 0.6518581254}, Groups: 4, Floored: []bool{false, false, true}}},
	} {
		if diff := cmp.Diff(tc.want, tc.got, within(1e-9)); diff != "" {
			t.Errorf("%s:\n%s", tc.name, diff)
		}
	}
}

// A line through three points, by hand: y = 1/3 + 1.5x, residuals -1/3+..; the errors of
// the slope are s/sqrt(sum (x-2)^2).
func TestLineByHand(t *testing.T) {
	fit, err := OLS([]float64{2, 3, 5}, []float64{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float64{1. / 3, 1.5}, fit.Coefficients, within(1e-12)); diff != "" {
		t.Errorf("coefficients:\n%s", diff)
	}
	if diff := cmp.Diff([]float64{1. / 6, -1. / 3, 1. / 6}, fit.Residuals, within(1e-12)); diff != "" {
		t.Errorf("residuals:\n%s", diff)
	}
	// s^2 = 1/6; (X'X)^-1 = [[14, -6], [-6, 3]] / 6.
	if diff := cmp.Diff([]float64{math.Sqrt(14. / 36), math.Sqrt(3. / 36)}, fit.Classical().SE, within(1e-12)); diff != "" {
		t.Errorf("errors:\n%s", diff)
	}
	// Slope: sum ((x-2) e)^2 / (sum (x-2)^2)^2 = (1/18)/4, times n/(n-k) = 3.
	if got := fit.White().SE[1]; math.Abs(got-math.Sqrt(3./72)) > 1e-12 {
		t.Errorf("White's error of the slope is %v", got)
	}
}

// Each row its own group is White's, but for the correction.
func TestClustersOfOneAreWhite(t *testing.T) {
	fit, err := OLS(panel.y, panel.x)
	if err != nil {
		t.Fatal(err)
	}
	rows := make([]int, len(panel.y))
	for i := range rows {
		rows[i] = -i
	}
	got, err := fit.Clustered(Group(rows))
	if err != nil {
		t.Fatal(err)
	}
	// G/(G-1) (n-1)/(n-k) with G = n is n/(n-k).
	if diff := cmp.Diff(fit.White().SE, got.SE, within(1e-12)); diff != "" {
		t.Error(diff)
	}
}

// Elasticity is what such a regression is for: the slope of log quantity on log price,
// with shocks that all rows of a product share. Intervals from clusters must hold;
// the textbook's do not.
func TestClusteredErrorsCover(t *testing.T) {
	const seed, runs, products, weeks, elasticity = 23, 500, 40, 20, -1.8
	random := rand.New(rand.NewPCG(seed, 0))
	var clustered, classical float64
	for range runs {
		var y, x []float64
		var product []int
		for p := range products {
			level, price := random.NormFloat64(), random.NormFloat64()
			for range weeks {
				logPrice := price + .2*random.NormFloat64()
				x, product = append(x, logPrice), append(product, p)
				y = append(y, 3+elasticity*logPrice+level+.3*random.NormFloat64())
			}
		}
		fit, err := OLS(y, x)
		if err != nil {
			t.Fatal(err)
		}
		e, err := fit.Clustered(Group(product))
		if err != nil {
			t.Fatal(err)
		}
		off := math.Abs(fit.Coefficients[1] - elasticity)
		if off <= Critical(.95, e.Groups)*e.SE[1] {
			clustered += 1. / runs
		}
		if off <= Critical(.95, len(y))*fit.Classical().SE[1] {
			classical += 1. / runs
		}
	}
	t.Logf("seed %d: clustered %.3f, classical %.3f", seed, clustered, classical)
	if clustered < .89 || classical > .6 {
		t.Errorf("seed %d: clustered intervals hold in %v of runs, the textbook's in %v", seed, clustered, classical)
	}
}

func TestOLSRefuses(t *testing.T) {
	if _, err := OLS([]float64{1, 2}, []float64{1, 2}); !errors.Is(err, ErrTooFew) {
		t.Errorf("two rows: %v", err)
	}
	y := []float64{1, 2, 3, 5}
	for name, regressors := range map[string][][]float64{
		"a constant": {{7, 7, 7, 7}},
		"twice":      {{1, 2, 3, 4}, {2, 4, 6, 8}},
		"too short":  {{1, 2, 3}},
		"no number":  {{1, 2, 3, math.NaN()}},
	} {
		if fit, err := OLS(y, regressors...); err == nil {
			t.Errorf("%s gives %v", name, fit.Coefficients)
		}
	}
	fit, err := OLS(y, []float64{1, 2, 4, 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fit.Clustered(Groups{0, 1}); err == nil {
		t.Error("two groups for four rows are taken")
	}
	if _, err := fit.TwoWay(Groups{0, 1, 2, 3}, Groups{0}); err == nil {
		t.Error("one group for four rows is taken")
	}
	one, err := fit.TwoWay(Groups{0, 0, 0, 0}, Groups{0, 1, 2, 3})
	if err != nil || !math.IsInf(one.SE[1], 1) {
		t.Errorf("a single group: %+v %v", one, err)
	}
}
