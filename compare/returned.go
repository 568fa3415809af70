package compare

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
		r.Pieces += n.Quantity
		r.Control += n.Control
		p := b.Products[n.Product]
		if p == nil || p.Lines == 0 {
			r.Unbounded += n.Control
			continue
		}
		one, other := share(n.Control, p.Lowest), share(n.Control, p.Highest)
		r.Low += min(one, other)
		r.High += max(one, other)
	}
}

// share is ppm millionths of a sum, rounded away from zero so that bounds stay bounds.
func share(u Units, ppm int64) Units {
	m := u / 1_000_000 * ppm
	rest := u % 1_000_000 * ppm
	m += rest / 1_000_000
	switch {
	case rest%1_000_000 > 0:
		m++
	case rest%1_000_000 < 0:
		m--
	}
	return m
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
		b.Rejected.Wanted += n.Wanted
		b.Rejected.Short += n.Short
		b.Rejected.Control += n.Control
	}
}
