package declared

import (
	"cmp"
	"slices"
	"strings"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/projections/state"
)

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
