package compare

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// Order is one order that was consumed, each line priced twice or with the Reason why
// not.
type Order struct {
	Event     string // its id
	Topic     string
	Partition int
	Offset    int64
	// Cluster is the customer's name in the ledger, a salted digest; a guest order's
	// is its own.
	Cluster string
	Guest   bool
	Day     int32 // business day from 1970-01-01
	// Segments are what it belongs to, "channel=web", and Size is such a one for
	// where answers are missing.
	Segments []string
	Size     string
	Lines    []Line
	// Reason is why an order without any line was not compared.
	Reason Reason
	// Added marks a line that was added to an order later: it is a line more, and
	// not an order more.
	Added bool
}

// Line is one line of an Order. Prices are of one piece.
type Line struct {
	Line        int64
	Product     string // its key
	Code        string
	Description string
	Currency    string
	Quantity    int64
	Control     Units
	Candidate   Units
	// Paid and Quoted are what the line costs.
	Paid   Units
	Quoted Units
	// Cost of one piece; CostKnown says that there is one.
	Cost      Units
	CostKnown bool
	// Stock before the order; StockKnown says that it was known.
	Stock      int64
	StockKnown bool
	// Reason is why the line was not compared, "" where it was.
	Reason Reason
	Cause  Cause
	Rule   string
}

// Diff is what the candidate changes in the line.
func (l *Line) Diff() Units { return l.Quoted - l.Paid }

// NewLedger makes an empty one.
func NewLedger() *Ledger {
	return &Ledger{Excluded: map[Reason]int64{}, Books: map[string]*Book{}}
}

// Book gives the book of a currency, a new one where there is none.
func (l *Ledger) Book(currency string) *Book {
	b := l.Books[currency]
	if b == nil {
		b = &Book{Currency: currency}
		b.Fill()
		l.Books[currency] = b
	}
	return b
}

// Fill makes the maps that a Book lacks, as one that was read from JSON does.
func (b *Book) Fill() {
	if b.Excluded == nil {
		b.Excluded = map[Reason]Tally{}
	}
	if b.ByPartition == nil {
		b.ByPartition = map[int]Tally{}
	}
	if b.Causes == nil {
		b.Causes = map[Cause]Change{}
	}
	if b.MissingBy == nil {
		b.MissingBy = map[string]Tally{}
	}
	if b.Clusters == nil {
		b.Clusters, b.Products, b.Moves, b.Days = map[string]*Cluster{}, map[string]*Product{}, map[int64]*Move{}, map[int32]*Day{}
	}
	for len(b.Caps) < len(CapGrid) {
		b.Caps = append(b.Caps, Cap{})
	}
}

// Take enters an order. Every line of it is consumed, and either compared or
// excluded; nothing else can become of it. A line whose sums might overflow the book
// is excluded as TooLarge, and its Reason set; what cannot even be counted counts as
// a line without money.
func (l *Ledger) Take(o *Order) {
	compared, first := false, o.Reason
	for i := range o.Lines {
		n := &o.Lines[i]
		b := l.Book(n.Currency)
		b.take(o, n)
		compared = compared || n.Reason == ""
		if i == 0 {
			first = n.Reason
		}
	}
	b := o.pairs(l)
	if b != nil {
		b.example(o)
	}
	if o.Added {
		return
	}
	l.Consumed++
	if compared {
		if l.Compared == 0 || o.Day < l.FirstDay {
			l.FirstDay = o.Day
		}
		if l.Compared == 0 || o.Day > l.LastDay {
			l.LastDay = o.Day
		}
		l.Compared++
	} else {
		l.Excluded[first]++
	}
}

// take enters a line.
func (b *Book) take(o *Order, n *Line) {
	if !b.room(n) {
		if n.Reason == "" {
			n.Reason = TooLarge
		}
		n.Quoted = 0
		if !b.roomFor(n.Paid) {
			n.Paid = 0
		}
	}
	b.Consumed.add(n.Paid)
	part := b.ByPartition[o.Partition]
	part.add(n.Paid)
	b.ByPartition[o.Partition] = part
	b.Volume += magnitude(n.Paid)
	if n.Reason != "" {
		b.exclude(o, n)
		return
	}
	b.Volume += magnitude(n.Quoted)
	if n.CostKnown {
		b.Volume += magnitude(n.Cost * n.Quantity)
	}
	b.compared(o, n)
}

// maxVolume leaves every sum of a book far below what an int64 holds.
const maxVolume = math.MaxInt64 / 4

func (b *Book) roomFor(u Units) bool { return magnitude(u) <= maxVolume-b.Volume }

// room reports whether a line's amounts fit the book.
func (b *Book) room(n *Line) bool {
	cost := Units(0)
	if n.CostKnown {
		var ok bool
		if cost, ok = Times(n.Cost, n.Quantity); !ok {
			return false
		}
	}
	left := maxVolume - b.Volume
	for _, u := range []Units{n.Paid, n.Quoted, cost} {
		if magnitude(u) > left {
			return false
		}
		left -= magnitude(u)
	}
	return true
}

