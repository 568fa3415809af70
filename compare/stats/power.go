package stats

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// LiveTest is a test of two arms of equal size that could follow, to find out what a
// shadow cannot: how demand answers. The arithmetic is the normal approximation for the
// difference of two means, two-sided.
type LiveTest struct {
	// Effect is the difference of means per unit that shall be found.
	Effect float64
	// Deviation is the standard deviation of a unit, of what the live test measures: a
	// customer's whole revenue or margin, and not the paired difference, which is far
	// smaller and which two arms do not see.
	Deviation float64
	// PerDay is how many new units come into both arms together on a day.
	PerDay float64
	// Alpha is the chance of a false alarm; 0.05 where 0.
	Alpha float64
}

func (t LiveTest) quantile() float64 {
	if t.Alpha == 0 {
		t.Alpha = 1 - DefaultLevel
	}
	return distuv.UnitNormal.Quantile(1 - t.Alpha/2)
}

// Power is the probability that the test finds the effect after that many days.
func (t LiveTest) Power(days float64) float64 {
	perArm := t.PerDay * days / 2
	if !(perArm > 0) || t.Deviation <= 0 {
		return 0
	}
	shift := math.Abs(t.Effect) / (t.Deviation * math.Sqrt(2/perArm))
	z := t.quantile()
	return distuv.UnitNormal.CDF(shift-z) + distuv.UnitNormal.CDF(-shift-z)
}

// Days is how many whole days give at least that power: 2 sd^2 (z_a + z_b)^2 / effect^2
// units in each arm, rounded up. It is an error to look for no effect, or with no units.
func (t LiveTest) Days(power float64) (int, error) {
	if t.Effect == 0 || !(t.PerDay > 0) || !(t.Deviation > 0) || !(power > 0 && power < 1) {
		return 0, fmt.Errorf("days for an effect of %v at deviation %v, %v units a day and power %v: none may be zero, and power must be below 1",
			t.Effect, t.Deviation, t.PerDay, power)
	}
	z := max(0, t.quantile()+distuv.UnitNormal.Quantile(power))
	days := math.Ceil(4 * math.Pow(t.Deviation*z/t.Effect, 2) / t.PerDay)
	if days > math.MaxInt32 {
		return 0, fmt.Errorf("days for an effect of %v at deviation %v and %v units a day: more than there will be", t.Effect, t.Deviation, t.PerDay)
	}
	return max(1, int(days)), nil
}

// Detectable is the smallest effect that the test finds with that power after that many
// days; +Inf without units.
func (t LiveTest) Detectable(days, power float64) float64 {
	perArm := t.PerDay * days / 2
	if !(perArm > 0) {
		return math.Inf(1)
	}
	return (t.quantile() + distuv.UnitNormal.Quantile(power)) * t.Deviation * math.Sqrt(2/perArm)
}
