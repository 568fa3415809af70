package document

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Place is a line and a column of a file, from 1; 0 is unknown.
type Place struct{ Line, Column int }

// Fault is one thing wrong in a file: where, what, and what would be right.
type Fault struct {
	Path         string `json:"path"`
	Line, Column int
	Field        string // "tables.lines.columns.total"
	Value        string // as written; "" where something is missing
	Message      string // what would be right
	// Warning marks what works but somebody should know.
	Warning bool `json:",omitempty"`
}

// Error writes shop.yaml:12:7: tables.lines.key: value "x": what would be right.
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

// Faults are all that is wrong in a file, in the order of its lines.
type Faults []Fault

// Error writes one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Err is nil where there are none but warnings.
func (f Faults) Err() error {
	var wrong Faults
	for _, one := range f {
		if !one.Warning {
			wrong = append(wrong, one)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return wrong
}

// Collector gathers the faults of one file.
type Collector struct {
	Path string // what messages call the file
	list Faults
}

// Add notes a fault.
func (c *Collector) Add(at Place, field, value, format string, args ...any) {
	c.add(at, field, value, false, format, args...)
}

// Warn notes a warning.
func (c *Collector) Warn(at Place, field, value, format string, args ...any) {
	c.add(at, field, value, true, format, args...)
}

func (c *Collector) add(at Place, field, value string, warning bool, format string, args ...any) {
	f := Fault{Path: c.Path, Line: at.Line, Column: at.Column, Field: field, Value: value, Message: fmt.Sprintf(format, args...), Warning: warning}
	if !slices.Contains(c.list, f) {
		c.list = append(c.list, f)
	}
}

// Faults gives what was noted, in the order of the file.
func (c *Collector) Faults() Faults {
	slices.SortStableFunc(c.list, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Clone(c.list)
}

// Wrong says whether a fault was noted that is no warning.
func (c *Collector) Wrong() bool {
	return slices.ContainsFunc(c.list, func(f Fault) bool { return !f.Warning })
}

// At says whether a fault was noted at a place.
func (c *Collector) At(p Place) bool {
	return slices.ContainsFunc(c.list, func(f Fault) bool { return f.Line == p.Line && f.Column == p.Column })
}

// Len counts what was noted.
func (c *Collector) Len() int { return len(c.list) }
