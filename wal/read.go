package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Range is a part of a unit's roots in the order of their key: from From up to,
// and without, To. A nil bound is open. The bounds are texts of the key columns
// and can be stored and printed.
type Range struct {
	From, To []string
	// Rows is how many roots are expected.
	Rows int64
}

// String writes the range as "[1,4001)" or "[1, ...)".
func (r Range) String() string {
	from, to := "...", "..."
	if r.From != nil {
		from = strings.Join(r.From, ",")
	}
	if r.To != nil {
		to = strings.Join(r.To, ",")
	}
	return "[" + from + " - " + to + ")"
}

// Ranges cuts the unit's roots into ranges of about rowsPerRange, which cover
// every possible key, also of rows that are not there yet. It reads the root's
// key index once.
func (s *Snapshot) Ranges(ctx context.Context, u Unit, rowsPerRange int64) ([]Range, error) {
	q, err := s.plan(ctx, u)
	if err != nil {
		return nil, err
	}
	if rowsPerRange < 1 {
		return nil, fmt.Errorf("cut %s into ranges: %d rows per range", u.Aggregate, rowsPerRange)
	}
	keys := q.keyColumns()
	named, texts := make([]string, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		named[i] = fmt.Sprintf("%s AS k%d", k, i)
		texts[i] = fmt.Sprintf("k%d::text", i)
	}
	// Besides the first row of each range the last of all is wanted: its number
	// tells how many rows the last range has.
	sql := fmt.Sprintf(`SELECT number, ARRAY[%s] FROM (
			SELECT row_number() OVER w AS number, lead(1) OVER w IS NULL AS last, %s FROM %s%s r0 WINDOW w AS (ORDER BY %s)) k
		WHERE number %% %d = 1 OR last OR %d = 1 ORDER BY number`,
		strings.Join(texts, ", "), strings.Join(named, ", "), q.only[0], q.names[0], strings.Join(keys, ", "), rowsPerRange, rowsPerRange)
	rows, err := s.conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("cut %s into ranges: %w", u.Aggregate, err)
	}
	ranges := []Range{{}}
	var n, start int64 = 0, 1
	var key []string
	if _, err := pgx.ForEachRow(rows, []any{&n, &key}, func() error {
		if n > 1 && (n-1)%rowsPerRange == 0 {
			last := &ranges[len(ranges)-1]
			last.To, last.Rows = slices.Clone(key), n-start
			ranges = append(ranges, Range{From: last.To})
			start = n
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("cut %s into ranges: %w", u.Aggregate, err)
	}
	ranges[len(ranges)-1].Rows = max(0, n-start+1)
	if n == 0 {
		ranges[0].Rows = 0
	}
	return ranges, nil
}

// Read calls fn for every root in the range, in the order of the root's key,
// with all its children. The tree is fn's to keep. Memory is bounded by one
// aggregate and a few rows of each table read ahead.
func (s *Snapshot) Read(ctx context.Context, u Unit, r Range, fn func(*Tree) error) error {
	q, err := s.plan(ctx, u)
	if err != nil {
		return err
	}
	var where []string
	for _, b := range []struct {
		op  string
		key []string
	}{{">=", r.From}, {"<", r.To}} {
		if b.key == nil {
			continue
		}
		if len(b.key) != len(u.Root.Key) {
			return fmt.Errorf("read %s: the range %s has a bound of %d columns, the key has %d", u.Aggregate, r, len(b.key), len(u.Root.Key))
		}
		where = append(where, "("+q.compare(b.op, b.key)+")")
	}
	if err := s.merge(ctx, u, q, strings.Join(where, " AND "), fn); err != nil {
		return fmt.Errorf("read %s %s: %w", u.Aggregate, r, err)
	}
	return nil
}

// keysPerQuery bounds the length of a statement.
const keysPerQuery = 500

// ReadKeys calls fn for those of the given roots that exist, each part of 500
// keys in the order of the key.
func (s *Snapshot) ReadKeys(ctx context.Context, u Unit, keys [][]string, fn func(*Tree) error) error {
	q, err := s.plan(ctx, u)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(keys, keysPerQuery) {
		var list []string
		for _, k := range part {
			if len(k) != len(u.Root.Key) {
				return fmt.Errorf("read %s: a key of %d columns, want %d", u.Aggregate, len(k), len(u.Root.Key))
			}
			list = append(list, "("+q.compare("=", k)+")")
		}
		where := "(" + strings.Join(list, " OR ") + ")"
		if err := s.merge(ctx, u, q, where, fn); err != nil {
			return fmt.Errorf("read %d keys of %s: %w", len(part), u.Aggregate, err)
		}
	}
	return nil
}

// compare writes how the root's key stands to a key given as texts. The texts
// are literals of no type yet, so that each takes the type of its column.
func (q *unitQuery) compare(op string, key []string) string {
	columns, t := q.keyColumns(), q.nodes[0].table
	plain := true
	literals := make([]string, len(key))
	for i, text := range key {
		literals[i] = "'" + strings.ReplaceAll(text, "'", "''") + "'"
		plain = plain && q.schemas[t.Table.Columns[t.Key[i]].TypeOID] == ""
	}
	operator := func(i int, op string) string {
		return columns[i] + " " + q.operator(t.Table.Columns[t.Key[i]].TypeOID, op) + " " + literals[i]
	}
	if op == "=" {
		terms := make([]string, len(key))
		for i := range key {
			terms[i] = operator(i, "=")
		}
		return strings.Join(terms, " AND ")
	}
	if plain { // which an index of several columns serves
		return fmt.Sprintf("ROW(%s) %s ROW(%s)", strings.Join(columns, ", "), op, strings.Join(literals, ", "))
	}
	last := len(key) - 1
	sql := operator(last, op)
	for i := last - 1; i >= 0; i-- {
		sql = fmt.Sprintf("%s OR %s AND (%s)", operator(i, op[:1]), operator(i, "="), sql)
	}
	return sql
}

// operator names an operator of a type. Those of a type that an extension made
// must be named with their schema, as our search path is empty: without it,
// citext would be compared as text, in another order than it is sorted.
func (q *unitQuery) operator(typeOID uint32, op string) string {
	if schema := q.schemas[typeOID]; schema != "" {
		return "OPERATOR(" + quote(schema) + "." + op + ")"
	}
	return op
}

// nodeQuery is one table of a unit as it is read: its rows joined up to the
// root, in the order of all keys on the way.
type nodeQuery struct {
	table    *UnitTable
	depth    int
	path     []int // positions of the tables on the way, from the root, in names
	children []*nodeQuery
	// ancestors is how many key columns of ancestors stand before the row's own
	// columns in the result.
	ancestors int
	rows      *cursor
}

// unitQuery is the plan for a unit. Tables are numbered, root first.
type unitQuery struct {
	root  *nodeQuery
	nodes []*nodeQuery
	names []string
	only  []string
	// schemas has the schema of a type's comparison operators where that is not
	// pg_catalog.
	schemas map[uint32]string
}

func (s *Snapshot) plan(ctx context.Context, u Unit) (*unitQuery, error) {
	q := &unitQuery{}
	root, err := s.planNode(ctx, q, &u.Root, nil)
	if err != nil {
		return nil, fmt.Errorf("plan to read %s: %w", u.Aggregate, err)
	}
	q.root = root
	if q.schemas, err = s.operatorSchemas(ctx, q); err != nil {
		return nil, fmt.Errorf("plan to read %s: %w", u.Aggregate, err)
	}
	return q, nil
}

// operatorSchemas finds the types, among those that are compared, whose
// default ordering lies outside pg_catalog.
func (s *Snapshot) operatorSchemas(ctx context.Context, q *unitQuery) (map[uint32]string, error) {
	var types []uint32
	for _, n := range q.nodes {
		for _, k := range n.table.Key {
			types = append(types, n.table.Table.Columns[k].TypeOID)
		}
		for _, pair := range n.table.Parent {
			types = append(types, n.table.Table.Columns[pair[0]].TypeOID)
		}
	}
	rows, err := s.conn.Query(ctx, `
		WITH RECURSIVE layer(oid, base) AS (
			SELECT t, t FROM unnest($1::oid[]) t
			UNION
			SELECT l.oid, t.typbasetype FROM layer l JOIN pg_catalog.pg_type t ON t.oid = l.base AND t.typtype = 'd')
		SELECT DISTINCT l.oid, n.nspname::text
		FROM layer l
		JOIN pg_catalog.pg_opclass c ON c.opcintype = l.base AND c.opcdefault
		JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
		JOIN pg_catalog.pg_amop a ON a.amopfamily = c.opcfamily AND a.amoplefttype = l.base AND a.amoprighttype = l.base AND a.amopstrategy = 3
		JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr
		JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace AND n.nspname <> 'pg_catalog'`, types)
	if err != nil {
		return nil, fmt.Errorf("look up operators: %w", err)
	}
	schemas := map[uint32]string{}
	var oid uint32
	var schema string
	if _, err := pgx.ForEachRow(rows, []any{&oid, &schema}, func() error {
		schemas[oid] = schema
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look up operators: %w", err)
	}
	return schemas, nil
}

func (s *Snapshot) planNode(ctx context.Context, q *unitQuery, t *UnitTable, parent *nodeQuery) (*nodeQuery, error) {
	only, err := s.only(ctx, t.Table)
	if err != nil {
		return nil, err
	}
	if len(t.Key) == 0 {
		return nil, fmt.Errorf("table %s has no key", t.Table.FullName())
	}
	if parent != nil && len(t.Parent) == 0 {
		return nil, fmt.Errorf("table %s is not joined to its parent", t.Table.FullName())
	}
	n := &nodeQuery{table: t}
	if parent != nil {
		n.depth = parent.depth + 1
		n.path = slices.Clone(parent.path)
		n.ancestors = parent.ancestors + len(parent.table.Key)
	}
	n.path = append(n.path, len(q.nodes))
	q.nodes = append(q.nodes, n)
	q.names = append(q.names, quote(t.Table.Schema, t.Table.Name))
	q.only = append(q.only, only)
	for i := range t.Children {
		c, err := s.planNode(ctx, q, &t.Children[i], n)
		if err != nil {
			return nil, err
		}
		n.children = append(n.children, c)
	}
	return n, nil
}

// only tells how to name a table so that exactly its own rows are read: a
// partitioned table has them in its partitions, while the children of any
// other are tables of their own, in the publication as well.
func (s *Snapshot) only(ctx context.Context, t *Table) (string, error) {
	if text, ok := s.kinds[t.OID]; ok {
		return text, nil
	}
	var kind string
	err := s.conn.QueryRow(ctx, `SELECT c.relkind::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, t.Schema, t.Name).Scan(&kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("table %s does not exist", t.FullName())
	}
	if err != nil {
		return "", fmt.Errorf("look up table %s: %w", t.FullName(), err)
	}
	text := "ONLY "
	if kind == "p" {
		text = ""
	}
	s.kinds[t.OID] = text
	return text, nil
}

func (q *unitQuery) keyColumns() []string { return q.nodeKeys(0) }

// nodeKeys are the key columns of table number i.
func (q *unitQuery) nodeKeys(i int) []string {
	t := q.nodes[i].table
	keys := make([]string, len(t.Key))
	for k, c := range t.Key {
		keys[k] = q.column(i, c)
	}
	return keys
}

func (q *unitQuery) column(table, column int) string {
	return fmt.Sprintf("r%d.%s", table, quote(q.nodes[table].table.Table.Columns[column].Name))
}

// sql selects the rows of one table: the keys of its ancestors, then its own
// columns. All tables below one root are read in the same order, that of the
// keys on the way down by the columns' own comparison, and the rows are put
// together by equality of those keys' texts alone; so no ordering is ever done
// here, and any collation will do.
func (q *unitQuery) sql(n *nodeQuery, where string) string {
	var from strings.Builder
	var columns, order []string
	for level, at := range n.path {
		if level == 0 {
			fmt.Fprintf(&from, "%s%s r%d", q.only[at], q.names[at], at)
		} else {
			parent := n.path[level-1]
			fmt.Fprintf(&from, " JOIN %s%s r%d ON ", q.only[at], q.names[at], at)
			for i, pair := range q.nodes[at].table.Parent {
				if i > 0 {
					from.WriteString(" AND ")
				}
				op := q.operator(q.nodes[at].table.Table.Columns[pair[0]].TypeOID, "=")
				fmt.Fprintf(&from, "%s %s %s", q.column(at, pair[0]), op, q.column(parent, pair[1]))
			}
		}
		keys := q.nodeKeys(at)
		order = append(order, keys...)
		if level < n.depth {
			columns = append(columns, keys...)
		}
	}
	for c := range n.table.Table.Columns {
		columns = append(columns, q.column(n.path[n.depth], c))
	}
	sql := "SELECT " + strings.Join(columns, ", ") + " FROM " + from.String()
	if where != "" {
		sql += " WHERE " + where
	}
	return sql + " ORDER BY " + strings.Join(order, ", ")
}
