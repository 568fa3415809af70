package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"banyan/event"
)

var _ Backlog = (*Owner)(nil)

// loadShelves lists all partitions by id, from 1 without a gap.
func loadShelves(ctx context.Context, q querier) ([]*shelf, error) {
	rows, err := q.Query(ctx, `SELECT p.id, p.topic, p.partition, p.seq, a.seq, a."offset", a.twin_seq, a.twin_next
		FROM banyan.partition p JOIN banyan.ack a ON a.part = p.id ORDER BY p.id`)
	if err != nil {
		return nil, fmt.Errorf("read partitions: %w", err)
	}
	shelves, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (*shelf, error) {
		var s shelf
		return &s, r.Scan(&s.id, &s.Topic, &s.Partition, &s.seq, &s.acked, &s.offset, &s.twinSeq, &s.twinNext)
	})
	if err != nil {
		return nil, fmt.Errorf("read partitions: %w", err)
	}
	for i, s := range shelves {
		if int(s.id) != i+1 {
			return nil, fmt.Errorf("read partitions: number %d is %d: the store was changed by hand", i+1, s.id)
		}
	}
	return shelves, nil
}

func (s *shelf) public() Shelf {
	return Shelf{Topic: s.Topic, Partition: s.Partition, Assigned: s.seq, Acked: s.acked, Offset: s.offset, TwinSeq: s.twinSeq, TwinNext: s.twinNext}
}

// Shelves gives all partitions of all topics that the store has seen.
func (o *Owner) Shelves(context.Context) ([]Shelf, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.publicShelves(), nil
}

func (o *Owner) publicShelves() []Shelf {
	all := make([]Shelf, len(o.shelves))
	for i, s := range o.shelves {
		all[i] = s.public()
	}
	return all
}

// Stored gives the events of one partition with a seq above after, in order
// and without a gap: at most count of them, and no more once their Data exceeds
// bytes. It needs no transaction of the owner and waits for none.
func (o *Owner) Stored(ctx context.Context, topic string, partition int, after int64, count, bytes int) ([]event.Event, error) {
	o.mu.Lock()
	shelves := o.topics[topic]
	if partition < 0 || partition >= len(shelves) {
		o.mu.Unlock()
		return nil, fmt.Errorf("read the outbox: topic %s has no partition %d", topic, partition)
	}
	id, last := shelves[partition].id, shelves[partition].seq
	slabs := o.slabs
	o.mu.Unlock()

	var events []event.Event
	for i := range slabs {
		if slabs[i].closed && slabs[i].ends[id] <= after {
			continue
		}
		got, size, err := readSlab(ctx, o.store.pool, &slabs[i], o.source.Name, shelves[partition], after, min(last, after+int64(count)), bytes)
		if err != nil {
			return nil, fmt.Errorf("read the outbox: %w", err)
		}
		for j := range got {
			if after++; got[j].Seq != after {
				return nil, fmt.Errorf("read the outbox: %s/%d has no event %d, the next is %d: the store was changed by hand", topic, partition, after, got[j].Seq)
			}
		}
		events, count, bytes = append(events, got...), count-len(got), bytes-size
		if count <= 0 || bytes <= 0 {
			return events, nil
		}
	}
	if after < last {
		return nil, fmt.Errorf("read the outbox: %s/%d has no event %d of %d: it was published and pruned", topic, partition, after+1, last)
	}
	return events, nil
}

// readSlab reads events of one partition with after < seq <= until.
func readSlab(ctx context.Context, q querier, s *slab, source string, sh *shelf, after, until int64, bytes int) ([]event.Event, int, error) {
	rows, err := q.Query(ctx, `SELECT `+eventColumns+` FROM `+s.table()+` WHERE part = $1 AND seq > $2 AND seq <= $3 ORDER BY seq`, sh.id, after, until)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	var events []event.Event
	size := 0
	for size <= bytes && rows.Next() {
		e, err := scanEvent(rows, source)
		if err != nil {
			return nil, 0, err
		}
		e.Topic, e.Partition = sh.Topic, sh.Partition
		events = append(events, e)
		size += len(e.Data)
	}
	rows.Close()
	return events, size, rows.Err()
}

