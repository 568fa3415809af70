package translate

import (
	"fmt"
	"slices"
	"strings"

	"banyan/expression"
	"banyan/wal"
)

var ops = map[string]wal.Op{"insert": wal.Insert, "update": wal.Update, "delete": wal.Delete}

func (u *unit) table(name string) *utable {
	for _, t := range u.tables {
		if t.table.name == name {
			return t
		}
	}
	return nil
}

func (u *unit) tableNames() []string {
	var out []string
	for _, t := range u.tables {
		out = append(out, t.table.name)
	}
	return out
}

// events compiles the rules of one aggregate.
func (c *compiler) events(u *unit, cfg *AggregateConfig) {
	field := "aggregates." + cfg.Name
	for i, e := range cfg.Events {
		c.event(u, e, i, fmt.Sprintf("%s.events[%d]", field, i))
	}
	for i, g := range cfg.Ignore {
		c.ignore(u, g, i, fmt.Sprintf("%s.ignore[%d]", field, i))
	}
	if !slices.ContainsFunc(u.rules, func(r *rule) bool { return r.table == u.root() && r.op == wal.Insert }) {
		c.warnings.add(cfg.at, field+".events", "", "has no rule for a new row of %s; new rows will park", u.root().table.name)
	}
	for _, t := range u.tables[1:] {
		known := slices.ContainsFunc(u.rules, func(r *rule) bool { return r.table == t || slices.Contains(r.absorb, t.table) }) ||
			slices.ContainsFunc(u.ignores, func(g *ignore) bool { return g.table == t })
		if !known {
			c.warnings.add(cfg.at, field+".events", t.table.name, "is a child that no rule anchors on or absorbs; its changes will park")
		}
	}
}

func (c *compiler) event(u *unit, e *EventConfig, index int, field string) {
	t := u.root()
	if e.On.Table != "" {
		if t = u.table(e.On.Table); t == nil {
			c.add(e.pos["on"], field+".on.table", e.On.Table, "is no table of this aggregate; %s", expression.DidYouMean(e.On.Table, u.tableNames()))
			return
		}
	}
	r := &rule{index: index, name: fmt.Sprintf("%s.events[%d] %s", u.name, index, e.Type), typ: e.Type, version: e.Version, table: t, op: ops[e.On.Op]}
	c.eventType(u, e, r, field)
	s := c.scopeOf(u, r)
	for _, reachCfg := range e.Reach {
		if rc := c.reach(u, r, reachCfg, s, field+".reach."+reachCfg.Name); rc != nil {
			r.reach = append(r.reach, rc)
			s.many[rc.name] = rc.index.table.types
		}
	}
	r.when = c.expression(e.When, s, expression.Bool, e.pos["when"], field+".when")
	r.occurredAt = c.expression(e.OccurredAt, s, expression.Time, e.pos["occurred_at"], field+".occurred_at")
	for _, f := range e.Fields {
		r.fields = append(r.fields, newField(f.Name, c.expression(f.Expr, s, expression.Any, f.at, field+".fields."+f.Name)))
	}
	c.absorb(u, e, r, field)
	for _, earlier := range u.rules {
		if earlier.table == r.table && earlier.op == r.op && (e.When != "" && earlier.when != nil && earlier.when.Source() == e.When || earlier.when == nil && !c.broken(u, earlier)) {
			c.add(e.at, field, e.Type, "can never be reached: events[%d] (%s) matches all that this one does and comes first", earlier.index, earlier.typ)
			break
		}
	}
	u.rules = append(u.rules, r)
}

// broken says whether a rule has no condition only because its condition did
// not compile.
func (c *compiler) broken(u *unit, r *rule) bool {
	cfg := c.cfg.Aggregate(u.name)
	return cfg.Events[r.index].When != ""
}

func newField(name string, p *program) field {
	return field{string(expression.AppendText(nil, name)) + ":", p}
}

func (c *compiler) expression(source string, s *scope, want expression.Kind, at place, field string) *program {
	if source == "" {
		return nil
	}
	e, err := compileExpression(source, s, want)
	if err != nil {
		c.add(at, field, source, "%s", err)
		return nil
	}
	return e
}

func (c *compiler) eventType(u *unit, e *EventConfig, r *rule, field string) {
	at := e.pos["type"]
	if owner := c.types[e.Type]; owner != "" && owner != u.name {
		c.add(at, field+".type", e.Type, "is a type of %s too; a type belongs to one aggregate", owner)
	}
	c.types[e.Type] = u.name
	for _, other := range u.rules {
		if other.typ == e.Type && other.version != e.Version {
			c.add(at, field+".version", fmt.Sprint(e.Version), "is %d in events[%d]; a type has one version", other.version, other.index)
		}
	}
	made := e.Type == u.recorded || e.Type == u.corrected || e.Type == u.rekeyed
	if made || e.Type == u.removed && (r.table != u.root() || r.op != wal.Delete) {
		c.add(at, field+".type", e.Type, "is made by Banyan itself; choose another word")
	}
}

