package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// slab is one table of events or traces. Slabs are filled in turn; only the
// last of a kind is open.
type slab struct {
	kind   string // "event" or "trace"
	n      int
	opened time.Time
	closed bool
	bytes  int64           // on disk; an estimate while it is open
	ends   map[int32]int64 // once closed: the last seq of each partition then
}

func (s *slab) table() string { return "banyan." + s.kind + "_" + strconv.Itoa(s.n) }

// ddl makes the table of a slab. Values are compressed by nobody twice:
// a trace is compressed already, and an event's value must leave fast.
func (s *slab) ddl() string {
	if s.kind == "trace" {
		return `CREATE TABLE ` + s.table() + ` (
			generation integer NOT NULL, lsn bigint NOT NULL, xid bigint NOT NULL, time timestamptz NOT NULL,
			body bytea NOT NULL);
			CREATE INDEX ON ` + s.table() + ` (generation, lsn);
			ALTER TABLE ` + s.table() + ` ALTER body SET STORAGE EXTERNAL`
	}
	return `CREATE TABLE ` + s.table() + ` (
		part integer NOT NULL, seq bigint NOT NULL,
		aggregate text NOT NULL, key text NOT NULL,
		generation integer NOT NULL, lsn bigint NOT NULL, ordinal bigint NOT NULL, snapshot integer NOT NULL,
		at_generation integer, at_lsn bigint, at_ordinal bigint, at_snapshot integer,
		type text NOT NULL, version integer NOT NULL, time timestamptz NOT NULL, rules integer NOT NULL,
		cause text, traceparent text, writer bigint NOT NULL, data bytea NOT NULL,
		PRIMARY KEY (part, seq));
		ALTER TABLE ` + s.table() + ` ALTER data SET STORAGE EXTERNAL`
}

const (
	eventColumns = `part, seq, aggregate, key, generation, lsn, ordinal, snapshot,
		at_generation, at_lsn, at_ordinal, at_snapshot, type, version, time, rules, cause, traceparent, writer, data`
	eventColumnCount = 20
	// rowOverhead estimates what a row costs on disk beyond its COPY form:
	// tuple header, line pointer and index entry, less the length words.
	rowOverhead = 16
)

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// loadSlabs lists the slabs of one kind in order, with their size on disk.
func loadSlabs(ctx context.Context, q querier, kind string) ([]slab, error) {
	rows, err := q.Query(ctx, `SELECT n, opened, closed IS NOT NULL, parts, seqs,
			CASE WHEN closed IS NULL THEN coalesce(pg_total_relation_size(to_regclass('banyan.' || kind || '_' || n)), 0) ELSE bytes END
		FROM banyan.slab WHERE kind = $1 ORDER BY n`, kind)
	if err != nil {
		return nil, fmt.Errorf("read %s slabs: %w", kind, err)
	}
	slabs, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (slab, error) {
		s := slab{kind: kind}
		var parts []int32
		var seqs []int64
		if err := r.Scan(&s.n, &s.opened, &s.closed, &parts, &seqs, &s.bytes); err != nil {
			return s, err
		}
		s.ends = make(map[int32]int64, len(parts))
		for i, p := range parts {
			s.ends[p] = seqs[i]
		}
		return s, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s slabs: %w", kind, err)
	}
	return slabs, nil
}

// slabTail is a transaction's view of the end of a line of slabs: what was open
// when it began, and what it has opened since.
type slabTail struct {
	slabs   []slab // the last one is open; empty before the first slab ever
	touched bool
}

// writable gives the open slab, after closing a full one.
func (tx *Tx) writable(ctx context.Context, tail *slabTail, kind string) (*slab, error) {
	last := len(tail.slabs) - 1
	if last >= 0 {
		s := &tail.slabs[last]
		full := s.bytes >= tx.o.store.opts.SlabBytes
		if kind == "trace" {
			full = s.bytes >= tx.o.traceSlabBytes() || time.Since(s.opened) > tx.o.store.opts.TraceAge/8
		}
		if !full {
			return s, nil
		}
	}
	if err := tx.nextSlab(ctx, tail, kind); err != nil {
		return nil, err
	}
	return &tail.slabs[len(tail.slabs)-1], nil
}

