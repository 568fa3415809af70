package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"banyan/wal"
)

// Rules are a configuration compiled against real tables. They never change.
type Rules struct {
	// Version is the number of this rule set; events carry it.
	Version int
	Config  *Config

	tables map[string]*table
	list   []*table // in the order of the file
	units  []*unit
	byName map[string]*unit
	// reaches are the ways in which rows of a table are looked up by rules:
	// distinct (table, columns).
	reaches []*reachIndex
	digest  string
}

// Topic is one topic that the rules write to, and the aggregate it carries.
type Topic struct{ Name, Aggregate string }

// Topics lists the topics in the order of the file.
func (r *Rules) Topics() []Topic {
	out := make([]Topic, len(r.units))
	for i, u := range r.units {
		out[i] = Topic{u.topic, u.name}
	}
	return out
}

// Digest is a hash of everything in the rules that decides events: two rule
// sets with one digest are the same set.
func (r *Rules) Digest() string { return r.digest }

// Capture says which columns of which tables are read.
func (r *Rules) Capture() wal.Capture {
	out := wal.Capture{}
	for name, t := range r.tables {
		out[name] = slices.Clone(t.names)
	}
	return out
}

// Units say what a snapshot reads, one per aggregate in the order of the file.
// Their tables have the captured columns only. The rows of a Tree that
// Recorder.Add and Expected take are aligned with them.
func (r *Rules) Units() []wal.Unit {
	out := make([]wal.Unit, len(r.units))
	for i, u := range r.units {
		out[i] = wal.Unit{Aggregate: u.name, Root: u.tables[0].unit()}
	}
	return out
}

func (t *utable) unit() wal.UnitTable {
	at := func(col int) int { return t.table.source.Column(t.cols[col].name) }
	ut := wal.UnitTable{Table: t.table.source}
	for _, k := range t.key {
		ut.Key = append(ut.Key, at(k))
	}
	if t.parent != nil {
		for _, p := range t.parentCols {
			ut.Parent = append(ut.Parent, [2]int{at(p[0]), t.parent.table.source.Column(t.parent.cols[p[1]].name)})
		}
	}
	for _, c := range t.children {
		ut.Children = append(ut.Children, c.unit())
	}
	return ut
}

// Check says whether the rules can read a table as it is now, after DDL in
// mid-stream: a *SchemaError where a column that the rules name is gone or has
// another type. Tables that are not captured are fine.
func (r *Rules) Check(now *wal.Table) error {
	_, err := r.bind(now)
	return err
}

// Lacks names the columns of a table that the configuration neither keeps nor
// omits, given all columns that the table has.
func (r *Rules) Lacks(table string, columns []string) []string {
	t := r.tables[table]
	if t == nil {
		return nil
	}
	var out []string
	for _, c := range columns {
		if _, omitted := t.config.Omit[c]; !omitted && !slices.Contains(t.names, c) {
			out = append(out, c)
		}
	}
	return out
}

// table is one captured table.
type table struct {
	index   int // in Rules.list
	name    string
	config  *TableConfig
	source  *wal.Table // as Compile found it, with the captured columns only
	names   []string   // of the captured columns
	cols    []column   // aligned with names
	key     []int      // primary key, into cols; empty where it has none
	roles   []*utable  // where rows of the table live in aggregates
	reaches []*reachIndex
	types   *rowType
	self    *binding // of source
	// ignored is set for a table of no aggregate whose changes make no event.
	ignored   *ignore
	ignoredBy *unit
}

// column is one column as rules see it.
type column struct {
	name     string
	typeName string
	oid      uint32
	codec    codec
	money    *MoneyConfig
	mask     string
	notNull  bool
	label    string // `"name":`
}

// unit is one aggregate.
type unit struct {
	name, topic string
	tables      []*utable // the root first, every parent before its children
	rules       []*rule
	ignores     []*ignore
	// removal, recorded, corrected and rekeyed are the types that are made
	// without a rule.
	removed, recorded, corrected, rekeyed string
}