// scopeOf says what the rule's expressions may name.
func (c *compiler) scopeOf(u *unit, r *rule) *scope {
	// Rows as they came from the log have no children.
	flat := *r.table.types
	flat.children, flat.kids = nil, nil
	s := &scope{rows: map[string]*rowType{}, many: map[string]*rowType{}}
	if r.op != wal.Delete {
		s.rows["new"] = &flat
	}
	if r.op != wal.Insert {
		s.rows["old"] = &flat
	}
	if r.table != u.root() || r.op != wal.Delete {
		s.rows["state"] = u.root().types
	}
	return s
}

func (c *compiler) reach(u *unit, r *rule, cfg *ReachConfig, s *scope, field string) *reach {
	t := c.rules.tables[cfg.Table]
	at := cfg.pos["table"]
	if t == nil {
		c.add(at, field+".table", cfg.Table, "is not one of tables; %s", expression.DidYouMean(cfg.Table, keysOf(c.rules.tables)))
		return nil
	}
	if u.table(cfg.Table) != nil {
		c.add(at, field+".table", cfg.Table, "is a table of this aggregate; use state")
		return nil
	}
	if s.rows[cfg.Name] != nil || s.many[cfg.Name] != nil || cfg.Name == "op" || cfg.Name == "key" {
		c.add(cfg.at, field, cfg.Name, "is the name of something else; choose another")
		return nil
	}
	out := &reach{name: cfg.Name, cause: cfg.Cause}
	var cols []int
	for _, k := range cfg.Key {
		i := slices.Index(t.names, k[0])
		if i < 0 {
			c.add(cfg.pos["key"], field+".key", k[0], "is not one of the columns of %s; %s", t.name, expression.DidYouMean(k[0], t.names))
			continue
		}
		path, col, err := c.reachPath(u, r, k[1], s)
		if err != nil {
			c.add(cfg.pos["key"], field+".key."+k[0], k[1], "%s", err)
			continue
		}
		if t.cols[i].mask != "" || col.mask != "" {
			c.add(cfg.pos["key"], field+".key."+k[0], k[1], "is masked; rows are reached by plain columns")
		}
		if t.cols[i].codec.kind != col.codec.kind {
			c.add(cfg.pos["key"], field+".key."+k[0], k[1], "is %s, and %s is %s", col.typeName, k[0], t.cols[i].typeName)
		}
		cols, out.paths = append(cols, i), append(out.paths, path)
	}
	if len(cols) == 0 {
		c.add(cfg.pos["key"], field+".key", "", "is empty: name a column of %s and what it equals", t.name)
		return nil
	}
	for _, p := range out.paths {
		if p.child != nil && out.paths[0].child != p.child {
			c.add(cfg.pos["key"], field+".key", "", "must take all columns from one table when it takes one from the rows of a child")
		}
	}
	if cfg.Cause {
		if len(t.roles) == 0 {
			c.add(cfg.pos["cause"], field+".cause", "true", "no aggregate has %s, so there is no event to be caused", t.name)
		}
		for _, role := range t.roles {
			if c.causes[u.name] == nil {
				c.causes[u.name] = map[string]place{}
			}
			c.causes[u.name][role.u.name] = cfg.pos["cause"]
		}
	}
	out.index = c.reachIndex(t, cols)
	return out
}

func (c *compiler) reachIndex(t *table, cols []int) *reachIndex {
	for _, x := range t.reaches {
		if slices.Equal(x.cols, cols) {
			return x
		}
	}
	x := &reachIndex{index: len(c.rules.reaches), table: t, cols: cols}
	t.reaches = append(t.reaches, x)
	c.rules.reaches = append(c.rules.reaches, x)
	return x
}

func (c *compiler) reachPath(u *unit, r *rule, path string, s *scope) (reachPath, *column, error) {
	from, name, ok := strings.Cut(path, ".")
	if !ok {
		return reachPath{}, nil, fmt.Errorf("want new.column, old.column, state.column or child.column")
	}
	t := r.table
	var child *utable
	switch from {
	case "new", "old":
		if s.rows[from] == nil {
			return reachPath{}, nil, fmt.Errorf("there is no %s in a rule on %s", from, r.op)
		}
	case "state":
		t = u.root()
	default:
		for _, candidate := range u.tables[1:] {
			if candidate.as == from {
				t, child = candidate, candidate
			}
		}
		if child == nil {
			return reachPath{}, nil, fmt.Errorf("there is no child %q; want new, old, state or the name of a child", from)
		}
		from = ""
	}
	i, ok := t.types.index[name]
	if !ok {
		return reachPath{}, nil, fmt.Errorf("%s has no column %q; %s", t.table.name, name, expression.DidYouMean(name, t.table.names))
	}
	return reachPath{from, child, i}, &t.cols[i], nil
}

