package compare

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"banyan/compare/stats"
)

const (
	level = 0.95
	// fewProducts is below what number of products with another price the interval by
	// customer and product rests on so few that it says so.
	fewProducts = stats.FewClusters
	// longestWindow is beyond how many days no pattern of days is looked for: a date
	// that is wrong by a century must not cost a minute.
	longestWindow = 4000
	capQuantile   = stats.DefaultCap
	topShare      = 0.01
)

// clusterSums are the differences of the customers (and guest orders) with at least one
// compared line, in the order of their size. So nothing here depends on how customers
// are named, nor on the salt of the names.
type clusterSums struct {
	diff, known           []float64
	moments, knownMoments stats.Moments
	controls              stats.Moments // what each paid
}

func sumsOf(b *Book) clusterSums {
	diff, known, control := make([]Units, 0, len(b.Clusters)), make([]Units, 0, len(b.Clusters)), make([]Units, 0, len(b.Clusters))
	for _, c := range b.Clusters {
		if c.Lines > 0 {
			diff, known, control = append(diff, c.Diff), append(known, c.Known), append(control, c.Control)
		}
	}
	s := clusterSums{diff: inOrder(diff), known: inOrder(known)}
	s.moments, s.knownMoments = stats.MomentsOf(s.diff), stats.MomentsOf(s.known)
	s.controls = stats.MomentsOf(inOrder(control))
	return s
}

func inOrder(units []Units) []float64 {
	slices.Sort(units)
	sums := make([]float64, len(units))
	for i, u := range units {
		sums[i] = float64(u)
	}
	return sums
}

// project estimates what a next period like this one would bring.
func (a *analysis) project(c *finding) error {
	b, s := c.book, c.sums
	v := ProjectionView{Clusters: len(s.diff), Intervals: []Interval{}, Thin: []string{}}
	if len(s.diff) > 0 {
		v.PerCluster = b.about(s.moments.Mean())
	} else {
		v.PerCluster = b.exactly(0)
	}
	sequence := stats.Sequence{Planned: a.settings.Horizon}
	c.sequence, c.known = sequence.Total(s.moments), sequence.Total(s.knownMoments)
	c.many, c.knownMany = rest(sequence, s.diff), rest(sequence, s.known)
	v.Sequence = b.interval("anytime-valid sequence", s.moments.Sum, c.sequence,
		fmt.Sprintf("holds however often it is looked at; tightest at %s customers", counted(a.settings.Horizon)))
	if b.Known.Lines > 0 && b.Known.Lines < b.Compared.Lines {
		known := b.interval("anytime-valid sequence, lines of known cost", s.knownMoments.Sum, c.known, "the difference of margin at fixed demand")
		v.SequenceKnown = &known
	}
	if err := a.intervals(c, &v); err != nil {
		return err
	}
	if err := a.byDay(b, &v); err != nil {
		return err
	}
	capped, err := stats.Winsorize(s.diff, capQuantile)
	if err != nil {
		return fmt.Errorf("cap customers: %w", err)
	}
	if capped.Cap > 0 {
		v.Winsorized = &Winsorized{Percentile: 100 * capQuantile, Low: b.about(-capped.Cap), High: b.about(capped.Cap), Total: b.about(capped.Total)}
	}
	v.Skewness = rounded(s.moments.Skewness(), percentDecimals)
	v.Needed = int(min(s.moments.Needed(), math.MaxInt32))
	v.TopShare = rounded(100*stats.Concentration(s.diff, topShare), percentDecimals)
	v.Thin = append(v.Thin, a.thin(c)...)
	c.money.Projection = v
	return nil
}

// rest is the sequence of all but the topShare of sums that are largest either way. In
// shops a few large customers make the sums so skewed that the rule of thumb asks for
// more customers than there will ever be. Where those many who are left are enough by
// the same rule, and alone say what all say together, the few decide how much, but not
// which sign.
func rest(sequence stats.Sequence, sums []float64) stats.Interval {
	by := slices.Clone(sums)
	slices.SortFunc(by, func(x, y float64) int { return cmp.Or(cmp.Compare(math.Abs(x), math.Abs(y)), cmp.Compare(x, y)) })
	m := stats.MomentsOf(by[:len(by)-int(math.Ceil(topShare*float64(len(by))))])
	if !m.Enough() {
		return stats.Everything
	}
	return sequence.Total(m)
}

// interval is one as a Report has it. One without ends has a Note why, and no bounds:
// see Interval.Known.
func (b *Book) interval(method string, estimate float64, i stats.Interval, note string) Interval {
	v := Interval{Method: method, Estimate: b.about(estimate), Note: note}
	if i.Known() {
		v.Low, v.High = b.about(i.Low), b.about(i.High)
	} else {
		v.Note = "too few to say"
	}
	return v
}

