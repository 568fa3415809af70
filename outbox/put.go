package outbox

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Put adds a step to the transaction. Its events get their Partition, Seq and
// Writer, in place. The bytes of the step belong to the store afterwards.
func (tx *Tx) Put(ctx context.Context, step *event.Step) error {
	for i := range step.Events {
		if err := tx.putEvent(ctx, &step.Events[i]); err != nil {
			return err
		}
	}
	for i := range step.States {
		s := step.States[i]
		tx.states[s.Ref] = s
		tx.bytes += int(cost(s.Ref, s))
	}
	for _, l := range step.Links {
		gone := l.Gone
		l.Gone = false
		tx.links[l] = gone
		tx.bytes += 200
	}
	for i := range step.Parked {
		tx.parked = append(tx.parked, step.Parked[i])
		tx.waiting[step.Parked[i].Ref] = true
		tx.bytes += 300 + len(step.Parked[i].Body)
	}
	for i := range step.Traces {
		tx.putTrace(&step.Traces[i])
	}
	for table, d := range step.Counts {
		c := tx.counts[table]
		c.Add(d)
		tx.counts[table] = c
	}
	if tx.bytes+len(tx.buffer.events.b)+len(tx.buffer.traces.b) > flushBytes {
		return tx.spill(ctx)
	}
	return nil
}

// putEvent numbers one event and writes it into the COPY buffer.
func (tx *Tx) putEvent(ctx context.Context, e *event.Event) error {
	shelves, err := tx.shelvesOf(ctx, e.Topic)
	if err != nil {
		return err
	}
	if name := e.ID.Aggregate; tx.o.aggregate[name] != e.Topic && tx.newAggregates[name] != e.Topic {
		tx.newAggregates[name] = e.Topic
	}
	sh := shelves[PartitionOf(e.ID.Key, len(shelves))]
	e.Partition, e.Seq, e.Writer = sh.Partition, tx.seq(sh)+1, tx.o.epoch
	tx.seqs[sh.id] = e.Seq

	c := &tx.buffer.events
	c.row(eventColumnCount)
	c.int4(sh.id)
	c.int8(e.Seq)
	c.text(e.ID.Aggregate)
	c.text(e.ID.Key)
	c.int4(int32(e.ID.Position.Generation))
	c.int8(int64(e.ID.Position.LSN))
	c.int8(e.ID.Position.Ordinal)
	c.int4(int32(e.ID.Position.Snapshot))
	if e.Position == e.ID.Position {
		c.null()
		c.null()
		c.null()
		c.null()
	} else {
		c.int4(int32(e.Position.Generation))
		c.int8(int64(e.Position.LSN))
		c.int8(e.Position.Ordinal)
		c.int4(int32(e.Position.Snapshot))
	}
	c.text(e.Type)
	c.int4(int32(e.Version))
	c.time(e.Time)
	c.int4(int32(e.Rules))
	c.textOrNull(e.Cause)
	c.textOrNull(e.TraceParent)
	c.int8(e.Writer)
	c.bytes(e.Data)
	return nil
}

func (tx *Tx) putTrace(t *event.Trace) {
	c := &tx.buffer.traces
	c.row(5)
	c.int4(int32(t.Generation))
	c.int8(int64(t.CommitLSN))
	c.int8(int64(t.XID))
	c.time(t.Time)
	c.bytes(t.Body)
}

// seq is the last one assigned in a partition, as of this transaction.
func (tx *Tx) seq(sh *shelf) int64 {
	if seq, ok := tx.seqs[sh.id]; ok {
		return seq
	}
	return sh.seq
}

// flushedSeqs yields, by partition, the last seq whose event is in a slab.
func (tx *Tx) flushedSeqs() iter.Seq2[int32, int64] {
	return func(yield func(int32, int64) bool) {
		for _, line := range [][]*shelf{tx.o.shelves, tx.newShelves} {
			for _, sh := range line {
				seq, ok := tx.flushed[sh.id]
				if !ok {
					seq = sh.seq
				}
				if seq > 0 && !yield(sh.id, seq) {
					return
				}
			}
		}
	}
}

