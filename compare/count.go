package compare

import (
	"math"
	"math/bits"
)

func (b *Book) cluster(o *Order) *Cluster {
	c := b.Clusters[o.Cluster]
	if c == nil {
		c = &Cluster{Guest: o.Guest}
		b.Clusters[o.Cluster] = c
	}
	if !c.dirty {
		c.dirty = true
		b.changed.Clusters = append(b.changed.Clusters, o.Cluster)
	}
	return c
}

func (b *Book) countCluster(o *Order, n *Line, diff Units, ppm int64) {
	c := b.cluster(o)
	orders := int64(0)
	if c.begins(o) && !o.Added {
		orders = 1
	}
	c.Orders += orders
	c.Lines++
	c.Control += n.Paid
	c.Diff += diff
	if n.CostKnown {
		c.Known += diff
	}
	switch {
	case diff > 0:
		c.Rise++
	case diff < 0:
		c.Fall++
	}
	c.Highest = max(c.Highest, ppm)
	if c.Segments == nil && len(o.Segments) > 0 {
		c.Segments = make(map[string]Part, len(o.Segments))
	}
	for _, s := range o.Segments {
		part := c.Segments[s]
		part.Orders += orders
		part.Control += n.Paid
		part.Diff += diff
		c.Segments[s] = part
	}
}

func (b *Book) countProduct(o *Order, n *Line, diff Units) *Product {
	p := b.Products[n.Product]
	lowest, highest := bounds(n.Quoted, n.Paid)
	if p == nil {
		p = &Product{Lowest: lowest, Highest: highest, Months: map[int32]Sales{}}
		b.Products[n.Product] = p
	}
	if !p.dirty {
		p.dirty = true
		b.changed.Products = append(b.changed.Products, n.Product)
	}
	if n.Code != "" {
		p.Code = n.Code
	}
	if n.Description != "" {
		p.Description = n.Description
	}
	p.Lines++
	p.Pieces = capped(p.Pieces, n.Quantity)
	p.Control += n.Paid
	p.Diff += diff
	p.Lowest, p.Highest = min(p.Lowest, lowest), max(p.Highest, highest)
	x, y := logs(float64(n.Control)/Whole), logs(float64(n.Quantity))
	p.All.add(x, y)
	if !o.Guest {
		p.Registered.add(x, y)
	}
	month := monthOf(o.Day)
	s := p.Months[month]
	s.Pieces = capped(s.Pieces, n.Quantity)
	s.Control += n.Paid
	p.Months[month] = s
	return p
}

// Whole is one whole unit of a currency.
const Whole = 10_000

// logs is the natural logarithm in LogUnit; of what has none it is 0.
func logs(f float64) int64 {
	if f <= 0 {
		return 0
	}
	return int64(math.Round(math.Log(f) / LogUnit))
}

func (m *Moments) add(x, y int64) {
	m.N++
	m.X += x
	m.Y += y
	m.XX += x * x
	m.XY += x * y
	m.YY += y * y
}

// monthOf counts months, year*12 + month-1, of a day from 1970-01-01 by the civil
// calendar (the arithmetic of days_from_civil, in reverse).
func monthOf(day int32) int32 {
	z := int64(day) + 719_468
	era := z / 146_097
	doe := z - era*146_097
	yoe := (doe - doe/1460 + doe/36_524 - doe/146_096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	year, month := yoe+era*400, mp+3
	if month > 12 {
		year, month = year+1, month-12
	}
	return int32(year*12 + month - 1)
}

// farthest is the move, in ppm, that all moves beyond a thousandfold count as.
const farthest = 1_000_000_000

// PPM is how far a price moves from another, in millionths of that, cut to whole
// ones. What is beyond a thousandfold counts as that.
func PPM(candidate, control Units) int64 {
	ppm, _ := move(candidate, control)
	return ppm
}

// move is PPM, and whether that is all of it.
func move(candidate, control Units) (ppm int64, exact bool) {
	if control <= 0 {
		return 0, true
	}
	up := candidate >= control
	diff := uint64(candidate) - uint64(control)
	if !up {
		diff = -diff
	}
	hi, lo := bits.Mul64(diff, 1_000_000)
	q, rest := uint64(farthest), uint64(0)
	if hi < uint64(control) {
		q, rest = bits.Div64(hi, lo, uint64(control))
	}
	if q >= farthest {
		q, rest = farthest, 0
	}
	if up {
		return int64(q), rest == 0
	}
	return -int64(q), rest == 0
}

// bounds are the whole ppm that a move lies between.
func bounds(candidate, control Units) (lowest, highest int64) {
	ppm, exact := move(candidate, control)
	switch {
	case exact:
		return ppm, ppm
	case candidate < control:
		return ppm - 1, ppm
	}
	return ppm, ppm + 1
}

// capped adds, and stays at the largest number there is instead of passing it: for
// pieces, which no Volume bounds.
func capped(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}

func (b *Book) countMove(n *Line, ppm int64) {
	bin := ppm / BinWidth
	if ppm < 0 && ppm%BinWidth != 0 {
		bin--
	}
	m := b.Moves[bin]
	if m == nil {
		m = &Move{}
		b.Moves[bin] = m
	}
	if !m.dirty {
		m.dirty = true
		b.changed.Moves = append(b.changed.Moves, bin)
	}
	m.Lines++
	m.Pieces = capped(m.Pieces, n.Quantity)
	m.Control += n.Paid
	m.Candidate += n.Quoted
	if n.CostKnown {
		m.Known.add(n.Paid, n.Quoted, n.Cost*n.Quantity)
	}
}

func (b *Book) countDay(o *Order, n *Line, diff Units) {
	d := b.Days[o.Day]
	if d == nil {
		d = &Day{}
		b.Days[o.Day] = d
	}
	if !d.dirty {
		d.dirty = true
		b.changed.Days = append(b.changed.Days, o.Day)
	}
	if d.begins(o) && !o.Added {
		d.Orders++
	}
	d.Lines++
	d.Control += n.Paid
	d.Diff += diff
	if n.CostKnown {
		d.Known += diff
	}
}

// countCaps notes what stock would not have allowed where a lower price makes
// customers want more: sold = min(wanted, available), never less than was sold.
func (b *Book) countCaps(n *Line, diff Units) {
	if diff >= 0 || !n.StockKnown || n.Quoted <= 0 || n.Paid <= 0 {
		return
	}
	available := float64(max(n.Stock, n.Quantity))
	ratio := float64(n.Quoted) / float64(n.Paid)
	quantity := float64(n.Quantity)
	if quantity*math.Pow(ratio, float64(CapGrid[len(CapGrid)-1])/1000) <= available {
		return
	}
	each := float64(n.Quoted) / quantity
	for i, e := range CapGrid {
		beyond := quantity*math.Pow(ratio, float64(e)/1000) - available
		if beyond <= 0 {
			continue
		}
		c := &b.Caps[i]
		c.Lines++
		c.Revenue = capped(c.Revenue, nearest(beyond*each))
		if n.CostKnown {
			margin := nearest(beyond * (each - float64(n.Cost)))
			c.Margin, c.Loss = capped(c.Margin, max(margin, 0)), capped(c.Loss, max(-margin, 0))
		}
	}
}

// nearest is the whole number of Units next to f. A price cut to nothing, at a steep
// elasticity, promises more than any book holds: that is as much as one holds.
func nearest(f float64) Units {
	return Units(math.Round(max(-maxVolume, min(f, maxVolume))))
}
