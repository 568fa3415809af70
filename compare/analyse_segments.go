package compare

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"banyan/compare/stats"
)

// mostSegments is how many segments are shown. Those beyond, the ones with the least
// money, count as looked at all the same.
const mostSegments = 100

// segmentsOf looks at the segments of the dimensions that were named beforehand. The
// family of the corrections is all that were looked at, thin ones among them, which
// can decide nothing and have a p of 1.
func segmentsOf(b *Book, dimensions []string) SegmentsView {
	diffs, control := map[string][]Units{}, map[string]Units{}
	for _, c := range b.Clusters {
		for name, part := range c.Segments {
			dimension, _, _ := strings.Cut(name, "=")
			if c.Lines == 0 || !slices.Contains(dimensions, dimension) {
				continue
			}
			diffs[name] = append(diffs[name], part.Diff)
			control[name] += part.Control
		}
	}
	names := sortedKeys(diffs)
	slices.SortStableFunc(names, func(x, y string) int { return cmp.Compare(control[y], control[x]) })
	v := SegmentsView{Looked: len(names), Rows: []SegmentView{}}
	p := make([]float64, len(names))
	for i, name := range names {
		var diff Units
		for _, d := range diffs[name] {
			diff += d
		}
		row := SegmentView{Segment: name, Clusters: len(diffs[name]), Control: b.exactly(control[name]), Diff: b.exactly(diff),
			Percent: percentOf(diff, control[name]), Thin: len(diffs[name]) < stats.FewClusters}
		p[i] = 1
		if !row.Thin {
			p[i] = noDifference(inOrder(diffs[name]))
		}
		v.Rows = append(v.Rows, row)
	}
	holm, bh := stats.Holm(p), stats.BenjaminiHochberg(p)
	for i := range v.Rows {
		v.Rows[i].P, v.Rows[i].Holm, v.Rows[i].BH = rounded(p[i], chanceDecimals), rounded(holm[i], chanceDecimals), rounded(bh[i], chanceDecimals)
	}
	v.Rows = v.Rows[:min(len(v.Rows), mostSegments)]
	return v
}

// noDifference is the probability of sums as far from zero as these, were there no
// difference: two-sided, by Student's t with one degree less than there are customers.
func noDifference(sums []float64) float64 {
	e := stats.Total(stats.MomentsOf(sums))
	switch {
	case e.Value == 0:
		return 1
	case e.SE == 0:
		return 0 // all alike, and not zero
	}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(e.Clusters - 1)}
	return min(1, 2*t.Survival(math.Abs(e.Z())))
}
