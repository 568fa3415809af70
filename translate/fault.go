package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// place is a line and a column of the configuration, from 1; 0 is unknown.
type place struct{ line, column int }

// Fault is one thing wrong in the configuration: where, what, and what would be
// right.
type Fault struct {
	Path         string `json:"path"`
	Line, Column int
	Field        string // "aggregates.Order.events[0].when"
	Value        string // as written; "" where something is missing
	Message      string // what would be right
}

// Error writes banyan.yaml:12:7: aggregates.Order.key: value "x": what would be right.
func (f Fault) Error() string {
	value := ""
	if f.Value != "" {
		value = fmt.Sprintf(" value %q:", f.Value)
	}
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s:%s %s", f.Path, f.Field, value, f.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s:%s %s", f.Path, f.Line, f.Column, f.Field, value, f.Message)
}

// Faults are all the faults of a configuration, in the order of its lines.
type Faults []Fault

// Error writes one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Warning is something that works but that somebody should know.
type Warning = Fault

// faults collects while a configuration is read.
type faults struct {
	path string
	list Faults
}

func (f *faults) add(at place, field, value, format string, args ...any) {
	f.list = append(f.list, Fault{Path: f.path, Line: at.line, Column: at.column, Field: field, Value: value, Message: fmt.Sprintf(format, args...)})
}

func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return f.list
}
