package stats

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// TwoSided is the probability that a standard normal is as far from zero as z.
func TwoSided(z float64) float64 { return 2 * Upper(math.Abs(z)) }

// Upper is the probability of z or more: the p of a guardrail that more would harm.
// It is erfc and not gonum's Survival, which is 1-CDF and has no digits left from z = 9 on.
func Upper(z float64) float64 { return math.Erfc(z/math.Sqrt2) / 2 }

// Lower is the probability of z or less: the p of a guardrail that less would harm.
func Lower(z float64) float64 { return Upper(-z) }

// Holm adjusts p-values of several questions so that the chance of even one false yes
// is kept: for decisions. S. Holm, A Simple Sequentially Rejective Multiple Test
// Procedure, Scandinavian Journal of Statistics 6 (1979). The result is in the order
// of p; compare it with alpha.
func Holm(p []float64) []float64 {
	adjusted, order := make([]float64, len(p)), ascending(p)
	var largest float64
	for rank, i := range order {
		largest = max(largest, p[i]*float64(len(p)-rank))
		adjusted[i] = min(1, largest)
	}
	return adjusted
}

// BenjaminiHochberg adjusts p-values so that the share of false yeses among all yeses
// is kept: for exploring, not for deciding. Y. Benjamini, Y. Hochberg, Controlling the
// False Discovery Rate, Journal of the Royal Statistical Society B 57 (1995). The
// result is in the order of p.
func BenjaminiHochberg(p []float64) []float64 {
	adjusted, order := make([]float64, len(p)), ascending(p)
	least := 1.0
	for rank := len(order) - 1; rank >= 0; rank-- {
		i := order[rank]
		least = min(least, p[i]*float64(len(p))/float64(rank+1))
		adjusted[i] = least
	}
	return adjusted
}

// ascending gives the indexes of p from the smallest value on.
func ascending(p []float64) []int {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	return order
}

// MismatchAlarm is the p below which arms are not of the promised sizes: something
// drops units of one arm, and no figure of that test may be believed. GrowthBook has
// the same.
const MismatchAlarm = 0.001

// SampleRatio tests counts of units in arms against the shares they were promised, by
// Pearson's chi-squared. shares need not add up to one; nil stands for equal ones. It
// is for tests with arms; a shadow comparison has none.
func SampleRatio(counts []int64, shares []float64) (chi2, p float64, err error) {
	if shares == nil {
		shares = slices.Repeat([]float64{1}, len(counts))
	}
	if len(counts) < 2 || len(shares) != len(counts) {
		return 0, 0, fmt.Errorf("sample ratio of %d arms with %d shares", len(counts), len(shares))
	}
	var total int64
	var whole float64
	for i, c := range counts {
		if c < 0 || !(shares[i] > 0) {
			return 0, 0, fmt.Errorf("sample ratio: arm %d has count %d and share %v", i, c, shares[i])
		}
		total += c
		whole += shares[i]
	}
	if total == 0 {
		return 0, 0, fmt.Errorf("sample ratio: %w", ErrTooFew)
	}
	for i, c := range counts {
		expected := float64(total) * shares[i] / whole
		chi2 += (float64(c) - expected) * (float64(c) - expected) / expected
	}
	return chi2, distuv.ChiSquared{K: float64(len(counts) - 1)}.Survival(chi2), nil
}
