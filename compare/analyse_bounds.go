package compare

import (
	"cmp"
	"slices"

	"banyan/compare/stats"
)

// owed sums the lines that the candidate owes a price for. What was left out by
// sampling is a sample, which is owed to nobody.
func owed(b *Book) Tally {
	var sum Tally
	for reason, t := range b.Excluded {
		if reason.Missing() && reason != Sampled {
			sum.Lines += t.Lines
			sum.Control += t.Control
		}
	}
	return sum
}

// bounds widens the exact difference by what the missing prices may have been. They are
// a worst case under one assumption, that no price moves by more than the cap, and no
// interval of chance.
func (c *finding) bounds(limit float64) {
	b := c.book
	c.slip = stats.Missing(float64(b.Diff()), float64(c.owed.Control), limit/100)
	v := Bounds{Missing: c.owed.Lines, Control: b.exactly(c.owed.Control), Cap: limit,
		Low: b.about(c.slip.Low), High: b.about(c.slip.High), By: []MissingView{}}
	if c.owed == (Tally{}) {
		v.Low, v.High = b.exactly(b.Diff()), b.exactly(b.Diff())
	}
	for _, name := range sortedKeys(b.MissingBy) {
		t := b.MissingBy[name]
		v.By = append(v.By, MissingView{Segment: name, Lines: t.Lines, Share: percentOf(t.Lines, c.owed.Lines)})
	}
	slices.SortStableFunc(v.By, func(x, y MissingView) int { return cmp.Compare(y.Lines, x.Lines) })
	c.money.Bounds = v
}

func returnsOf(b *Book) ReturnsView {
	view := func(r Returned) ReturnedView {
		return ReturnedView{Lines: r.Lines, Pieces: r.Pieces, Control: b.exactly(r.Control), Low: b.exactly(r.Low), High: b.exactly(r.High),
			Unbounded: b.exactly(r.Unbounded)}
	}
	return ReturnsView{Linked: view(b.Returns.Linked), Unlinked: view(b.Returns.Unlinked)}
}

func rejectedOf(b *Book) RejectedView {
	r := b.Rejected
	return RejectedView{Orders: r.Events, Lines: r.Lines, Wanted: r.Wanted, Short: r.Short, Control: b.exactly(r.Control)}
}