// scanEvent reads eventColumns; the caller knows the topic.
func scanEvent(row pgx.Row, source string) (event.Event, error) {
	var e event.Event
	var part, generation, snapshot int32
	var lsn, ordinal int64
	var atGeneration, atSnapshot *int32
	var atLSN, atOrdinal *int64
	var cause, trace *string
	if err := row.Scan(&part, &e.Seq, &e.ID.Aggregate, &e.ID.Key, &generation, &lsn, &ordinal, &snapshot,
		&atGeneration, &atLSN, &atOrdinal, &atSnapshot, &e.Type, &e.Version, &e.Time, &e.Rules, &cause, &trace, &e.Writer, &e.Data); err != nil {
		return e, err
	}
	e.ID.Source = source
	e.ID.Position = event.Position{Generation: int(generation), LSN: uint64(lsn), Ordinal: ordinal, Snapshot: int(snapshot)}
	e.Position = e.ID.Position
	if atGeneration != nil && atLSN != nil && atOrdinal != nil && atSnapshot != nil {
		e.Position = event.Position{Generation: int(*atGeneration), LSN: uint64(*atLSN), Ordinal: *atOrdinal, Snapshot: int(*atSnapshot)}
	}
	e.Time = e.Time.UTC()
	if cause != nil {
		e.Cause = *cause
	}
	if trace != nil {
		e.TraceParent = *trace
	}
	return e, nil
}

// Acknowledge stores how far the shelves are published; nothing moves back. It
// is fenced by the epoch (ErrFenced), also where there is nothing to store, and waits
// for no commit.
func (o *Owner) Acknowledge(ctx context.Context, acks []Ack) error {
	n := len(acks)
	ids := make([]int32, n)
	seqs, offsets, twins, nexts := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	o.mu.Lock()
	for i, a := range acks {
		shelves := o.topics[a.Topic]
		if a.Partition < 0 || a.Partition >= len(shelves) || a.Seq > shelves[a.Partition].seq || a.TwinSeq > shelves[a.Partition].seq {
			o.mu.Unlock()
			return fmt.Errorf("acknowledge %s/%d up to %d: the store has assigned no such event", a.Topic, a.Partition, max(a.Seq, a.TwinSeq))
		}
		ids[i], seqs[i], offsets[i], twins[i], nexts[i] = shelves[a.Partition].id, a.Seq, a.Offset, a.TwinSeq, a.TwinNext
	}
	o.mu.Unlock()
	mine, err := o.writeAcks(ctx, ids, seqs, offsets, twins, nexts)
	if err != nil {
		return err
	}
	if !mine {
		o.lose()
		return ErrFenced
	}
	o.mu.Lock()
	for i, a := range acks {
		sh := o.shelves[ids[i]-1]
		if a.Seq > sh.acked {
			sh.acked, sh.offset = a.Seq, a.Offset
		}
		if a.TwinNext > 0 && a.TwinSeq >= sh.twinSeq {
			sh.twinSeq, sh.twinNext = a.TwinSeq, a.TwinNext
		}
	}
	o.mu.Unlock()
	if len(o.droppable()) > 0 {
		o.housekeep(ctx)
	}
	return nil
}

// writeAcks stores acknowledgements while holding the lease's row, which a
// successor must lock before it takes over.
func (o *Owner) writeAcks(ctx context.Context, ids []int32, seqs, offsets, twins, nexts []int64) (mine bool, err error) {
	err = pgx.BeginFunc(ctx, o.store.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT true FROM banyan.lease WHERE epoch = $1 FOR SHARE`, o.epoch).Scan(&mine)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE banyan.ack a SET at = clock_timestamp(),
				seq = greatest(a.seq, r.seq), "offset" = CASE WHEN r.seq > a.seq THEN r.pos ELSE a."offset" END,
				twin_seq = CASE WHEN r.twin_next > 0 THEN greatest(a.twin_seq, r.twin_seq) ELSE a.twin_seq END,
				twin_next = CASE WHEN r.twin_next > 0 AND r.twin_seq >= a.twin_seq THEN r.twin_next ELSE a.twin_next END
			FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) r(part, seq, pos, twin_seq, twin_next)
			WHERE a.part = r.part`, ids, seqs, offsets, twins, nexts)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("acknowledge: %w", err)
	}
	return mine, nil
}