func magnitude(u Units) Units {
	if u < 0 {
		if u == math.MinInt64 {
			return math.MaxInt64
		}
		return -u
	}
	return u
}

// Times multiplies; ok is false where the product does not fit.
func Times(u Units, n int64) (product Units, ok bool) {
	abs := func(u int64) uint64 { // of the least number too, which magnitude cuts
		if u < 0 {
			return -uint64(u)
		}
		return uint64(u)
	}
	hi, lo := bits.Mul64(abs(u), abs(n))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if (u < 0) != (n < 0) {
		return -Units(lo), true
	}
	return Units(lo), true
}

func (b *Book) exclude(o *Order, n *Line) {
	t := b.Excluded[n.Reason]
	t.add(n.Paid)
	b.Excluded[n.Reason] = t
	if !n.Reason.Missing() || n.Reason == Sampled {
		return
	}
	c := b.cluster(o)
	c.Owed += n.Paid
	for _, s := range o.Segments {
		b.missing(s, n.Paid)
	}
	b.missing(o.Size, n.Paid)
}

func (b *Book) missing(by string, paid Units) {
	if by == "" {
		return
	}
	t := b.MissingBy[by]
	t.add(paid)
	b.MissingBy[by] = t
}

// compared enters a line that has both prices.
func (b *Book) compared(o *Order, n *Line) {
	diff := n.Diff()
	b.Compared.add(n.Paid)
	b.Pieces = capped(b.Pieces, n.Quantity)
	b.Candidate += n.Quoted
	switch {
	case diff > 0:
		b.Rise.add(n.Paid, diff)
	case diff < 0:
		b.Fall.add(n.Paid, diff)
	}
	c := b.Causes[n.Cause]
	c.add(n.Paid, diff)
	b.Causes[n.Cause] = c
	ppm := PPM(n.Quoted, n.Paid)
	b.countCluster(o, n, diff, ppm)
	p := b.countProduct(o, n, diff)
	b.countMove(n, ppm)
	b.countDay(o, n, diff)
	if n.CostKnown {
		cost := n.Cost * n.Quantity
		b.Known.add(n.Paid, n.Quoted, cost)
		p.Known.add(n.Paid, n.Quoted, cost)
		if n.Quoted < cost {
			b.Below.add(n.Paid, diff)
		}
		if n.Paid < cost {
			b.ControlBelow.add(n.Paid, diff)
		} else if n.Quoted < cost {
			b.NewBelow.add(n.Paid, diff)
		}
	}
	b.countCaps(n, diff)
}

func (k *Known) add(control, candidate, cost Units) {
	k.Lines++
	k.Control += control
	k.Candidate += candidate
	k.Cost += cost
}

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

// pairs enters the squares of the differences by product, and gives the book of the
// order's first compared line.
func (o *Order) pairs(l *Ledger) (first *Book) {
	type pair struct {
		book    *Book
		product string
	}
	sums := make(map[pair]Units, len(o.Lines))
	for i := range o.Lines {
		n := &o.Lines[i]
		if n.Reason != "" {
			continue
		}
		b := l.Books[n.Currency]
		if first == nil {
			first = b
		}
		if d := n.Diff(); d != 0 {
			sums[pair{b, n.Product}] += d
		}
	}
	for p, sum := range sums { // exact, so in any order
		p.book.Pairs.Add(sum)
	}
	return first
}

// example keeps the order where it is one of those that differ most.
func (b *Book) example(o *Order) {
	e := Example{Event: o.Event}
	var worst *Line
	for i := range o.Lines {
		n := &o.Lines[i]
		if n.Reason != "" || n.Currency != b.Currency {
			continue
		}
		e.Lines++
		e.Control += n.Paid
		e.Diff += n.Diff()
		if worst == nil || magnitude(n.Diff()) > magnitude(worst.Diff()) {
			worst = n
		}
	}
	if worst == nil || e.Diff == 0 && worst.Diff() == 0 {
		return
	}
	if len(b.Worst) == MaxWorst && magnitude(e.Diff) < magnitude(b.Worst[MaxWorst-1].Diff) {
		return
	}
	e.At = o.Topic + "/" + strconv.Itoa(o.Partition) + "/" + strconv.FormatInt(o.Offset, 10)
	e.Line = ExampleLine{Line: worst.Line, Product: worst.Product, Description: worst.Description, Quantity: worst.Quantity,
		Control: worst.Control, Candidate: worst.Candidate, Cause: worst.Cause, Rule: worst.Rule}
	at, _ := slices.BinarySearchFunc(b.Worst, e, func(a, x Example) int {
		switch ma, mx := magnitude(a.Diff), magnitude(x.Diff); {
		case ma > mx:
			return -1
		case ma < mx:
			return 1
		case a.At < x.At:
			return -1
		case a.At > x.At:
			return 1
		}
		return 0
	})
	b.Worst = slices.Insert(b.Worst, at, e)
	b.Worst = b.Worst[:min(len(b.Worst), MaxWorst)]
}
