package translate

import (
	"slices"
	"strings"

	"banyan/expression"
)

// references are the columns that the rules of one aggregate name, beyond those
// of its state: they are kept with it.
type references struct {
	byTable map[string][]string // full table name to columns named as new.x or old.x
	root    string
	loose   []string // columns of rows in lists, whose table is not known here
}

// of gives the columns named of a table of the aggregate.
func (r *references) of(t *utable) []string {
	out := r.byTable[t.table.name]
	if t.parent != nil {
		out = append(slices.Clone(out), r.loose...)
	}
	return out
}

// references collects what the rules name. Expressions that cannot be parsed
// are reported when they are compiled.
func (c *compiler) references(cfg *AggregateConfig) *references {
	r := &references{byTable: map[string][]string{}, root: cfg.Table}
	for _, e := range cfg.Events {
		anchor := e.On.Table
		if anchor == "" {
			anchor = cfg.Table
		}
		for _, reach := range e.Reach {
			for _, k := range reach.Key {
				r.path(k[1], anchor)
			}
		}
		sources := []string{e.When, e.OccurredAt}
		for _, f := range e.Fields {
			sources = append(sources, f.Expr)
		}
		for _, source := range sources {
			if source == "" {
				continue
			}
			members, _ := expression.Members(source)
			for _, m := range members {
				r.member(m, anchor)
			}
		}
	}
	return r
}

func (r *references) name(table, column string) {
	if !slices.Contains(r.byTable[table], column) {
		r.byTable[table] = append(r.byTable[table], column)
	}
}

func (r *references) member(m expression.Member, anchor string) {
	switch m.Var {
	case "new", "old":
		r.name(anchor, m.Name)
	case "state":
		r.name(r.root, m.Name)
	case "":
		r.loose = append(r.loose, m.Name)
	}
}

// path is a reach key: new.x, old.x, state.x or child.x.
func (r *references) path(path, anchor string) {
	from, column, ok := strings.Cut(path, ".")
	if !ok {
		return
	}
	switch from {
	case "new", "old":
		r.name(anchor, column)
	case "state":
		r.name(r.root, column)
	default:
		r.loose = append(r.loose, column)
	}
}
