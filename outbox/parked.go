package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// ParkedChain is one parked key.
type ParkedChain struct {
	event.Ref
	Entries int64          `json:"entries"`
	First   event.Position `json:"first"`  // of its first entry
	Since   time.Time      `json:"since"`  // when it was parked, by the store's clock
	Reason  string         `json:"reason"` // of its first entry
	Detail  string         `json:"detail"`
}

// ParkedEntry is one entry of a chain.
type ParkedEntry struct {
	event.Parked
	N     int64     // its number in the chain; numbers grow and may have gaps
	Since time.Time // by the store's clock
}

// ParkedCount sums up the parked chains of one aggregate.
type ParkedCount struct {
	Aggregate string    `json:"aggregate"`
	Keys      int64     `json:"keys"`
	Entries   int64     `json:"entries"`
	Oldest    time.Time `json:"oldest"`
}

// ParkedChains lists parked keys of an aggregate ("" for all), after the given
// key in the order of (aggregate, key), at most limit.
func (s *Store) ParkedChains(ctx context.Context, aggregate string, after event.Ref, limit int) ([]ParkedChain, error) {
	rows, err := s.pool.Query(ctx, `SELECT k.aggregate, k.key, k.entries, p.generation, p.lsn, p.ordinal, p.snapshot, p.at, p.reason, p.detail
		FROM (SELECT aggregate, key, count(*) AS entries, min(n) AS n FROM banyan.parked
			WHERE ($1 = '' OR aggregate = $1) AND (aggregate, key) > ($2, $3)
			GROUP BY aggregate, key ORDER BY aggregate, key LIMIT $4) k
		JOIN banyan.parked p USING (aggregate, key, n) ORDER BY 1, 2`, aggregate, after.Aggregate, after.Key, limit)
	if err != nil {
		return nil, fmt.Errorf("list parked chains: %w", err)
	}
	chains, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c ParkedChain, err error) {
		var lsn int64
		err = r.Scan(&c.Aggregate, &c.Key, &c.Entries, &c.First.Generation, &lsn, &c.First.Ordinal, &c.First.Snapshot, &c.Since, &c.Reason, &c.Detail)
		c.First.LSN, c.Since = uint64(lsn), c.Since.UTC()
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("list parked chains: %w", err)
	}
	return chains, nil
}

// ParkedChain reads the entries of one chain with a number above after, in
// order, at most limit.
func (s *Store) ParkedChain(ctx context.Context, ref event.Ref, after int64, limit int) ([]ParkedEntry, error) {
	entries, err := readChain(ctx, s.pool, ref, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the parked chain of %s/%s: %w", ref.Aggregate, ref.Key, err)
	}
	return entries, nil
}

// ParkedCounts sums up what is parked, by aggregate.
func (s *Store) ParkedCounts(ctx context.Context) ([]ParkedCount, error) {
	return parkedCounts(ctx, s.pool)
}

func parkedCounts(ctx context.Context, q querier) ([]ParkedCount, error) {
	rows, err := q.Query(ctx, `SELECT aggregate, count(DISTINCT key), count(*), min(at) FROM banyan.parked GROUP BY aggregate ORDER BY aggregate`)
	if err != nil {
		return nil, fmt.Errorf("count parked keys: %w", err)
	}
	counts, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c ParkedCount, err error) {
		err = r.Scan(&c.Aggregate, &c.Keys, &c.Entries, &c.Oldest)
		c.Oldest = c.Oldest.UTC()
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("count parked keys: %w", err)
	}
	return counts, nil
}

func readChain(ctx context.Context, q querier, ref event.Ref, after int64, limit int) ([]ParkedEntry, error) {
	rows, err := q.Query(ctx, `SELECT n, generation, lsn, ordinal, snapshot, end_lsn, reason, detail, body, counts, at
		FROM banyan.parked WHERE aggregate = $1 AND key = $2 AND n > $3 ORDER BY n LIMIT $4`, ref.Aggregate, ref.Key, after, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (e ParkedEntry, err error) {
		var lsn, end int64
		var counts []byte
		e.Ref = ref
		if err := r.Scan(&e.N, &e.Position.Generation, &lsn, &e.Position.Ordinal, &e.Position.Snapshot, &end,
			&e.Reason, &e.Detail, &e.Body, &counts, &e.Since); err != nil {
			return e, err
		}
		e.Position.LSN, e.EndLSN, e.Since = uint64(lsn), uint64(end), e.Since.UTC()
		return e, json.Unmarshal(counts, &e.Counts)
	})
}

// Fate is what became of entries that leave a parked chain.
type Fate int

// An entry is released when its changes are told after all: the step that tells
// them moves their counts from Parked to where they belong now. It is discarded
// when they never will be: its counts move to Discarded.
const (
	Released Fate = iota
	Discarded
)

// Chain reads the first entries of a parked chain, at most limit, without
// removing them.
func (tx *Tx) Chain(ctx context.Context, ref event.Ref, limit int) ([]ParkedEntry, error) {
	if err := tx.spill(ctx); err != nil {
		return nil, err
	}
	entries, err := readChain(ctx, tx.conn, ref, 0, limit)
	if err != nil {
		return nil, tx.fail("read a parked chain", err)
	}
	return entries, nil
}

// DropChain removes the first entries of a chain, at most limit; the counts of
// discarded ones it settles itself. The key stays parked while entries are left.
func (tx *Tx) DropChain(ctx context.Context, ref event.Ref, limit int, fate Fate) (dropped int, err error) {
	if err := tx.spill(ctx); err != nil {
		return 0, err
	}
	rows, err := tx.conn.Query(ctx, `DELETE FROM banyan.parked WHERE aggregate = $1 AND key = $2 AND n IN
		(SELECT n FROM banyan.parked WHERE aggregate = $1 AND key = $2 ORDER BY n LIMIT $3) RETURNING counts`, ref.Aggregate, ref.Key, limit)
	if err != nil {
		return 0, tx.fail("drop a parked chain", err)
	}
	var raw []byte
	_, err = pgx.ForEachRow(rows, []any{&raw}, func() error {
		dropped++
		var counts map[string]int64
		if err := json.Unmarshal(raw, &counts); err != nil {
			return err
		}
		for table, n := range counts {
			if fate == Released {
				continue // the step that tells them moves them
			}
			c := tx.counts[table]
			c.Parked -= n
			c.Discarded += n
			tx.counts[table] = c
		}
		return nil
	})
	if err != nil {
		return 0, tx.fail("drop a parked chain", err)
	}
	if err := tx.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM banyan.parked)`).Scan(&tx.anyParked); err != nil {
		return 0, tx.fail("look for parked keys", err)
	}
	tx.parkedChanged = tx.parkedChanged || dropped > 0
	return dropped, nil
}

// TakeChain reads and releases the first entries of a chain, at most limit, for
// a Release in the same transaction. A release that cannot tell an entry must
// fail, so that the chain keeps its order.
func (tx *Tx) TakeChain(ctx context.Context, ref event.Ref, limit int) ([]event.Parked, error) {
	entries, err := tx.Chain(ctx, ref, limit)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	if _, err := tx.DropChain(ctx, ref, len(entries), Released); err != nil {
		return nil, err
	}
	taken := make([]event.Parked, len(entries))
	for i := range entries {
		taken[i] = entries[i].Parked
	}
	return taken, nil
}
