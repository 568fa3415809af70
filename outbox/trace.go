package outbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

const traceColumns = `generation, lsn, xid, time, body`

func scanTrace(row pgx.Row) (t event.Trace, err error) {
	var lsn, xid int64
	err = row.Scan(&t.Generation, &lsn, &xid, &t.Time, &t.Body)
	t.CommitLSN, t.XID, t.Time = uint64(lsn), uint32(xid), t.Time.UTC()
	return t, err
}

// Trace returns the provenance of one source transaction, or ErrNotFound where
// there is none, or none any more. Where several were stored for the same
// position (the ranges of a snapshot share one) it is one of them.
func (s *Store) Trace(ctx context.Context, generation int, commitLSN uint64) (event.Trace, error) {
	all, err := s.TracesAt(ctx, generation, commitLSN)
	if err != nil {
		return event.Trace{}, err
	}
	if len(all) == 0 {
		return event.Trace{}, fmt.Errorf("provenance of %s: %w", lsnText(commitLSN), ErrNotFound)
	}
	return all[0], nil
}

// TracesAt returns all provenance that is kept for one position, in no order.
func (s *Store) TracesAt(ctx context.Context, generation int, commitLSN uint64) ([]event.Trace, error) {
	slabs, err := loadSlabs(ctx, s.pool, "trace")
	if err != nil {
		return nil, err
	}
	var all []event.Trace
	for i := len(slabs) - 1; i >= 0; i-- {
		rows, err := s.pool.Query(ctx, `SELECT `+traceColumns+` FROM `+slabs[i].table()+` WHERE generation = $1 AND lsn = $2`, generation, int64(commitLSN))
		var found []event.Trace
		if err == nil {
			found, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (event.Trace, error) { return scanTrace(r) })
		}
		if err != nil && !undefinedTable(err) { // pruned meanwhile
			return nil, fmt.Errorf("read provenance: %w", err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// Traces yields the provenance that is kept, the newest position first, in
// pages of which it holds one.
func (s *Store) Traces(ctx context.Context) iter.Seq2[event.Trace, error] {
	return func(yield func(event.Trace, error) bool) {
		slabs, err := loadSlabs(ctx, s.pool, "trace")
		if err != nil {
			yield(event.Trace{}, err)
			return
		}
		for i := len(slabs) - 1; i >= 0; i-- {
			if !s.slabTraces(ctx, &slabs[i], yield) {
				return
			}
		}
	}
}

// slabTraces yields one slab, and reports whether to go on. Pages end at a row
// of the table, since several rows may share a position.
func (s *Store) slabTraces(ctx context.Context, sl *slab, yield func(event.Trace, error) bool) bool {
	const page = 200
	generation, lsn, row := int32(1<<31-1), int64(0), "(0,0)"
	for {
		rows, err := s.pool.Query(ctx, `SELECT `+traceColumns+`, t.ctid::text AS place FROM `+sl.table()+` t WHERE (generation, lsn, t.ctid) < ($1, $2, $3::text::tid)
			ORDER BY generation DESC, lsn DESC, t.ctid DESC LIMIT $4`, generation, lsn, row, page)
		var traces []event.Trace
		if err == nil {
			traces, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (t event.Trace, err error) {
				var xid int64
				err = r.Scan(&t.Generation, &lsn, &xid, &t.Time, &t.Body, &row)
				t.CommitLSN, t.XID, t.Time = uint64(lsn), uint32(xid), t.Time.UTC()
				return t, err
			})
		}
		if undefinedTable(err) {
			return true // pruned meanwhile
		}
		if err != nil {
			yield(event.Trace{}, fmt.Errorf("read provenance: %w", err))
			return false
		}
		for _, t := range traces {
			if !yield(t, nil) {
				return false
			}
			generation = int32(t.Generation)
		}
		if len(traces) < page {
			return true
		}
	}
}

// TraceExtent says how far back provenance reaches.
type TraceExtent struct {
	Since time.Time `json:"since,omitzero"` // when its oldest part was begun
	Bytes int64     `json:"bytes"`
}

// Event returns a stored event by its id, or ErrNotFound once it is published
// and pruned: then it is to be read from its topic.
func (s *Store) Event(ctx context.Context, id event.ID) (event.Event, error) {
	if sent, err := s.sourceName(ctx); err != nil || sent != id.Source {
		return event.Event{}, errors.Join(err, fmt.Errorf("event %s: %w", id, ErrNotFound))
	}
	shelves, err := loadShelves(ctx, s.pool)
	if err != nil {
		return event.Event{}, err
	}
	partitions := map[string]int{}
	for _, sh := range shelves {
		partitions[sh.Topic]++
	}
	var parts []int32
	for _, sh := range shelves {
		if PartitionOf(id.Key, partitions[sh.Topic]) == sh.Partition {
			parts = append(parts, sh.id)
		}
	}
	slabs, err := loadSlabs(ctx, s.pool, "event")
	if err != nil {
		return event.Event{}, err
	}
	p := id.Position
	for i := len(slabs) - 1; i >= 0; i-- {
		var part int32
		var seq int64
		err := s.pool.QueryRow(ctx, `SELECT part, seq FROM `+slabs[i].table()+` WHERE part = ANY ($1) AND lsn = $2 AND ordinal = $3
			AND snapshot = $4 AND generation = $5 AND aggregate = $6 AND key = $7`, parts, int64(p.LSN), p.Ordinal, p.Snapshot, p.Generation, id.Aggregate, id.Key).Scan(&part, &seq)
		if err == nil {
			var e []event.Event
			if e, _, err = readSlab(ctx, s.pool, &slabs[i], id.Source, shelves[part-1], seq-1, seq, 0); err == nil && len(e) == 1 {
				return e[0], nil
			}
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) && !undefinedTable(err) {
			return event.Event{}, fmt.Errorf("read event %s: %w", id, err)
		}
	}
	return event.Event{}, fmt.Errorf("event %s: %w", id, ErrNotFound)
}

func (s *Store) sourceName(ctx context.Context) (name string, err error) {
	err = s.pool.QueryRow(ctx, `SELECT name FROM banyan.source`).Scan(&name)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("read the source: %w", err)
	}
	return name, nil
}

// LastSeqs returns the last seq assigned in every partition.
func (s *Store) LastSeqs(ctx context.Context) (map[TopicPartition]int64, error) {
	shelves, err := loadShelves(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	last := make(map[TopicPartition]int64, len(shelves))
	for _, sh := range shelves {
		last[sh.TopicPartition] = sh.seq
	}
	return last, nil
}

// States reads what the store keeps of aggregates, without an owner. One that
// is unknown or gone is not in the map.
func (s *Store) States(ctx context.Context, refs []event.Ref) (map[event.Ref]event.State, error) {
	aggregates, keys := make([]string, len(refs)), make([]string, len(refs))
	for i, r := range refs {
		aggregates[i], keys[i] = r.Aggregate, r.Key
	}
	rows, err := s.pool.Query(ctx, `SELECT s.aggregate, s.key, s.body, s.rules, s.event, s.snapshot
		FROM unnest($1::text[], $2::text[]) r(aggregate, key) JOIN banyan.state s USING (aggregate, key)`, aggregates, keys)
	if err != nil {
		return nil, fmt.Errorf("read states: %w", err)
	}
	found := make(map[event.Ref]event.State, len(refs))
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (st event.State, err error) {
		return st, r.Scan(&st.Aggregate, &st.Key, &st.Body, &st.Rules, &st.Event, &st.Snapshot)
	})
	if err != nil {
		return nil, fmt.Errorf("read states: %w", err)
	}
	for _, st := range list {
		found[st.Ref] = st
	}
	return found, nil
}