func (c *compiler) absorb(u *unit, e *EventConfig, r *rule, field string) {
	for _, name := range e.Absorb {
		at := e.pos["absorb."+name]
		t := c.rules.tables[name]
		if t == nil {
			c.add(at, field+".absorb", name, "is not one of tables; %s", expression.DidYouMean(name, keysOf(c.rules.tables)))
			continue
		}
		reached := slices.ContainsFunc(r.reach, func(x *reach) bool { return x.index.table == t })
		if u.table(name) == nil && !reached {
			c.add(at, field+".absorb", name, "is neither a table of this aggregate nor reached by the rule")
			continue
		}
		if u.table(name) == nil && len(t.roles) > 0 {
			c.add(at, field+".absorb", name, "belongs to the aggregate %s, which tells it itself; link it with cause: true", t.roles[0].u.name)
			continue
		}
		c.told[t] = true
		r.absorb = append(r.absorb, t)
	}
}

func (c *compiler) ignore(u *unit, cfg *IgnoreConfig, index int, field string) {
	t := u.root()
	if cfg.On.Table != "" {
		if t = u.table(cfg.On.Table); t == nil {
			c.ignoreElsewhere(u, cfg, index, field)
			return
		}
	}
	g := &ignore{index: index, table: t, op: ops[cfg.On.Op], reason: cfg.Reason}
	at := cfg.pos["on"]
	if cfg.Only == nil {
		c.add(at, field, cfg.On.Op, "would ignore columns that the state names; limit it to updates of other columns, as in {on: update, only: [updated_at]}")
		return
	}
	g.only = make([]bool, len(t.cols))
	for _, name := range cfg.Only {
		i, ok := t.types.index[name]
		at := cfg.pos["only."+name]
		switch {
		case ok && slices.Contains(t.state, i):
			c.add(at, field+".only", name, "is in the state; a column that the state names cannot be ignored")
		case ok:
			g.only[i] = true
		case !slices.Contains(t.table.names, name):
			c.add(at, field+".only", name, "is not one of the columns of %s; %s", t.table.name, expression.DidYouMean(name, t.table.names))
		}
	}
	u.ignores = append(u.ignores, g)
}

// ignoreElsewhere ignores a table that is captured but belongs to no aggregate.
func (c *compiler) ignoreElsewhere(u *unit, cfg *IgnoreConfig, index int, field string) {
	t := c.rules.tables[cfg.On.Table]
	switch {
	case t == nil:
		c.add(cfg.pos["on"], field+".on.table", cfg.On.Table, "is not one of tables; %s", expression.DidYouMean(cfg.On.Table, keysOf(c.rules.tables)))
	case len(t.roles) > 0:
		c.add(cfg.pos["on"], field+".on.table", cfg.On.Table, "belongs to the aggregate %s; ignore it there", t.roles[0].u.name)
	case cfg.Only != nil || cfg.On.Op != "":
		c.add(cfg.pos["on"], field+".on", cfg.On.Table, "belongs to no aggregate and can only be ignored as a whole: on: {table: ...}")
	default:
		c.told[t] = true
		t.ignored = &ignore{index: index, reason: cfg.Reason}
		t.ignoredBy = u
	}
}

// cycles refuses causes that run in a circle: no event can cause itself.
func (c *compiler) cycles() {
	state := map[string]int{} // 1 on the path, 2 done
	var path []string
	var visit func(name string, at place)
	visit = func(name string, at place) {
		switch state[name] {
		case 2:
			return
		case 1:
			loop := append(slices.Clone(path[slices.Index(path, name):]), name)
			c.add(at, "aggregates."+name, "", "causes run in a circle: %s; take cause: true from one of them", strings.Join(loop, " > "))
			return
		}
		state[name] = 1
		path = append(path, name)
		for _, next := range keysOf(c.causes[name]) {
			visit(next, c.causes[name][next])
		}
		path = path[:len(path)-1]
		state[name] = 2
	}
	for _, u := range c.rules.units {
		visit(u.name, c.cfg.Aggregate(u.name).at)
	}
}

// coverage refuses tables that are captured for nothing: every change of them
// would park.
func (c *compiler) coverage() {
	for _, cfg := range c.cfg.Tables {
		t := c.rules.tables[cfg.Name]
		if len(t.roles) == 0 && !c.told[t] {
			c.add(cfg.at, "tables."+cfg.Name, cfg.Name, "belongs to no aggregate, and no rule absorbs or ignores it; take it out, or say ignore: {on: {table: %s}}", cfg.Name)
		}
	}
}
