package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Kinds of requests.
const (
	RequestRelease  = "release"
	RequestDiscard  = "discard"
	RequestSnapshot = "snapshot"
	RequestErase    = "erase"
	RequestRepair   = "repair"
)

// States of a request.
const (
	RequestPending = "pending"
	RequestDone    = "done"
	RequestRefused = "refused"
)

// Request is what a command asks of the owner, which alone changes the store.
type Request struct {
	ID       int64           `json:"id"`
	Kind     string          `json:"kind"`
	Args     json.RawMessage `json:"args"`
	State    string          `json:"state"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"` // why it was refused
	Created  time.Time       `json:"created"`
	Finished time.Time       `json:"finished,omitzero"`
}

const requestColumns = `id, kind, args, state, result, error, created, finished`

func scanRequest(row pgx.Row) (r Request, err error) {
	var finished *time.Time
	var args, result []byte
	err = row.Scan(&r.ID, &r.Kind, &args, &r.State, &result, &r.Error, &r.Created, &finished)
	r.Args, r.Result, r.Created = args, result, r.Created.UTC()
	if finished != nil {
		r.Finished = finished.UTC()
	}
	return r, err
}

// Ask leaves a request with args, as JSON, and returns its number.
func (s *Store) Ask(ctx context.Context, kind string, args any) (int64, error) {
	switch kind {
	case RequestRelease, RequestDiscard, RequestSnapshot, RequestErase, RequestRepair:
	default:
		return 0, fmt.Errorf("ask the owner: no such request as %q", kind)
	}
	b, err := json.Marshal(args)
	if err != nil {
		return 0, fmt.Errorf("ask for a %s: %w", kind, err)
	}
	var id int64
	if err := s.pool.QueryRow(ctx, `INSERT INTO banyan.request (kind, args) VALUES ($1, $2) RETURNING id`, kind, b).Scan(&id); err != nil {
		return 0, fmt.Errorf("ask for a %s: %w", kind, err)
	}
	return id, nil
}

// RequestByID returns a request, or ErrNotFound.
func (s *Store) RequestByID(ctx context.Context, id int64) (Request, error) {
	r, err := scanRequest(s.pool.QueryRow(ctx, `SELECT `+requestColumns+` FROM banyan.request WHERE id = $1`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return r, fmt.Errorf("request %d: %w", id, ErrNotFound)
	}
	if err != nil {
		return r, fmt.Errorf("read request %d: %w", id, err)
	}
	return r, nil
}

// WaitRequest waits until the owner has carried a request out or refused it.
// Without a living owner that takes until one comes: see Holder.
func (s *Store) WaitRequest(ctx context.Context, id int64) (Request, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := s.RequestByID(ctx, id)
		if err != nil || r.State != RequestPending {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("wait for request %d: %w", id, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Withdraw takes back a request that nobody has carried out yet, and reports
// whether it did.
func (s *Store) Withdraw(ctx context.Context, id int64) (bool, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM banyan.request WHERE id = $1 AND state = 'pending'`, id)
	if err != nil {
		return false, fmt.Errorf("withdraw request %d: %w", id, err)
	}
	return tag.RowsAffected() == 1, nil
}

// Requests returns the pending requests in the order in which they were left,
// at most 100.
func (o *Owner) Requests(ctx context.Context) ([]Request, error) {
	rows, err := o.store.pool.Query(ctx, `SELECT `+requestColumns+` FROM banyan.request WHERE state = 'pending' ORDER BY id LIMIT 100`)
	if err != nil {
		return nil, fmt.Errorf("read requests: %w", err)
	}
	pending, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Request, error) { return scanRequest(r) })
	if err != nil {
		return nil, fmt.Errorf("read requests: %w", err)
	}
	return pending, nil
}

// Finish records, in the commit that carries a request out, that it is done.
// Where the request was taken back meanwhile, the error is ErrNotFound.
func (tx *Tx) Finish(ctx context.Context, id int64, result any) error {
	b, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("finish request %d: %w", id, err)
	}
	return tx.closeRequest(ctx, id, RequestDone, b, "")
}

// Refuse records that a request cannot be carried out, and why.
func (tx *Tx) Refuse(ctx context.Context, id int64, why string) error {
	return tx.closeRequest(ctx, id, RequestRefused, nil, printable(why))
}

func (tx *Tx) closeRequest(ctx context.Context, id int64, state string, result []byte, why string) error {
	tag, err := tx.conn.Exec(ctx, `UPDATE banyan.request SET state = $2, result = $3, error = $4, finished = clock_timestamp()
		WHERE id = $1 AND state = 'pending'`, id, state, result, why)
	if err != nil {
		return tx.fail("finish a request", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("finish request %d: it is not pending any more: %w", id, ErrNotFound)
	}
	return nil
}