// intervals are those of the total by customer. All but the sequence hold for a single
// look.
func (a *analysis) intervals(c *finding, v *ProjectionView) error {
	b, s := c.book, c.sums
	c.twoWay = stats.Everything
	if len(s.diff) >= 2 {
		r, err := stats.Bootstrap{Seed: a.settings.Seed, Reps: a.settings.Replicates}.Total(s.diff)
		if err != nil {
			return err
		}
		note := fmt.Sprintf("%s repetitions, seed %d", counted(r.Reps), r.Seed)
		v.Intervals = append(v.Intervals,
			b.interval("bootstrap of customers, BCa", r.Value, r.BCa, note+"; corrected for bias and skew, yet too narrow where tails are heavy"),
			b.interval("bootstrap of customers, percentile", r.Value, r.Percentile, note),
			b.interval("Student's t by customer", r.Value, r.Student, counted(len(s.diff)-1)+" degrees of freedom"))
	}
	if two, note := a.twoWay(c); two.Known() {
		c.twoWay = two
		v.Intervals = append(v.Intervals, b.interval("by customer and product", s.moments.Sum, two, note))
	}
	if kept, ok := a.kept(); ok {
		all, err := stats.HorvitzThompson(s.moments, kept)
		if err != nil {
			return err
		}
		if i := all.Interval(level); i.Known() {
			v.Intervals = append(v.Intervals, b.interval("all customers, from the sample (Horvitz-Thompson)", all.Value, i,
				fmt.Sprintf("%.4g %% of customers are in the sample; the error is that of sampling alone", 100*kept)))
		}
	}
	return nil
}

// kept is the share of customers in the sample. ok is false where there is no sample,
// and where it is not known how large it is or was not the same all the time: to divide
// by the smallest share what was compared under a larger one would invent money.
func (a *analysis) kept() (share float64, ok bool) {
	o := a.facts.Operations
	if !a.sampled() || a.facts.SampleVaried || o == nil || o.Sampled <= 0 || o.Sampled >= 100 {
		return 1, false
	}
	return o.Sampled / 100, true
}

func (a *analysis) sampled() bool {
	for _, b := range a.ledger.Books {
		if b.Excluded[Sampled].Lines > 0 {
			return true
		}
	}
	return false
}

// twoWay is the interval by customer and product: a price that moves hits every buyer
// of the product. What belongs to both is kept by order and product, which is finer
// than by customer and product, so that a little less is subtracted than might be, and
// the interval is a little wide.
func (a *analysis) twoWay(c *finding) (stats.Interval, string) {
	b := c.book
	products := make([]Units, 0, len(b.Products))
	for _, p := range b.Products {
		products = append(products, p.Diff)
	}
	both := stats.Moments{N: b.Compared.Lines, Sum: float64(b.Diff()), Square: b.Pairs.Float()}
	e := stats.TwoWay(c.sums.moments, stats.MomentsOf(inOrder(products)), both)
	note := "what belongs to both is taken by order and product, which makes it a little wide"
	if e.Floored {
		note += "; the sum came out below one way alone, and the larger of those is taken"
	}
	if c.moved > 0 && c.moved < fewProducts {
		e.Clusters = min(e.Clusters, c.moved)
		note += fmt.Sprintf("; only %d products have another price, so that it is widened", c.moved)
	}
	return e.Interval(level), note
}

// byDay adds what days say: the bootstrap of runs of days, and the weekly rate.
func (a *analysis) byDay(b *Book, v *ProjectionView) error {
	days := a.daySums(b)
	if len(days) < stats.LeastDays {
		return nil
	}
	e, i, err := stats.Bootstrap{Seed: a.settings.Seed, Reps: a.settings.Replicates}.Blocks(days, stats.Week)
	switch {
	case err == nil:
		v.Intervals = append(v.Intervals, b.interval("bootstrap of weeks", e.Value, i, fmt.Sprintf("runs of %d days, which keep the pattern of a week", stats.Week)))
	case !errors.Is(err, stats.ErrTooFew):
		return err
	}
	rate, err := stats.RunRate(dayOf(a.ledger.FirstDay).Weekday(), days)
	if err != nil {
		return err
	}
	week := rate.For(stats.Week)
	if i := week.Interval(level); i.Known() {
		row := b.interval("per week, by weekday", week.Value, i, fmt.Sprintf("from %d days; knows nothing of seasons", rate.Days))
		v.PerWeek = &row
	}
	return nil
}

// daySums are whole days without gaps; none where the window is beyond all reason.
func (a *analysis) daySums(b *Book) []float64 {
	l := a.ledger
	count := int(l.LastDay) - int(l.FirstDay) + 1
	if l.Consumed == 0 || count > longestWindow || count < 1 {
		return nil
	}
	sums := make([]float64, count)
	for day, d := range b.Days {
		if i := int(day - l.FirstDay); i >= 0 && i < count {
			sums[i] = float64(d.Diff)
		}
	}
	return sums
}

// thin says why no estimate should be trusted.
func (a *analysis) thin(c *finding) []string {
	var why []string
	n := len(c.sums.diff)
	if n < a.settings.MinClusters {
		why = append(why, fmt.Sprintf("%s customers, where %s are needed", counted(n), counted(a.settings.MinClusters)))
	}
	if open := openDays(c.book); open < a.settings.MinDays {
		why = append(why, fmt.Sprintf("%d days with orders, where %d are needed", open, a.settings.MinDays))
	}
	if n >= 2 && !c.sums.moments.Enough() {
		why = append(why, fmt.Sprintf("few customers make much of the difference: an average of customers so uneven settles from %s on, and there are %s (skewness %.1f)",
			counted(c.sums.moments.Needed()), counted(n), c.sums.moments.Skewness()))
	}
	if c.moved > 0 && c.moved < fewProducts {
		why = append(why, fmt.Sprintf("only %d products have another price", c.moved))
	}
	if _, ok := a.kept(); a.sampled() && a.facts.SampleVaried {
		why = append(why, "customers are left out by a sample that was not the same all the time, so that nothing can be said of all customers")
	} else if a.sampled() && !ok {
		why = append(why, "customers are left out by sampling, and it is not known how many")
	}
	return why
}

func openDays(b *Book) int {
	open := 0
	for _, d := range b.Days {
		if d.Lines > 0 {
			open++
		}
	}
	return open
}
