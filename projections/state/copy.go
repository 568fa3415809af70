package state

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Copy streams all tables into those of a schema with COPY, in key order, which
// makes the primary key fast to build. The connection may have a transaction open.
// progress, where not nil, is called now and then, from another goroutine but
// never from two at once, with the rows of a table copied so far.
func (b *Bulk) Copy(ctx context.Context, conn *pgx.Conn, schema string, progress func(table string, rows int64)) error {
	for _, t := range b.tables {
		if err := t.copy(ctx, conn, schema, progress); err != nil {
			return fmt.Errorf("copy rows into %s.%s: %w", schema, t.shape.table.Name, err)
		}
	}
	return nil
}

func (t *bulkTable) copy(ctx context.Context, conn *pgx.Conn, schema string, progress func(table string, rows int64)) error {
	rows, err := t.store.walk(t.number)
	if err != nil {
		return err
	}
	name := t.shape.table.Name
	r := &copyReader{rows: rows, buf: []byte(copyHeader), progress: func(n int64) {
		if progress != nil {
			progress(name, n)
		}
	}}
	tag, err := conn.PgConn().CopyFrom(ctx, r, t.shape.copySQL(schema))
	if r.err != nil {
		return r.err // of the disk; the server's is only that we stopped
	}
	if err != nil {
		return err
	}
	if tag.RowsAffected() != r.count {
		return fmt.Errorf("the server took %d rows of %d", tag.RowsAffected(), r.count)
	}
	return nil
}

func (s *Shape) copySQL(schema string) string {
	return fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", quote(schema, s.table.Name), s.columnList())
}

func (s *Shape) columnList() string {
	names := make([]string, len(s.columns))
	for i := range s.columns {
		names[i] = quote(s.columns[i].name)
	}
	return strings.Join(names, ", ")
}

const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// copyReader is a table as a stream of COPY: the values of the store are its
// tuples already.
type copyReader struct {
	rows     *merged
	buf      []byte // to be read
	sent     int    // of it
	count    int64
	done     bool
	err      error
	progress func(rows int64)
}

// copyStep is how many bytes are made ready at once.
const copyStep = 256 << 10

func (r *copyReader) Read(p []byte) (int, error) {
	if r.sent == len(r.buf) {
		if r.err != nil {
			return 0, r.err
		}
		if r.done {
			return 0, io.EOF
		}
		r.buf, r.sent = r.buf[:0], 0
	}
	if !r.done && len(r.buf) < copyStep && r.sent == 0 {
		r.fill()
	}
	n := copy(p, r.buf[r.sent:])
	r.sent += n
	return n, nil
}

func (r *copyReader) fill() {
	for len(r.buf) < copyStep {
		ok, err := r.rows.next()
		if err != nil {
			r.err, r.done = err, true
			return
		}
		if !ok {
			r.buf = binary.BigEndian.AppendUint16(r.buf, 0xffff)
			r.done = true
			break
		}
		if e := r.rows.entry(); e.value != nil {
			r.buf = append(r.buf, e.value...)
			r.count++
		}
	}
	r.progress(r.count)
}

// Scan yields the rows of a table in Postgres in the order of their keys, the
// same order as Bulk.Each, and ends after an error. The connection is busy until
// it ends; breaking off early still reads what the server sends.
func Scan(ctx context.Context, conn *pgx.Conn, schema string, t Table) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		s, err := Compile(t)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		keys := make([]string, len(s.key))
		for i, k := range t.Key {
			keys[i] = quote(k)
		}
		sql := fmt.Sprintf("SELECT %s FROM %s ORDER BY %s", s.columnList(), quote(schema, t.Name), strings.Join(keys, ", "))
		result := conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, binaryFormat)
		fail := func(err error) {
			result.Close()
			yield(Entry{}, fmt.Errorf("read the rows of %s.%s: %w", schema, t.Name, err))
		}
		for result.NextRow() {
			row, err := s.fields(result.Values())
			if err != nil {
				fail(err)
				return
			}
			k, err := s.KeyOf(row)
			if err != nil {
				fail(err)
				return
			}
			if !yield(Entry{k, row}, nil) {
				result.Close()
				return
			}
		}
		if _, err := result.Close(); err != nil {
			fail(err)
		}
	}
}
