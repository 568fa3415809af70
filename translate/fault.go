package translate

import "banyan/internal/document"

// place is a line and a column of the configuration, from 1; 0 is unknown.
type place = document.Place

// Fault is one thing wrong in the configuration: where, what, and what would be
// right.
type Fault = document.Fault

// Faults are all the faults of a configuration, in the order of its lines.
type Faults = document.Faults

// Warning is something that works but that somebody should know.
type Warning = Fault

// faults collects while a configuration is read.
type faults struct{ document.Collector }

func (f *faults) add(at place, field, value, format string, args ...any) {
	f.Add(at, field, value, format, args...)
}

func (f *faults) err() error {
	if f.Len() == 0 {
		return nil
	}
	return f.Faults()
}
