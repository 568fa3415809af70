package rebuild

import (
	"context"
	"fmt"
	"slices"

	"banyan/projections/control"
	"banyan/projections/state"
)

// relation is a table or view of a schema as the database's catalog has it.
type relation struct {
	columns []state.Column
	key     []string // of a table's primary key
	table   bool
}

// readCatalog reads the tables and views of a schema.
func readCatalog(ctx context.Context, db control.DB, schema string) (map[string]relation, error) {
	rows, err := db.Query(ctx, `
		SELECT c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
			coalesce(array_position(i.indkey::int2[], a.attnum), -1)
		FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
		WHERE n.nspname = $1 AND c.relkind IN ('r', 'v')
		ORDER BY c.relname, a.attnum`, schema)
	if err != nil {
		return nil, fmt.Errorf("read the catalog of schema %s: %w", schema, err)
	}
	defer rows.Close()
	type keyed struct {
		name string
		at   int
	}
	all, keys := make(map[string]relation), make(map[string][]keyed)
	for rows.Next() {
		var name, kind string
		var c state.Column
		var at int
		if err := rows.Scan(&name, &kind, &c.Name, &c.Type, &c.NotNull, &at); err != nil {
			return nil, fmt.Errorf("read the catalog of schema %s: %w", schema, err)
		}
		r := all[name]
		r.table = kind == "r"
		r.columns = append(r.columns, c)
		all[name] = r
		if at >= 0 {
			keys[name] = append(keys[name], keyed{c.Name, at})
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the catalog of schema %s: %w", schema, err)
	}
	for name, ks := range keys {
		slices.SortFunc(ks, func(a, b keyed) int { return a.at - b.at })
		r := all[name]
		for _, k := range ks {
			r.key = append(r.key, k.name)
		}
		all[name] = r
	}
	return all, nil
}

// lost names what readers of old would miss in new: relations, and columns that
// are gone or have another type.
func lost(old, new map[string]relation) []string {
	var gone []string
	for name, o := range old {
		n, ok := new[name]
		if !ok {
			gone = append(gone, name)
			continue
		}
		for _, c := range o.columns {
			i := slices.IndexFunc(n.columns, func(d state.Column) bool { return d.Name == c.Name })
			switch {
			case i < 0:
				gone = append(gone, name+"."+c.Name)
			case n.columns[i].Type != c.Type:
				gone = append(gone, fmt.Sprintf("%s.%s (%s, becomes %s)", name, c.Name, c.Type, n.columns[i].Type))
			}
		}
	}
	slices.Sort(gone)
	return gone
}

// shared gives a table of the columns that both have, for comparison; ok is
// false where keys or their types differ.
func shared(name string, old, new relation) (t state.Table, ok bool) {
	if len(old.key) == 0 || !slices.Equal(old.key, new.key) {
		return t, false
	}
	t = state.Table{Name: name, Key: new.key}
	for _, c := range new.columns {
		if slices.ContainsFunc(old.columns, func(d state.Column) bool { return d.Name == c.Name && d.Type == c.Type }) {
			t.Columns = append(t.Columns, c)
		} else if slices.Contains(new.key, c.Name) {
			return t, false
		}
	}
	return t, true
}
