package stats

import (
	"fmt"
	"math"
	"time"
)

// LeastDays is how many whole days a Rate wants: each day of the week twice.
const LeastDays = 2 * Week

// Rate is what a difference comes to in a week like those seen.
type Rate struct {
	// PerWeek is the sum of the seven weekdays' means.
	PerWeek float64
	// SE is the standard error of PerWeek, from how each weekday varies. It knows
	// nothing of seasons, and no rate should be carried further than a few times Days.
	SE float64
	// Weekdays are the means, from Sunday on.
	Weekdays [Week]float64
	Days     int
}

// RunRate scales daily sums to a week, by the mean of each weekday, so that a window
// with two Saturdays and three Mondays gives each its due. days are whole days in
// order without gaps, the first of which is the given weekday. Less than LeastDays
// gives an error that wraps ErrTooFew: from a week alone no pattern can be told from
// an accident.
func RunRate(first time.Weekday, days []float64) (Rate, error) {
	if len(days) < LeastDays {
		return Rate{}, fmt.Errorf("run rate of %d days, where %d are needed: %w", len(days), LeastDays, ErrTooFew)
	}
	var of [Week]Moments
	for i, d := range days {
		of[(int(first)+i)%Week].Add(d)
	}
	rate := Rate{Days: len(days)}
	var v float64
	for i, m := range of {
		rate.Weekdays[i] = m.Mean()
		rate.PerWeek += m.Mean()
		v += m.Variance() / float64(m.N)
	}
	rate.SE = math.Sqrt(v)
	return rate, nil
}

// For is the rate over a number of days, with its error.
func (r Rate) For(days float64) Estimate {
	weeks := days / Week
	return Estimate{Value: r.PerWeek * weeks, SE: r.SE * weeks, Clusters: r.Days / Week}
}

// ScaledImpact is what a difference per unit, found in a test on a share of all units,
// comes to each day for all: difference * units / share / days, where units is how
// many were in the test over its days (GrowthBook, scaled impact). It repeats the days
// of the test and knows no weekly pattern.
func ScaledImpact(difference, units, share, days float64) float64 {
	return difference * units / share / days
}
