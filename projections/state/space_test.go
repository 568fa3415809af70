package state

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"banyan/internal/pgtest"
)

// wide has every type, and a key of three columns.
var wide = Table{
	Name: "wide",
	Columns: []Column{
		{Name: "region", Type: "text", NotNull: true},
		{Name: "number", Type: "int4", NotNull: true},
		{Name: "price_key", Type: "numeric", NotNull: true},
		{Name: "a_smallint", Type: "smallint"},
		{Name: "a_bigint", Type: "bigint"},
		{Name: "a_numeric", Type: "numeric"},
		{Name: "a_price", Type: "numeric(12,3)"},
		{Name: "a_large", Type: "numeric(40,20)"},
		{Name: "a_bool", Type: "bool"},
		{Name: "a_text", Type: "text"},
		{Name: "a_varchar", Type: "varchar(12)"},
		{Name: "a_uuid", Type: "uuid"},
		{Name: "a_date", Type: "date"},
		{Name: "a_timestamp", Type: "timestamp"},
		{Name: "a_timestamptz", Type: "timestamptz"},
		{Name: "a_json", Type: "json"},
		{Name: "a_jsonb", Type: "jsonb"},
		{Name: "a_bytea", Type: "bytea"},
		{Name: "a_real", Type: "real"},
		{Name: "a_double", Type: "double precision"},
	},
	Key:     []string{"region", "number", "price_key"},
	Indexes: []Index{{Columns: []string{"a_bigint"}}},
}

// customers has a plain key; counts no other column than its key.
var (
	customers = Table{
		Name:    "customers",
		Columns: []Column{{Name: "id", Type: "text", NotNull: true, Comment: "the shop's number"}, {Name: "name", Type: "text"}, {Name: "orders", Type: "bigint", NotNull: true}, {Name: "seen", Type: "timestamptz"}},
		Key:     []string{"id"},
		Retain:  &Retention{Column: "seen", For: time.Hour},
		Comment: `it's the "customers" \ copy`,
	}
	marks = Table{
		Name:    "marks",
		Columns: []Column{{Name: "day", Type: "date", NotNull: true}, {Name: "code", Type: "bytea", NotNull: true}},
		Key:     []string{"code", "day"},
	}
)

var testTables = []Table{wide, customers, marks}

const testSchema = "shipping_v1"

// makeTables makes a database with the tables in it.
func makeTables(t testing.TB, tables []Table) (*pgtest.DB, *pgx.Conn) {
	t.Helper()
	db := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	execute(t, conn, "CREATE SCHEMA "+testSchema)
	execute(t, conn, CreateSQL(testSchema, tables)...)
	execute(t, conn, KeySQL(testSchema, tables)...)
	execute(t, conn, IndexSQL(testSchema, tables)...)
	return db, conn
}

