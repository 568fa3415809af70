package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// keyArgs are the arguments of a release, a discard or a snapshot request: one
// key, or with an empty key all of the aggregate, or with an empty aggregate
// all.
type keyArgs struct {
	Aggregate string `json:"aggregate"`
	Key       string `json:"key"`
}

// keyResult is what became of such a request.
type keyResult struct {
	Keys    int      `json:"keys"`    // chains that are empty now
	Entries int      `json:"entries"` // of chains, that were told or discarded
	Stuck   []string `json:"stuck"`   // keys that stay parked, and why
}

const chainPart = 100

// serveRequests carries out, between two transactions, what commands have asked
// for.
func (c *capture) serveRequests(ctx context.Context) error {
	pending, err := c.owner.Requests(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Debug("cannot look for requests", "error", cli.Redact(err.Error()))
			return nil // the next commit says what is wrong with the store
		}
		return ctx.Err()
	}
	for _, q := range pending {
		err := c.serveRequest(ctx, q)
		if unread, ok := errors.AsType[*unreadError](err); ok && ctx.Err() == nil {
			// The source's trouble is the stream's to deal with: the run goes on.
			err = c.refuse(ctx, q, "the source's tables cannot be read now, ask again: "+cli.Redact(unread.Error()))
		}
		if errors.Is(err, outbox.ErrNotFound) {
			c.log.Info("a request was taken back while it was carried out", "request", q.ID, "kind", q.Kind)
			continue
		}
		if err != nil {
			return fmt.Errorf("carry out request %d (%s): %w", q.ID, q.Kind, err)
		}
	}
	return nil
}

func (c *capture) serveRequest(ctx context.Context, q outbox.Request) error {
	var args keyArgs
	if err := json.Unmarshal(q.Args, &args); err != nil {
		return c.refuse(ctx, q, "its arguments cannot be read: "+err.Error())
	}
	switch q.Kind {
	case outbox.RequestRelease, outbox.RequestDiscard:
	default:
		return c.refuse(ctx, q, "this version of cdc does not know such requests")
	}
	refs, err := c.parkedRefs(ctx, args)
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		return c.refuse(ctx, q, "nothing like that is parked: cdc parked list")
	}
	result := keyResult{Stuck: []string{}}
	for _, ref := range refs {
		if q.Kind == outbox.RequestRelease {
			err = c.release(ctx, ref, &result)
		} else {
			err = c.discard(ctx, ref, &result)
		}
		if err != nil {
			return err
		}
	}
	return c.patiently(ctx, c.owner.Position(), func(tx *outbox.Tx) error { return tx.Finish(ctx, q.ID, result) })
}

func (c *capture) refuse(ctx context.Context, q outbox.Request, why string) error {
	return c.patiently(ctx, c.owner.Position(), func(tx *outbox.Tx) error { return tx.Refuse(ctx, q.ID, why) })
}

func (c *capture) parkedRefs(ctx context.Context, args keyArgs) (refs []event.Ref, err error) {
	all, err := c.owner.ParkedKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if (args.Aggregate == "" || args.Aggregate == p.Aggregate) && (args.Key == "" || args.Key == p.Key) {
			refs = append(refs, p.Ref)
		}
	}
	return refs, nil
}

// release tells a parked chain in order, part by part, each in one commit.
func (c *capture) release(ctx context.Context, ref event.Ref, result *keyResult) error {
	for {
		var told translate.Released
		var seen int
		pos := c.owner.Position()
		at := translate.ReleasePoint{Position: c.releasePosition(pos), EndLSN: wal.LSN(pos.End)}
		err := c.patiently(ctx, pos, func(tx *outbox.Tx) error {
			entries, err := tx.Chain(ctx, ref, chainPart)
			if err != nil {
				return err
			}
			chain := make([]event.Parked, len(entries))
			for i := range entries {
				chain[i] = entries[i].Parked
			}
			seen = len(chain)
			if told, err = c.engine.Release(ctx, tx, chain, at, tx.Put); err != nil || told.Done == 0 {
				return err
			}
			_, err = tx.DropChain(ctx, ref, told.Done, outbox.Released)
			return err
		})
		if err != nil {
			return err
		}
		result.Entries += told.Done
		switch {
		case told.Reason != "":
			result.Stuck = append(result.Stuck, fmt.Sprintf("%s/%s: %s; %s", ref.Aggregate, ref.Key, told.Reason, told.Detail))
			return nil
		case seen < chainPart:
			result.Keys++
			return nil
		}
	}
}

