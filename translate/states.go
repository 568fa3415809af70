package translate

import (
	"fmt"
	"slices"

	"banyan/wal"
)

// CompileStates makes rules of an older configuration that are good for
// Expected and Units only: of those aggregates whose states today's tables can
// still give. gone says of each of the others why they cannot.
func CompileStates(cfg *Config, tables []*wal.Table, version int) (rules *Rules, gone map[string]error) {
	gone = map[string]error{}
	all := &Config{Path: cfg.Path, Version: cfg.Version, Source: cfg.Source, Unknown: cfg.Unknown}
	for _, g := range cfg.Aggregates {
		one := *all
		one.Tables, one.Aggregates = nil, nil
		err := addStates(&one, cfg, g, tables)
		if err == nil {
			_, _, err = Compile(&one, tables, version)
		}
		if err == nil {
			err = addStates(all, cfg, g, tables)
		}
		if err != nil {
			gone[g.Name] = err
		}
	}
	rules, _, err := Compile(all, tables, version)
	if err != nil {
		for _, g := range all.Aggregates {
			gone[g.Name] = err
		}
		return nil, gone
	}
	return rules, gone
}

// addStates adds an aggregate without its events to a configuration, and its
// tables with the columns that are still there.
func addStates(to, cfg *Config, g *AggregateConfig, tables []*wal.Table) error {
	bare := *g
	bare.Events, bare.Ignore = nil, nil
	to.Aggregates = append(to.Aggregates, &bare)
	add := func(name string, wholeState bool) error {
		i := slices.IndexFunc(cfg.Tables, func(t *TableConfig) bool { return t.Name == name })
		j := slices.IndexFunc(tables, func(t *wal.Table) bool { return t.FullName() == name })
		if i < 0 || j < 0 {
			return fmt.Errorf("table %s is gone", name)
		}
		t := *cfg.Tables[i]
		t.Columns, t.Money, t.Mask = nil, map[string]MoneyConfig{}, map[string]string{}
		for _, c := range cfg.Tables[i].Columns {
			if tables[j].Column(c) < 0 {
				if wholeState {
					return fmt.Errorf("column %s of %s is gone", c, name)
				}
				continue // the state does not name it, or Compile complains
			}
			t.Columns = append(t.Columns, c)
			if m, ok := cfg.Tables[i].Money[c]; ok {
				t.Money[c] = m
			}
			if m, ok := cfg.Tables[i].Mask[c]; ok {
				t.Mask[c] = m
			}
		}
		if !slices.ContainsFunc(to.Tables, func(o *TableConfig) bool { return o.Name == name }) {
			to.Tables = append(to.Tables, &t)
		}
		return nil
	}
	if err := add(g.Table, len(g.State) == 0); err != nil {
		return err
	}
	var below func(list []*ChildConfig) error
	below = func(list []*ChildConfig) error {
		for _, c := range list {
			if err := add(c.Table, len(c.State) == 0); err != nil {
				return err
			}
			if err := below(c.Children); err != nil {
				return err
			}
		}
		return nil
	}
	return below(g.Children)
}

// Types names the types of the captured columns that the rules were compiled
// against, by table and column.
func (r *Rules) Types() map[string]map[string]string {
	out := map[string]map[string]string{}
	for name, t := range r.tables {
		out[name] = map[string]string{}
		for i := range t.cols {
			out[name][t.names[i]] = t.cols[i].typeName
		}
	}
	return out
}

// Uses names the columns of each table that an aggregate keeps.
func (r *Rules) Uses(aggregate string) map[string][]string {
	out := map[string][]string{}
	if u := r.byName[aggregate]; u != nil {
		for _, t := range u.tables {
			for i := range t.cols {
				out[t.table.name] = append(out[t.table.name], t.cols[i].name)
			}
		}
	}
	return out
}
