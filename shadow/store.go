package shadow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"banyan/compare"
	"banyan/projections/control"
)

// Kinds of rows in the table state. Those of a currency have it behind a slash.
const (
	rowBatch   = "batch" // the number of the last batch: whoever writes must have read it
	rowLedger  = "ledger"
	rowBook    = "book"
	rowCluster = "cluster"
	rowProduct = "product"
	rowMove    = "move"
	rowDay     = "day"
	rowKnown   = "known" // what is known of a product
	rowNoise   = "noise" // the last control against control
)

// DB is what rows are read through: a pool, a connection or a transaction.
type DB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ledgerRow is the row of what is not of one currency.
type ledgerRow struct {
	Ledger  *compare.Ledger `json:"ledger"`
	Last    lastEvent       `json:"last"`
	Group   control.Mark    `json:"group"`
	Pending []change        `json:"pending,omitempty"`
	// Sample is the smallest sample that was compared, of 10,000, and Largest the
	// largest.
	Sample     int64               `json:"sample"`
	Largest    int64               `json:"largest"`
	Candidate  compare.Candidate   `json:"candidate"`
	Operations *compare.Operations `json:"operations,omitempty"`
	// Builds of the candidate that have answered, in their order.
	Builds []string `json:"builds,omitempty"`
}

func table(schema, name string) string { return pgx.Identifier{schema, name}.Sanitize() }

// readBatch gives the number of the last batch that was written and its stamp, 0 for
// none.
func readBatch(ctx context.Context, db DB, schema string) (number int64, stamp string, err error) {
	var data []byte
	err = db.QueryRow(ctx, `SELECT data FROM `+table(schema, tableState)+` WHERE kind = $1`, rowBatch).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", nil
	}
	if err == nil {
		number, stamp, err = cutBatch(data)
	}
	if err != nil {
		return 0, "", fmt.Errorf("read where the shadow's state is: %w", err)
	}
	return number, stamp, nil
}

// batchRow names a batch: its number, and a stamp that no other attempt at it has.
func batchRow(number int64, stamp string) []byte {
	return []byte(strconv.FormatInt(number, 10) + " " + stamp)
}

func cutBatch(row []byte) (number int64, stamp string, err error) {
	text, stamp, _ := strings.Cut(string(row), " ")
	number, err = strconv.ParseInt(text, 10, 64)
	return number, stamp, err
}

// load makes memory of the rows.
func (c *Comparator) load(ctx context.Context) error {
	c.number, c.stamp = -1, ""
	s := newCore(c.opts)
	st, err := readState(ctx, c.pool, c.schema)
	if err != nil {
		return err
	}
	s.ledger = st.ledger
	s.world = st.world
	if c.opts.Journal {
		s.done = c.entry
	}
	c.core, c.last, c.stamp, c.builds = s, st.row.Last, st.stamp, st.row.Builds
	c.lowest, c.largest = st.row.Sample, st.row.Largest
	return nil
}

// stored is what the rows of a shadow say.
type stored struct {
	number int64
	stamp  string
	ledger *compare.Ledger
	world  *World
	row    ledgerRow
	noise  *compare.Noise
}

