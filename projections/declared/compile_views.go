package declared

import (
	"regexp"
	"slices"
	"strings"

	"banyan/expression"
	"banyan/projections"
	"banyan/projections/state"
)

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
	add := func(name, topic, comment string, columns []state.Column) {
		e := Endpoint{Path: name, Relation: name, Comment: comment, Topic: topic}
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
		add(f.relation.name, f.aggregates(), f.table.Comment, key)
	}
	of := func(by []*column) (key []state.Column) {
		for _, col := range by {
			key = append(key, col.table())
		}
		return key
	}
	for _, g := range c.groups {
		add(g.called, "", g.comment, of(g.by))
	}
	for _, name := range c.windowNames {
		w := c.windows[name]
		add(name, "", w.comment, append(of(w.by), state.Column{Name: "window_start", Type: "timestamptz"}))
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
