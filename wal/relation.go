package wal

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/jackc/pgx/v5"
)

// tables returns the full names in order.
func (c Capture) tables() []string {
	names := make([]string, 0, len(c))
	for n := range c {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// relation is how rows of one table are read since its last Relation message.
type relation struct {
	table *Table // nil for a table that is not captured
	// keep gives for each column of the message its index in table.Columns, or
	// -1 for one that is dropped.
	keep []int
	// tx and index remember where table stands in the list of tables of the
	// transaction that is being read, so that a change can name it by number.
	tx    uint64
	index int
}

// relations is the cache of what the server has told of its tables. The server
// tells it again in every session, and whenever something changed.
type relations struct {
	capture Capture
	known   map[uint32]*relation
	// made keeps the last Table of each OID over sessions, so that a repeated
	// description that changes nothing gives the same Table.
	made map[uint32]*Table
	// names gives the captured name of a table that may have another by now.
	names map[uint32]string
	// look reads what the catalog says now; the message itself knows neither
	// the names of types nor which columns are the key.
	look  func(about facts) (*columnFacts, error)
	facts *columnFacts
}

func newRelations(capture Capture, look func(facts) (*columnFacts, error)) *relations {
	return &relations{capture: capture, look: look, known: map[uint32]*relation{}, made: map[uint32]*Table{}, names: map[uint32]string{}}
}

// forget is called when a new session begins.
func (r *relations) forget() { clear(r.known) }

func (r *relations) message(b []byte) error {
	m, err := parseRelation(b)
	if err != nil {
		return fmt.Errorf("relation message: %w", err)
	}
	name := m.schema + "." + m.name
	if _, captured := r.capture[name]; captured {
		r.names[m.oid] = name
	}
	// A captured table that was renamed is still captured: the consumer sees
	// its new name in a new Table and decides. Dropping it would be silent.
	wanted, captured := r.capture[r.names[m.oid]]
	if !captured {
		r.known[m.oid] = &relation{}
		return nil
	}
	t := &Table{OID: m.oid, Schema: m.schema, Name: m.name, ReplicaIdentity: m.replicaIdentity}
	rel := &relation{table: t, keep: make([]int, len(m.columns))}
	for i, c := range m.columns {
		rel.keep[i] = -1
		if !slices.Contains(wanted, c.name) {
			t.Uncaptured = append(t.Uncaptured, c.name)
			continue
		}
		rel.keep[i] = len(t.Columns)
		t.Columns = append(t.Columns, Column{Name: c.name, TypeOID: c.typeOID, TypMod: c.typMod, Identity: c.identity})
	}
	if err := r.describe(t); err != nil {
		return fmt.Errorf("describe table %s: %w", t.FullName(), err)
	}
	if last := r.made[m.oid]; last != nil && last.equal(t) {
		rel.table = last
	} else {
		r.made[m.oid] = t
	}
	r.known[m.oid] = rel
	return nil
}

// about asks for the captured tables, by name or by what they were called once,
// and for the types of t.
func (r *relations) about(t *Table) facts {
	a := facts{names: r.capture.tables()}
	for oid := range r.names {
		a.tables = append(a.tables, oid)
	}
	for _, c := range t.Columns {
		a.types = append(a.types, c.TypeOID)
	}
	return a
}

func (r *relations) learn(facts *columnFacts) {
	r.facts = facts
	for oid, name := range facts.names {
		if _, ok := r.capture[name]; ok {
			r.names[oid] = name
		}
	}
}

// describe adds what only the catalog knows. The catalog is read as it is now,
// the message speaks of a time that may lie back; so facts are matched by OID
// and name, and what the catalog no longer has is taken from the last Table of
// the same OID, or from the replica identity.
func (r *relations) describe(t *Table) error {
	if r.facts == nil || !r.facts.cover(t) {
		facts, err := r.look(r.about(t))
		if err != nil {
			return err
		}
		r.learn(facts)
	}
	last := r.made[t.OID]
	identities := 0
	for i := range t.Columns {
		c := &t.Columns[i]
		if c.Identity {
			identities++
		}
		c.TypeName = r.facts.types[c.TypeOID]
		if f, ok := r.facts.columns[columnRef{t.OID, c.Name}]; ok {
			c.NotNull, c.Key = f.notNull, f.key
		} else if last != nil && last.Column(c.Name) >= 0 {
			was := last.Columns[last.Column(c.Name)]
			c.NotNull, c.Key = was.NotNull, was.Key
		} else if c.Identity && t.ReplicaIdentity != 'f' {
			c.NotNull, c.Key = true, identities
		}
		if c.TypeName == "" {
			// A type that was dropped since. Its number still tells it from
			// every other type, so the consumer sees that it changed.
			c.TypeName = fmt.Sprintf("dropped type %d", c.TypeOID)
		}
	}
	return nil
}

func (t *Table) equal(u *Table) bool {
	return t.OID == u.OID && t.Schema == u.Schema && t.Name == u.Name && t.ReplicaIdentity == u.ReplicaIdentity &&
		slices.Equal(t.Columns, u.Columns) && slices.Equal(t.Uncaptured, u.Uncaptured)
}

type columnRef struct {
	table uint32
	name  string
}

type columnFact struct {
	typeOID uint32
	notNull bool
	key     int
}

// columnFacts is what the catalog says of the captured tables.
type columnFacts struct {
	columns map[columnRef]columnFact
	types   map[uint32]string
	names   map[uint32]string // full names by OID
}

// cover reports whether the facts speak of the table as it is described.
func (f *columnFacts) cover(t *Table) bool {
	for _, c := range t.Columns {
		if fact, ok := f.columns[columnRef{t.OID, c.Name}]; !ok || fact.typeOID != c.TypeOID {
			return false
		}
	}
	return true
}

// facts is what to ask the catalog about.
type facts struct {
	names         []string
	tables, types []uint32
}

// readColumnFacts asks for tables by full name or OID, and for types. The key
// is the primary key, else the index of the replica identity, else the first
// unique index that could serve: the same choice as Catalog's.
func readColumnFacts(ctx context.Context, conn *pgx.Conn, about facts) (*columnFacts, error) {
	f := &columnFacts{columns: map[columnRef]columnFact{}, types: map[uint32]string{}, names: map[uint32]string{}}
	rows, err := conn.Query(ctx, `
		SELECT c.oid, a.attname::text, a.atttypid, pg_catalog.format_type(a.atttypid, NULL), a.attnotnull, coalesce(k.pos, 0),
		       n.nspname || '.' || c.relname
		FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN LATERAL (
			SELECT i.indkey::int2[] AS keys, i.indnkeyatts
			FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
			WHERE i.indrelid = c.oid AND i.indisunique AND (i.indisprimary OR
			      i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
			      SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(num, pos)
			      JOIN pg_catalog.pg_attribute b ON b.attrelid = c.oid AND b.attnum = u.num
			      WHERE u.pos <= i.indnkeyatts AND NOT b.attnotnull))
			ORDER BY i.indisprimary DESC, i.indisreplident DESC, x.relname LIMIT 1) i ON true
		LEFT JOIN LATERAL (
			SELECT u.pos::int FROM unnest(i.keys) WITH ORDINALITY u(num, pos)
			WHERE u.num = a.attnum AND u.pos <= i.indnkeyatts) k ON true
		WHERE (n.nspname || '.' || c.relname = ANY ($1) OR c.oid = ANY ($2)) AND c.relkind IN ('r', 'p')`, about.names, about.tables)
	if err != nil {
		return nil, fmt.Errorf("read the columns: %w", err)
	}
	var ref columnRef
	var fact columnFact
	var typeName, table string
	if _, err := pgx.ForEachRow(rows, []any{&ref.table, &ref.name, &fact.typeOID, &typeName, &fact.notNull, &fact.key, &table}, func() error {
		f.columns[ref] = fact
		f.types[fact.typeOID] = typeName
		f.names[ref.table] = table
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the columns: %w", err)
	}
	if rows, err = conn.Query(ctx, `SELECT oid, pg_catalog.format_type(oid, NULL) FROM pg_catalog.pg_type WHERE oid = ANY ($1)`, about.types); err != nil {
		return nil, fmt.Errorf("read the types: %w", err)
	}
	if _, err := pgx.ForEachRow(rows, []any{&ref.table, &typeName}, func() error {
		f.types[ref.table] = typeName
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the types: %w", err)
	}
	return f, nil
}
