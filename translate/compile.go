package translate

import (
	"fmt"
	"slices"
	"strings"

	"banyan/expression"
	"banyan/wal"
)

// compiler turns a configuration into rules and collects what is wrong with it.
type compiler struct {
	faults
	cfg      *Config
	rules    *Rules
	given    map[string]*wal.Table
	warnings faults
	types    map[string]string // event type to aggregate
	topics   map[string]string
	causes   map[string]map[string]place // aggregate to aggregates that it causes
	told     map[*table]bool             // tables without an aggregate that a rule absorbs or ignores
}

// Compile checks a configuration against the real tables and makes rules of it.
// tables may have more columns than the configuration names. The error is
// Faults: everything that is wrong, at once. Warnings are things that work but
// that somebody should know.
func Compile(cfg *Config, tables []*wal.Table, version int) (*Rules, []Warning, error) {
	c := &compiler{cfg: cfg, given: map[string]*wal.Table{},
		types: map[string]string{}, topics: map[string]string{}, causes: map[string]map[string]place{}, told: map[*table]bool{}}
	c.faults.Path, c.warnings.Path = cfg.Path, cfg.Path
	c.rules = &Rules{Version: version, Config: cfg, tables: map[string]*table{}, byName: map[string]*unit{}, digest: digestOf(cfg)}
	for _, t := range tables {
		c.given[t.FullName()] = t
	}
	for _, t := range cfg.Tables {
		c.table(t)
	}
	whole := map[string]bool{}
	for _, a := range cfg.Aggregates {
		before := c.faults.Len()
		c.aggregate(a)
		whole[a.Name] = c.faults.Len() == before
	}
	// Rules speak of other aggregates' tables, so all shapes come first. The
	// rules of an aggregate whose shape is wrong are not looked at: everything
	// in them would be wrong too.
	for i, a := range cfg.Aggregates {
		if whole[a.Name] {
			c.events(c.rules.units[i], a)
		}
	}
	if c.faults.Len() == 0 {
		c.cycles()
		c.coverage()
	}
	if err := c.err(); err != nil {
		return nil, c.warnings.Faults(), err
	}
	return c.rules, c.warnings.Faults(), nil
}

func (c *compiler) table(cfg *TableConfig) {
	field := "tables." + cfg.Name
	given := c.given[cfg.Name]
	if given == nil {
		var known []string
		for name := range c.given {
			known = append(known, name)
		}
		sortStrings(known)
		c.add(cfg.at, field, cfg.Name, "the database has no such table; %s", expression.DidYouMean(cfg.Name, known))
		return
	}
	t := &table{name: cfg.Name, config: cfg, source: &wal.Table{OID: given.OID, Schema: given.Schema, Name: given.Name, ReplicaIdentity: given.ReplicaIdentity}}
	var known []string
	for i := range given.Columns {
		known = append(known, given.Columns[i].Name)
	}
	for _, name := range cfg.Columns {
		i := given.Column(name)
		if i < 0 {
			c.add(cfg.pos["columns."+name], field+".columns", name, "the table has no such column; %s", expression.DidYouMean(name, known))
			continue
		}
		t.source.Columns = append(t.source.Columns, given.Columns[i])
		t.names = append(t.names, name)
		t.cols = append(t.cols, c.column(cfg, &given.Columns[i], field))
	}
	for name := range cfg.Omit {
		if given.Column(name) < 0 {
			c.warnings.add(cfg.pos["omit."+name], field+".omit", name, "the table has no such column")
		} else if slices.Contains(cfg.Columns, name) {
			c.add(cfg.pos["omit."+name], field+".omit", name, "stands in columns too")
		}
	}
	for _, name := range known {
		if _, omitted := cfg.Omit[name]; !omitted && !slices.Contains(cfg.Columns, name) {
			c.warnings.add(cfg.at, field, name, "is a column that stands neither in columns nor in omit; it is left out")
		}
	}
	for what, names := range map[string][]string{"money": keysOf(cfg.Money), "mask": keysOf(cfg.Mask)} {
		for _, name := range names {
			if !slices.Contains(cfg.Columns, name) {
				c.add(cfg.pos[what+"."+name], field+"."+what, name, "is not one of the table's columns here; %s", expression.DidYouMean(name, cfg.Columns))
			}
		}
	}
	c.tableKey(t, field)
	t.types = &rowType{what: t.name, cols: t.cols, index: map[string]int{}}
	for i, name := range t.names {
		t.types.index[name] = i
		t.types.shown = append(t.types.shown, i)
	}
	t.self = &binding{table: t}
	for i := range t.cols {
		t.self.from = append(t.self.from, i)
	}
	t.index = len(c.rules.list)
	c.rules.list = append(c.rules.list, t)
	c.rules.tables[t.name] = t
}

