package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// DefaultReps is how many times a bootstrap resamples unless told otherwise.
const DefaultReps = 2000

// DefaultLevel is the level of an interval unless told otherwise.
const DefaultLevel = 0.95

// Bootstrap resamples clusters with replacement to see how far their total may
// move: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993). The zero
// Bootstrap is ready for use. The result depends on the values, their order and the
// fields here, and on nothing else: not on the machine nor its number of processors.
//
// It costs some 2 ns for each cluster and repetition.
type Bootstrap struct {
	// Seed goes into the report, so that others get the same interval.
	Seed uint64
	// Reps is how often to resample; DefaultReps where 0.
	Reps int
	// Level is that of the intervals; DefaultLevel where 0.
	Level float64
}

// Resampled is what a bootstrap found.
type Resampled struct {
	// Estimate is the figure, with the deviation of its repetitions as the error.
	Estimate
	// BCa is corrected for bias and for the skew of the values (Efron 1987): the one
	// to print. With few, heavy-tailed clusters none of the four is wide enough; see
	// Moments.Enough.
	BCa Interval
	// Percentile reads the quantiles of the repetitions as they are.
	Percentile Interval
	// Basic mirrors them at the estimate.
	Basic Interval
	// Student is no bootstrap: the estimate and its formula error, with t(C-1).
	Student Interval
	// Bias (z0) and Acceleration (a) are the two corrections in BCa.
	Bias, Acceleration float64
	Reps               int
	Seed               uint64
}

func (b Bootstrap) filled() (Bootstrap, error) {
	if b.Reps == 0 {
		b.Reps = DefaultReps
	}
	if b.Level == 0 {
		b.Level = DefaultLevel
	}
	if b.Reps < 100 || !(b.Level > 0 && b.Level < 1) {
		return b, fmt.Errorf("bootstrap with %d repetitions at level %v: it takes at least 100, and a level between 0 and 1", b.Reps, b.Level)
	}
	return b, nil
}

// Total resamples the clusters' sums, one for each customer with zeros among them,
// and gives intervals for their total. Below two clusters the error wraps ErrTooFew.
func (b Bootstrap) Total(sums []float64) (Resampled, error) {
	r, err := b.Mean(sums)
	if err != nil {
		return r, fmt.Errorf("bootstrap of a total: %w", err)
	}
	c := float64(len(sums))
	r.Value, r.SE = floats.Sum(sums), r.SE*c
	r.BCa, r.Percentile = r.BCa.scale(c), r.Percentile.scale(c)
	r.Basic, r.Student = r.Basic.scale(c), r.Student.scale(c)
	return r, nil
}

// Mean is Total, for the mean of the clusters' sums.
func (b Bootstrap) Mean(sums []float64) (Resampled, error) {
	b, err := b.filled()
	if err != nil {
		return Resampled{}, err
	}
	if len(sums) < 2 {
		return Resampled{}, fmt.Errorf("bootstrap of %d clusters: %w", len(sums), ErrTooFew)
	}
	if int64(len(sums)) > math.MaxUint32 {
		return Resampled{}, fmt.Errorf("bootstrap of %d clusters: it takes at most %d", len(sums), uint32(math.MaxUint32))
	}
	mean := stat.Mean(sums, nil)
	means := b.resample(sums)
	slices.Sort(means)

	tail := (1 - b.Level) / 2
	low, high := quantile(means, tail), quantile(means, 1-tail)
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(len(sums) - 1)}
	half := t.Quantile(1-tail) * stat.StdErr(stat.StdDev(sums, nil), float64(len(sums)))
	r := Resampled{
		Estimate:     Estimate{Value: mean, SE: stat.StdDev(means, nil), Clusters: len(sums)},
		Percentile:   Interval{low, high},
		Basic:        Interval{2*mean - high, 2*mean - low},
		Student:      Interval{mean - half, mean + half},
		Bias:         bias(means, mean),
		Acceleration: Acceleration(sums),
		Reps:         b.Reps,
		Seed:         b.Seed,
	}
	r.BCa = bca(means, r.Bias, r.Acceleration, tail)
	return r, nil
}

// bias is z0, the normal quantile of the share of repetitions below the estimate;
// those equal to it count half.
func bias(sorted []float64, estimate float64) float64 {
	below, _ := slices.BinarySearch(sorted, estimate)
	upTo := below
	for upTo < len(sorted) && sorted[upTo] == estimate {
		upTo++
	}
	n := float64(len(sorted))
	share := float64(below+upTo) / 2 / n
	return distuv.UnitNormal.Quantile(max(0.5/n, min(1-0.5/n, share)))
}

// bca reads the quantiles of the repetitions at the corrected levels, Efron and
// Tibshirani (14.10).
func bca(sorted []float64, z0, a, tail float64) Interval {
	level := func(tail float64) float64 {
		z := z0 + distuv.UnitNormal.Quantile(tail)
		return distuv.UnitNormal.CDF(z0 + z/(1-a*z))
	}
	return Interval{quantile(sorted, level(tail)), quantile(sorted, level(1-tail))}
}

// Acceleration is the a of BCa, from the jackknife: sum(d^3) / (6 sum(d^2)^1.5), where
// d is by how much the estimate falls short when one value is left out. For a mean,
// and a total, d is (x - mean)/(n - 1), so that nothing need be left out in fact. 0
// where the values are all the same.
func Acceleration(values []float64) float64 {
	mean := stat.Mean(values, nil)
	var squares, cubes float64
	for _, x := range values {
		d := x - mean
		squares += d * d
		cubes += d * d * d
	}
	if squares == 0 {
		return 0
	}
	return cubes / (6 * math.Pow(squares, 1.5))
}

// quantile interpolates linearly between order statistics, with the first at 0 and
// the last at 1: type 7 of Hyndman and Fan (1996), the default of R and numpy, with
// which published bootstraps were made. gonum has it not.
func quantile(sorted []float64, p float64) float64 {
	at := p * float64(len(sorted)-1)
	i := int(math.Floor(at))
	if i >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// stretch is how many repetitions share one random stream. Which goroutine works on
// a stretch does not matter to what comes out.
const stretch = 50

// resample gives the mean of each repetition, in order.
func (b Bootstrap) resample(values []float64) []float64 {
	means := make([]float64, b.Reps)
	seeds := rand.NewPCG(b.Seed, 0x9e3779b97f4a7c15)
	var streams []*rand.PCG
	for range (b.Reps + stretch - 1) / stretch {
		streams = append(streams, rand.NewPCG(seeds.Uint64(), seeds.Uint64()))
	}
	work := func(first, step int) {
		for s := first; s < len(streams); s += step {
			for i := s * stretch; i < min(len(means), (s+1)*stretch); i++ {
				means[i] = drawn(streams[s], values) / float64(len(values))
			}
		}
	}
	var other sync.WaitGroup
	other.Go(func() { work(1, 2) })
	work(0, 2)
	other.Wait()
	return means
}

// drawn is the sum of as many values as there are, drawn with replacement. Each half
// of a random number is one index, by multiplication (D. Lemire, Fast Random Integer
// Generation in an Interval, 2019); without his rejection step some values are more
// likely than others by a share of at most len(values)/2^32, which no report shows.
func drawn(random *rand.PCG, values []float64) float64 {
	n := uint64(len(values))
	var sum, pair float64
	i := len(values)
	for ; i > 1; i -= 2 {
		u := random.Uint64()
		sum += values[(u>>32)*n>>32]
		pair += values[(u&math.MaxUint32)*n>>32]
	}
	if i == 1 {
		sum += values[(random.Uint64()>>32)*n>>32]
	}
	return sum + pair
}
