package state

import "strings"

// Fault is one thing that is wrong with a table, in its definition (Validate) or
// in a database (CheckShape).
type Fault struct {
	Table  string
	Column string // "" where it is not about a column
	// Field is the place in the Table: "name", "columns[2].type", "key[0]",
	// "indexes[1].columns[0]", "retain.column". CheckShape leaves it empty.
	Field  string
	Value  string // what was found there
	Reason string // what is wrong with it, and the way out
}

// String is one line for people.
func (f Fault) String() string { return f.Table + "." + f.Column + ": " + f.Reason }

// Faults are all things wrong at once. It is an error; none is nil.
type Faults []Fault

// Error lists the faults, one a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// Validate gives all faults of one table.
func (t Table) Validate() Faults { return nil }

// Validate gives all faults of tables that are to live in one schema.
func Validate(tables []Table) Faults { return nil }
