package stats

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
)

// Missing bounds a difference when the candidate gave no answer for some lines. What
// it would have asked is not known; if its prices stay within a share cap of the
// control's (0.08 for plus or minus 8 %), the difference lies in observed -+ cap times
// unanswered, where unanswered is what those lines really brought. No assumption about
// which lines went missing is made: C. Manski, Partial Identification of Probability
// Distributions (2003).
func Missing(observed, unanswered, limit float64) Interval {
	slack := math.Abs(limit * unanswered)
	return Interval{observed - slack, observed + slack}
}

// Capped is a total in which no cluster counts for more than Cap.
type Capped struct {
	// Total is the capped total, Exact the true one. The capped answers another
	// question, and does not reconcile with any ledger: it is to be shown beside the
	// exact one, with Cap, and never in its place.
	Total, Exact float64
	Cap          float64
	// Clusters is how many were capped.
	Clusters int
}

// DefaultCap is the quantile that Winsorize takes where 0 is given, as Statsig does.
const DefaultCap = 0.999

// Winsorize caps the clusters' sums at a quantile of |S| over those that are not zero:
// over all, a shop where most customers see no change would cap everything at zero.
// Losses are capped like gains. If the capped total has another sign than the exact,
// a few customers decide.
func Winsorize(sums []float64, at float64) (Capped, error) {
	if at == 0 {
		at = DefaultCap
	}
	if !(at > 0 && at <= 1) {
		return Capped{}, fmt.Errorf("cap at quantile %v: it must be above 0 and at most 1", at)
	}
	var sizes []float64
	for _, s := range sums {
		if s != 0 {
			sizes = append(sizes, math.Abs(s))
		}
	}
	if len(sizes) == 0 {
		return Capped{}, nil
	}
	slices.Sort(sizes)
	c := Capped{Cap: quantile(sizes, at), Exact: floats.Sum(sums)}
	for _, s := range sums {
		if math.Abs(s) > c.Cap {
			c.Clusters++
		}
		c.Total += max(-c.Cap, min(c.Cap, s))
	}
	return c, nil
}
