package declared

import (
	"cmp"
	"slices"
	"time"

	"banyan/expression"
	"banyan/internal/document"
)

// readMeasures reads by and measures, and refuses two columns of one name.
func (c *compiler) readMeasures(e document.Entry, more ...string) *measures {
	m := &measures{}
	taken := slices.Clone(more)
	check := func(v document.Node, name string) {
		if slices.Contains(taken, name) {
			v.FaultOf(name, "is the name of another column")
		}
		taken = append(taken, name)
		c.nodes[e.Key+"."+name] = v
	}
	by, _ := e.Get("by").Entries()
	for _, one := range by {
		col := readColumn(one)
		check(one.Node, col.name)
		if col.class == classJSON || col.class == classFloat || col.class == classBytes {
			one.Fault("is no type for a group's key; want a text, a number, a date or a time")
		}
		m.by = append(m.by, col)
	}
	list, _ := e.Get("measures").Entries()
	for _, one := range list {
		x := c.readMeasure(one)
		check(one.Node, x.name)
		m.list = append(m.list, x)
	}
	c.nodes[e.Key] = e.Node
	return m
}

// compileSource compiles what one topic adds. outer is the group's or window's
// own mapping, from the place that says topic and values.
func (c *compiler) compileSource(e document.Entry, from document.Node, topic string, m *measures) *source {
	p := &source{node: from, topic: topic}
	x := vocabulary{env: c.stream(topic).env, names: slices.Clone(ofEvents)}
	field := "state."
	if each := from.Get("each"); !each.Null() {
		p.each = c.formula(x, each, each.Text(), expression.Any)
		x.names, field = append(x.names, "item"), "item."
	}
	values, _ := from.Get("values").Entries()
	for _, v := range values {
		if slices.Contains(reserved, v.Key) {
			continue // told already
		}
		if f := c.formula(x, v.Node, v.Text(), expression.Any); f != nil {
			p.values = append(p.values, value{v.Key, f})
		}
		x = x.with(v.Key)
	}
	if when := from.Get("when"); !when.Null() {
		p.when = c.formula(x, when, when.Text(), expression.Bool)
	}
	for _, col := range m.by {
		text := col.source
		if text == "" {
			text = field + col.name
			if slices.Contains(x.names, col.name) {
				text = col.name
			}
		}
		at := col.node
		if v := at.Get("value"); !v.Null() {
			at = v
		}
		f := c.formula(x, at, text, expression.Any)
		if f != nil {
			c.wantClass(at, f, col.class)
		}
		p.groupBy = append(p.groupBy, f)
	}
	for _, one := range m.list {
		p.inputs = append(p.inputs, c.compileInput(x, one))
	}
	p.late = p.anyLate()
	if p.late && p.each != nil && p.each.late {
		from.Get("each").Fault("names rows; the list must come from the event alone")
	}
	return p
}

func (c *compiler) compileInput(x vocabulary, one *measure) input {
	var in input
	if one.kind != countOf {
		at := one.node.Get(string(one.kind))
		want := expression.Any
		if one.kind == sumOf || one.kind == avgOf {
			want = expression.Any
		}
		if in.value = c.formula(x, at, at.Text(), want); in.value != nil && (one.kind == sumOf || one.kind == avgOf) {
			c.wantClass(at, in.value, classNumeric)
		}
	}
	if where := one.node.Get("where"); !where.Null() {
		in.where = c.formula(x, where, where.Text(), expression.Bool)
	}
	return in
}

func (p *source) anyLate() bool {
	late := func(f *formula) bool { return f != nil && f.late }
	return late(p.when) || slices.ContainsFunc(p.groupBy, late) || slices.ContainsFunc(p.values, func(v value) bool { return late(v.formula) }) ||
		slices.ContainsFunc(p.inputs, func(in input) bool { return late(in.value) || late(in.where) })
}

func (c *compiler) compileGroups() {
	entries, _ := c.root.Get("groups").Entries()
	for _, e := range entries {
		g := &group{measures: c.readMeasures(e), node: e.Node, called: e.Key, comment: e.Get("comment").Text(), aligned: c.file.Aligned}
		from := e.Get("from")
		list, several := from.List()
		if !several {
			list = []document.Node{e.Node}
		} else {
			for _, key := range []string{"of", "types", "each", "when", "values"} {
				if v := e.Get(key); !v.Null() {
					v.FaultOf(key, "belongs to a topic here: put it into the mapping under from")
				}
			}
		}
		states := false
		for i, item := range list {
			topic := from.Text()
			if several {
				topic = item.Get("topic").Text()
			}
			p := c.compileSource(e, item, topic, g.measures)
			p.number = i
			p.ofState = item.Get("of").Text() != "events"
			states = states || p.ofState
			c.checkOf(g, p, item, topic)
			g.sources = append(g.sources, p)
			c.stream(topic).steps = append(c.stream(topic).steps, &groupSource{p, g})
		}
		c.groupTables(g, states)
		c.groups = append(c.groups, g)
	}
}

// checkOf sees to it that a source counts what can be counted so.
func (c *compiler) checkOf(g *group, p *source, from document.Node, topic string) {
	types := from.Get("types")
	if !p.ofState {
		if types.Null() {
			from.Get("of").Fault(`counts events, so types is needed: which ones, or ["*"]`)
		}
		p.types = c.typesOf(types, topic)
		c.history = append(c.history, needsHistory{topic, "group " + g.called + " counts events"})
		return
	}
	if !types.Null() {
		types.FaultOf("", "belongs to of: events; what is, is counted by its state, whatever the last event was: use when")
	}
	for _, m := range g.list {
		if m.kind == minOf || m.kind == maxOf {
			m.node.FaultOf(string(m.kind), "cannot take a value back when a state changes; count by the value in a finer group and take the %s in a view, or say of: events", m.kind)
		}
	}
}

