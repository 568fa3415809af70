// Package stats holds the statistics of an honest comparison of two prices for
// the same orders: what demand might answer, how far a total may be off in a
// next period like this one, and when a figure that is looked at every minute
// may be believed.
//
// Both prices apply to the same orders, so the difference over the window is an
// exact sum of whole numbers, and no statistic. Everything here is about what
// that sum does not say:
//
//   - demand.go, breakeven.go: revenue and margin where customers buy more or
//     less at the other price, and the elasticity at which the sign turns;
//   - moments.go, clusters.go, bootstrap.go, blocks.go: how much the total would
//     move from period to period, with the customer as the unit;
//   - sequence.go: an interval that may be looked at as often as one likes;
//   - multiple.go: many segments at once, and arms that are not of the promised size;
//   - regress.go: ordinary least squares, for a shop's own elasticity;
//   - sensitivity.go, runrate.go, power.go: missing answers, capped customers,
//     what a difference comes to in a month, and how long a live test would take.
//
// Only plain numbers come in, and only plain numbers go out. Nothing here reads a
// clock or iterates a map into a result: the same input in the same order gives
// the same bits, and whatever is random has a seed. Where the data cannot tell,
// a standard error is +Inf and an interval has no ends, rather than NaN: such an
// interval contains zero, and no verdict comes of it.
package stats

import "math"

// Interval is a range of values, ends included.
type Interval struct {
	Low, High float64
}

// Everything is the interval of those who know nothing.
var Everything = Interval{math.Inf(-1), math.Inf(1)}

// Contains says whether x lies in the interval.
func (i Interval) Contains(x float64) bool { return i.Low <= x && x <= i.High }

// Known says whether the interval has two ends, as one must to be printed.
func (i Interval) Known() bool {
	return !math.IsInf(i.Low, 0) && !math.IsInf(i.High, 0) && !math.IsNaN(i.Low) && !math.IsNaN(i.High)
}

// Sign is Positive or Negative where the whole interval lies on one side of
// zero, Zero where it is zero alone, else Mixed.
func (i Interval) Sign() Sign {
	switch {
	case i.Low > 0:
		return Positive
	case i.High < 0:
		return Negative
	case i.Low == 0 && i.High == 0:
		return Zero
	}
	return Mixed
}

// scale multiplies both ends with a positive factor.
func (i Interval) scale(by float64) Interval { return Interval{i.Low * by, i.High * by} }

// Sign is what is known of the sign of a difference.
type Sign int

const (
	// Mixed is the zero Sign: it could be either.
	Mixed Sign = iota
	// Positive says that the candidate brings more.
	Positive
	// Negative says that it brings less.
	Negative
	// Zero says that it makes no difference at all.
	Zero
)

// String gives the sign as a word.
func (s Sign) String() string {
	switch s {
	case Positive:
		return "positive"
	case Negative:
		return "negative"
	case Zero:
		return "zero"
	}
	return "mixed"
}