func keysOf[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sortStrings(out)
	return out
}

func (c *compiler) column(cfg *TableConfig, given *wal.Column, field string) column {
	col := column{name: given.Name, typeName: typeName(*given), oid: given.TypeOID, notNull: given.NotNull, mask: cfg.Mask[given.Name]}
	col.codec = codecOf(col.typeName)
	col.label = string(expression.AppendText(nil, col.name)) + ":"
	m, ok := cfg.Money[col.name]
	if !ok {
		return col
	}
	at := cfg.pos["money."+col.name]
	if col.mask != "" {
		c.add(at, field+".money", col.name, "is masked; a masked column is no money")
	}
	if col.codec.kind == kindInt {
		c.add(at, field+".money", col.name, "is %s; money is a numeric column (for pence in an integer, name the field so and publish the integer)", col.typeName)
		return col
	}
	if col.codec.kind != kindNumeric {
		c.add(at, field+".money", col.name, "is %s; money is a numeric column", col.typeName)
		return col
	}
	if scale, ok := numericScale(given.TypMod); !ok {
		c.warnings.add(at, field+".money", col.name, "is numeric without a scale; a value with more than %d decimals parks its key", m.Scale)
	} else if scale > m.Scale {
		c.warnings.add(at, field+".money", col.name, "has %d decimals and money here %d; a value that needs more parks its key; set scale: %d", scale, m.Scale, scale)
	}
	col.money = &m
	col.codec = codec{kind: kindMoney, scale: m.Scale, unit: m.Currency}
	return col
}

// numericScale reads the scale of numeric(precision, scale) from a typmod.
func numericScale(typmod int32) (int, bool) {
	if typmod < 4 {
		return 0, false
	}
	scale := int((typmod - 4) & 0x7ff)
	if scale >= 1024 {
		scale -= 2048
	}
	return max(scale, 0), true
}

// tableKey finds the columns that identify a row: the primary key, else the
// replica identity's index.
func (c *compiler) tableKey(t *table, field string) {
	cols := t.source.Columns
	given := c.given[t.name]
	keys := 0
	for i := range given.Columns {
		if given.Columns[i].Key > 0 {
			keys++
		}
	}
	for n := 1; n <= keys; n++ {
		for i := range cols {
			if cols[i].Key == n {
				t.key = append(t.key, i)
			}
		}
	}
	if keys == 0 {
		for i := range cols {
			if cols[i].Identity && given.ReplicaIdentity == 'i' {
				t.key = append(t.key, i)
				keys++
			}
		}
	}
	if keys == 0 && given.ReplicaIdentity != 'f' {
		c.add(t.config.at, field, t.name, "has no primary key: publishing it would break the application's own updates and deletes; leave it out, or give it a unique index and REPLICA IDENTITY USING INDEX")
	}
	if len(t.key) < keys {
		c.add(t.config.at, field+".columns", "", "leaves out a column of the primary key; name all of them")
	}
}

