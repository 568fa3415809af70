package pricing

import (
	"cmp"
	"slices"

	"banyan/money"
)

// step is a Rule made ready: dates as numbers, amounts at every scale.
type step struct {
	kind         kind
	name, from   string // from is Since in words
	since, until Day
	least, most  int64
	cover, trend Bands
	currency     string
	units        [money.MaxScale + 1]units // by scale
}

// units are the amounts of a rule in units of a scale. Zero steps and ceilings mean
// that the scale cannot say them.
type units struct{ step, ending, low, high int64 }

func compile(r Rule) step {
	s := step{kind: r.Does.part(), name: r.Name, from: r.Since.String(), since: r.Since, until: r.Until}
	switch p := r.Does.(type) {
	case Pace:
		s.least, s.most, s.cover, s.trend = p.Least, p.Most, p.Cover.sorted(), p.Trend.sorted()
	case Round:
		for scale := range s.units {
			s.units[scale] = roundAt(p, scale)
		}
	case Margin:
		s.most = p.Least
	case Bounds:
		s.currency = p.Currency
		for scale := range s.units {
			s.units[scale] = boundsAt(p, scale)
		}
	case Change:
		s.most = p.Most
	}
	return s
}

// sorted brings bands into the order in which they are tried.
func (b Bands) sorted() Bands {
	b = Bands{slices.Clone(b.Below), slices.Clone(b.Above)}
	slices.SortFunc(b.Below, func(x, y Band) int { return cmp.Compare(x.At, y.At) })
	slices.SortFunc(b.Above, func(x, y Band) int { return cmp.Compare(y.At, x.At) })
	return b
}

// move gives the move for the number part/whole.
func (b *Bands) move(part, whole int64) int64 {
	for i := range b.Below {
		if part < b.Below[i].At*whole {
			return b.Below[i].Move
		}
	}
	for i := range b.Above {
		if part > b.Above[i].At*whole {
			return b.Above[i].Move
		}
	}
	return 0
}

func roundAt(r Round, scale int) units {
	step, err := r.Step.Amount(scale, "")
	ending, err2 := r.Ending.Amount(scale, "")
	if err != nil || err2 != nil {
		return units{}
	}
	return units{step: step.Amount, ending: ending.Amount}
}

// boundsAt rounds inwards: a floor of 0.005 is 0.01 at two decimals.
func boundsAt(b Bounds, scale int) units {
	low := b.Floor.Round(scale)
	if low.Cmp(b.Floor) < 0 {
		low = low.Add(money.NewDecimal(1, scale))
	}
	u := units{high: maxAmount}
	if b.Ceiling.Sign() > 0 {
		high := b.Ceiling.Round(scale)
		if high.Cmp(b.Ceiling) > 0 {
			high = high.Sub(money.NewDecimal(1, scale))
		}
		a, err := high.Amount(scale, "")
		if err == nil {
			u.high = a.Amount
		}
	}
	a, err := low.Amount(scale, "")
	if err != nil || a.Amount > u.high {
		return units{} // no amount of this scale is between them
	}
	u.low = a.Amount
	return u
}
