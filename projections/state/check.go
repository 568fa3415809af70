package state

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Querier reads; a pool, a connection and a transaction do.
type Querier interface {
	// Query is that of pgx.
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// found is a table as the database has it.
type found struct {
	kind    string // relkind
	columns map[string]foundColumn
	order   []string
	key     []string
	indexes []foundIndex
}

type foundColumn struct {
	Name, Type string
	NotNull    bool
	BytesOrder bool // COLLATE "C"
	Computed   bool // generated, identity or with a default that rows would not get
}

type foundIndex struct {
	columns []string
	unique  bool
}

// CheckShape compares the tables in a database with what they should be: a table
// that is missing or has other columns, types, NOT NULLs, key or indexes is named,
// column by column. Indexes that are there besides do no harm, unless they are
// unique. The error is one of reading.
func CheckShape(ctx context.Context, q Querier, schema string, tables []Table) (Faults, error) {
	have, err := readTables(ctx, q, schema, tables)
	if err != nil {
		return nil, fmt.Errorf("read the tables of schema %s: %w", schema, err)
	}
	var faults Faults
	for _, t := range tables {
		add := func(column, value, reason string, args ...any) {
			faults = append(faults, Fault{Table: schema + "." + t.Name, Column: column, Value: value, Reason: fmt.Sprintf(reason, args...)})
		}
		f := have[t.Name]
		switch {
		case f == nil:
			add("", "", "it does not exist")
			continue
		case f.kind != "r":
			add("", "", "it is no plain table, but %s", relationKind(f.kind))
			continue
		}
		compareColumns(t, f, add)
		compareIndexes(t, f, add)
	}
	return faults, nil
}

func relationKind(kind string) string {
	switch kind {
	case "v", "m":
		return "a view"
	case "p":
		return "a partitioned one"
	case "f":
		return "a foreign one"
	case "S":
		return "a sequence"
	case "i", "I":
		return "an index"
	}
	return "of kind " + kind
}

func compareColumns(t Table, f *found, add func(column, value, reason string, args ...any)) {
	for _, c := range t.Columns {
		h, ok := f.columns[c.Name]
		if !ok {
			add(c.Name, "", "it is missing; it should be %s", c.Type)
			continue
		}
		want, err := parseType(c.Type)
		if err != nil {
			add(c.Name, c.Type, "%v", err)
			continue
		}
		if h.Type != want.String() {
			add(c.Name, h.Type, "its type should be %s", want)
		}
		switch {
		case c.NotNull && !h.NotNull:
			add(c.Name, "", "it may be NULL and should not")
		case !c.NotNull && h.NotNull:
			add(c.Name, "", "it is NOT NULL and should not be")
		}
		if want.collates() && slices.Contains(t.Key, c.Name) && h.Type == want.String() && !h.BytesOrder {
			add(c.Name, "", `it belongs to the key and should have COLLATE "C"`)
		}
		if h.Computed {
			add(c.Name, "", "the database computes it; a projection writes all its columns")
		}
	}
	for _, name := range f.order {
		if !slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Name == name }) {
			add(name, f.columns[name].Type, "the projection has no such column")
		}
	}
}

func compareIndexes(t Table, f *found, add func(column, value, reason string, args ...any)) {
	if !slices.Equal(f.key, t.Key) {
		if len(f.key) == 0 {
			add("", "", "it has no primary key; it should be (%s)", strings.Join(t.Key, ", "))
		} else {
			add("", "", "its primary key is (%s) and should be (%s)", strings.Join(f.key, ", "), strings.Join(t.Key, ", "))
		}
	}
	same := func(ix Index) func(foundIndex) bool {
		return func(h foundIndex) bool { return h.unique == ix.Unique && slices.Equal(h.columns, ix.Columns) }
	}
	for _, ix := range t.Indexes {
		if !slices.ContainsFunc(f.indexes, same(ix)) {
			what := "index"
			if ix.Unique {
				what = "unique index"
			}
			add("", "", "it has no %s on (%s)", what, strings.Join(ix.Columns, ", "))
		}
	}
	for _, h := range f.indexes {
		if h.unique && !slices.ContainsFunc(t.Indexes, func(ix Index) bool { return same(ix)(h) }) {
			add("", "", "it has a unique index on (%s), which could refuse rows", strings.Join(h.columns, ", "))
		}
	}
}

func readTables(ctx context.Context, q Querier, schema string, tables []Table) (map[string]*found, error) {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Name
	}
	have := map[string]*found{}
	rows, err := q.Query(ctx, `SELECT c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
		coalesce(a.attcollation = (SELECT oid FROM pg_collation WHERE collname = 'C' AND collnamespace = 'pg_catalog'::regnamespace), false),
		a.attgenerated <> '' OR a.attidentity <> ''
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE n.nspname = $1 AND c.relname = ANY ($2::text[]) ORDER BY c.relname, a.attnum`, schema, names)
	if err != nil {
		return nil, err
	}
	var table, kind string
	var name, typ *string
	var notNull, bytesOrder, computed *bool
	if _, err = pgx.ForEachRow(rows, []any{&table, &kind, &name, &typ, &notNull, &bytesOrder, &computed}, func() error {
		f := have[table]
		if f == nil {
			f = &found{kind: kind, columns: map[string]foundColumn{}}
			have[table] = f
		}
		if name != nil {
			f.columns[*name] = foundColumn{*name, *typ, *notNull, *bytesOrder, *computed}
			f.order = append(f.order, *name)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return have, readIndexes(ctx, q, schema, names, have)
}

func readIndexes(ctx context.Context, q Querier, schema string, names []string, have map[string]*found) error {
	rows, err := q.Query(ctx, `SELECT c.relname, i.indisprimary, i.indisunique,
		ARRAY (SELECT coalesce(a.attname, '(expression)')::text FROM unnest(i.indkey::smallint[]) WITH ORDINALITY k (num, place)
			LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num WHERE k.place <= i.indnkeyatts ORDER BY k.place)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = ANY ($2::text[]) AND i.indisvalid AND (i.indpred IS NULL OR i.indisunique)
		ORDER BY c.relname, i.indexrelid`, schema, names)
	if err != nil {
		return err
	}
	var table string
	var primary, unique bool
	var columns []string
	_, err = pgx.ForEachRow(rows, []any{&table, &primary, &unique, &columns}, func() error {
		f := have[table]
		if primary {
			f.key = slices.Clone(columns)
			return nil
		}
		f.indexes = append(f.indexes, foundIndex{slices.Clone(columns), unique})
		return nil
	})
	return err
}