// releasePosition stands behind every change of the last stored transaction and
// before the next one.
func (c *capture) releasePosition(pos outbox.To) event.Position {
	return event.Position{Generation: c.owner.Generation(), LSN: pos.Commit, Ordinal: math.MaxInt32}
}

// unreadError is a failure of the source, before anything was changed.
type unreadError struct{ err error }

func (e *unreadError) Error() string { return e.err.Error() }
func (e *unreadError) Unwrap() error { return e.err }

// discardPatience is how long a discard holds the stream up for transactions
// that are open in the source.
const discardPatience = 10 * time.Second

// discard gives a chain up and records the aggregate as it is now, in one
// commit: the source is read first, and no transaction is stored in between.
func (c *capture) discard(ctx context.Context, ref event.Ref, result *keyResult) error {
	within, cancel := context.WithTimeout(ctx, discardPatience)
	defer cancel()
	s, err := wal.SettledSnapshot(within, c.reader.url)
	if err != nil {
		return &unreadError{err}
	}
	defer s.Close()
	unit, parts, err := c.recordable(ref)
	if err != nil {
		return err
	}
	var trees []*wal.Tree
	if unit != nil {
		if err := s.ReadKeys(ctx, *unit, [][]string{parts}, func(t *wal.Tree) error {
			trees = append(trees, t)
			return nil
		}); err != nil {
			return &unreadError{err}
		}
	}
	pos, dropped := c.owner.Position(), 0
	err = c.patiently(ctx, pos, func(tx *outbox.Tx) error {
		var err error
		if dropped, err = tx.DropChain(ctx, ref, math.MaxInt32, outbox.Discarded); err != nil {
			return err
		}
		if unit == nil {
			return nil
		}
		number, err := tx.StartSnapshot(ctx, outbox.SnapshotRequest, pos.End)
		if err != nil {
			return err
		}
		at := translate.SnapshotPoint{Number: number, LSN: wal.LSN(pos.End), Time: pos.Time}
		if err := c.record(ctx, tx, chunk{ref.Aggregate, trees}, at); err != nil {
			return err
		}
		if len(trees) == 0 {
			if err := c.engine.AbsentKeys(ctx, tx, ref.Aggregate, []string{ref.Key}, at, tx.Put); err != nil {
				return err
			}
		}
		// Range 0 is a whole aggregate; a key can be the empty text.
		if err := tx.RangeDone(ctx, outbox.SnapshotRange{Snapshot: number, Aggregate: ref.Aggregate, N: 1, From: ref.Key, To: ref.Key,
			Visible: s.Seen.String(), EndLSN: uint64(s.LSN), Aggregates: int64(len(trees))}); err != nil {
			return err
		}
		c.engine.Snapshot = max(c.engine.Snapshot, number)
		return tx.FinishSnapshot(ctx, number)
	})
	if err != nil {
		return err
	}
	result.Entries += dropped
	result.Keys++
	return c.loadAbsorbs(ctx)
}

// recordable gives the unit of an aggregate and the parts of its key; nil where
// there is nothing to be recorded: the rules do not have the aggregate (any
// more), or the key was made up for a row whose aggregate is not known.
func (c *capture) recordable(ref event.Ref) (*wal.Unit, []string, error) {
	parts, err := event.SplitKey(ref.Key)
	if err != nil {
		return nil, nil, err
	}
	for _, u := range c.engine.Rules.Units() {
		if u.Aggregate != ref.Aggregate || len(u.Root.Key) != len(parts) || madeUp(parts) {
			continue
		}
		return &u, parts, nil
	}
	return nil, nil, nil
}

// madeUp reports whether a key of these parts was made up by translate for a row
// whose aggregate is not known, of the row's table and key.
func madeUp(parts []string) bool {
	return len(parts) == 3 && parts[0] == "?" && strings.Contains(parts[1], ".")
}