// shelvesOf gives the partitions of a topic, recording a topic that is new.
func (tx *Tx) shelvesOf(ctx context.Context, topic string) ([]*shelf, error) {
	if s, ok := tx.o.topics[topic]; ok {
		return s, nil
	}
	if s, ok := tx.newTopics[topic]; ok {
		return s, nil
	}
	if topic == "" {
		return nil, fmt.Errorf("put an event: it has no topic")
	}
	n := tx.o.store.opts.Partitions
	ids, numbers := make([]int32, n), make([]int32, n)
	shelves := make([]*shelf, n)
	for i := range n {
		ids[i], numbers[i] = int32(len(tx.o.shelves)+len(tx.newShelves)+i+1), int32(i)
		shelves[i] = &shelf{TopicPartition: TopicPartition{topic, i}, id: ids[i]}
	}
	if _, err := tx.conn.Exec(ctx, `WITH t AS (INSERT INTO banyan.topic (name, partitions) VALUES ($1, $2)),
		p AS (INSERT INTO banyan.partition (id, topic, partition) SELECT id, $1, n FROM unnest($3::integer[], $4::integer[]) r(id, n) RETURNING id)
		INSERT INTO banyan.ack (part, seq, "offset") SELECT id, 0, 0 FROM p`, topic, n, ids, numbers); err != nil {
		return nil, tx.fail("record topic "+topic, err)
	}
	tx.newTopics[topic] = shelves
	tx.newShelves = append(tx.newShelves, shelves...)
	return shelves, nil
}

// spill writes what waits in memory to the database, so that memory stays
// bounded and queries see it.
func (tx *Tx) spill(ctx context.Context) error {
	if len(tx.states) > 0 {
		tx.spilled = true
		clear(tx.fetched)
	}
	if err := tx.flush(ctx, false); err != nil {
		return err
	}
	clear(tx.states)
	clear(tx.links)
	clear(tx.counts)
	clear(tx.waiting)
	tx.parked = tx.parked[:0]
	tx.bytes = 0
	return nil
}

// flush writes what waits; the last one commits.
func (tx *Tx) flush(ctx context.Context, last bool) error {
	if err := tx.copyEvents(ctx); err != nil {
		return tx.fail("store events", err)
	}
	if err := tx.copyTraces(ctx); err != nil {
		return tx.fail("store provenance", err)
	}
	b := &pgx.Batch{}
	tx.queueStates(b)
	tx.queueLinks(b)
	tx.queueCounts(b)
	tx.queueParked(b)
	tx.queueSeqs(b)
	if last {
		b.Queue(`commit`)
	}
	if b.Len() == 0 {
		return nil
	}
	tx.sent = last
	br := tx.conn.SendBatch(ctx, b)
	var err error
	for range b.Len() {
		tag, e := br.Exec()
		if e != nil {
			err = e
			break
		}
		if tag.String() == "ROLLBACK" {
			err = fmt.Errorf("the store rolled back")
		}
	}
	if e := br.Close(); err == nil {
		err = e
	}
	if err != nil {
		return tx.fail("write", err)
	}
	return nil
}

func (tx *Tx) copyEvents(ctx context.Context) error {
	c := &tx.buffer.events
	if c.rows == 0 {
		return nil
	}
	s, err := tx.writable(ctx, &tx.events, "event")
	if err != nil {
		return err
	}
	size := int64(len(c.b) + c.rows*rowOverhead)
	if err := c.copyTo(ctx, tx.conn.PgConn(), s.table()); err != nil {
		return err
	}
	s.bytes += size
	tx.events.touched = true
	maps.Copy(tx.flushed, tx.seqs)
	return nil
}

func (tx *Tx) copyTraces(ctx context.Context) error {
	c := &tx.buffer.traces
	if c.rows == 0 {
		return nil
	}
	s, err := tx.writable(ctx, &tx.traces, "trace")
	if err != nil {
		return err
	}
	size := int64(len(c.b) + c.rows*rowOverhead)
	if err := c.copyTo(ctx, tx.conn.PgConn(), s.table()); err != nil {
		return err
	}
	s.bytes += size
	tx.traces.touched = true
	return nil
}

