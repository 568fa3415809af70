package state

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// statements are what a Live says to Postgres about one table. All values go as
// arrays, one for each column, in binary: one statement for any number of rows,
// planned once for each connection.
type statements struct {
	read, upsert, remove string
	table                string
}

// flushRows bounds the rows of one statement, so that no message grows without
// bound; the statements of a Flush go in one round trip all the same.
const flushRows = 10_000

func makeStatements(schema string, s *Shape) statements {
	names := make([]string, len(s.columns))
	arrays := make([]string, len(s.columns))
	var changes []string
	for i := range s.columns {
		c := &s.columns[i]
		names[i] = quote(c.name)
		arrays[i] = fmt.Sprintf("unnest($%d::%s[])", i+1, kinds[c.kind].name)
		if !c.isKey {
			changes = append(changes, names[i]+" = EXCLUDED."+names[i])
		}
	}
	keys := make([]string, len(s.key))
	keyArrays := make([]string, len(s.key))
	join := make([]string, len(s.key))
	for i, place := range s.key {
		keys[i] = names[place]
		keyArrays[i] = fmt.Sprintf("$%d::%s[]", i+1, kinds[s.columns[place].kind].name)
		join[i] = fmt.Sprintf("t.%s = k.k%d", names[place], i)
	}
	table, columns := quote(schema, s.table.Name), strings.Join(names, ", ")
	onConflict := "NOTHING"
	if len(changes) > 0 {
		onConflict = "UPDATE SET " + strings.Join(changes, ", ")
	}
	st := statements{table: table}
	// In the list of a SELECT the rows come one by one; unnest behind FROM would
	// first collect all of them, which costs a sixth of the whole.
	st.upsert = fmt.Sprintf("INSERT INTO %s (%s) SELECT %s ON CONFLICT (%s) DO %s",
		table, columns, strings.Join(arrays, ", "), strings.Join(keys, ", "), onConflict)
	if len(keys) == 1 {
		st.read = fmt.Sprintf("SELECT %s FROM %s WHERE %s = ANY (%s)", columns, table, keys[0], keyArrays[0])
		st.remove = fmt.Sprintf("DELETE FROM %s WHERE %s = ANY (%s)", table, keys[0], keyArrays[0])
	} else {
		aliases := make([]string, len(keys))
		for i := range aliases {
			aliases[i] = fmt.Sprintf("k%d", i)
		}
		k := fmt.Sprintf("unnest(%s) k (%s)", strings.Join(keyArrays, ", "), strings.Join(aliases, ", "))
		for i := range names {
			names[i] = "t." + names[i]
		}
		st.read = fmt.Sprintf("SELECT %s FROM %s JOIN %s t ON %s", strings.Join(names, ", "), k, table, strings.Join(join, " AND "))
		st.remove = fmt.Sprintf("DELETE FROM %s t USING %s WHERE %s", table, k, strings.Join(join, " AND "))
	}
	return st
}

// expire deletes by age; $1 is an instant in UTC whatever the column is.
func (st *statements) expire(c column) string {
	limit := "$1::timestamptz"
	if c.kind != kindTimestamptz {
		limit = "($1::timestamptz AT TIME ZONE 'UTC')"
	}
	return fmt.Sprintf("DELETE FROM %s WHERE %s < %s", st.table, quote(c.name), limit)
}

// lookup is the keys to read of one table.
type lookup struct {
	table *liveTable
	keys  []Key
}