func execute(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func mustShape(t testing.TB, table Table) *Shape {
	t.Helper()
	s, err := Compile(table)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// model is what all spaces have to agree with: maps.
type model struct {
	shapes map[string]*Shape
	rows   map[string]map[Key]Row
	drawn  map[string][]Row // rows come again: what is put twice may not be lost
}

func newModel(t testing.TB) *model {
	m := &model{map[string]*Shape{}, map[string]map[Key]Row{}, map[string][]Row{}}
	for _, table := range testTables {
		m.shapes[table.Name] = mustShape(t, table)
		m.rows[table.Name] = map[Key]Row{}
	}
	return m
}

func (m *model) clone() map[string]map[Key]Row {
	out := map[string]map[Key]Row{}
	for table, rows := range m.rows {
		out[table] = map[Key]Row{}
		for k, row := range rows {
			out[table][k] = row
		}
	}
	return out
}

// check compares a space's rows, in the order given, with the model.
func (m *model) check(table, who string, entries func(yield func(Entry, error) bool)) error {
	want := m.rows[table]
	last, n := Key(""), 0
	for e, err := range entries {
		if err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
		if n > 0 && e.Key <= last {
			return fmt.Errorf("%s: table %s: key %q comes after %q", who, table, e.Key, last)
		}
		last = e.Key
		n++
		if !Equal(want[e.Key], e.Row) {
			return fmt.Errorf("%s: table %s: row %q is\n%v, want\n%v", who, table, e.Key, e.Row, want[e.Key])
		}
	}
	if n != len(want) {
		return fmt.Errorf("%s: table %s has %d rows, want %d", who, table, n, len(want))
	}
	return nil
}

// draw gives a new row, or one that was drawn before.
func (m *model) draw(r *rapid.T, table string) Row {
	if rows := m.drawn[table]; len(rows) > 0 && rapid.IntRange(0, 2).Draw(r, "again") > 0 {
		return rows[rapid.IntRange(0, len(rows)-1).Draw(r, "which")]
	}
	row := drawRow(r, m.shapes[table])
	m.drawn[table] = append(m.drawn[table], row)
	return row
}

// step is one change, or a look, that all spaces are given alike.
func (m *model) step(r *rapid.T, spaces ...Space) {
	table := rapid.SampledFrom([]string{"wide", "customers", "marks"}).Draw(r, "table")
	s := m.shapes[table]
	raw := m.draw(r, table)
	row, err := s.Row(raw)
	if err != nil {
		r.Fatal(err)
	}
	k, err := s.KeyOf(row)
	if err != nil {
		r.Fatal(err)
	}
	switch rapid.SampledFrom([]string{"put", "put", "get", "delete", "change"}).Draw(r, "do") {
	case "put":
		for _, sp := range spaces {
			if err := sp.Rows(table).Put(raw); err != nil {
				r.Fatal(err)
			}
		}
		m.rows[table][k] = row
	case "delete":
		for _, sp := range spaces {
			if err := sp.Rows(table).Delete(k); err != nil {
				r.Fatal(err)
			}
		}
		delete(m.rows[table], k)
	case "get":
		m.look(r, table, k, spaces)
	case "change":
		m.look(r, table, k, spaces)
		old, ok := m.rows[table][k]
		if !ok {
			return
		}
		changed := slices.Clone(old)
		at := rapid.IntRange(0, len(s.columns)-1).Draw(r, "column")
		if !s.columns[at].isKey {
			changed[at] = row[at]
		}
		for _, sp := range spaces {
			if err := sp.Rows(table).Put(changed); err != nil {
				r.Fatal(err)
			}
		}
		m.rows[table][k] = changed
	}
}

func (m *model) look(r *rapid.T, table string, k Key, spaces []Space) {
	want, exists := m.rows[table][k]
	for _, sp := range spaces {
		row, ok, err := sp.Rows(table).Get(k)
		if err != nil {
			r.Fatal(err)
		}
		if ok != exists || ok && !Equal(row, want) {
			r.Fatalf("%T: row %q of %s is\n%v, %v; want\n%v, %v", sp, k, table, row, ok, want, exists)
		}
	}
}

// event is some steps that are perhaps taken back.
func (m *model) event(r *rapid.T, spaces ...Space) {
	for _, sp := range spaces {
		sp.Begin()
	}
	before := m.clone()
	for range rapid.IntRange(1, 4).Draw(r, "steps") {
		m.step(r, spaces...)
	}
	if rapid.IntRange(0, 3).Draw(r, "undo") == 0 {
		for _, sp := range spaces {
			sp.Undo()
		}
		m.rows = before
	}
}

// TestSpacesAgree gives the same random events, in random batches, to a Live with
// hardly any cache, to Bulks with and without a disk, and to maps.
func TestSpacesAgree(t *testing.T) {
	_, conn := makeTables(t, testTables)
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		ctx := t.Context()
		for _, table := range testTables {
			if _, err := conn.Exec(ctx, "TRUNCATE "+quote(testSchema, table.Name)); err != nil {
				r.Fatal(err)
			}
		}
		live, err := NewLive(testSchema, testTables, LiveOptions{CacheBytes: rapid.SampledFrom([]int64{1, 3000, 1 << 20}).Draw(r, "cache")})
		if err != nil {
			r.Fatal(err)
		}
		memory, err := NewBulk(testTables, BulkOptions{})
		if err != nil {
			r.Fatal(err)
		}
		defer memory.Close()
		disk, err := NewBulk(testTables, BulkOptions{Dir: dir})
		if err != nil {
			r.Fatal(err)
		}
		defer disk.Close()
		m := newModel(t)
		batches := rapid.IntRange(1, 6).Draw(r, "batches")
		for range batches {
			m.batch(ctx, r, conn, live, memory, disk)
		}
		for table := range m.rows {
			table := m.shapes[table].Table()
			for who, rows := range map[string]func(func(Entry, error) bool){
				"Postgres": Scan(ctx, conn, testSchema, table), "memory": memory.Each(table.Name), "disk": disk.Each(table.Name),
			} {
				if err := m.check(table.Name, who, rows); err != nil {
					r.Fatal(err)
				}
			}
			if n := memory.Len(table.Name); n != len(m.rows[table.Name]) {
				r.Fatalf("Len of %s is %d, want %d", table.Name, n, len(m.rows[table.Name]))
			}
		}
		m.copyBack(ctx, r, conn, disk)
	})
}

