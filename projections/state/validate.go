package state

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

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
func (f Fault) String() string {
	where := "table " + f.Table
	if f.Column != "" {
		where += ", column " + f.Column
	}
	if f.Field != "" {
		where += ", " + f.Field
	}
	if f.Value != "" {
		where += fmt.Sprintf(" is %q", cut(f.Value))
	}
	return where + ": " + f.Reason
}

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

// err is an error that is nil where there is no fault.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

const (
	// maxName is the longest name that Postgres does not cut.
	maxName = 63
	// reserved begins names that the house keeps for itself.
	reserved = "banyan_"
	// maxColumns and maxKeyColumns are Postgres' limits.
	maxColumns, maxKeyColumns = 1600, 32
)

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// systemColumns are in every table of Postgres already.
var systemColumns = []string{"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}

// Validate gives all faults of tables that are to live in one schema.
func Validate(tables []Table) Faults {
	var faults Faults
	seen := map[string]bool{}
	for _, t := range tables {
		if seen[t.Name] {
			faults = append(faults, Fault{Table: t.Name, Field: "name", Value: t.Name, Reason: "there are two tables of this name"})
		}
		seen[t.Name] = true
		faults = append(faults, t.Validate()...)
	}
	return faults
}

// Validate gives all faults of one table.
func (t Table) Validate() Faults {
	v := validator{t: t, types: map[string]typ{}, columns: map[string]Column{}}
	if reason := v.name(t.Name); reason != "" {
		v.add("", "name", t.Name, reason)
	}
	v.checkColumns()
	v.checkKey()
	v.checkIndexes()
	v.checkRetain()
	return v.faults
}

type validator struct {
	t       Table
	types   map[string]typ
	columns map[string]Column
	faults  Faults
}

func (v *validator) add(column, field, value, reason string) {
	v.faults = append(v.faults, Fault{v.t.Name, column, field, value, reason})
}

// name says what is wrong with a name of a table or a column.
func (v *validator) name(s string) string {
	switch {
	case s == "":
		return "a name is missing"
	case !plainName.MatchString(s):
		return "a name has small letters, digits and _, and does not begin with a digit"
	case len(s) > maxName:
		return fmt.Sprintf("a name has at most %d bytes, this one %d", maxName, len(s))
	case strings.HasPrefix(s, reserved) && !v.t.Hidden:
		return "names that begin with " + reserved + " are the house's own"
	}
	return ""
}

func (v *validator) checkColumns() {
	if len(v.t.Columns) == 0 {
		v.add("", "columns", "", "the table has no columns")
	}
	if len(v.t.Columns) > maxColumns {
		v.add("", "columns", fmt.Sprint(len(v.t.Columns)), fmt.Sprintf("Postgres allows %d columns", maxColumns))
	}
	for i, c := range v.t.Columns {
		field := fmt.Sprintf("columns[%d]", i)
		if reason := v.name(c.Name); reason != "" {
			v.add(c.Name, field+".name", c.Name, reason)
		} else if slices.Contains(systemColumns, c.Name) {
			v.add(c.Name, field+".name", c.Name, "Postgres has a system column of this name in every table")
		}
		if _, twice := v.columns[c.Name]; twice {
			v.add(c.Name, field+".name", c.Name, "there are two columns of this name")
		}
		v.columns[c.Name] = c
		ty, err := parseType(c.Type)
		switch {
		case c.Type == "":
			v.add(c.Name, field+".type", "", "the type is missing; it is one of "+knownTypes)
		case err != nil:
			v.add(c.Name, field+".type", c.Type, err.Error())
		default:
			v.types[c.Name] = ty
		}
	}
}

func (v *validator) checkKey() {
	if len(v.t.Key) == 0 {
		v.add("", "key", "", "the key is missing: applying an event twice must do no harm, so each row has one")
	}
	if len(v.t.Key) > maxKeyColumns {
		v.add("", "key", fmt.Sprint(len(v.t.Key)), fmt.Sprintf("Postgres allows %d columns in a key", maxKeyColumns))
	}
	v.checkIndexed(v.t.Key, "key", "a key")
	for i, name := range v.t.Key {
		if c, ok := v.columns[name]; ok && !c.NotNull {
			v.add(name, fmt.Sprintf("key[%d]", i), name, "a column of the key may not be NULL; declare it so")
		}
	}
}

func (v *validator) checkIndexes() {
	for i, ix := range v.t.Indexes {
		field := fmt.Sprintf("indexes[%d].columns", i)
		if len(ix.Columns) == 0 {
			v.add("", field, "", "the index has no columns")
		}
		if len(ix.Columns) > maxKeyColumns {
			v.add("", field, fmt.Sprint(len(ix.Columns)), fmt.Sprintf("Postgres allows %d columns in an index", maxKeyColumns))
		}
		for j, other := range v.t.Indexes[:i] {
			if slices.Equal(other.Columns, ix.Columns) {
				v.add("", field, strings.Join(ix.Columns, ", "), fmt.Sprintf("indexes[%d] has the same columns", j))
			}
		}
		v.checkIndexed(ix.Columns, field, "an index")
	}
}

// checkIndexed checks the columns of a key or an index.
func (v *validator) checkIndexed(columns []string, field, what string) {
	for i, name := range columns {
		at := fmt.Sprintf("%s[%d]", field, i)
		if _, ok := v.columns[name]; !ok {
			v.add("", at, name, "the table has no such column; it has "+v.columnNames())
			continue
		}
		if slices.Contains(columns[:i], name) {
			v.add(name, at, name, "the column is named twice")
		}
		if k := v.types[name].kind; k == kindJSON || k == kindJSONB {
			v.add(name, at, name, "JSON has no order that "+what+" could use; give the part you need a column of its own")
		}
	}
}

func (v *validator) checkRetain() {
	r := v.t.Retain
	if r == nil {
		return
	}
	if _, ok := v.columns[r.Column]; !ok {
		v.add("", "retain.column", r.Column, "the table has no such column; it has "+v.columnNames())
	} else if ty, known := v.types[r.Column]; known && !ty.isTime() {
		v.add(r.Column, "retain.column", r.Column, "its type is "+ty.String()+"; the age of a row is told by a date, timestamp or timestamptz")
	}
	if r.For <= 0 {
		v.add("", "retain.for", r.For.String(), "it must be more than nothing")
	}
}

func (v *validator) columnNames() string {
	names := make([]string, len(v.t.Columns))
	for i, c := range v.t.Columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}
