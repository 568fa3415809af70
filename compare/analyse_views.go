package compare

import (
	"cmp"
	"math"
	"slices"
)

const (
	mostProducts = 10
	mostDays     = 400
)

// movers are the products that gain and lose most; of equal ones that with the lower
// key comes first.
func movers(b *Book) (gainers, losers []ProductView) {
	keys := sortedKeys(b.Products)
	list := func(sign Units) []ProductView {
		var moved []string
		for _, k := range keys {
			if b.Products[k].Diff*sign > 0 {
				moved = append(moved, k)
			}
		}
		slices.SortStableFunc(moved, func(x, y string) int { return cmp.Compare(b.Products[y].Diff*sign, b.Products[x].Diff*sign) })
		views := []ProductView{}
		for _, k := range moved[:min(len(moved), mostProducts)] {
			p := b.Products[k]
			views = append(views, ProductView{Product: k, Code: p.Code, Description: p.Description, Lines: p.Lines, Pieces: p.Pieces,
				Control: b.exactly(p.Control), Diff: b.exactly(p.Diff), Percent: percentOf(p.Diff, p.Control)})
		}
		return views
	}
	return list(1), list(-1)
}

// bars are where the bars of the histogram begin, in percent; one of prices that stay
// lies between those below 0 and the others.
var bars = []float64{-100, -10, -5, -2, 0, 2, 5, 10}

const barAtZero = 4

// histogram sorts lines by how far their price moves.
func histogram(b *Book) []MoveBar {
	sums := make([]Change, len(bars)+1)
	for _, m := range b.Moves {
		bar := &sums[barOf(m.Control, m.Candidate)]
		bar.Lines += m.Lines
		bar.Control += m.Control
		bar.Diff += m.Candidate - m.Control
	}
	views := make([]MoveBar, len(sums))
	for i, sum := range sums {
		v := MoveBar{Lines: sum.Lines, Control: b.exactly(sum.Control), Diff: b.exactly(sum.Diff)}
		switch {
		case i < barAtZero:
			v.From, v.To = bars[i], bars[i+1]
		case i > barAtZero:
			v.From = bars[i-1]
			v.To = bars[min(i, len(bars)-1)]
		}
		views[i] = v
	}
	return views
}

// barOf finds the bar of a move. Ratios are taken to the millionth, so that 5 % is 5 %
// whatever a float makes of it.
func barOf(control, candidate Units) int {
	if control == candidate {
		return barAtZero
	}
	if control <= 0 {
		return len(bars)
	}
	percent := math.Round(1e6*float64(candidate-control)/float64(control)) / 1e4
	if candidate < control {
		i := barAtZero - 1
		for i > 0 && percent < bars[i] {
			i--
		}
		return i
	}
	i := barAtZero
	for i+1 < len(bars) && percent >= bars[i+1] {
		i++
	}
	return i + 1
}

// customersOf says how many customers would have seen what.
func customersOf(b *Book) CustomersView {
	var all, rise, fall, highest int64
	var worst float64
	for _, c := range b.Clusters {
		if c.Lines == 0 {
			continue
		}
		all++
		switch {
		case c.Diff > 0:
			rise++
		case c.Diff < 0:
			fall++
		}
		highest = max(highest, c.Highest)
		if c.Control > 0 {
			worst = max(worst, float64(c.Diff)/float64(c.Control))
		}
	}
	return CustomersView{Rise: percentOf(rise, all), Fall: percentOf(fall, all),
		Highest: rounded(float64(highest)/1e4, percentDecimals), Worst: rounded(100*worst, percentDecimals)}
}

// causes in the order in which they are tried, and what they mean.
var causes = []struct {
	cause Cause
	means string
}{
	{Same, "the prices are the same"},
	{Rounding, "the prices are the same but for rounding: to the minor unit, or by piece instead of by line"},
	{TaxOrder, "one price is the other with a tax on it, or taken off"},
	{MissingDiscount, "the customer paid less than the list price, which the candidate charges: it does not know the discount, or ends it"},
	{MissingSurcharge, "the customer paid more than the list price, which the candidate charges: it does not know the surcharge, or ends it"},
	{StalePrice, "the candidate charges a list price that was no longer valid"},
	{StaleStock, "the candidate says that it saw another stock than there was"},
	{Policy, "everything that nothing above explains: the candidate means it, as far as can be told"},
}

func causesOf(b *Book) []CauseView {
	views, told := []CauseView{}, map[Cause]bool{}
	add := func(cause Cause, means string) {
		told[cause] = true
		if c, ok := b.Causes[cause]; ok {
			views = append(views, CauseView{Cause: cause, Lines: c.Lines, Control: b.exactly(c.Control), Diff: b.exactly(c.Diff), Means: means})
		}
	}
	for _, c := range causes {
		add(c.cause, c.means)
	}
	for _, cause := range sortedKeys(b.Causes) {
		if !told[cause] {
			add(cause, "")
		}
	}
	return views
}

func daysOf(b *Book) []DayView {
	keys := sortedKeys(b.Days)
	views := []DayView{}
	for _, day := range keys[max(0, len(keys)-mostDays):] {
		d := b.Days[day]
		views = append(views, DayView{Day: dayText(day), Orders: d.Orders, Lines: d.Lines, Control: b.exactly(d.Control), Diff: b.exactly(d.Diff)})
	}
	return views
}

// examplesOf are the comparisons to look at, the largest first.
func examplesOf(b *Book, replay func(string) string) []ExampleView {
	worst := slices.Clone(b.Worst)
	slices.SortFunc(worst, func(x, y Example) int {
		return cmp.Or(cmp.Compare(magnitude(y.Diff), magnitude(x.Diff)), cmp.Compare(x.At, y.At))
	})
	views := []ExampleView{}
	for _, e := range worst {
		v := ExampleView{At: e.At, Event: e.Event, Lines: e.Lines, Control: b.exactly(e.Control), Diff: b.exactly(e.Diff),
			Line: LineView{Line: e.Line.Line, Product: e.Line.Product, Description: e.Line.Description, Quantity: e.Line.Quantity,
				Control: b.exactly(e.Line.Control), Candidate: b.exactly(e.Line.Candidate), Cause: e.Line.Cause, Rule: e.Line.Rule}}
		if replay != nil {
			v.Replay = replay(e.At)
		}
		views = append(views, v)
	}
	return views
}