// Prefetch reads the rows of these keys that are not in the cache, all tables in
// one round trip.
func (l *Live) Prefetch(ctx context.Context, want map[string][]Key) error {
	if l.conn == nil {
		return fmt.Errorf("prefetch: no batch is open")
	}
	for name := range want {
		if l.byName[name] == nil {
			return fmt.Errorf("prefetch: there is no table %s", name)
		}
	}
	var lookups []lookup
	for _, t := range l.tables {
		var keys []Key
		for _, k := range want[t.shape.table.Name] {
			if c := t.rows[k]; c != nil && c.known {
				c.batch, c.recent = l.batch, true
				continue
			}
			keys = append(keys, k)
		}
		if len(keys) == 0 {
			continue
		}
		// In order, the same pages of the index are read once.
		slices.Sort(keys)
		lookups = append(lookups, lookup{t, slices.Compact(keys)})
	}
	if len(lookups) == 0 {
		return nil
	}
	return l.read(ctx, lookups)
}

// read gets rows in one round trip. Keys without a row become known as such.
func (l *Live) read(ctx context.Context, lookups []lookup) error {
	l.stats.Reads++
	batch := &pgconn.Batch{}
	for _, lk := range lookups {
		params, err := lk.table.shape.keyArrays(lk.keys)
		if err != nil {
			return err
		}
		if err := l.queue(ctx, batch, lk.table.sql.read, params); err != nil {
			return fmt.Errorf("read rows of table %s: %w", lk.table.shape.table.Name, err)
		}
	}
	results := l.conn.PgConn().ExecBatch(ctx, batch)
	for _, lk := range lookups {
		if err := lk.table.take(results, lk.keys); err != nil {
			results.Close()
			return fmt.Errorf("read rows of table %s: %w", lk.table.shape.table.Name, err)
		}
	}
	if err := results.Close(); err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	return nil
}

// take puts the rows of one result, and the keys that have none, into the cache.
func (t *liveTable) take(results *pgconn.MultiResultReader, keys []Key) error {
	if !results.NextResult() {
		return results.Close()
	}
	found := make(map[Key]Row, len(keys))
	result := results.ResultReader()
	for result.NextRow() {
		row, err := t.shape.fields(result.Values())
		if err != nil {
			return err
		}
		k, err := t.shape.KeyOf(row)
		if err != nil {
			return err
		}
		found[k] = row
	}
	if _, err := result.Close(); err != nil {
		return err
	}
	l := t.live
	for _, k := range keys {
		c := t.rows[k]
		if c == nil {
			c = l.add(t, k)
		}
		c.row = found[k]
		c.base, c.known, c.baseKnown = c.row, true, true
		c.batch, c.recent = l.batch, true
		l.weigh(c)
	}
	return nil
}

// queue adds a statement, which the connection plans when it sees it first.
func (l *Live) queue(ctx context.Context, batch *pgconn.Batch, sql string, params [][]byte) error {
	prepared, err := l.conn.Prepare(ctx, sql, sql)
	if err != nil {
		return err
	}
	batch.ExecPrepared(prepared.Name, params, binaryFormat, binaryFormat)
	return nil
}

var binaryFormat = []int16{pgx.BinaryFormatCode}

// keyArrays makes an array of each key column.
func (s *Shape) keyArrays(keys []Key) ([][]byte, error) {
	arrays := make([][]byte, len(s.key))
	for i, place := range s.key {
		arrays[i] = s.columns[place].beginArray(len(keys), 12*len(keys))
	}
	for _, k := range keys {
		values, err := s.Parse(k)
		if err != nil {
			return nil, err
		}
		for i, place := range s.key {
			if arrays[i], err = s.columns[place].appendField(arrays[i], values[i]); err != nil {
				return nil, err
			}
		}
	}
	return arrays, nil
}

// beginArray writes the head of a binary array of n values.
func (c *column) beginArray(n, bytes int) []byte {
	b := make([]byte, 0, 20+bytes)
	b = binary.BigEndian.AppendUint32(b, 1) // dimensions
	b = binary.BigEndian.AppendUint32(b, 1) // it may have NULLs
	b = binary.BigEndian.AppendUint32(b, kinds[c.kind].oid)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return binary.BigEndian.AppendUint32(b, 1) // the first index
}