// nextSlab closes the open slab, if there is one, and opens the next. What was
// put before must have been flushed.
func (tx *Tx) nextSlab(ctx context.Context, tail *slabTail, kind string) error {
	next := slab{kind: kind, n: 1, opened: time.Now(), ends: map[int32]int64{}}
	if last := len(tail.slabs) - 1; last >= 0 {
		s := &tail.slabs[last]
		next.n = s.n + 1
		parts, seqs := []int32{}, []int64{}
		s.ends = map[int32]int64{}
		if kind == "event" {
			for id, seq := range tx.flushedSeqs() {
				parts, seqs = append(parts, id), append(seqs, seq)
				s.ends[id] = seq
			}
		}
		if err := tx.conn.QueryRow(ctx, `UPDATE banyan.slab SET closed = clock_timestamp(), parts = $3, seqs = $4,
			bytes = pg_total_relation_size($5::regclass) WHERE kind = $1 AND n = $2 RETURNING bytes`, kind, s.n, parts, seqs, s.table()).Scan(&s.bytes); err != nil {
			return fmt.Errorf("close slab %s: %w", s.table(), err)
		}
		s.closed = true
	} else if err := tx.conn.QueryRow(ctx, `SELECT coalesce(max(n), 0) + 1 FROM banyan.slab WHERE kind = $1`, kind).Scan(&next.n); err != nil {
		return fmt.Errorf("number the first slab: %w", err)
	}
	if _, err := tx.conn.Exec(ctx, next.ddl()); err != nil {
		return fmt.Errorf("make slab %s: %w", next.table(), err)
	}
	if _, err := tx.conn.Exec(ctx, `INSERT INTO banyan.slab (kind, n) VALUES ($1, $2)`, kind, next.n); err != nil {
		return fmt.Errorf("record slab %s: %w", next.table(), err)
	}
	tail.slabs = append(tail.slabs, next)
	tail.touched = true
	return nil
}

// withTail replaces the open slab of a line by what a commit has made of it.
func withTail(line []slab, tail slabTail) []slab {
	if n := len(line); n > 0 && !line[n-1].closed {
		line = line[:n-1]
	}
	// A new array: readers hold the old one.
	return append(line[:len(line):len(line)], tail.slabs...)
}

// openSlab gives the tail that a transaction starts from.
func openSlab(line []slab) slabTail {
	if n := len(line); n > 0 {
		return slabTail{slabs: []slab{line[n-1]}}
	}
	return slabTail{}
}

func (o *Owner) traceSlabBytes() int64 {
	return max(min(64<<20, o.store.opts.TraceBytes/8), 64<<10)
}

// housekeeping drops, now and then, what nobody needs any more.
func (o *Owner) housekeeping(ctx context.Context) {
	tick := time.NewTicker(o.store.opts.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.lost:
			return
		case <-tick.C:
			o.housekeep(ctx)
		}
	}
}

// housekeep drops what can go now. It runs beside commits; a failure is tried
// again at the next.
func (o *Owner) housekeep(ctx context.Context) {
	o.pruning.Lock()
	defer o.pruning.Unlock()
	for _, s := range o.droppable() {
		if err := dropSlab(ctx, o.store.pool, s); err != nil {
			if ctx.Err() == nil && !lockBusy(err) {
				o.store.opts.Log.Warn("store: prune failed, will try again", "slab", s.table(), "error", err)
			}
			return
		}
		o.mu.Lock()
		line := &o.slabs
		if s.kind == "trace" {
			line = &o.traces
		}
		if len(*line) > 0 && (*line)[0].n == s.n {
			*line = (*line)[1:]
		}
		close(o.room)
		o.room = make(chan struct{})
		o.mu.Unlock()
	}
}

// droppable lists closed slabs from the oldest on: those of events once every
// event in them is acknowledged, those of traces once they are too old or too
// many.
func (o *Owner) droppable() []slab {
	o.mu.Lock()
	defer o.mu.Unlock()
	var drop []slab
	for _, s := range o.slabs {
		if !s.closed || !o.acknowledged(s.ends) {
			break
		}
		drop = append(drop, s)
	}
	var total int64
	for _, s := range o.traces {
		total += s.bytes
	}
	for i, s := range o.traces {
		if !s.closed {
			break
		}
		// The next slab's opening is when this one's last trace was stored.
		old := time.Since(o.traces[i+1].opened) > o.store.opts.TraceAge
		if !old && total <= o.store.opts.TraceBytes {
			break
		}
		total -= s.bytes
		drop = append(drop, s)
	}
	return drop
}

// acknowledged reports whether every seq of ends is published. o.mu is held.
func (o *Owner) acknowledged(ends map[int32]int64) bool {
	for id, seq := range ends {
		sh := o.shelves[id-1]
		if sh.acked < seq || o.store.opts.Twins && sh.twinSeq < seq {
			return false
		}
	}
	return true
}

// dropSlab removes a closed slab. It gives up at once where a reader is in it.
func dropSlab(ctx context.Context, pool *pgxpool.Pool, s slab) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '200ms'`); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM banyan.slab WHERE kind = $1 AND n = $2 AND closed IS NOT NULL`, s.kind, s.n)
		if err != nil {
			return fmt.Errorf("forget slab %s: %w", s.table(), err)
		}
		if tag.RowsAffected() == 0 {
			return nil // somebody else has dropped it
		}
		if _, err := tx.Exec(ctx, `DROP TABLE `+s.table()); err != nil {
			return fmt.Errorf("drop slab %s: %w", s.table(), err)
		}
		return nil
	})
}

func lockBusy(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03"
}
