package control

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// EffectState says how far an effect is.
type EffectState string

// States of an effect.
const (
	Promised EffectState = "promised"
	InSend   EffectState = "sending"
	Sent     EffectState = "sent"
	Failed   EffectState = "failed" // tried again at RetryAt; by hand only where that is zero
	// Doubtful: its sender died between sending and saying so.
	Doubtful EffectState = "doubtful"
)

// Entry is an effect in the ledger.
type Entry struct {
	Effect
	ID         int64
	State      EffectState
	Attempts   int
	Sender     int64 // ID of the lease of who sends or sent it
	Error      string
	PromisedAt time.Time
	SendingAt  time.Time
	RetryAt    time.Time
	SentAt     time.Time
}

// Key is what a receiver can tell repeats by: the same for every attempt,
// whatever version of the projection promised it.
func (e *Effect) Key() string {
	return e.Projection + "/" + e.Name + "/" + strconv.Itoa(e.N) + "/" + e.Source
}

const effectColumns = `id, projection, source, name, n, kind, payload, generation, lsn, ordinal, snapshot,
	state, attempts, sender, error, promised_at, sending_at, retry_at, sent_at`

func scanEntry(r pgx.CollectableRow) (e Entry, err error) {
	var lsn int64
	var sending, retry, sent *time.Time
	err = r.Scan(&e.ID, &e.Projection, &e.Source, &e.Name, &e.N, &e.Kind, &e.Payload,
		&e.Position.Generation, &lsn, &e.Position.Ordinal, &e.Position.Snapshot,
		&e.State, &e.Attempts, &e.Sender, &e.Error, &e.PromisedAt, &sending, &retry, &sent)
	e.Position.LSN, e.PromisedAt, e.SendingAt, e.RetryAt, e.SentAt = uint64(lsn), e.PromisedAt.UTC(), utc(sending), utc(retry), utc(sent)
	return e, err
}

// Promise writes effects into the ledger, in the transaction that applies their
// source events, and makes its commit synchronous. It gives the number of those
// that were not there yet.
func (s *Store) Promise(ctx context.Context, tx pgx.Tx, effects []Effect) (promised int64, err error) {
	if len(effects) == 0 {
		return 0, nil
	}
	n := len(effects)
	projections, sources, names, kinds := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	numbers, generations, snapshots := make([]int32, n), make([]int32, n), make([]int32, n)
	payloads, lsns, ordinals := make([][]byte, n), make([]int64, n), make([]int64, n)
	for i, e := range effects {
		projections[i], sources[i], names[i], kinds[i], numbers[i] = e.Projection, e.Source, e.Name, e.Kind, int32(e.N)
		if payloads[i] = e.Payload; e.Payload == nil {
			payloads[i] = []byte{}
		}
		generations[i], lsns[i], ordinals[i], snapshots[i] = int32(e.Position.Generation), int64(e.Position.LSN), e.Position.Ordinal, int32(e.Position.Snapshot)
	}
	if err := durable(ctx, tx); err != nil {
		return 0, err
	}
	tag, err := tx.Exec(ctx, `INSERT INTO banyan.effect (projection, source, name, n, kind, payload, generation, lsn, ordinal, snapshot)
		SELECT projection, source, name, n, kind, payload, generation, lsn, ordinal, snapshot
		FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::bytea[], $7::integer[], $8::bigint[], $9::bigint[], $10::integer[])
			WITH ORDINALITY AS u(projection, source, name, n, kind, payload, generation, lsn, ordinal, snapshot, i)
		ORDER BY i ON CONFLICT DO NOTHING`, projections, sources, names, numbers, kinds, payloads, generations, lsns, ordinals, snapshots)
	if err != nil {
		return 0, fmt.Errorf("promise %d effects of %s: %w", n, effects[0].Projection, err)
	}
	if tag.RowsAffected() == 0 {
		return 0, nil
	}
	return tag.RowsAffected(), notify(ctx, tx, EffectPromised, effects[0].Projection)
}

