package stats

import "math"

// Moments are the power sums of a stream of values, from which mean, variance and
// skewness can be had without keeping the values. The zero Moments are of nothing.
// Values that change (a customer's total grows with every order) are taken out with
// Remove and put back with Add.
//
// Power sums lose digits where the mean is many times the deviation; differences
// between prices, of which most are near zero, are not such values.
type Moments struct {
	N                 int64
	Sum, Square, Cube float64
}

// MomentsOf are the moments of the values.
func MomentsOf(values []float64) Moments {
	var m Moments
	for _, x := range values {
		m.Add(x)
	}
	return m
}

// Add takes one more value in.
func (m *Moments) Add(x float64) {
	m.N++
	m.Sum += x
	m.Square += x * x
	m.Cube += x * x * x
}

// Remove takes out a value that was added before.
func (m *Moments) Remove(x float64) {
	m.N--
	m.Sum -= x
	m.Square -= x * x
	m.Cube -= x * x * x
}

// Merge takes in all values of another stream.
func (m *Moments) Merge(o Moments) {
	m.N += o.N
	m.Sum += o.Sum
	m.Square += o.Square
	m.Cube += o.Cube
}

// Mean is the mean; 0 of nothing.
func (m Moments) Mean() float64 {
	if m.N == 0 {
		return 0
	}
	return m.Sum / float64(m.N)
}

// Variance is the sample variance, with N-1; +Inf below two values, of which nobody
// knows how they vary.
func (m Moments) Variance() float64 {
	if m.N < 2 {
		return math.Inf(1)
	}
	n := float64(m.N)
	return max(0, m.Square-m.Sum*m.Sum/n) / (n - 1)
}

// Deviation is the square root of Variance.
func (m Moments) Deviation() float64 { return math.Sqrt(m.Variance()) }

// Skewness is the third central moment over the second to the power of 3/2, of the
// values themselves (no correction for small samples); 0 where they do not vary.
func (m Moments) Skewness() float64 {
	if m.N < 2 {
		return 0
	}
	n, mean := float64(m.N), m.Mean()
	second := m.Square/n - mean*mean
	// What is left of equal values by rounding is no variance.
	if second <= 1e-14*m.Square/n {
		return 0
	}
	third := m.Cube/n - 3*mean*m.Square/n + 2*mean*mean*mean
	return third / math.Pow(second, 1.5)
}

// SkewFactor is how many times the square of the skewness a sample must count
// before a mean is normal enough: Kohavi, Deng, Longbotham, Xu, Seven Rules of Thumb
// for Web Site Experimenters, KDD 2014, rule 7.
const SkewFactor = 355

// Needed is the least number of values by the rule of SkewFactor.
func (m Moments) Needed() int64 {
	s := m.Skewness()
	needed := SkewFactor * s * s
	if needed >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(needed) + 1
}

// Enough says whether there are more than SkewFactor times squared skewness
// values, at least two.
func (m Moments) Enough() bool { return m.N >= 2 && m.N >= m.Needed() }