func (c *compiler) aggregate(cfg *AggregateConfig) {
	field := "aggregates." + cfg.Name
	u := &unit{name: cfg.Name, topic: cfg.Topic, removed: cfg.Name + "Removed", recorded: cfg.Name + "Recorded", corrected: cfg.Name + "Corrected", rekeyed: cfg.Name + "Rekeyed"}
	if other := c.topics[cfg.Topic]; other != "" {
		c.add(cfg.pos["topic"], field+".topic", cfg.Topic, "is the topic of %s; every aggregate has one of its own, because record keys would collide", other)
	}
	c.topics[cfg.Topic] = cfg.Name
	c.rules.units = append(c.rules.units, u)
	c.rules.byName[cfg.Name] = u
	refs := c.references(cfg)
	child := &ChildConfig{Table: cfg.Table, Key: cfg.Key, State: cfg.State, Children: cfg.Children, at: cfg.at, pos: cfg.pos}
	c.utable(u, child, nil, refs, field)
}

// utable adds a table and its children to an aggregate.
func (c *compiler) utable(u *unit, cfg *ChildConfig, parent *utable, refs *references, field string) {
	t := c.rules.tables[cfg.Table]
	if t == nil {
		c.add(cfg.pos["table"], field+".table", cfg.Table, "is not one of tables; %s", expression.DidYouMean(cfg.Table, keysOf(c.rules.tables)))
		return
	}
	for _, other := range u.tables {
		if other.table == t {
			c.add(cfg.pos["table"], field+".table", cfg.Table, "is in this aggregate already")
			return
		}
	}
	ut := &utable{u: u, index: len(u.tables), table: t, parent: parent, as: cfg.As, orphans: cfg.IgnoreOrphans}
	ut.label = string(expression.AppendText(nil, cfg.As)) + ":"
	kept := c.keptColumns(ut, cfg, refs, field)
	ut.types = &rowType{what: t.name, index: map[string]int{}, children: map[string]*utable{}}
	for i, name := range t.names {
		if kept[name] {
			ut.types.index[name] = len(ut.cols)
			ut.cols = append(ut.cols, t.cols[i])
			ut.take = append(ut.take, i)
		}
	}
	ut.types.cols = ut.cols
	state := cfg.State
	if len(state) == 0 {
		state = t.names
	}
	for _, name := range state {
		if i, ok := ut.types.index[name]; ok {
			ut.state = append(ut.state, i)
		}
	}
	ut.types.shown = ut.state
	ut.header = appendHeader(nil, ut)
	for i := range ut.cols {
		ut.straight = append(ut.straight, i)
	}
	c.keyColumns(ut, cfg, field)
	if parent != nil {
		c.parentColumns(ut, cfg, field)
		if slices.ContainsFunc(parent.state, func(i int) bool { return parent.cols[i].name == cfg.As }) {
			c.add(cfg.pos["as"], field+".as", cfg.As, "is a column of the state too; choose another name")
		}
		if parent.types.children[cfg.As] != nil {
			c.add(cfg.pos["as"], field+".as", cfg.As, "is the name of another child too; choose another name")
		}
		parent.children = append(parent.children, ut)
		parent.types.children[cfg.As] = ut
		parent.types.kids = append(parent.types.kids, ut)
	}
	u.tables = append(u.tables, ut)
	t.roles = append(t.roles, ut)
	for i, child := range cfg.Children {
		c.utable(u, child, ut, refs, fmt.Sprintf("%s.children[%d]", field, i))
	}
}

// keptColumns are the columns that the aggregate stores: those of its state,
// the keys, and those that its rules name.
func (c *compiler) keptColumns(ut *utable, cfg *ChildConfig, refs *references, field string) map[string]bool {
	t, kept := ut.table, map[string]bool{}
	need := func(names []string, part string) {
		for _, name := range names {
			if !slices.Contains(t.names, name) {
				c.add(cfg.pos[part+"."+name], field+"."+part, name, "is not one of the columns of %s; %s", t.name, expression.DidYouMean(name, t.names))
				continue
			}
			kept[name] = true
		}
	}
	need(cfg.Key, "key")
	need(cfg.State, "state")
	if len(cfg.State) == 0 {
		need(t.names, "state")
	}
	for _, p := range cfg.Parent {
		if !slices.Contains(t.names, p[0]) {
			c.add(cfg.pos["parent"], field+".parent", p[0], "is not one of the columns of %s; %s", t.name, expression.DidYouMean(p[0], t.names))
		}
		kept[p[0]] = true
	}
	for _, name := range refs.of(ut) {
		if slices.Contains(t.names, name) {
			kept[name] = true
		}
	}
	return kept
}

