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
