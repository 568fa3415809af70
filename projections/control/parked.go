package control

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Chain sums up a parked chain: how far it reaches and why it began.
type Chain struct {
	event.Ref
	Version int
	PartID
	Events int64
	Reason string         // of its first event
	First  string         // id of its first event
	Type   string         // of its first event
	Since  time.Time      // when it was parked
	From   event.Position // of its first event
	Until  event.Position // of its last
}

// Park puts events at the end of the chains of their keys, in the order given.
func (s *Store) Park(ctx context.Context, tx pgx.Tx, events []ParkedEvent) error {
	b := &pgx.Batch{}
	for i := range events {
		e := &events[i]
		names, values := make([]string, len(e.Record.Headers)), make([][]byte, len(e.Record.Headers))
		for j, h := range e.Record.Headers {
			names[j], values[j] = h.Key, h.Value
		}
		b.Queue(`INSERT INTO banyan.parked (projection, version, aggregate, key, topic, part, "offset", seq, generation, lsn, ordinal, snapshot,
				event, type, reason, record_key, record_value, record_time, header_names, header_values)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`,
			e.Projection, e.Version, e.Aggregate, e.Key, e.Topic, e.Part, e.Offset, e.Seq,
			e.Position.Generation, int64(e.Position.LSN), e.Position.Ordinal, e.Position.Snapshot,
			e.ID, e.Type, e.Reason, e.Record.Key, e.Record.Value, orNull(e.Record.Time), names, values)
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("park %d events: %w", len(events), err)
	}
	return nil
}