// Frontier gives, of one moment, the position and the last seq of every shelf.
func (o *Owner) Frontier(context.Context) (Frontier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Frontier{
		Generation: o.gen, LSN: o.pos.End, Time: o.pos.Time, Complete: o.complete || o.source.Slot == "",
		Assigned: o.publicShelves(), Parked: o.parkedRev,
	}, nil
}

// ParkedKeys lists the parked keys with the LSN of the first entry of their
// chain. The topic is "" where the aggregate has had no event yet and the rules
// do not tell.
func (o *Owner) ParkedKeys(ctx context.Context) ([]ParkedKey, error) {
	o.mu.Lock()
	none := !o.anyParked
	o.mu.Unlock()
	if none {
		return nil, nil
	}
	rows, err := o.store.pool.Query(ctx, `SELECT DISTINCT ON (p.aggregate, p.key) coalesce(a.topic, ''), p.aggregate, p.key, p.lsn
		FROM banyan.parked p LEFT JOIN banyan.aggregate a ON a.name = p.aggregate ORDER BY p.aggregate, p.key, p.n`)
	if err != nil {
		return nil, fmt.Errorf("list parked keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (k ParkedKey, err error) {
		var lsn int64
		err = r.Scan(&k.Topic, &k.Aggregate, &k.Key, &lsn)
		k.LSN = uint64(lsn)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("list parked keys: %w", err)
	}
	return keys, nil
}

// Budget is the disk that events wait on.
type Budget struct {
	Used int64 `json:"used"` // bytes of slabs that are not dropped yet
	Max  int64 `json:"max"`
	Full bool  `json:"full"` // no commit until some of it is published
}

// Budget tells how much of the disk budget is in use.
func (o *Owner) Budget() Budget {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := Budget{Max: o.store.opts.MaxBytes}
	for i := range o.slabs {
		b.Used += o.slabs[i].bytes
	}
	b.Full = b.Used >= b.Max
	return b
}

// WaitRoom returns once the outbox is not full any more.
func (o *Owner) WaitRoom(ctx context.Context) error {
	for {
		o.mu.Lock()
		room := o.room
		o.mu.Unlock()
		if !o.Budget().Full {
			return nil
		}
		if err := o.retireOpenSlab(ctx); err != nil {
			return err
		}
		select {
		case <-room:
		case <-time.After(o.store.opts.Heartbeat): // acknowledgements reach the open slab unannounced
		case <-o.lost:
			return ErrFenced
		case <-ctx.Done():
			return fmt.Errorf("wait for room in the outbox: %w", context.Cause(ctx))
		}
	}
}

// retireOpenSlab closes the open slab if all in it is published, so that it
// can go: nothing else would, while no commit is made.
func (o *Owner) retireOpenSlab(ctx context.Context) error {
	o.commitMu.Lock()
	defer o.commitMu.Unlock()
	if o.over != nil {
		return o.over
	}
	o.mu.Lock()
	ends := map[int32]int64{}
	for _, sh := range o.shelves {
		ends[sh.id] = sh.seq
	}
	idle := len(o.slabs) > 0 && o.slabs[len(o.slabs)-1].bytes > 0 && o.acknowledged(ends)
	pos := o.pos
	o.mu.Unlock()
	if !idle {
		return nil
	}
	err := o.commit(ctx, pos, pos, func(tx *Tx) error {
		if err := tx.nextSlab(ctx, &tx.events, "event"); err != nil {
			return tx.fail("open a slab", err)
		}
		return nil
	})
	if err != nil && !Retryable(err) {
		return err
	}
	o.housekeep(ctx)
	return nil
}

// undefinedTable reports whether a slab was dropped under a reader.
func undefinedTable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42P01"
}
