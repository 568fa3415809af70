package declared

import (
	"banyan/event"
	"banyan/internal/document"
)

// Fault is one thing wrong in a file, or, as a Warning, worth knowing: with
// line, column, field, value and what would be right.
type Fault = document.Fault

// Faults are all of them, in the order of the file. Err leaves warnings out.
type Faults = document.Faults

// Known is what is known of topics when a projection starts; Look finds out. A
// nil Known checks the file alone.
type Known struct {
	// Names are all topics that there are, for "did you mean"; nil where nobody
	// knows.
	Names []string
	// Topics are those that the projection reads. One that is missing here does
	// not exist.
	Topics map[string]Topic
}

// Topic is a sample of a topic.
type Topic struct {
	Partitions int
	// Records is how many records it has, about; 0 for an empty one.
	Records int64
	Sample  []event.Event
}

// Endpoint is what the read API serves under a path.
type Endpoint struct {
	Path     string // its name in paths: "customers"
	Relation string // the table or view in the projection's schema
	Key      []string
	// Types of the key's columns as Postgres names them; "" for a view's.
	Types   []string
	Comment string
	// Topic is that of the aggregates whose keys are Key; "" where a row is not
	// one aggregate's, or nobody can tell.
	Topic string
}