func (c *compiler) groupTables(g *group, states bool) {
	spec := &c.p.spec
	t := g.partsTable()
	g.parts = newRelation(t)
	spec.Tables = append(spec.Tables, t)
	if states {
		given := givenTable(g.called)
		g.given = newRelation(given)
		spec.Tables = append(spec.Tables, given)
	}
	for _, m := range g.list {
		if m.kind == distinctOf {
			columns, key := g.keyColumns(g.aligned)
			finer := g.finerTable(g.called, m, columns, key)
			m.finer = newRelation(finer)
			spec.Tables = append(spec.Tables, finer)
		}
	}
}

func (c *compiler) compileWindows() {
	entries, _ := c.root.Get("windows").Entries()
	for _, e := range entries {
		w := &window{measures: c.readMeasures(e, "window_start", "window_end", "alerted_at"), called: e.Key, comment: e.Get("comment").Text(),
			late: cmp.Or(e.Get("late").Text(), "drop"), onClose: e.Get("alert").Text() == "close", timer: "window:" + e.Key}
		if !c.file.Aligned {
			e.Fault("windows need order: aligned: the order of commits over all partitions")
		}
		topic := e.Get("from").Text()
		w.source = c.compileSource(e, e.Node, topic, w.measures)
		w.types = c.typesOf(e.Get("types"), topic)
		c.windowSize(e, w)
		c.windowTime(e, w, topic)
		for _, m := range w.list {
			if m.kind == distinctOf && w.pause > 0 {
				m.node.FaultOf("distinct", "cannot be added up when two sessions become one; use a tumbling window, or count in a view over a table of the events")
			}
		}
		w.words = vocabulary{env: c.env(w.havingTypes()), names: sortedNames(w.havingTypes())}
		if having := e.Get("having"); !having.Null() {
			w.having = c.formula(w.words, having, having.Text(), expression.Bool)
		} else if w.onClose {
			e.Get("alert").Fault("says when having is asked, and there is none")
		}
		c.history = append(c.history, needsHistory{topic, "window " + e.Key + " counts events"})
		c.windows[e.Key] = w
		c.windowNames = append(c.windowNames, e.Key)
		c.stream(topic).steps = append(c.stream(topic).steps, w)
	}
}

func (c *compiler) windowSize(e document.Entry, w *window) {
	v := e.Get("window")
	read := func(key string) time.Duration {
		at := v.Get(key)
		if at.Null() {
			return 0
		}
		d, err := document.Duration(at.Text())
		if err != nil || d < time.Second || d%time.Millisecond != 0 {
			at.Fault("want a duration from 1s on, such as 5m or 1d")
			return 0
		}
		return d
	}
	tumbling, hopping, session := read("tumbling"), read("hopping"), read("session")
	kinds := 0
	for _, key := range []string{"tumbling", "hopping", "session"} {
		if !v.Get(key).Null() {
			kinds++
		}
	}
	w.every, w.pause = read("every"), session
	w.size = max(tumbling, hopping)
	hops := !v.Get("hopping").Null()
	switch {
	case kinds != 1:
		v.FaultOf("", "want one of {tumbling: 5m}, {hopping: 5m, every: 1m}, {session: 30m}")
	case hops == v.Get("every").Null():
		v.FaultOf("", "every belongs to hopping, and hopping needs it: {hopping: 5m, every: 1m}")
	case hops && w.every > 0 && (w.every > w.size || w.size/w.every > 1000):
		v.Get("every").Fault("want less than the window's length, and at most 1000 windows at a time")
	}
}

func (c *compiler) windowTime(e document.Entry, w *window, topic string) {
	at, grace := e.Get("time"), e.Get("grace")
	if d, err := document.Duration(grace.Text()); err == nil {
		w.grace = d
	}
	if at.Null() {
		if !grace.Null() {
			grace.Fault("belongs to time: commit time never steps back, so nothing is late")
		}
		if late := e.Get("late"); !late.Null() {
			late.Fault("belongs to time: commit time never steps back, so nothing is late")
		}
		return
	}
	if grace.Null() {
		e.FaultOf("", "grace is missing: how much later than its window's end an event may come, by business time")
	}
	x := vocabulary{env: c.stream(topic).env, names: ofEvents}
	if w.time = c.formula(x, at, at.Text(), expression.Any); w.time != nil {
		c.wantClass(at, w.time, classTime)
		if w.time.late {
			at.Fault("names rows; the time must come from the event alone")
		}
	}
}

// finishWindows makes the tables, once it is known which effects wait for an
// end.
func (c *compiler) finishWindows() {
	entries, _ := c.root.Get("windows").Entries()
	for _, e := range entries {
		w := c.windows[e.Key]
		retention, err := document.Duration(e.Get("retention").Text())
		if err != nil {
			retention = 0
		}
		c.p.spec.Tables = append(c.p.spec.Tables, w.tables(readIndexes(e.Get("indexes")), retention)...)
		if w.due != nil && w.time == nil {
			c.p.closers[w.timer] = w
			c.p.spec.Timers = true
		}
	}
}
