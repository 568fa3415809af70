package wal

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
)

// merge reads all tables of a unit side by side, each through a cursor of the
// one session, and puts the rows together.
func (s *Snapshot) merge(ctx context.Context, u Unit, q *unitQuery, where string, fn func(*Tree) error) (err error) {
	defer func() {
		for _, n := range q.nodes {
			if n.rows != nil && err == nil {
				err = n.rows.close(ctx)
			}
			n.rows = nil
		}
	}()
	for _, n := range q.nodes {
		s.cursors++
		if n.rows, err = s.open(ctx, "c"+strconv.Itoa(s.cursors), q.sql(n, where)); err != nil {
			return fmt.Errorf("table %s: %w", n.table.Table.FullName(), err)
		}
	}
	for {
		row, err := q.root.rows.peek(ctx)
		if err != nil {
			return fmt.Errorf("table %s: %w", u.Root.Table.FullName(), err)
		}
		if row == nil {
			break
		}
		q.root.rows.pop()
		tree := &Tree{Row: row}
		if err := q.root.fill(ctx, tree, nil); err != nil {
			return err
		}
		if err := fn(tree); err != nil {
			return err
		}
	}
	for _, n := range q.nodes[1:] {
		row, err := n.rows.peek(ctx)
		if err != nil {
			return fmt.Errorf("table %s: %w", n.table.Table.FullName(), err)
		}
		if row != nil {
			return fmt.Errorf("table %s: the row of parent %s comes out of order", n.table.Table.FullName(), keyText(row[:n.ancestors]))
		}
	}
	return nil
}

// fill gives a tree of n's table its children. path are the keys above it.
func (n *nodeQuery) fill(ctx context.Context, tree *Tree, path Row) error {
	if len(n.children) == 0 {
		return nil
	}
	tree.Children = make([][]Tree, len(n.children))
	for _, k := range n.table.Key {
		path = append(path, tree.Row[k])
	}
	path = path[:len(path):len(path)] // children append behind it, each for itself
	for i, c := range n.children {
		for {
			row, err := c.rows.peek(ctx)
			if err != nil {
				return fmt.Errorf("table %s: %w", c.table.Table.FullName(), err)
			}
			if row == nil || !sameKey(row[:c.ancestors], path) {
				break
			}
			c.rows.pop()
			tree.Children[i] = append(tree.Children[i], Tree{Row: row[c.ancestors:]})
			if len(c.children) > 0 {
				last := &tree.Children[i][len(tree.Children[i])-1]
				if err := c.fill(ctx, last, path); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func sameKey(a, b Row) bool {
	for i := range a {
		if a[i].Kind != b[i].Kind || !bytes.Equal(a[i].Bytes, b[i].Bytes) {
			return false
		}
	}
	return true
}

func keyText(key Row) string {
	var b bytes.Buffer
	for i, v := range key {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(v.Bytes)
	}
	return b.String()
}

const (
	firstFetch = 64
	maxFetch   = 2000
	fetchBytes = 1 << 20 // what one fetch should bring
)

// cursor reads a query in parts, so that several can be read side by side in
// one session.
type cursor struct {
	s     *Snapshot
	name  string
	rows  []Row
	count int // rows of the next fetch
	done  bool
}

func (s *Snapshot) open(ctx context.Context, name, sql string) (*cursor, error) {
	if _, err := s.conn.PgConn().Exec(ctx, "DECLARE "+name+" NO SCROLL CURSOR FOR "+sql).ReadAll(); err != nil {
		return nil, err
	}
	return &cursor{s: s, name: name, count: firstFetch}, nil
}

// peek returns the next row without taking it, or nil at the end.
func (c *cursor) peek(ctx context.Context) (Row, error) {
	if len(c.rows) == 0 && !c.done {
		if err := c.fetch(ctx); err != nil {
			return nil, err
		}
	}
	if len(c.rows) == 0 {
		return nil, nil
	}
	return c.rows[0], nil
}

func (c *cursor) pop() {
	c.rows[0] = nil // a tree of a range of one part need not keep the others
	c.rows = c.rows[1:]
}

func (c *cursor) fetch(ctx context.Context) error {
	res := c.s.conn.PgConn().ExecParams(ctx, "FETCH "+strconv.Itoa(c.count)+" FROM "+c.name, nil, nil, nil, nil)
	var size, n int
	var values slab[Value]
	var text slab[byte]
	c.rows = c.rows[:0]
	for res.NextRow() {
		fields := res.Values()
		row := Row(values.take(len(fields)))
		for i, f := range fields {
			if f == nil {
				continue
			}
			b := text.take(len(f))
			copy(b, f)
			row[i] = Value{Kind: Text, Bytes: b}
			size += len(f)
		}
		c.rows = append(c.rows, row)
		n++
	}
	if _, err := res.Close(); err != nil {
		return fmt.Errorf("fetch rows: %w", err)
	}
	c.done = n < c.count
	if n > 0 {
		// Wide rows are fetched by the few. More than doubling at once would
		// trust a few short rows too much.
		c.count = max(1, min(2*c.count, maxFetch, fetchBytes/max(1, size/n)))
	}
	return nil
}

func (c *cursor) close(ctx context.Context) error {
	if _, err := c.s.conn.PgConn().Exec(ctx, "CLOSE "+c.name).ReadAll(); err != nil {
		return fmt.Errorf("close a cursor: %w", err)
	}
	return nil
}