// Flush writes all changed rows of all tables in one round trip, in key order.
// After an error nothing is taken as written; the transaction is at an end, or
// the caller rolls back to a savepoint. It may be called several times in a
// batch: event by event, to find the one that the database refuses.
func (l *Live) Flush(ctx context.Context) error {
	if l.conn == nil {
		return fmt.Errorf("write rows: no batch is open")
	}
	batch := &pgconn.Batch{}
	var writing []*liveTable // of each statement
	var written, deleted, unchanged int64
	for _, t := range l.tables {
		puts, removes, same := t.changes()
		unchanged += int64(same)
		written, deleted = written+int64(len(puts)), deleted+int64(len(removes))
		for chunk := range slices.Chunk(removes, flushRows) {
			if err := l.queueRemoves(ctx, batch, t, chunk); err != nil {
				return fmt.Errorf("delete rows of table %s: %w", t.shape.table.Name, err)
			}
			writing = append(writing, t)
		}
		for chunk := range slices.Chunk(puts, flushRows) {
			if err := l.queuePuts(ctx, batch, t, chunk); err != nil {
				return fmt.Errorf("write rows of table %s: %w", t.shape.table.Name, err)
			}
			writing = append(writing, t)
		}
	}
	if len(writing) > 0 {
		if err := l.send(ctx, batch, writing); err != nil {
			return err
		}
	}
	for _, t := range l.tables {
		for _, c := range t.dirty {
			if c.known {
				l.note(c)
				c.base, c.baseKnown = c.row, true
			}
		}
		t.clean()
	}
	l.stats.Written += written
	l.stats.Deleted += deleted
	l.stats.Unchanged += unchanged
	return nil
}

// changes sorts out what the database does not have yet, in key order.
func (t *liveTable) changes() (puts, removes []*cached, unchanged int) {
	for _, c := range t.dirty {
		switch {
		case !c.known: // taken back
		case c.baseKnown && Equal(c.base, c.row):
			unchanged++
		case c.row == nil:
			removes = append(removes, c)
		default:
			puts = append(puts, c)
		}
	}
	byKey := func(a, b *cached) int { return strings.Compare(string(a.key), string(b.key)) }
	slices.SortFunc(puts, byKey)
	slices.SortFunc(removes, byKey)
	return puts, removes, unchanged
}

func (l *Live) queueRemoves(ctx context.Context, batch *pgconn.Batch, t *liveTable, rows []*cached) error {
	keys := make([]Key, len(rows))
	for i, c := range rows {
		keys[i] = c.key
	}
	params, err := t.shape.keyArrays(keys)
	if err != nil {
		return err
	}
	return l.queue(ctx, batch, t.sql.remove, params)
}

func (l *Live) queuePuts(ctx context.Context, batch *pgconn.Batch, t *liveTable, rows []*cached) error {
	params := make([][]byte, len(t.shape.columns))
	for i := range t.shape.columns {
		c := &t.shape.columns[i]
		array := c.beginArray(len(rows), 16*len(rows))
		for _, r := range rows {
			var err error
			if array, err = c.appendField(array, r.row[i]); err != nil {
				return fmt.Errorf("column %s: %w", c.name, err)
			}
		}
		params[i] = array
	}
	return l.queue(ctx, batch, t.sql.upsert, params)
}

// send runs the statements and says which table it was that failed.
func (l *Live) send(ctx context.Context, batch *pgconn.Batch, writing []*liveTable) error {
	results := l.conn.PgConn().ExecBatch(ctx, batch)
	for _, t := range writing {
		if !results.NextResult() {
			if err := results.Close(); err != nil {
				return fmt.Errorf("write rows of table %s: %w", t.shape.table.Name, err)
			}
			return fmt.Errorf("write rows of table %s: the server answered too little", t.shape.table.Name)
		}
		if _, err := results.ResultReader().Close(); err != nil {
			results.Close()
			return fmt.Errorf("write rows of table %s: %w", t.shape.table.Name, err)
		}
	}
	if err := results.Close(); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return nil
}
