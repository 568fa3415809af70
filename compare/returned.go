package compare

import "math/bits"

// Return is one line of goods that came back, as the credit note has it: Quantity and
// Control are negative.
type Return struct {
	Product  string
	Currency string
	Quantity int64
	Control  Units // of the line
	Linked   bool  // the order that it belongs to is known
}

// TakeReturn enters the lines of a return, each with what the candidate's moves of
// that product so far would change in it at most and at least.
func (l *Ledger) TakeReturn(lines []Return) {
	first := true
	for _, n := range lines {
		b := l.Book(n.Currency)
		r := &b.Returns.Unlinked
		if n.Linked {
			r = &b.Returns.Linked
		}
		if !b.roomFor(n.Control) {
			n.Control = 0
		}
		b.Volume += magnitude(n.Control)
		if first {
			r.Events++
			first = false
		}
		r.Lines++
		r.Pieces = capped(r.Pieces, n.Quantity)
		r.Control += n.Control
		p := b.Products[n.Product]
		if p == nil || p.Lines == 0 || p.Highest >= farthest || p.Lowest <= -farthest {
			r.Unbounded += n.Control
			continue
		}
		low, high := share(n.Control, p.Lowest)
		low2, high2 := share(n.Control, p.Highest)
		r.Low = capped(r.Low, min(low, low2))
		r.High = capped(r.High, max(high, high2))
	}
}

// share is ppm millionths of a sum: the whole numbers that it lies between, so that
// bounds stay bounds. What is beyond all books counts as what one holds.
func share(u Units, ppm int64) (down, up Units) {
	hi, lo := bits.Mul64(size(u), size(ppm))
	q, rest := uint64(maxVolume), uint64(0)
	if hi < 1_000_000 {
		q, rest = bits.Div64(hi, lo, 1_000_000)
	}
	if q >= maxVolume {
		q, rest = maxVolume, 0
	}
	down, up = Units(q), Units(q)
	if rest > 0 {
		up++
	}
	if (u < 0) != (ppm < 0) {
		return -up, -down
	}
	return down, up
}

// Refusal is one line of an order that was refused for lack of stock.
type Refusal struct {
	Currency      string
	Wanted, Short int64
	Control       Units // of the wanted pieces
}

// TakeRefused enters an order that was refused for lack of stock.
func (l *Ledger) TakeRefused(lines []Refusal) {
	counted := map[*Book]bool{}
	for _, n := range lines {
		b := l.Book(n.Currency)
		if !counted[b] {
			counted[b] = true
			b.Rejected.Events++
		}
		if !b.roomFor(n.Control) {
			n.Control = 0
		}
		b.Volume += magnitude(n.Control)
		b.Rejected.Lines++
		b.Rejected.Wanted = capped(b.Rejected.Wanted, n.Wanted)
		b.Rejected.Short = capped(b.Rejected.Short, n.Short)
		b.Rejected.Control += n.Control
	}
}
