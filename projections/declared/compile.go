package declared

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/projections"
	"banyan/projections/state"
)

// compiler makes a Program of a file.
type compiler struct {
	file   *File
	root   document.Node
	faults *document.Collector
	p      *Program
	folds  []*fold
	groups []*group
	// windows by name, in windowNames' order.
	windows     map[string]*window
	windowNames []string
	// nodes find the places of tables and their columns for faults of package
	// state; owner is the declared name of each table.
	nodes map[string]document.Node
	// asked are the event types that the file names, by topic.
	asked map[string][]askedType
	// needs are the tables that each topic looks up.
	needs map[string][]string
	topic string // whose expressions are compiled
	// paths are what expressions ask of events.
	paths []askedPath
	// history says why `.latest` topics will not do.
	history []needsHistory
}

type needsHistory struct{ topic, why string }

type askedType struct {
	name string
	node document.Node
}

type askedPath struct {
	topic string
	path  expression.Path
	by    *formula
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Compile checks a definition and makes a Program of it. With known topics it
// also tries the Program on their samples. All faults are told at once; the
// Program is nil where one of them is no warning.
func Compile(f *File, known *Known) (*Program, Faults) {
	c := &compiler{file: f, faults: &document.Collector{Path: f.Path}, windows: map[string]*window{}, nodes: map[string]document.Node{},
		asked: map[string][]askedType{}, needs: map[string][]string{}}
	c.root, _ = document.Parse(c.faults, []byte(f.Definition))
	c.p = &Program{path: f.Path, topics: map[string]*stream{}, timers: map[string]*timer{}, closers: map[string]*window{}, settings: map[string]*setting{},
		relations: map[string]*relation{}, views: map[string]document.Node{}}
	c.p.spec = projections.Spec{Name: f.Name, Source: f.Source, Aligned: f.Aligned, Definition: f.Definition, Digest: f.Digest}
	c.checkTopics(known)
	c.checkNames()
	c.declareTables()
	c.makeStreams()
	c.compileSettings()
	c.compileTables()
	c.compileGroups()
	c.compileWindows()
	c.compileTimers()
	c.compileEffects()
	c.finishWindows()
	c.compileUpcasts()
	c.compileViews()
	c.compileAPI()
	c.finish()
	if !c.faults.Wrong() && known != nil {
		c.tryOn(known)
	}
	if c.faults.Wrong() {
		return nil, c.faults.Faults()
	}
	return c.p, c.faults.Faults()
}

// checkNames refuses two things of one name: readers see them side by side.
func (c *compiler) checkNames() {
	seen := map[string]string{}
	for _, section := range []string{"tables", "groups", "windows", "views"} {
		entries, _ := c.root.Get(section).Entries()
		for _, e := range entries {
			if other, twice := seen[e.Key]; twice {
				e.FaultOf(e.Key, "is the name of one of the %s too", other)
			}
			seen[e.Key] = section
		}
	}
}

// stream is what is done with a topic; it exists once makeStreams has run.
func (c *compiler) stream(topic string) *stream {
	c.topic = topic
	return c.p.topics[topic]
}

// makeStreams gives each topic its variables. The names of values are variables
// too, and an Env must know all of them beforehand.
func (c *compiler) makeStreams() {
	free := map[string]bool{}
	note := func(values document.Node) {
		entries, _ := values.Entries()
		for _, e := range entries {
			if slices.Contains(reserved, e.Key) {
				e.FaultOf(e.Key, "is taken; choose another name")
				continue
			}
			free[e.Key] = true
		}
	}
	for _, section := range []string{"groups", "windows"} {
		entries, _ := c.root.Get(section).Entries()
		for _, e := range entries {
			note(e.Get("values"))
			items, _ := e.Get("from").List()
			for _, item := range items {
				note(item.Get("values"))
			}
		}
	}
	for _, topic := range c.file.Topics {
		vars := map[string]expression.Type{"key": {Kind: expression.Text}, "key_parts": expression.ListOf(expression.Type{Kind: expression.Text}),
			"event": {Kind: expression.Row, Fields: eventFields}, "state": {}, "last": {}, "data": {}, "old": {}, "item": {}}
		for name := range free {
			vars[name] = expression.Type{}
		}
		c.p.topics[topic] = &stream{env: c.env(vars)}
	}
	c.p.idle = c.env(map[string]expression.Type{"timer": {Kind: expression.Row, Fields: map[string]expression.Type{
		"key": {Kind: expression.Text}, "at": {Kind: expression.Time}, "data": {}}}})
}

// typesOf reads a list of event types; nil is all of them.
func (c *compiler) typesOf(v document.Node, topic string) map[string]bool {
	items, _ := v.List()
	out := map[string]bool{}
	all := false
	for _, item := range items {
		t := item.Text()
		if t == "*" {
			all = true
			continue
		}
		if out[t] {
			item.Fault("is named twice")
		}
		out[t] = true
		c.asked[topic] = append(c.asked[topic], askedType{t, item})
	}
	if all || len(items) == 0 {
		return nil
	}
	return out
}

// declareTables reads the columns of all tables, so that expressions can look
// them up wherever they stand.
func (c *compiler) declareTables() {
	entries, _ := c.root.Get("tables").Entries()
	for _, e := range entries {
		f := &fold{node: e.Node, aligned: c.file.Aligned}
		t := state.Table{Name: e.Key, Comment: e.Get("comment").Text()}
		columns, _ := e.Get("columns").Entries()
		for _, col := range columns {
			one := readColumn(col)
			f.columns = append(f.columns, one)
			t.Columns = append(t.Columns, one.table())
			c.nodes[e.Key+"."+one.name] = col.Node
			if one.key {
				t.Key = append(t.Key, one.name)
			}
			f.log = f.log || one.key && one.source == "event.id"
		}
		if len(t.Key) == 0 {
			e.Get("columns").FaultOf("", "no column is the key; say for one: bigint key")
		}
		t.Indexes = readIndexes(e.Get("indexes"))
		if r := e.Get("retention"); !r.Null() {
			d, err := document.Duration(r.Get("for").Text())
			if err != nil {
				r.Get("for").Fault("want a duration such as 90d")
			}
			t.Retain = &state.Retention{Column: r.Get("column").Text(), For: d}
		}
		f.relation = newRelation(t)
		c.nodes[e.Key] = e.Node
		c.p.relations[e.Key] = f.relation
		c.p.spec.Tables = append(c.p.spec.Tables, t)
		c.folds = append(c.folds, f)
	}
}

func readIndexes(v document.Node) []state.Index {
	items, _ := v.List()
	var out []state.Index
	for _, item := range items {
		if name, ok := item.Scalar(); ok {
			out = append(out, state.Index{Columns: []string{name}})
			continue
		}
		unique, _ := item.Get("unique").Bool()
		out = append(out, state.Index{Columns: nameList(item.Get("columns")), Unique: unique})
	}
	return out
}

// nameList reads one name, or a list of names.
func nameList(v document.Node) []string {
	if name, ok := v.Scalar(); ok {
		return []string{name}
	}
	items, _ := v.List()
	var out []string
	for _, item := range items {
		out = append(out, item.Text())
	}
	return out
}

func (c *compiler) compileTables() {
	for _, f := range c.folds {
		from := f.node.Get("from")
		f.topics = nameList(from)
		if len(f.topics) > 1 && !f.aligned {
			from.FaultOf(strings.Join(f.topics, ", "), "in partitioned order a table belongs to one topic; make a table of each and a view that joins them, or say order: aligned")
		}
		c.pickEvents(f)
		each := f.node.Get("each")
		if !each.Null() && !f.log {
			items := itemsTable(f.relation.name)
			f.items = newRelation(items)
			c.p.spec.Tables = append(c.p.spec.Tables, items)
		}
		for i, topic := range f.topics {
			// A table that takes from several topics is a fold for each: the same
			// rows, with expressions over another topic's variables.
			one := f
			if i > 0 {
				copied := *f
				one = &copied
				one.columns = nil
				for _, col := range f.columns {
					other := *col
					one.columns = append(one.columns, &other)
				}
			}
			c.compileFold(one, topic, each)
			c.stream(topic).steps = append(c.stream(topic).steps, one)
		}
	}
}

func (c *compiler) compileFold(f *fold, topic string, each document.Node) {
	x := vocabulary{env: c.stream(topic).env, names: slices.Clone(ofEvents)}
	field := "state."
	if !each.Null() {
		f.each = c.formula(x, each, each.Text(), expression.Any)
		x.names = append(x.names, "item")
		field = "item."
		if f.each != nil && f.each.late {
			each.Fault("names rows; the list must come from the event alone")
		}
	}
	keys := x
	x = x.with("old")
	x.old = f.relation
	if when := f.node.Get("when"); !when.Null() {
		f.when = c.formula(x, when, when.Text(), expression.Bool)
	}
	f.old, f.late = f.when != nil && f.when.old, f.when != nil && f.when.late
	for _, col := range f.columns {
		at, source := col.node, cmp.Or(col.source, field+col.name)
		if v := at.Get("value"); !v.Null() {
			at = v
		}
		in := x
		if col.key {
			in = keys
		}
		col.value = c.formula(in, at, source, expression.Any)
		if col.value == nil {
			continue
		}
		if col.key && col.value.late {
			at.FaultOf(source, "is part of the key and needs rows to be known; a key comes from the event alone")
		}
		c.wantClass(at, col.value, col.class)
		f.old, f.late = f.old || col.value.old, f.late || col.value.late
	}
	switch {
	case f.log:
		c.history = append(c.history, needsHistory{topic, "table " + f.relation.name + " keeps every event"})
	case f.old:
		c.history = append(c.history, needsHistory{topic, "table " + f.relation.name + " looks at the row before"})
	}
}

// wantClass refuses an expression that is known to give another kind of value
// than the column has.
func (c *compiler) wantClass(at document.Node, f *formula, class class) {
	got := f.Kind()
	wrong := false
	switch class {
	case classInt, classNumeric, classFloat:
		wrong = got == expression.Bool || got == expression.Time || got == expression.Day || got == expression.List
	case classBool:
		wrong = got != expression.Bool && got != expression.Any
	case classDate, classTime:
		wrong = got == expression.Bool || got == expression.Int || got == expression.Number || got == expression.Amount || got == expression.List || got == expression.Duration
	case classText:
		wrong = got == expression.List || got == expression.Amount
	}
	if value, constant := f.Constant(); constant && value == nil {
		wrong = false
	}
	if wrong {
		at.FaultOf(f.Source(), "gives %s, the column is %s", got, classWords[class])
	}
}

// pickEvents reads which events write, delete and mean nothing.
func (c *compiler) pickEvents(f *fold) {
	f.pick.named = map[string]action{}
	lists := 0
	for _, l := range []struct {
		key string
		act action
	}{{"upsert", upsert}, {"delete", remove}, {"ignore", ignore}} {
		v := f.node.Get(l.key)
		items, ok := v.List()
		if !ok {
			continue
		}
		lists++
		if l.act == remove && f.log {
			v.FaultOf("", "means nothing here: the rows are events, and what has happened stays")
		}
		for _, item := range items {
			t := item.Text()
			_, twice := f.pick.named[t]
			if t == "*" {
				twice = f.pick.rest != unknown
				f.pick.rest = l.act
			}
			if twice {
				item.Fault("stands in two of the lists upsert, delete and ignore, or twice in one")
			}
			if t != "*" {
				f.pick.named[t] = l.act
				for _, topic := range f.topics {
					c.asked[topic] = append(c.asked[topic], askedType{t, item})
				}
			}
		}
	}
	if lists == 0 {
		f.pick.rest = upsert
	}
}

// finish checks the tables and makes all that needs them to be right.
func (c *compiler) finish() {
	spec := &c.p.spec
	for _, fault := range state.Validate(spec.Tables) {
		c.tableFault(fault)
	}
	spec.Topics = c.orderTopics()
	for _, h := range c.history {
		spec.NotFromLatest = cmp.Or(spec.NotFromLatest, h.why)
		if projections.IsLatest(h.topic) {
			c.topicNode(h.topic).FaultOf(h.topic, "has only the last event of each key, and %s; take the topic without .latest", h.why)
		}
	}
	for _, topic := range spec.Topics {
		if spec.Aligned && projections.IsLatest(topic) {
			c.topicNode(topic).FaultOf(topic, "has gaps where old events were, so no order over all topics can be proved; take the topic without .latest")
		}
	}
	if c.faults.Wrong() {
		return
	}
	for _, r := range c.allRelations() {
		if err := r.ready(); err != nil {
			c.faults.Add(document.Place{}, r.name, "", "%s", err)
		}
	}
}

func (c *compiler) allRelations() []*relation {
	var all []*relation
	add := func(more ...*relation) {
		for _, r := range more {
			if r != nil {
				all = append(all, r)
			}
		}
	}
	for _, f := range c.folds {
		add(f.relation, f.items)
	}
	for _, g := range c.groups {
		add(g.parts, g.given)
		for _, m := range g.list {
			add(m.finer)
		}
	}
	for _, name := range c.windowNames {
		w := c.windows[name]
		add(w.rows, w.lates, w.clock, w.due, w.chain, w.sessions)
		for _, m := range w.list {
			add(m.finer)
		}
	}
	return all
}

// tableFault tells a fault of package state at the place of the file that made
// the table, unless that place has been told already.
func (c *compiler) tableFault(f state.Fault) {
	if f.Field == "key" && f.Value == "" {
		return // declareTables has told it
	}
	owner, _, _ := strings.Cut(f.Table, "__")
	at, ok := c.nodes[owner+"."+f.Column]
	switch list, rest, _ := strings.Cut(f.Field, "["); {
	case list == "indexes":
		at = c.nodes[owner].Get("indexes")
		items, _ := at.List()
		number, _, _ := strings.Cut(rest, "]")
		if i, err := strconv.Atoi(number); err == nil && i < len(items) {
			at = items[i]
		}
	case strings.HasPrefix(f.Field, "retain"):
		at = c.nodes[owner].Get("retention")
	case ok && c.faults.At(at.At()):
		return
	case !ok:
		at = c.nodes[owner]
	}
	at.FaultOf(f.Value, "%s", f.Reason)
}

// looksUp notes that the topic whose expressions are compiled needs a table.
func (c *compiler) looksUp(table string) {
	if !slices.Contains(c.needs[c.topic], table) {
		c.needs[c.topic] = append(c.needs[c.topic], table)
	}
}

// orderTopics puts the topics of tables that others look up before those: that
// is the order within one transaction of the source.
func (c *compiler) orderTopics() []string {
	var out []string
	state := map[string]int{}
	var visit func(topic string)
	visit = func(topic string) {
		if state[topic] > 0 {
			return // done, or two that look each other up: the file's order stays
		}
		state[topic] = 1
		for _, table := range c.needs[topic] {
			for _, f := range c.folds {
				if f.relation.name == table {
					for _, t := range f.topics {
						visit(t)
					}
				}
			}
		}
		out = append(out, topic)
	}
	for _, topic := range c.file.Topics {
		visit(topic)
	}
	return out
}

// topicNode finds a place at which a topic is named.
func (c *compiler) topicNode(topic string) document.Node {
	for _, section := range []string{"tables", "groups", "windows", "timers", "effects"} {
		entries, _ := c.root.Get(section).Entries()
		for _, e := range entries {
			from := e.Get("from")
			if from.Text() == topic {
				return from
			}
			items, _ := from.List()
			for _, item := range items {
				if item.Text() == topic {
					return item
				}
				if t := item.Get("topic"); t.Text() == topic {
					return t
				}
			}
		}
	}
	return c.root
}

// compileViews reads the views; whether their SQL is right a database says, in
// CheckViews.
func (c *compiler) compileViews() {
	for _, g := range c.groups {
		c.p.spec.Views = append(c.p.spec.Views, g.view())
	}
	for _, name := range c.windowNames {
		c.p.spec.Views = append(c.p.spec.Views, c.windows[name].views()...)
	}
	entries, _ := c.root.Get("views").Entries()
	for _, e := range entries {
		at, comment := e.Node, ""
		if _, ok := e.Scalar(); !ok {
			at, comment = e.Get("sql"), e.Get("comment").Text()
		}
		query := strings.TrimRight(strings.TrimSpace(at.Text()), "; \n")
		if !selects.MatchString(query) || strings.Contains(query, ";") {
			at.FaultOf(firstOf(query), "want one SELECT")
		}
		c.p.views[e.Key] = at
		c.p.spec.Views = append(c.p.spec.Views, projections.View{Name: e.Key, SQL: query, Comment: comment})
	}
}

var selects = regexp.MustCompile(`(?is)^(select|with|values|table)\b|^\(`)

// compileAPI lists what the read API serves.
func (c *compiler) compileAPI() {
	keys := map[string]Endpoint{}
	add := func(name, comment string, columns []state.Column) {
		e := Endpoint{Path: name, Relation: name, Comment: comment}
		for _, col := range columns {
			e.Key, e.Types = append(e.Key, col.Name), append(e.Types, col.Type)
		}
		keys[name] = e
		c.p.endpoints = append(c.p.endpoints, e)
	}
	for _, f := range c.folds {
		var key []state.Column
		for _, i := range f.key {
			key = append(key, f.table.Columns[i])
		}
		add(f.relation.name, f.table.Comment, key)
	}
	of := func(by []*column) (key []state.Column) {
		for _, col := range by {
			key = append(key, col.table())
		}
		return key
	}
	for _, g := range c.groups {
		add(g.called, g.comment, of(g.by))
	}
	for _, name := range c.windowNames {
		w := c.windows[name]
		add(name, w.comment, append(of(w.by), state.Column{Name: "window_start", Type: "timestamptz"}))
	}
	entries, _ := c.root.Get("api").Entries()
	for _, e := range entries {
		at, key := e.Node, []string(nil)
		if _, ok := e.Scalar(); !ok {
			at, key = e.Get("of"), nameList(e.Get("key"))
		}
		name := at.Text()
		one, ok := keys[name]
		if _, view := c.p.views[name]; view {
			if one = (Endpoint{Relation: name, Key: key}); len(key) == 0 {
				e.Fault("is a view; say which columns are its key, as in {of: %s, key: id}", name)
			}
			one.Types = make([]string, len(key))
		} else if !ok {
			at.Fault("there is no such table, group, window or view; %s", expression.DidYouMean(name, append(sortedNames(keys), sortedNames(c.p.views)...)))
			continue
		} else if len(key) > 0 && !slices.Equal(key, one.Key) {
			e.Get("key").FaultOf(strings.Join(key, ", "), "is not the key of %s, %s; leave it out", name, strings.Join(one.Key, ", "))
		}
		one.Path = e.Key
		c.p.endpoints = slices.DeleteFunc(c.p.endpoints, func(have Endpoint) bool {
			return have.Path == one.Path || have.Path == name && have.Relation == name
		})
		c.p.endpoints = append(c.p.endpoints, one)
	}
}