// batch runs one transaction. One that is aborted is repeated with the Live alone
// being told so: the others never knew of it.
func (m *model) batch(ctx context.Context, r *rapid.T, conn *pgx.Conn, live *Live, bulks ...*Bulk) {
	if rapid.IntRange(0, 4).Draw(r, "reset") == 0 {
		live.Reset()
	}
	if rapid.IntRange(0, 2).Draw(r, "abort first") == 0 {
		before := m.clone()
		m.transaction(ctx, r, conn, live, false)
		m.rows = before
	}
	for _, b := range bulks {
		if rapid.IntRange(0, 2).Draw(r, "spill") == 0 && b.store.dir != "" {
			if err := b.store.spill(); err != nil {
				r.Fatal(err)
			}
		}
	}
	spaces := []Space{}
	for _, b := range bulks {
		spaces = append(spaces, b)
	}
	m.transaction(ctx, r, conn, live, true, spaces...)
}

func (m *model) transaction(ctx context.Context, r *rapid.T, conn *pgx.Conn, live *Live, commit bool, others ...Space) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		r.Fatal(err)
	}
	live.Open(ctx, tx.Conn())
	if rapid.Bool().Draw(r, "prefetch") {
		want := map[string][]Key{}
		for table, rows := range m.rows {
			for k := range rows {
				if len(k)%2 == 0 {
					want[table] = append(want[table], k)
				}
			}
		}
		if err := live.Prefetch(ctx, want); err != nil {
			r.Fatal(err)
		}
	}
	for range rapid.IntRange(1, 5).Draw(r, "events") {
		if rapid.Bool().Draw(r, "at once") {
			m.savepointEvent(ctx, r, tx, live, others...)
		} else {
			m.event(r, append([]Space{live}, others...)...)
		}
	}
	if err := live.Flush(ctx); err != nil {
		r.Fatal(err)
	}
	if !commit {
		if err := tx.Rollback(ctx); err != nil {
			r.Fatal(err)
		}
		live.Abort()
		return
	}
	if err := tx.Commit(ctx); err != nil {
		r.Fatal(err)
	}
	live.Commit()
}

// savepointEvent writes an event at once and then perhaps rolls it back, as the
// runner does in search of a poisoned one.
func (m *model) savepointEvent(ctx context.Context, r *rapid.T, tx pgx.Tx, live *Live, others ...Space) {
	spaces := append([]Space{live}, others...)
	for _, sp := range spaces {
		sp.Begin()
	}
	sp, err := tx.Begin(ctx)
	if err != nil {
		r.Fatal(err)
	}
	before := m.clone()
	for range rapid.IntRange(1, 3).Draw(r, "steps") {
		m.step(r, spaces...)
	}
	if err := live.Flush(ctx); err != nil {
		r.Fatal(err)
	}
	if rapid.Bool().Draw(r, "keep") {
		if err := sp.Commit(ctx); err != nil {
			r.Fatal(err)
		}
		return
	}
	if err := sp.Rollback(ctx); err != nil {
		r.Fatal(err)
	}
	for _, sp := range spaces {
		sp.Undo()
	}
	m.rows = before
}

// copyBack copies a Bulk into empty tables and reads them.
func (m *model) copyBack(ctx context.Context, r *rapid.T, conn *pgx.Conn, b *Bulk) {
	for _, table := range testTables {
		if _, err := conn.Exec(ctx, "TRUNCATE "+quote(testSchema, table.Name)); err != nil {
			r.Fatal(err)
		}
	}
	if err := b.Copy(ctx, conn, testSchema, nil); err != nil {
		r.Fatal(err)
	}
	for _, table := range testTables {
		if err := m.check(table.Name, "Postgres after COPY", Scan(ctx, conn, testSchema, table)); err != nil {
			r.Fatal(err)
		}
	}
}
