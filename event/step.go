package event

import "time"

// Ref names one aggregate: ("Order", "1234"). Key is as JoinKey writes it.
type Ref struct{ Aggregate, Key string }

// RowRef names one row of a captured table: its full name and its key as
// JoinKey writes it.
type RowRef struct{ Table, Key string }

// State is what the store keeps of one aggregate: its latest rows, as translate
// encodes them, so that an update without its unchanged columns, or a deleted
// child that carries only its own key, can still be told whole.
type State struct {
	Ref
	// Body is nil where the aggregate is gone.
	Body []byte
	// Rules is the version of the rule set that wrote it.
	Rules int
	// Event is the id of the aggregate's last event, "" before its first.
	Event string
	// Snapshot is the number of the last snapshot that has seen the aggregate,
	// or of the last one before it was born.
	Snapshot int
}

// Link says to which aggregate a child row belongs. Grandchildren have links
// of their own. Gone removes the link.
type Link struct {
	RowRef
	Ref
	Gone bool
}

// Parked is one link of a parked chain: the changes of one transaction that
// concern one aggregate, kept until they are released or discarded.
type Parked struct {
	Ref
	Position Position // of the first change of the transaction in this chain
	EndLSN   uint64   // end of the source transaction
	Reason   string   // one line for people
	Detail   string   // the way out
	Body     []byte   // translate's encoding of the changes and of their transaction
	// Counts is what this entry added to Counts.Parked, by table.
	Counts map[string]int64
}

// Counts is the account of one captured table. Every change is counted in
// Changes and in exactly one of the others; the first that fits, in the order
// parked, discarded, used, absorbed, ignored.
type Counts struct {
	Changes, Parked, Discarded, Used, Absorbed, Ignored int64
}

// Add adds d to c, field by field.
func (c *Counts) Add(d Counts) {
	c.Changes += d.Changes
	c.Parked += d.Parked
	c.Discarded += d.Discarded
	c.Used += d.Used
	c.Absorbed += d.Absorbed
	c.Ignored += d.Ignored
}

// Balanced reports whether every change is accounted for exactly once.
func (c Counts) Balanced() bool {
	return c.Changes == c.Parked+c.Discarded+c.Used+c.Absorbed+c.Ignored
}

// Trace is the provenance of one source transaction: its changes, what became
// of each, and by which rule. It answers explain and why-not for as long as it
// is kept.
type Trace struct {
	Generation int
	CommitLSN  uint64
	XID        uint32
	Time       time.Time // commit time
	Body       []byte    // compressed; translate encodes and decodes it
}

// Step is all that one store transaction writes. A transaction too large for
// memory is written as several steps inside one store transaction.
type Step struct {
	Events []Event // in the order in which they get their sequence numbers
	States []State // at most one per Ref
	Links  []Link
	Parked []Parked // appended to the chains of their keys, in order
	Traces []Trace
	Counts map[string]Counts // to be added, by full table name
}
