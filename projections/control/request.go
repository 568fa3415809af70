package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// ErrNotParked says that a key that is to be released or discarded is not parked.
var ErrNotParked = errors.New("not parked")

// RequestKind is what an owner is asked to do with a chain.
type RequestKind string

// Kinds of requests.
const (
	Release RequestKind = "release"
	Discard RequestKind = "discard"
)

// Request is one chain that an owner is asked to release or discard.
type Request struct {
	ID         int64 // shared by the chains that were asked for together
	Projection string
	Version    int
	Kind       RequestKind
	event.Ref
	PartID
	CreatedAt time.Time
	DoneAt    time.Time // zero while it waits
	// Error is why it could not be done, "" where it was; Events how many it was
	// done with.
	Error  string
	Events int64
}

const requestColumns = `id, projection, version, kind, aggregate, key, topic, part, created_at, done_at, error, events`

func scanRequest(r pgx.CollectableRow) (q Request, err error) {
	var done *time.Time
	err = r.Scan(&q.ID, &q.Projection, &q.Version, &q.Kind, &q.Aggregate, &q.Key, &q.Topic, &q.Part, &q.CreatedAt, &done, &q.Error, &q.Events)
	q.CreatedAt, q.DoneAt = q.CreatedAt.UTC(), utc(done)
	return q, err
}

// Ask leaves a request for the chains of refs, or for all of the version where
// there are none. Owners do it between two batches. A ref that is not parked is
// ErrNotParked, and nothing is left then; so it is where all are asked for and
// none is parked.
func (s *Store) Ask(ctx context.Context, projection string, version int, kind RequestKind, refs ...event.Ref) (id int64, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := durable(ctx, tx); err != nil {
			return err
		}
		aggregates, keys := make([]string, len(refs)), make([]string, len(refs))
		for i, r := range refs {
			aggregates[i], keys[i] = r.Aggregate, r.Key
		}
		if err := tx.QueryRow(ctx, `SELECT nextval('banyan.request_id')`).Scan(&id); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `INSERT INTO banyan.request (id, projection, version, kind, aggregate, key, topic, part)
			SELECT DISTINCT ON (aggregate, key) $1::bigint, projection, version, $4::text, aggregate, key, topic, part FROM banyan.parked
			WHERE projection = $2 AND version = $3 AND ($5 OR (aggregate, key) IN (SELECT * FROM unnest($6::text[], $7::text[])))
			ORDER BY aggregate, key, banyan.parked.id RETURNING `+requestColumns, id, projection, version, kind, len(refs) == 0, aggregates, keys)
		if err != nil {
			return err
		}
		made, err := pgx.CollectRows(rows, scanRequest)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			if !slices.ContainsFunc(made, func(q Request) bool { return q.Ref == ref }) {
				return fmt.Errorf("%s/%s: %w", ref.Aggregate, ref.Key, ErrNotParked)
			}
		}
		if len(made) == 0 {
			return fmt.Errorf("any key: %w", ErrNotParked)
		}
		return notify(ctx, tx, RequestMade, projection)
	})
	if err != nil {
		return 0, fmt.Errorf("ask the owner of version %d of %s to %s: %w", version, projection, kind, err)
	}
	return id, nil
}

// Pending lists the requests that wait for the owner of these partitions, the
// oldest first.
func (s *Store) Pending(ctx context.Context, db DB, projection string, version int, ids []PartID) ([]Request, error) {
	topics, parts := arrays(ids)
	rows, err := db.Query(ctx, `SELECT `+requestColumns+` FROM banyan.request WHERE projection = $1 AND version = $2 AND done_at IS NULL
			AND (topic, part) IN (SELECT * FROM unnest($3::text[], $4::integer[])) ORDER BY id, aggregate, key`, projection, version, topics, parts)
	if err == nil {
		var all []Request
		if all, err = pgx.CollectRows(rows, scanRequest); err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("look for requests to version %d of %s: %w", version, projection, err)
}

// Finish writes down that one chain's request was done with so many events, or,
// where failed is not nil, why not. Use the batch's transaction for what it did,
// and the pool for a failure.
func (s *Store) Finish(ctx context.Context, db DB, r Request, events int64, failed error) error {
	reason := ""
	if failed != nil {
		reason = failed.Error()
		if reason == "" {
			reason = "failed"
		}
	}
	if _, err := db.Exec(ctx, `UPDATE banyan.request SET done_at = clock_timestamp(), error = $4, events = $5
		WHERE id = $1 AND aggregate = $2 AND key = $3 AND done_at IS NULL`, r.ID, r.Aggregate, r.Key, reason, events); err != nil {
		return fmt.Errorf("finish request %d: %w", r.ID, err)
	}
	return notify(ctx, db, RequestDone, r.Projection)
}

// Result gives the chains of a request; ErrNotFound where there is no such
// request.
func (s *Store) Result(ctx context.Context, id int64) ([]Request, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+requestColumns+` FROM banyan.request WHERE id = $1 ORDER BY aggregate, key`, id)
	var all []Request
	if err == nil {
		all, err = pgx.CollectRows(rows, scanRequest)
	}
	if err != nil {
		return nil, fmt.Errorf("read request %d: %w", id, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("request %d: %w", id, ErrNotFound)
	}
	return all, nil
}

// Await returns the chains of a request when all are done, or what there is with
// the error of ctx.
func (s *Store) Await(ctx context.Context, id int64) ([]Request, error) {
	var last []Request
	for _, err := range s.Watch(ctx) {
		if err != nil {
			return last, fmt.Errorf("wait for request %d: %w", id, err)
		}
		all, err := s.Result(ctx, id)
		if err != nil {
			return last, err
		}
		last = all
		if !slices.ContainsFunc(all, func(r Request) bool { return r.DoneAt.IsZero() }) {
			return all, nil
		}
	}
	return last, fmt.Errorf("wait for request %d: %w", id, context.Cause(ctx))
}