// Claim takes up to n effects that are due, the oldest first, for the holder of
// the lease: they are InSend when it returns, and nobody else gets them. The
// claim is on disk before anything can be sent.
func (s *Store) Claim(ctx context.Context, projection string, lease *Lease, n int) ([]Entry, error) {
	var all []Entry
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := durable(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `WITH due AS MATERIALIZED (SELECT id FROM banyan.effect
				WHERE projection = $1 AND state IN ('promised', 'failed') AND (state = 'promised' OR retry_at <= clock_timestamp())
				ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED),
			taken AS (UPDATE banyan.effect SET state = 'sending', attempts = attempts + 1, sender = $2, sending_at = clock_timestamp(), retry_at = NULL
				WHERE id IN (SELECT id FROM due) RETURNING `+effectColumns+`)
			SELECT * FROM taken ORDER BY id`, projection, lease.ID, n)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, scanEntry)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim effects of %s: %w", projection, err)
	}
	return all, nil
}

// MarkSent says that an effect has left. It is ErrFenced where it is no longer
// the lease's to say, because it was taken for doubtful.
func (s *Store) MarkSent(ctx context.Context, lease *Lease, id int64) error {
	return s.settleEffect(ctx, lease, id, Sent, nil, time.Time{})
}

// MarkFailed says that an effect has certainly not left, and when to try again;
// never by itself where retry is the zero time.
func (s *Store) MarkFailed(ctx context.Context, lease *Lease, id int64, cause error, retry time.Time) error {
	return s.settleEffect(ctx, lease, id, Failed, cause, retry)
}

// MarkDoubtful says that an effect may have left or not: a time-out after it was
// handed over.
func (s *Store) MarkDoubtful(ctx context.Context, lease *Lease, id int64, cause error) error {
	return s.settleEffect(ctx, lease, id, Doubtful, cause, time.Time{})
}

func (s *Store) settleEffect(ctx context.Context, lease *Lease, id int64, to EffectState, cause error, retry time.Time) error {
	reason := ""
	if cause != nil {
		reason = cause.Error()
	}
	var settled int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := durable(ctx, tx); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE banyan.effect SET state = $3::text, error = $4, retry_at = $5,
				sent_at = CASE WHEN $3 = 'sent' THEN clock_timestamp() END
			WHERE id = $1 AND sender = $2 AND state = 'sending'`, id, lease.ID, to, reason, orNull(retry))
		settled = tag.RowsAffected()
		return err
	})
	if err != nil {
		return fmt.Errorf("mark effect %d %s: %w", id, to, err)
	}
	if settled == 0 {
		return fmt.Errorf("mark effect %d %s: it is no longer this sender's: %w", id, to, ErrFenced)
	}
	return nil
}

// Doubt finds the effects that a sender was about when it died and makes them
// Doubtful; it gives their number.
func (s *Store) Doubt(ctx context.Context, projection string) (int64, error) {
	var found int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := durable(ctx, tx); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE banyan.effect SET state = 'doubtful', error = 'its sender ended before it could say whether this was sent'
			WHERE projection = $1 AND state = 'sending' AND NOT banyan.lease_alive(sender)`, projection)
		found = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("look for interrupted effects of %s: %w", projection, err)
	}
	return found, nil
}

// EffectFilter chooses entries of the ledger.
type EffectFilter struct {
	States []EffectState // none: all
	Name   string        // "" for all
	After  int64         // entries with a higher ID
	Limit  int           // 0: 100
}

