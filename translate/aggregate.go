package translate

import (
	"slices"
	"strings"

	"banyan/event"
)

// maxAggregate is the size of one aggregate's rows, and of one aggregate's
// changes in one transaction, beyond which it is parked.
const maxAggregate = 64 << 20

// arow is one row of an aggregate. It is never changed, only replaced.
type arow struct {
	key  string // as event.JoinKey writes it
	vals row    // the kept columns
	size int
}

// agg is one aggregate in memory: the rows of each of its tables, in the order
// of their keys.
type agg struct {
	u      *unit
	ref    event.Ref
	tables [][]*arow
	size   int

	event    string // id of its last event
	snapshot int
	parked   bool // its chain is not empty
	stored   bool // the store has a state of it
	dirty    bool // the state must be stored
}

func (a *agg) exists() bool { return len(a.tables[0]) > 0 }

func (a *agg) root() *arow {
	if len(a.tables[0]) == 0 {
		return nil
	}
	return a.tables[0][0]
}

func (a *agg) resize() {
	a.size = 0
	for _, rows := range a.tables {
		for _, r := range rows {
			a.size += r.size
		}
	}
}

// kept picks the kept columns out of a captured row.
func (t *utable) kept(captured row) row {
	out := make(row, len(t.take))
	for i, at := range t.take {
		out[i] = captured[at]
	}
	return out
}

// newRow makes a row of an aggregate.
func (t *utable) newRow(vals row) *arow {
	size := 0
	for i := range vals {
		size += len(vals[i].s) + 2
	}
	return &arow{key: t.keyOf(vals), vals: vals, size: size}
}

// keyOf is the row's key. Its columns are NOT NULL and part of every image.
func (t *utable) keyOf(vals row) string {
	if len(t.key) == 1 {
		return event.JoinKey(vals[t.key[0]].s)
	}
	parts := make([]string, len(t.key))
	for i, k := range t.key {
		parts[i] = vals[k].s
	}
	return event.JoinKey(parts...)
}

// keyKnown says whether a row image carries the key.
func (t *utable) keyKnown(vals row) bool {
	for _, k := range t.key {
		if vals[k].kind != valText {
			return false
		}
	}
	return true
}

// compareKeys orders rows by key: integers by value, all else by bytes. The
// order of children in a state is this, whatever order the database read them in.
func (t *utable) compareKeys(a, b row) int {
	for _, k := range t.key {
		x, y := a[k].s, b[k].s
		if x == y {
			continue
		}
		if t.cols[k].codec.kind == kindInt {
			return compareIntegers(x, y)
		}
		return strings.Compare(x, y)
	}
	return 0
}

func compareIntegers(x, y string) int {
	nx, ny := strings.HasPrefix(x, "-"), strings.HasPrefix(y, "-")
	switch {
	case nx && !ny:
		return -1
	case ny && !nx:
		return 1
	case nx:
		x, y = y[1:], x[1:]
	}
	if len(x) != len(y) {
		return len(x) - len(y)
	}
	return strings.Compare(x, y)
}

// search finds a row by its key columns.
func (t *utable) search(rows []*arow, vals row) (int, bool) {
	return slices.BinarySearchFunc(rows, vals, func(r *arow, v row) int { return t.compareKeys(r.vals, v) })
}

func (t *utable) sort(rows []*arow) {
	slices.SortFunc(rows, func(a, b *arow) int { return t.compareKeys(a.vals, b.vals) })
}

// belongs says whether a row is a child of the parent's row.
func (t *utable) belongs(child, parent row) bool {
	for _, p := range t.parentCols {
		if child[p[0]].s != parent[p[1]].s {
			return false
		}
	}
	return true
}

// appendState appends the aggregate's state as JSON: the columns of the state,
// then the children by name.
func appendState(dst []byte, u *unit, tables [][]*arow) ([]byte, error) {
	return appendRow(dst, u.root(), tables[0][0].vals, tables)
}

func appendRow(dst []byte, t *utable, vals row, tables [][]*arow) ([]byte, error) {
	dst = append(dst, '{')
	var err error
	for n, i := range t.state {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, t.cols[i].label...)
		if dst, err = appendColumn(dst, &t.cols[i], vals[i], t.table.name); err != nil {
			return dst, err
		}
	}
	for n, child := range t.children {
		if n+len(t.state) > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, child.label...)
		dst = append(dst, '[')
		first := true
		for _, r := range tables[child.index] {
			// All rows of the root's children belong to the one root.
			if t.parent != nil && !child.belongs(r.vals, vals) {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			if dst, err = appendRow(dst, child, r.vals, tables); err != nil {
				return dst, err
			}
		}
		dst = append(dst, ']')
	}
	return append(dst, '}'), nil
}

// value is a row of the aggregate as a value in expressions.
func (t *utable) value(vals row, tables [][]*arow) *rowValue {
	v := &rowValue{t: t.types, vals: vals}
	v.rowsOf = func(child *utable) []any {
		var out []any
		for _, r := range tables[child.index] {
			if t.parent == nil || child.belongs(r.vals, vals) {
				out = append(out, child.value(r.vals, tables))
			}
		}
		return out
	}
	return v
}

// appendChanged appends the names of the state's fields that differ between two
// moments. An aggregate that was not there counts as one of NULLs and of no
// children.
func appendChanged(dst []byte, u *unit, before, after [][]*arow) []byte {
	dst = append(dst, '[')
	first := true
	add := func(name string) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, name[:len(name)-1]...) // the label without its colon
	}
	t := u.root()
	for _, i := range t.state {
		var x, y val
		if len(before[0]) > 0 {
			x = before[0][0].vals[i]
		}
		if len(after[0]) > 0 {
			y = after[0][0].vals[i]
		}
		if x != y {
			add(t.cols[i].label)
		}
	}
	for _, child := range t.children {
		if child.differ(before, after) {
			add(child.label)
		}
	}
	return append(dst, ']')
}

// differ compares the rows of a table and of all below it, by what the state
// shows of them.
func (t *utable) differ(before, after [][]*arow) bool {
	x, y := before[t.index], after[t.index]
	if len(x) != len(y) {
		return true
	}
	for i := range x {
		if x[i] == y[i] {
			continue
		}
		if x[i].key != y[i].key {
			return true
		}
		for _, c := range t.state {
			if x[i].vals[c] != y[i].vals[c] {
				return true
			}
		}
	}
	for _, child := range t.children {
		if child.differ(before, after) {
			return true
		}
	}
	return false
}
