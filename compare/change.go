package compare

// Changes name the rows of a Book that have changed.
type Changes struct {
	Clusters []string
	Products []string
	Moves    []int64
	Days     []int32
}

// TakeChanges gives the rows that have changed since it was last called, each once,
// for whoever writes them down.
func (b *Book) TakeChanges() Changes {
	c := b.changed
	b.changed = Changes{}
	for _, k := range c.Clusters {
		b.Clusters[k].dirty = false
	}
	for _, k := range c.Products {
		b.Products[k].dirty = false
	}
	for _, k := range c.Moves {
		b.Moves[k].dirty = false
	}
	for _, k := range c.Days {
		b.Days[k].dirty = false
	}
	return c
}

// recent remembers which order was entered into a row last, so that its lines count
// as one order. It need not outlive a process: an order is entered at once.
type recent struct {
	dirty bool
	// last is the offset behind that order's: a row as it comes out of a database
	// has met none.
	last     int64
	lastPart int
}

// begins reports whether a line is the first of its order in this row. The lines of
// an order come one after the other.
func (r *recent) begins(o *Order) bool {
	again := r.last == o.Offset+1 && r.lastPart == o.Partition
	r.last, r.lastPart = o.Offset+1, o.Partition
	return !again
}