// Effects lists entries of the ledger, the oldest first.
func (s *Store) Effects(ctx context.Context, projection string, f EffectFilter) ([]Entry, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	states := make([]string, len(f.States))
	for i, st := range f.States {
		states[i] = string(st)
	}
	rows, err := s.pool.Query(ctx, `SELECT `+effectColumns+` FROM banyan.effect
		WHERE projection = $1 AND (cardinality($2::text[]) = 0 OR state = ANY($2)) AND $3 IN ('', name) AND id > $4 ORDER BY id LIMIT $5`,
		projection, states, f.Name, f.After, f.Limit)
	if err == nil {
		var all []Entry
		if all, err = pgx.CollectRows(rows, scanEntry); err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("list effects of %s: %w", projection, err)
}

// EffectCounts counts the ledger by state.
func (s *Store) EffectCounts(ctx context.Context, projection string) (map[EffectState]int64, error) {
	counts := map[EffectState]int64{}
	rows, err := s.pool.Query(ctx, `SELECT state, count(*) FROM banyan.effect WHERE projection = $1 GROUP BY state`, projection)
	if err == nil {
		var state EffectState
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
			counts[state] = n
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("count effects of %s: %w", projection, err)
	}
	return counts, nil
}

// Resend makes Doubtful and Failed effects Promised again; of ids, or all of
// them where there are none. It gives their number.
func (s *Store) Resend(ctx context.Context, projection string, ids ...int64) (int64, error) {
	var again int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := durable(ctx, tx); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE banyan.effect SET state = 'promised', retry_at = NULL
			WHERE projection = $1 AND state IN ('doubtful', 'failed') AND (cardinality($2::bigint[]) = 0 OR id = ANY($2))`, projection, append([]int64{}, ids...))
		if err != nil {
			return err
		}
		again = tag.RowsAffected()
		return notify(ctx, tx, EffectPromised, projection)
	})
	if err != nil {
		return 0, fmt.Errorf("resend effects of %s: %w", projection, err)
	}
	return again, nil
}

// Dismiss makes Doubtful and Failed effects Sent without sending them: a person
// knows that they have arrived, or that they shall not. It gives their number.
func (s *Store) Dismiss(ctx context.Context, projection, reason string, ids ...int64) (int64, error) {
	tag, err := s.pool.Exec(ctx, `UPDATE banyan.effect SET state = 'sent', retry_at = NULL, sent_at = clock_timestamp(), error = $3
		WHERE projection = $1 AND state IN ('doubtful', 'failed') AND id = ANY($2)`, projection, append([]int64{}, ids...), "not sent again: "+reason)
	if err != nil {
		return 0, fmt.Errorf("dismiss effects of %s: %w", projection, err)
	}
	return tag.RowsAffected(), nil
}

// PruneEffects removes effects that were sent before a time and whose source
// events all versions have behind them, so that none can promise them again; of
// others sent before it only the payload goes. It gives the number removed.
func (s *Store) PruneEffects(ctx context.Context, projection string, before time.Time) (removed int64, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// What one version has sent for, another that is kept may have parked still:
		// it would promise it again when it is gone back to and the chain released.
		tag, err := tx.Exec(ctx, `DELETE FROM banyan.effect e WHERE e.projection = $1 AND e.state = 'sent' AND e.sent_at < $2
			AND (e.generation, e.lsn) < (SELECT p.passed_generation, p.passed_lsn FROM banyan.part p
				JOIN banyan.version v ON v.projection = p.projection AND v.number = p.version
				WHERE p.projection = $1 AND v.state IN ('active', 'kept', 'following')
				ORDER BY p.passed_generation, p.passed_lsn LIMIT 1)
			AND NOT EXISTS (SELECT FROM banyan.parked k WHERE k.projection = e.projection AND k.event = e.source)`, projection, before)
		if err != nil {
			return err
		}
		removed = tag.RowsAffected()
		_, err = tx.Exec(ctx, `UPDATE banyan.effect SET payload = NULL WHERE projection = $1 AND state = 'sent' AND sent_at < $2 AND payload IS NOT NULL`, projection, before)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune the effects of %s: %w", projection, err)
	}
	return removed, nil
}
