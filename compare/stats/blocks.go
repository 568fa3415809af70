package stats

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

// Week is the length of a block that keeps the pattern of a week whole.
const Week = 7

// Blocks resamples runs of days instead of clusters, each run with its neighbours:
// the moving-block bootstrap (H. Kuensch, The Jackknife and the Bootstrap for General
// Stationary Observations, Annals of Statistics 17, 1989). It is a second look at the
// same total: where days hang together (a campaign, a week's pattern) it is wider than
// the clusters say.
//
// days are the sums of whole days in order, without gaps; length is how many make a
// block, Week where 0. The interval is of the percentiles, moved so that the
// repetitions have the total in their middle: days at the ends are in fewer blocks,
// which would else pull it away. Fewer days than two blocks give an error that wraps
// ErrTooFew.
func (b Bootstrap) Blocks(days []float64, length int) (Estimate, Interval, error) {
	b, err := b.filled()
	if err != nil {
		return Estimate{}, Everything, err
	}
	if length == 0 {
		length = Week
	}
	if length < 1 || len(days) < 2*length || len(days) < 2 {
		return Estimate{}, Everything, fmt.Errorf("bootstrap of %d days in blocks of %d: %w", len(days), length, ErrTooFew)
	}
	random := rand.New(rand.NewPCG(b.Seed, uint64(length)))
	totals := make([]float64, b.Reps)
	for i := range totals {
		for left := len(days); left > 0; left -= length {
			from := random.IntN(len(days) - length + 1)
			totals[i] += floats.Sum(days[from : from+min(length, left)])
		}
	}
	slices.Sort(totals)
	total, tail := floats.Sum(days), (1-b.Level)/2
	shift := total - stat.Mean(totals, nil)
	return Estimate{Value: total, SE: stat.StdDev(totals, nil), Clusters: len(days) / length},
		Interval{quantile(totals, tail) + shift, quantile(totals, 1-tail) + shift}, nil
}
