package outbox

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Status is what the store knows of itself, read in one moment.
type Status struct {
	Source     string         `json:"source"` // "" before the first owner
	Generation int            `json:"generation"`
	Owner      Holder         `json:"owner"`
	Position   StatusPosition `json:"position"`
	Outbox     StatusOutbox   `json:"outbox"`
	Topics     []TopicStatus  `json:"topics"`
	Parked     []ParkedCount  `json:"parked"`
	ParkedKeys int64          `json:"parked_keys"`
	Tables     []TableCounts  `json:"tables"`
	Snapshot   *Snapshot      `json:"snapshot,omitempty"` // the newest
	Rules      *RuleSet       `json:"rules,omitempty"`    // the current ones
	Traces     TraceExtent    `json:"traces"`
	Requests   int64          `json:"requests"` // pending
	Appended   int64          `json:"appended"` // rows of Append that have no seq yet
}

// StatusPosition is the position of the store in the source.
type StatusPosition struct {
	CommitLSN string    `json:"commit_lsn"`
	EndLSN    string    `json:"end_lsn"`
	Time      time.Time `json:"time,omitzero"`
}

// StatusOutbox is what waits for the broker.
type StatusOutbox struct {
	Events int64     `json:"events"`
	Oldest time.Time `json:"oldest,omitzero"` // commit time of the first that waits
	Budget
}

// TopicStatus is one partition, assigned and acknowledged.
type TopicStatus struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Assigned  int64  `json:"assigned"`
	Acked     int64  `json:"acked"`
	Offset    int64  `json:"offset"`
	TwinSeq   int64  `json:"twin_seq,omitempty"`
}

// TableCounts is the account of one captured table.
type TableCounts struct {
	Table     string `json:"table"`
	Changes   int64  `json:"changes"`
	Parked    int64  `json:"parked"`
	Discarded int64  `json:"discarded"`
	Used      int64  `json:"used"`
	Absorbed  int64  `json:"absorbed"`
	Ignored   int64  `json:"ignored"`
	Balanced  bool   `json:"balanced"`
}

// Status reads all of it under one snapshot of the store.
func (s *Store) Status(ctx context.Context) (Status, error) {
	st, err := s.status(ctx)
	for range 3 {
		if !undefinedTable(err) {
			break
		}
		st, err = s.status(ctx) // a slab was dropped under the snapshot
	}
	if err != nil {
		return st, fmt.Errorf("status of the store: %w", err)
	}
	return st, nil
}

func (s *Store) status(ctx context.Context) (st Status, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var err error
		if st.Owner, err = scanHolder(tx.QueryRow(ctx, `SELECT `+holderColumns+` FROM banyan.lease`)); err != nil {
			return fmt.Errorf("read the lease: %w", err)
		}
		st.Owner.Since, st.Owner.Beat = st.Owner.Since.UTC(), st.Owner.Beat.UTC()
		if err := s.statusSource(ctx, tx, &st); err != nil {
			return err
		}
		if err := s.statusOutbox(ctx, tx, &st); err != nil {
			return err
		}
		return s.statusBooks(ctx, tx, &st)
	})
	return st, err
}

func (s *Store) statusSource(ctx context.Context, tx pgx.Tx, st *Status) error {
	var commit, end int64
	var tm *time.Time
	err := tx.QueryRow(ctx, `SELECT name, generation, commit_lsn, end_lsn, time FROM banyan.source`).Scan(&st.Source, &st.Generation, &commit, &end, &tm)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read the source: %w", err)
	}
	st.Position = StatusPosition{CommitLSN: lsnText(uint64(commit)), EndLSN: lsnText(uint64(end))}
	if tm != nil {
		st.Position.Time = tm.UTC()
	}
	snap, err := lastSnapshot(ctx, tx)
	if err != nil {
		return err
	}
	if snap.Number > 0 {
		st.Snapshot = &snap
	}
	rules, err := currentRules(ctx, tx)
	if err != nil {
		return err
	}
	if rules.Version > 0 {
		st.Rules = &rules
	}
	return nil
}