func (c *compiler) keyColumns(ut *utable, cfg *ChildConfig, field string) {
	t := ut.table
	identity := slices.ContainsFunc(t.source.Columns, func(col wal.Column) bool { return col.Identity })
	for _, name := range cfg.Key {
		i, ok := ut.types.index[name]
		if !ok {
			continue
		}
		ut.key = append(ut.key, i)
		source := t.source.Columns[ut.take[i]]
		at := cfg.pos["key."+name]
		if ut.cols[i].mask != "" {
			c.add(at, field+".key", name, "is masked; a key cannot be")
		}
		if !source.NotNull {
			c.add(at, field+".key", name, "can be NULL; a key column must be NOT NULL")
		}
		carried := source.Identity || !identity && source.Key > 0 || t.source.ReplicaIdentity == 'f'
		if !carried {
			c.add(at, field+".key", name, "is not in the table's replica identity, so a deleted row could not be found; use the primary key, or ALTER TABLE %s REPLICA IDENTITY FULL", t.name)
		}
	}
	if len(cfg.Key) == 0 {
		c.add(cfg.at, field+".key", "", "is empty: name the columns that identify a row")
	}
	var primary, own []string
	for _, k := range t.key {
		primary = append(primary, t.names[k])
	}
	own = slices.Clone(cfg.Key)
	sortStrings(primary)
	sortStrings(own)
	if len(primary) > 0 && !slices.Equal(primary, own) {
		c.warnings.add(cfg.at, field+".key", strings.Join(cfg.Key, ", "), "is not the primary key (%s); it must be unique all the same", strings.Join(primary, ", "))
	}
}

func (c *compiler) parentColumns(ut *utable, cfg *ChildConfig, field string) {
	at := cfg.pos["parent"]
	var named []string
	for _, p := range cfg.Parent {
		own, ok1 := ut.types.index[p[0]]
		theirs, ok2 := ut.parent.types.index[p[1]]
		if !ok2 {
			c.add(at, field+".parent", p[1], "is not a column of %s", ut.parent.table.name)
		}
		if !ok1 || !ok2 {
			continue
		}
		named = append(named, p[1])
		ut.parentCols = append(ut.parentCols, [2]int{own, theirs})
		if ut.cols[own].mask != "" {
			c.add(at, field+".parent", p[0], "is masked; a column that names the parent cannot be")
		}
		if !ut.cols[own].notNull && !ut.orphans {
			c.add(at, field+".parent", p[0], "can be NULL: say orphans: ignore (rows without a parent make no event), or make the column NOT NULL")
		}
		if a, b := ut.cols[own].codec.kind, ut.parent.cols[theirs].codec.kind; a != b {
			c.add(at, field+".parent", p[0], "is %s and %s of the parent is %s; they cannot be compared by text", ut.cols[own].typeName, p[1], ut.parent.cols[theirs].typeName)
		}
	}
	missing := slices.DeleteFunc(keyNames(ut.parent), func(k string) bool { return slices.Contains(named, k) })
	if len(missing) > 0 || len(named) != len(ut.parent.key) {
		c.add(at, field+".parent", "", "must name the parent's key, all of it and nothing else: %s", strings.Join(keyNames(ut.parent), ", "))
		return
	}
	// Parent columns in the order of the parent's key, so that its key can be
	// made of them.
	slices.SortFunc(ut.parentCols, func(a, b [2]int) int {
		return slices.Index(ut.parent.key, a[1]) - slices.Index(ut.parent.key, b[1])
	})
}