func (u *unit) root() *utable { return u.tables[0] }

// utable is one table's part in an aggregate.
type utable struct {
	u          *unit
	index      int // in u.tables
	table      *table
	parent     *utable
	children   []*utable
	as         string
	label      string   // `"as":`
	cols       []column // the kept ones
	take       []int    // kept column to captured column
	state      []int    // kept columns in the state's order
	key        []int
	parentCols [][2]int // own kept column, parent's kept column
	orphans    bool     // rows without a parent are ignored
	header     []byte   // encoded column names
	straight   []int    // 0, 1, ... one for each kept column
	types      *rowType
}

// ignore is one entry of an aggregate's ignore list.
type ignore struct {
	index  int
	table  *utable
	op     wal.Op // 0 for any
	only   []bool // by kept column; nil for any
	reason string
}

// reachIndex is one way of looking rows up: a table and columns of it.
type reachIndex struct {
	index int
	table *table
	cols  []int // captured columns
}

func digestOf(c *Config) string {
	b, err := json.Marshal(struct {
		Unknown    string
		Source     string
		Tables     []*TableConfig
		Aggregates []*AggregateConfig
	}{c.Unknown, c.Source.Name, c.Tables, c.Aggregates})
	if err != nil {
		b = c.digest[:] // cannot happen: plain data
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Resnapshot names an aggregate whose stored states lack what new rules need.
type Resnapshot struct {
	Aggregate string
	// Reason names the table and the columns, for people.
	Reason string
}

// Diff says which aggregates must be snapshotted again before the new rules
// take effect, because the states that the old ones stored lack their data.
// A nil old set lacks nothing: there are no states.
func Diff(old, now *Rules) []Resnapshot {
	if old == nil {
		return nil
	}
	var out []Resnapshot
	for _, u := range now.units {
		if reason := u.lacks(old.byName[u.name]); reason != "" {
			out = append(out, Resnapshot{u.name, reason})
		}
	}
	return out
}

func (u *unit) lacks(old *unit) string {
	if old == nil {
		return "the aggregate is new"
	}
	if !slices.Equal(keyNames(u.root()), keyNames(old.root())) || u.root().table.name != old.root().table.name {
		return "its root table or key has changed"
	}
	for _, t := range u.tables {
		i := slices.IndexFunc(old.tables, func(o *utable) bool { return o.path() == t.path() && o.table.name == t.table.name })
		if i < 0 {
			return t.table.name + " is new in it"
		}
		for _, c := range t.cols {
			j := slices.IndexFunc(old.tables[i].cols, func(o column) bool { return o.name == c.name })
			if j < 0 {
				return "column " + c.name + " of " + t.table.name + " is new in it"
			}
			if old.tables[i].cols[j].mask != c.mask {
				return "column " + c.name + " of " + t.table.name + " is masked in another way"
			}
		}
	}
	return ""
}

func keyNames(t *utable) []string {
	var out []string
	for _, k := range t.key {
		out = append(out, t.cols[k].name)
	}
	return out
}

// path names a table's place in its aggregate: "" for the root, "lines", or
// "lines.discounts".
func (t *utable) path() string {
	if t.parent == nil {
		return ""
	}
	if p := t.parent.path(); p != "" {
		return p + "." + t.as
	}
	return t.as
}

// rule is one compiled event rule.
type rule struct {
	index      int
	name       string // Order.events[2] OrderPaid
	typ        string
	version    int
	table      *utable
	op         wal.Op
	when       *program
	occurredAt *program
	fields     []field
	absorb     []*table
	reach      []*reach
}

type field struct {
	label string
	value *program
}

// reach is one way in which a rule reaches rows of other aggregates.
type reach struct {
	name  string
	index *reachIndex
	// paths give the key columns' values: from new, old or state, or from all
	// rows of a child table.
	paths []reachPath
	cause bool
}

type reachPath struct {
	from  string // new, old, state, or "" for rows of child
	child *utable
	col   int // kept column
}