// Chains lists the parked chains of a version, the oldest first.
func (s *Store) Chains(ctx context.Context, db DB, projection string, version int) ([]Chain, error) {
	rows, err := db.Query(ctx, `SELECT c.aggregate, c.key, f.topic, f.part, c.events, f.reason, f.event, f.type, f.parked_at,
			f.generation, f.lsn, f.ordinal, f.snapshot, l.generation, l.lsn, l.ordinal, l.snapshot
		FROM (SELECT aggregate, key, count(*) AS events, min(id) AS first, max(id) AS last FROM banyan.parked
			WHERE projection = $1 AND version = $2 GROUP BY aggregate, key) c
		JOIN banyan.parked f ON f.projection = $1 AND f.version = $2 AND f.aggregate = c.aggregate AND f.key = c.key AND f.id = c.first
		JOIN banyan.parked l ON l.projection = $1 AND l.version = $2 AND l.aggregate = c.aggregate AND l.key = c.key AND l.id = c.last
		ORDER BY c.first`, projection, version)
	if err == nil {
		var all []Chain
		all, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (c Chain, err error) {
			var from, until int64
			err = r.Scan(&c.Aggregate, &c.Key, &c.Topic, &c.Part, &c.Events, &c.Reason, &c.First, &c.Type, &c.Since,
				&c.From.Generation, &from, &c.From.Ordinal, &c.From.Snapshot, &c.Until.Generation, &until, &c.Until.Ordinal, &c.Until.Snapshot)
			c.From.LSN, c.Until.LSN, c.Since, c.Version = uint64(from), uint64(until), c.Since.UTC(), version
			return c, err
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("list the parked chains of version %d of %s: %w", version, projection, err)
}

// Chain gives the events of one chain in order, at most limit (0: all); none
// where the key is not parked.
func (s *Store) Chain(ctx context.Context, db DB, projection string, version int, ref event.Ref, limit int) ([]ParkedEvent, error) {
	rows, err := db.Query(ctx, `SELECT topic, part, "offset", seq, generation, lsn, ordinal, snapshot, event, type, reason,
			record_key, record_value, record_time, header_names, header_values, parked_at
		FROM banyan.parked WHERE projection = $1 AND version = $2 AND aggregate = $3 AND key = $4
		ORDER BY id LIMIT nullif($5, 0)`, projection, version, ref.Aggregate, ref.Key, limit)
	if err == nil {
		var all []ParkedEvent
		all, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (ParkedEvent, error) {
			return scanParked(r, ParkedEvent{Projection: projection, Version: version, Ref: ref})
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("read the parked chain of %s/%s: %w", ref.Aggregate, ref.Key, err)
}

func scanParked(r pgx.CollectableRow, e ParkedEvent) (ParkedEvent, error) {
	var lsn int64
	var at *time.Time
	var names []string
	var values [][]byte
	if err := r.Scan(&e.Topic, &e.Part, &e.Offset, &e.Seq, &e.Position.Generation, &lsn, &e.Position.Ordinal, &e.Position.Snapshot,
		&e.ID, &e.Type, &e.Reason, &e.Record.Key, &e.Record.Value, &at, &names, &values, &e.ParkedAt); err != nil {
		return e, err
	}
	if len(names) != len(values) {
		return e, fmt.Errorf("event %s has %d header names and %d values", e.ID, len(names), len(values))
	}
	e.Position.LSN, e.ParkedAt = uint64(lsn), e.ParkedAt.UTC()
	e.Record.Time, e.Record.Partition, e.Record.Offset = utc(at), e.Part, e.Offset
	for i, name := range names {
		e.Record.Headers = append(e.Record.Headers, event.Header{Key: name, Value: values[i]})
	}
	return e, nil
}

// Unpark removes the whole chain of a key and gives the number of its events.
func (s *Store) Unpark(ctx context.Context, tx pgx.Tx, projection string, version int, ref event.Ref) (int64, error) {
	tag, err := tx.Exec(ctx, `DELETE FROM banyan.parked WHERE projection = $1 AND version = $2 AND aggregate = $3 AND key = $4`,
		projection, version, ref.Aggregate, ref.Key)
	if err != nil {
		return 0, fmt.Errorf("remove the parked chain of %s/%s: %w", ref.Aggregate, ref.Key, err)
	}
	return tag.RowsAffected(), nil
}

// ParkedRefs gives the parked keys of partitions, which an owner must know
// before its first batch.
func (s *Store) ParkedRefs(ctx context.Context, db DB, projection string, version int, ids []PartID) (map[PartID][]event.Ref, error) {
	topics, parts := arrays(ids)
	refs := map[PartID][]event.Ref{}
	rows, err := db.Query(ctx, `SELECT DISTINCT topic, part, aggregate, key FROM banyan.parked
		WHERE projection = $1 AND version = $2 AND (topic, part) IN (SELECT * FROM unnest($3::text[], $4::integer[]))
		ORDER BY 1, 2, 3, 4`, projection, version, topics, parts)
	if err == nil {
		var id PartID
		var ref event.Ref
		_, err = pgx.ForEachRow(rows, []any{&id.Topic, &id.Part, &ref.Aggregate, &ref.Key}, func() error {
			refs[id] = append(refs[id], ref)
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the parked keys of version %d of %s: %w", version, projection, err)
	}
	return refs, nil
}

// Fate is what became of a parked event.
type Fate string

// Fates of a parked event.
const (
	Released  Fate = "released"
	Discarded Fate = "discarded"
)

// Settled says that a parked event was released, right after the position At in
// the order, or discarded. A replay repeats it there.
type Settled struct {
	event.Ref
	PartID
	Offset, Seq int64
	ID          string // of the event
	Fate        Fate
	At          event.Position
}

// Settle records what became of parked events, in the order in which they were
// applied, and makes the transaction's commit synchronous: no offset would tell
// that a crash took it back.
func (s *Store) Settle(ctx context.Context, tx pgx.Tx, projection string, version int, settled []Settled) error {
	if err := durable(ctx, tx); err != nil {
		return err
	}
	b := &pgx.Batch{}
	for _, e := range settled {
		b.Queue(`INSERT INTO banyan.settled (projection, version, aggregate, key, topic, part, "offset", seq, event, fate, generation, lsn, ordinal, snapshot)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`, projection, version, e.Aggregate, e.Key, e.Topic, e.Part, e.Offset, e.Seq,
			e.ID, e.Fate, e.At.Generation, int64(e.At.LSN), e.At.Ordinal, e.At.Snapshot)
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("record what became of %d parked events: %w", len(settled), err)
	}
	return nil
}

// Settlements gives them back, in that order.
func (s *Store) Settlements(ctx context.Context, db DB, projection string, version int) ([]Settled, error) {
	rows, err := db.Query(ctx, `SELECT aggregate, key, topic, part, "offset", seq, event, fate, generation, lsn, ordinal, snapshot
		FROM banyan.settled WHERE projection = $1 AND version = $2 ORDER BY id`, projection, version)
	if err == nil {
		var all []Settled
		all, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (e Settled, err error) {
			var lsn int64
			err = r.Scan(&e.Aggregate, &e.Key, &e.Topic, &e.Part, &e.Offset, &e.Seq, &e.ID, &e.Fate,
				&e.At.Generation, &lsn, &e.At.Ordinal, &e.At.Snapshot)
			e.At.LSN = uint64(lsn)
			return e, err
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("read what became of parked events of version %d of %s: %w", version, projection, err)
}