func (tx *Tx) queueStates(b *pgx.Batch) {
	if len(tx.states) == 0 {
		return
	}
	n := len(tx.states)
	aggregates, keys, events := make([]string, 0, n), make([]string, 0, n), make([]string, 0, n)
	bodies, rules, snapshots := make([][]byte, 0, n), make([]int32, 0, n), make([]int32, 0, n)
	var goneAggregates, goneKeys []string
	for _, ref := range sortedRefs(tx.states) {
		s := tx.states[ref]
		if s.Body == nil {
			goneAggregates, goneKeys = append(goneAggregates, ref.Aggregate), append(goneKeys, ref.Key)
			continue
		}
		aggregates, keys, events = append(aggregates, ref.Aggregate), append(keys, ref.Key), append(events, s.Event)
		bodies, rules, snapshots = append(bodies, s.Body), append(rules, int32(s.Rules)), append(snapshots, int32(s.Snapshot))
	}
	if len(keys) > 0 {
		b.Queue(`INSERT INTO banyan.state (aggregate, key, body, rules, event, snapshot)
			SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::integer[], $5::text[], $6::integer[])
			ON CONFLICT (aggregate, key) DO UPDATE SET body = excluded.body, rules = excluded.rules,
				event = excluded.event, snapshot = excluded.snapshot`, aggregates, keys, bodies, rules, events, snapshots)
	}
	if len(goneKeys) > 0 {
		b.Queue(`DELETE FROM banyan.state s USING unnest($1::text[], $2::text[]) r(aggregate, key)
			WHERE s.aggregate = r.aggregate AND s.key = r.key`, goneAggregates, goneKeys)
	}
}

// sortedRefs gives the keys in the order of the index: neighbours are written
// one after the other.
func sortedRefs(states map[event.Ref]event.State) []event.Ref {
	refs := slices.Collect(maps.Keys(states))
	slices.SortFunc(refs, func(a, b event.Ref) int {
		if c := strings.Compare(a.Aggregate, b.Aggregate); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return refs
}

func (tx *Tx) queueLinks(b *pgx.Batch) {
	var here, gone [4][]string
	for l, removed := range tx.links {
		to := &here
		if removed {
			to = &gone
		}
		for i, v := range []string{l.Table, l.RowRef.Key, l.Aggregate, l.Ref.Key} {
			to[i] = append(to[i], v)
		}
	}
	if len(gone[0]) > 0 {
		b.Queue(`DELETE FROM banyan.link l USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) r(tbl, row_key, aggregate, key)
			WHERE l.tbl = r.tbl AND l.row_key = r.row_key AND l.aggregate = r.aggregate AND l.key = r.key`, gone[0], gone[1], gone[2], gone[3])
	}
	if len(here[0]) > 0 {
		b.Queue(`INSERT INTO banyan.link (tbl, row_key, aggregate, key) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
			ON CONFLICT DO NOTHING`, here[0], here[1], here[2], here[3])
	}
}

func (tx *Tx) queueCounts(b *pgx.Batch) {
	for table, c := range tx.counts {
		b.Queue(`INSERT INTO banyan.count AS c (tbl, changes, parked, discarded, used, absorbed, ignored) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (tbl) DO UPDATE SET changes = c.changes + excluded.changes, parked = c.parked + excluded.parked,
				discarded = c.discarded + excluded.discarded, used = c.used + excluded.used,
				absorbed = c.absorbed + excluded.absorbed, ignored = c.ignored + excluded.ignored`,
			table, c.Changes, c.Parked, c.Discarded, c.Used, c.Absorbed, c.Ignored)
	}
}

func (tx *Tx) queueParked(b *pgx.Batch) {
	for i := range tx.parked {
		p := &tx.parked[i]
		counts := p.Counts
		if counts == nil {
			counts = map[string]int64{}
		}
		b.Queue(`INSERT INTO banyan.parked (aggregate, key, n, generation, lsn, ordinal, snapshot, end_lsn, reason, detail, body, counts)
			VALUES ($1, $2, coalesce((SELECT max(n) FROM banyan.parked WHERE aggregate = $1 AND key = $2), 0) + 1,
				$3, $4, $5, $6, $7, $8, $9, coalesce($10::bytea, ''), $11)`,
			p.Aggregate, p.Key, p.Position.Generation, int64(p.Position.LSN), p.Position.Ordinal, p.Position.Snapshot,
			int64(p.EndLSN), printable(p.Reason), printable(p.Detail), p.Body, counts)
		tx.anyParked, tx.parkedChanged = true, true
	}
}

// printable makes a text that Postgres takes.
func printable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "?")
}

func (tx *Tx) queueSeqs(b *pgx.Batch) {
	if len(tx.seqs) > 0 {
		ids, seqs := make([]int32, 0, len(tx.seqs)), make([]int64, 0, len(tx.seqs))
		for id, seq := range tx.seqs {
			ids, seqs = append(ids, id), append(seqs, seq)
		}
		b.Queue(`UPDATE banyan.partition p SET seq = r.seq FROM unnest($1::integer[], $2::bigint[]) r(id, seq) WHERE p.id = r.id`, ids, seqs)
	}
	for name, topic := range tx.newAggregates {
		b.Queue(`INSERT INTO banyan.aggregate (name, topic) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET topic = excluded.topic`, name, topic)
	}
}
