package rebuild

import (
	"time"

	"banyan/event"
	"banyan/projections/control"
)

// Plan is what a rebuild will do; its numbers are those of one moment and stay.
type Plan struct {
	Projection string
	// Version is the number that the new version will have; Active that of the
	// one readers see, 0 where there is none.
	Version, Active int
	Parts           []PlannedPart
	// Records counts what is to be read, up to the ceiling.
	Records int64
	// Cut is the watermark up to which an aligned projection is folded; the
	// zero Mark for a partitioned one.
	Cut control.Mark
	// Leftover are versions of rebuilds that died, and retired ones that were
	// not dropped; Run drops them.
	Leftover []int
	// Warnings do not stand in the way, but should be known.
	Warnings []Fault
	MadeAt   time.Time

	mark *event.Watermark
}

// PlannedPart is what is to be read of one partition: offsets from First to
// before Ceiling.
type PlannedPart struct {
	control.PartID
	First, Ceiling int64
}

// Result is what a rebuild has made.
type Result struct {
	Projection string
	Version    int
	Records    int64 // read
	Events     int64 // applied; the others were repeats, parked or beyond the cut
	Repeats    int64
	Parked     int64
	Rows       map[string]int64 // by table
	Spilled    int64            // bytes that went to disk
	Took       time.Duration
	// Phases says how long each took.
	Phases map[Phase]time.Duration
	Parts  []control.Part // where the new version stands
}

// Verdict is the answer of a verification.
type Verdict string

// The verdicts, worst first.
const (
	// Differs: rows are not what the history makes of them.
	Differs Verdict = "differs"
	// Unproven: it cannot be said; Report.Reasons has why.
	Unproven Verdict = "unproven"
	// Proved: every row of every table is what the history makes of it, and no
	// other is there.
	Proved Verdict = "proved"
)

// Report is the result of Verify. Its JSON form is documented and stable.
type Report struct {
	Verdict    Verdict  `json:"verdict"`
	Reasons    []string `json:"reasons"` // why it is not proved; empty where it is
	Projection string   `json:"projection"`
	Version    int      `json:"version"`
	// Token is the mark that every partition had passed, "" before the first.
	// The offsets of Parts say it exactly.
	Token   string        `json:"token"`
	Parts   []ProvedPart  `json:"parts"`
	Events  int64         `json:"events"` // folded
	Tables  []TableReport `json:"tables"`
	Parked  []ParkedKey   `json:"parked"` // keys that no verdict is given about
	Took    time.Duration `json:"-"`
	Seconds float64       `json:"tookSeconds"`
}

// ProvedPart says up to which offset a partition was folded.
type ProvedPart struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset"`
}

// ParkedKey is a key whose chain is parked: its rows are those of before.
type ParkedKey struct {
	Aggregate string `json:"aggregate"`
	Key       string `json:"key"`
	Events    int    `json:"events"`
	Reason    string `json:"reason"`
}

// TableReport compares one table. Hidden tables are compared too.
type TableReport struct {
	Table     string `json:"table"`
	Hidden    bool   `json:"hidden,omitempty"`
	Rows      int64  `json:"rows"`      // in the database
	Proved    int64  `json:"proved"`    // equal in every column
	Missing   int64  `json:"missing"`   // the history makes a row that is not there
	Extra     int64  `json:"extra"`     // a row that the history does not make
	Different int64  `json:"different"` // another value
	// Examples are some of what is wrong, by key.
	Examples []Difference `json:"examples"`
}

// Difference is one row that is not what it should be. The words want and got
// stand for the history and the database in a verification, for the new and the
// old version in a Diff.
type Difference struct {
	Table string `json:"table"`
	Key   string `json:"key"` // "customer_id=42"
	// Kind is "missing", "extra" or "different".
	Kind    string       `json:"kind"`
	Columns []ColumnDiff `json:"columns,omitempty"`
	// Event is the last one that has changed the row, by the history; "" where
	// none did.
	Event string `json:"event,omitempty"`
}

// ColumnDiff is one column of a row that is not what it should be, as text; "NULL"
// where there is no value.
type ColumnDiff struct {
	Column string `json:"column"`
	Want   string `json:"want"`
	Got    string `json:"got"`
}

// Comparison is the result of Diff: how two versions differ at equal offsets, in
// the columns that both have.
type Comparison struct {
	Projection string `json:"projection"`
	Old        int    `json:"old"`
	New        int    `json:"new"`
	// Tables compares those that both versions have: Missing rows are only in
	// the new one, Extra rows only in the old one.
	Tables []TableReport `json:"tables"`
	// Gone and Added are tables and "table.column"s that readers lose and gain.
	Gone  []string      `json:"gone"`
	Added []string      `json:"added"`
	Took  time.Duration `json:"-"`
}

// Swapped is what a Swap or a Rollback has done.
type Swapped struct {
	Projection string
	From, To   int
	// At is the mark at which readers have changed over.
	At control.Mark
	// Held is for how long the versions stood still.
	Held time.Duration
	// Gone lists tables and columns that readers have lost.
	Gone []string
}