// readState reads all rows.
func readState(ctx context.Context, db DB, schema string) (*stored, error) {
	st := &stored{ledger: compare.NewLedger(), world: newWorld()}
	rows, err := db.Query(ctx, `SELECT kind, key, data FROM `+table(schema, tableState))
	if err != nil {
		return nil, fmt.Errorf("read the shadow's state: %w", err)
	}
	defer rows.Close()
	books := map[string]*compare.Book{}
	for rows.Next() {
		var kind string
		var key, data []byte
		if err := rows.Scan(&kind, &key, &data); err != nil {
			return nil, fmt.Errorf("read the shadow's state: %w", err)
		}
		if err := st.take(kind, string(key), data, books); err != nil {
			return nil, fmt.Errorf("read the shadow's state: row %s %q: %w", kind, key, err)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the shadow's state: %w", err)
	}
	if st.row.Ledger != nil {
		st.ledger = st.row.Ledger
		if st.ledger.Excluded == nil {
			st.ledger.Excluded = map[compare.Reason]int64{}
		}
	}
	st.ledger.Books = books
	for currency, b := range books {
		b.Currency = currency
		b.Fill()
	}
	st.world.group, st.world.pending = st.row.Group, st.row.Pending
	return st, nil
}

// take reads one row.
func (st *stored) take(kind, key string, data []byte, books map[string]*compare.Book) (err error) {
	kind, currency := cutKind(kind)
	book := func() *compare.Book {
		b := books[currency]
		if b == nil {
			b = &compare.Book{}
			b.Fill()
			books[currency] = b
		}
		return b
	}
	switch kind {
	case rowBatch:
		st.number, st.stamp, err = cutBatch(data)
	case rowLedger:
		err = json.Unmarshal(data, &st.row)
	case rowNoise:
		err = json.Unmarshal(data, &st.noise)
	case rowBook:
		err = json.Unmarshal(data, book())
	case rowCluster:
		err = into(book().Clusters, key, data)
	case rowProduct:
		err = into(book().Products, key, data)
	case rowMove, rowDay:
		var n int64
		if n, err = strconv.ParseInt(key, 10, 64); err != nil {
			return err
		}
		if kind == rowMove {
			return into(book().Moves, n, data)
		}
		err = into(book().Days, int32(n), data)
	case rowKnown:
		p := st.world.product(key)
		if err = json.Unmarshal(data, p); err == nil {
			p.know()
		}
	default:
		err = errors.New("a later version wrote it; use that one")
	}
	return err
}

func cutKind(kind string) (name, currency string) {
	for i := range len(kind) {
		if kind[i] == '/' {
			return kind[:i], kind[i+1:]
		}
	}
	return kind, ""
}

func into[K comparable, V any](m map[K]*V, key K, data []byte) error {
	v := new(V)
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	m[key] = v
	return nil
}

// save writes what has changed. The first statement is for the case that the fence
// did not see: two that have the same partitions and other states.
func (c *Comparator) save(ctx context.Context, tx pgx.Tx) error {
	s := c.core
	sql := `INSERT INTO ` + tableState + ` (kind, key, data) VALUES ($1, '', $2)`
	args := []any{rowBatch, batchRow(c.number, c.stamp)}
	if c.number > 1 {
		sql = `UPDATE ` + tableState + ` SET data = $2 WHERE kind = $1 AND data = $3`
		args = append(args, batchRow(c.number-1, c.before))
	}
	if tag, err := tx.Exec(ctx, sql, args...); err != nil || tag.RowsAffected() != 1 {
		return errors.Join(fmt.Errorf("the state is not at batch %d, on which batch %d rests", c.number-1, c.number), err)
	}
	rows := &c.rows
	rows.reset()
	rows.put(rowLedger, "", c.row())
	for _, currency := range s.ledger.Currencies() {
		b := s.ledger.Books[currency]
		rows.put(rowBook+"/"+currency, "", b)
		rows.changes(b, currency)
	}
	for _, p := range s.world.takeChanged() {
		rows.end(appendProductRow(rows.begin(rowKnown, p.key), p))
	}
	columns, err := rows.done()
	if err != nil {
		return err
	}
	inBinary := []int16{pgx.BinaryFormatCode}
	if _, err := tx.Conn().PgConn().ExecParams(ctx, `INSERT INTO `+tableState+` (kind, key, data) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[])
		ON CONFLICT (kind, key) DO UPDATE SET data = excluded.data`, columns, nil, inBinary, nil).Close(); err != nil {
		return fmt.Errorf("write the shadow's state: %w", err)
	}
	return c.saveJournal(ctx, tx)
}

// row is what is not of one currency.
func (c *Comparator) row() ledgerRow {
	s := c.core
	r := ledgerRow{Ledger: s.ledger, Last: c.last, Group: s.world.group, Pending: s.world.pending, Sample: s.sample, Candidate: c.who.Who}
	r.Largest = max(r.Sample, c.largest)
	if c.lowest > 0 {
		r.Sample = min(r.Sample, c.lowest)
	}
	c.lowest, c.largest = r.Sample, r.Largest
	if c.who.Named != nil {
		name, builds := c.who.Named()
		for _, b := range builds {
			if !slices.Contains(c.builds, b) {
				c.builds = append(c.builds, b)
			}
		}
		r.Candidate.Name = cmp.Or(name, r.Candidate.Name)
		r.Candidate.Build = strings.Join(c.builds, ", ")
		r.Builds = c.builds
	}
	if c.who.Operations != nil {
		r.Operations = c.who.Operations()
		r.Operations.Sampled = float64(r.Sample) / 100
	}
	return r
}

func (c *Comparator) saveJournal(ctx context.Context, tx pgx.Tx) error {
	if len(c.journal) == 0 {
		return nil
	}
	_, err := tx.Conn().CopyFrom(ctx, pgx.Identifier{tableJournal}, []string{"part", "off", "data"},
		pgx.CopyFromSlice(len(c.journal), func(i int) ([]any, error) {
			r := &c.journal[i]
			return []any{int32(r.part), r.offset, c.entries[r.from:r.end]}, nil
		}))
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}
