package declared

import (
	"cmp"
	"maps"
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