// lsnText writes an LSN as Postgres does.
func lsnText(lsn uint64) string { return fmt.Sprintf("%X/%X", uint32(lsn>>32), uint32(lsn)) }

func (s *Store) statusOutbox(ctx context.Context, tx pgx.Tx, st *Status) error {
	shelves, err := loadShelves(ctx, tx)
	if err != nil {
		return err
	}
	slabs, err := loadSlabs(ctx, tx, "event")
	if err != nil {
		return err
	}
	for i := range slabs {
		st.Outbox.Used += slabs[i].bytes
	}
	st.Outbox.Max = s.opts.MaxBytes
	st.Outbox.Full = st.Outbox.Used >= st.Outbox.Max
	st.Topics = []TopicStatus{}
	for _, sh := range shelves {
		st.Topics = append(st.Topics, TopicStatus{Topic: sh.Topic, Partition: sh.Partition, Assigned: sh.seq, Acked: sh.acked, Offset: sh.offset, TwinSeq: sh.twinSeq})
		if sh.seq <= sh.acked {
			continue
		}
		st.Outbox.Events += sh.seq - sh.acked
		for i := range slabs {
			if slabs[i].closed && slabs[i].ends[sh.id] <= sh.acked {
				continue
			}
			var t time.Time
			if err := tx.QueryRow(ctx, `SELECT time FROM `+slabs[i].table()+` WHERE part = $1 AND seq = $2`, sh.id, sh.acked+1).Scan(&t); err != nil {
				return fmt.Errorf("read the oldest event of %s/%d: %w", sh.Topic, sh.Partition, err)
			}
			if st.Outbox.Oldest.IsZero() || t.Before(st.Outbox.Oldest) {
				st.Outbox.Oldest = t.UTC()
			}
			break
		}
	}
	sort.Slice(st.Topics, func(i, j int) bool {
		a, b := st.Topics[i], st.Topics[j]
		return a.Topic < b.Topic || a.Topic == b.Topic && a.Partition < b.Partition
	})
	return nil
}

func (s *Store) statusBooks(ctx context.Context, tx pgx.Tx, st *Status) error {
	counts, err := parkedCounts(ctx, tx)
	if err != nil {
		return err
	}
	st.Parked = append([]ParkedCount{}, counts...)
	for _, c := range counts {
		st.ParkedKeys += c.Keys
	}
	if st.Tables, err = tableCounts(ctx, tx); err != nil {
		return err
	}
	traces, err := loadSlabs(ctx, tx, "trace")
	if err != nil {
		return err
	}
	for i := range traces {
		st.Traces.Bytes += traces[i].bytes
	}
	if len(traces) > 0 {
		st.Traces.Since = traces[0].opened.UTC()
	}
	if err := tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM banyan.request WHERE state = 'pending'), (SELECT count(*) FROM banyan.appended)`).Scan(&st.Requests, &st.Appended); err != nil {
		return fmt.Errorf("count requests: %w", err)
	}
	return nil
}

func tableCounts(ctx context.Context, q querier) ([]TableCounts, error) {
	rows, err := q.Query(ctx, `SELECT tbl, changes, parked, discarded, used, absorbed, ignored FROM banyan.count ORDER BY tbl`)
	if err != nil {
		return nil, fmt.Errorf("read counts: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (t TableCounts, err error) {
		var c event.Counts
		err = r.Scan(&t.Table, &c.Changes, &c.Parked, &c.Discarded, &c.Used, &c.Absorbed, &c.Ignored)
		return TableCounts{t.Table, c.Changes, c.Parked, c.Discarded, c.Used, c.Absorbed, c.Ignored, c.Balanced()}, err
	})
	if err != nil {
		return nil, fmt.Errorf("read counts: %w", err)
	}
	return all, nil
}

// Counts returns the account of every captured table.
func (s *Store) Counts(ctx context.Context) (map[string]event.Counts, error) {
	all, err := tableCounts(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]event.Counts, len(all))
	for _, t := range all {
		counts[t.Table] = event.Counts{Changes: t.Changes, Parked: t.Parked, Discarded: t.Discarded, Used: t.Used, Absorbed: t.Absorbed, Ignored: t.Ignored}
	}
	return counts, nil
}
