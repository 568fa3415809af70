package stats

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// ErrTooFew is wrapped by errors about data from which nothing can be told.
var ErrTooFew = errors.New("too few values")

// FewClusters is the number of clusters below which intervals take Student's t in
// place of the normal distribution.
const FewClusters = 30

// Estimate is a figure and how far it may be off in a next period like this one.
type Estimate struct {
	Value float64
	// SE is the standard error; +Inf below two clusters.
	SE float64
	// Clusters is how many independent units the error rests on.
	Clusters int
	// Floored says that the two-way variance came out below that of one way, and
	// that the larger of those was taken: see TwoWay.
	Floored bool
}

// Critical is how many standard errors each end of a two-sided interval of the
// level (0.95) lies from its middle: of Student's t with clusters-1 degrees of
// freedom below FewClusters, else of the normal. Below two clusters it is +Inf.
func Critical(level float64, clusters int) float64 {
	upper := 1 - (1-level)/2
	switch {
	case clusters < 2:
		return math.Inf(1)
	case clusters < FewClusters:
		return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(clusters - 1)}.Quantile(upper)
	}
	return distuv.UnitNormal.Quantile(upper)
}

// Interval is the two-sided interval of the level, 0.95 for example. It holds for
// one look at the data: for a page that is looked at daily, take a Sequence.
func (e Estimate) Interval(level float64) Interval {
	if e.Clusters < 2 || math.IsInf(e.SE, 0) || math.IsNaN(e.SE) {
		return Everything
	}
	half := Critical(level, e.Clusters) * e.SE
	return Interval{e.Value - half, e.Value + half}
}

// Z is the estimate in standard errors; 0 where that says nothing.
func (e Estimate) Z() float64 {
	if e.SE == 0 || math.IsInf(e.SE, 0) {
		return 0
	}
	return e.Value / e.SE
}

// Total is the sum over clusters: SE = sqrt(C var(S)), with one S for each of the C
// clusters (customers, usually), zeros among them.
func Total(m Moments) Estimate {
	if m.N == 0 {
		return Estimate{SE: math.Inf(1)}
	}
	return Estimate{Value: m.Sum, SE: math.Sqrt(float64(m.N) * m.Variance()), Clusters: int(m.N)}
}

// MeanPerCluster is the mean of the cluster sums.
func MeanPerCluster(m Moments) Estimate {
	if m.N == 0 {
		return Estimate{SE: math.Inf(1)}
	}
	return Estimate{Value: m.Mean(), SE: math.Sqrt(m.Variance() / float64(m.N)), Clusters: int(m.N)}
}

// Naive is the mean of single values as if each were independent of the others: one
// customer's ten orders count as ten. It is what not to print, and is here to be
// shown beside Ratio.
func Naive(values []float64) Estimate { return MeanPerCluster(MomentsOf(values)) }

// Ratio is sum(x)/sum(n) over clusters, such as the difference per order, by the
// delta method: var(R) = (var(x) - 2R cov(x,n) + R^2 var(n)) / (mean(n)^2 C), as Deng,
// Knoblich, Lu, Applying the Delta Method in Metric Analytics, KDD 2018. x and n hold
// one value for each cluster.
func Ratio(x, n []float64) (Estimate, error) {
	if len(x) != len(n) {
		return Estimate{}, fmt.Errorf("ratio of %d sums to %d counts", len(x), len(n))
	}
	unknown := Estimate{SE: math.Inf(1), Clusters: len(x)}
	if len(x) == 0 {
		return unknown, nil
	}
	meanX, meanN := stat.Mean(x, nil), stat.Mean(n, nil)
	if meanN == 0 {
		return unknown, nil
	}
	r := meanX / meanN
	unknown.Value = r
	if len(x) < 2 {
		return unknown, nil
	}
	v := stat.Variance(x, nil) - 2*r*stat.Covariance(x, n, nil) + r*r*stat.Variance(n, nil)
	se := math.Sqrt(max(0, v)/float64(len(x))) / math.Abs(meanN)
	return Estimate{Value: r, SE: se, Clusters: len(x)}, nil
}

// TwoWay is a total whose parts hang together in two ways, by customer and by
// product: a price that moves hits every buyer of the product, so that clusters of
// customers alone are too narrow. V = Vc + Vs - Vcs (Cameron, Gelbach, Miller, Robust
// Inference with Multiway Clustering, Journal of Business and Economic Statistics 29,
// 2011); both are the moments of the sums by customer and product together. V may
// come out below one of the two, even negative: then the larger is taken, and Floored
// set. Clusters is the smaller number of the two, which is often that of products.
func TwoWay(customers, products, both Moments) Estimate {
	c, p, cp := Total(customers), Total(products), Total(both)
	total := Estimate{Value: c.Value, Clusters: min(c.Clusters, p.Clusters)}
	if total.Clusters < 2 {
		total.SE = math.Inf(1)
		return total
	}
	v, floored := twoWay(c.SE*c.SE, p.SE*p.SE, cp.SE*cp.SE)
	total.SE, total.Floored = math.Sqrt(v), floored
	return total
}

func twoWay(one, other, both float64) (v float64, floored bool) {
	v, floor := one+other-both, max(one, other)
	if v < floor || math.IsNaN(v) {
		return floor, true
	}
	return v, false
}

// HorvitzThompson is the total of all clusters where each was kept with the same
// probability, on its own, whole: sum/pi, with variance (1-pi)/pi^2 sum(S^2). The
// error is that of the sampling alone, and zero where everything was kept. Sums of the
// kept clusters only come in.
func HorvitzThompson(m Moments, kept float64) (Estimate, error) {
	if !(kept > 0 && kept <= 1) {
		return Estimate{}, fmt.Errorf("clusters kept with probability %v: it must be above 0 and at most 1", kept)
	}
	return Estimate{Value: m.Sum / kept, SE: math.Sqrt((1-kept)*m.Square) / kept, Clusters: int(m.N)}, nil
}

// Concentration is the share of all movement, sum |S|, that the top clusters
// make: top is 0.01 for the largest hundredth, of which there is always at least one.
// It is a share of the movement and not of the total, because gains and losses that
// cancel would make the latter any number at all. 0 where nothing moves.
func Concentration(sums []float64, top float64) float64 {
	if len(sums) == 0 {
		return 0
	}
	sizes := make([]float64, len(sums))
	for i, s := range sums {
		sizes[i] = math.Abs(s)
	}
	slices.SortFunc(sizes, func(a, b float64) int {
		switch {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	count := max(1, min(len(sizes), int(math.Ceil(top*float64(len(sizes))))))
	var all, large float64
	for i, s := range sizes {
		all += s
		if i < count {
			large += s
		}
	}
	if all == 0 {
		return 0
	}
	return large / all
}
