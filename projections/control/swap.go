package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// PlaceHold makes two versions stop at one mark, the farthest that either has
// reached, for as long as given by the database's clock. It waits for open
// batches, longer than the server leaves a frozen owner in one; then it is a
// *LockedError. A hold that was there before is replaced.
func (s *Store) PlaceHold(ctx context.Context, projection string, from, to int, length time.Duration) (h Hold, err error) {
	doing := fmt.Sprintf("hold versions %d and %d of %s", from, to, projection)
	err = s.locking(ctx, doing, func(tx pgx.Tx) error {
		if err := lockVersions(ctx, tx, projection, from, to); err != nil {
			return err
		}
		for _, number := range []int{from, to} {
			parts, err := s.Parts(ctx, tx, projection, number)
			if err != nil {
				return err
			}
			for _, p := range parts {
				for _, m := range []Mark{p.Passed, MarkAt(p.Applied)} {
					if m.Compare(h.At) > 0 {
						h.At = m
					}
				}
			}
		}
		tag, err := tx.Exec(ctx, `UPDATE banyan.version SET hold_generation = $4, hold_lsn = $5, hold_time = $6,
				hold_until = statement_timestamp() + $7::interval
			WHERE projection = $1 AND number IN ($2, $3) AND state IN ('active', 'kept', 'following')`,
			projection, from, to, h.At.Generation, int64(h.At.LSN), orNull(h.At.Time), length)
		if err != nil {
			return err
		}
		if tag.RowsAffected() != 2 {
			return fmt.Errorf("they are not both followed: %w", ErrNotFound)
		}
		if err := tx.QueryRow(ctx, `SELECT hold_until FROM banyan.version WHERE projection = $1 AND number = $2`, projection, to).Scan(&h.Until); err != nil {
			return err
		}
		h.Until = h.Until.UTC()
		return notify(ctx, tx, HoldChanged, projection)
	})
	if locked := (*LockedError)(nil); errors.As(err, &locked) {
		locked.Holders = s.holders(ctx, projection, []int{from, to}, nil)
		return h, locked
	}
	if err != nil {
		return h, fmt.Errorf("%s: %w", doing, err)
	}
	return h, nil
}

// lockVersions locks all partitions of two versions, the lower one's first.
// Batches lock those of one version only, so they cannot wait in a circle.
func lockVersions(ctx context.Context, tx pgx.Tx, projection string, a, b int) error {
	for _, number := range []int{min(a, b), max(a, b)} {
		if err := lockParts(ctx, tx, projection, number, nil); err != nil {
			return err
		}
	}
	return nil
}

// HoldOf gives the hold of a version; ok is false where there is none or it has
// lapsed.
func (s *Store) HoldOf(ctx context.Context, projection string, version int) (h Hold, ok bool, err error) {
	return holdOf(ctx, s.pool, projection, version)
}

func holdOf(ctx context.Context, db DB, projection string, version int) (h Hold, ok bool, err error) {
	var lsn int64
	var at *time.Time
	err = db.QueryRow(ctx, `SELECT hold_generation, hold_lsn, hold_time, hold_until FROM banyan.version
		WHERE projection = $1 AND number = $2 AND hold_until > clock_timestamp()`, projection, version).Scan(&h.At.Generation, &lsn, &at, &h.Until)
	if errors.Is(err, pgx.ErrNoRows) {
		return Hold{}, false, nil
	}
	if err != nil {
		return h, false, fmt.Errorf("read the hold of version %d of %s: %w", version, projection, err)
	}
	h.At.LSN, h.At.Time, h.Until = uint64(lsn), utc(at), h.Until.UTC()
	return h, true, nil
}

// ClearHold takes the holds of all versions of a projection away.
func (s *Store) ClearHold(ctx context.Context, projection string) error {
	return clearHold(ctx, s.pool, projection)
}

func clearHold(ctx context.Context, db DB, projection string) error {
	if _, err := db.Exec(ctx, `UPDATE banyan.version SET hold_generation = NULL, hold_lsn = NULL, hold_time = NULL, hold_until = NULL
		WHERE projection = $1 AND hold_until IS NOT NULL`, projection); err != nil {
		return fmt.Errorf("clear the holds of %s: %w", projection, err)
	}
	return notify(ctx, db, HoldChanged, projection)
}

// Late is a partition that does not stand at a hold's mark.
type Late struct {
	Version int
	Part
}

// NotReachedError says which partitions do not stand exactly at a mark.
type NotReachedError struct {
	Projection string
	At         Mark
	Late       []Late
	Lapsed     bool // the hold has lapsed, so that owners may have gone on
}

// Error names the first partitions and how far they are.
func (e *NotReachedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s does not stand at %s:", e.Projection, e.At)
	if e.Lapsed {
		b.WriteString(" the hold has lapsed")
	}
	const most = 3
	for i, l := range e.Late {
		if i == most {
			fmt.Fprintf(&b, "; and %d more", len(e.Late)-most)
			break
		}
		if i > 0 || e.Lapsed {
			b.WriteByte(';')
		}
		owner := l.Owner
		if owner == "" {
			owner = "nobody"
		}
		fmt.Fprintf(&b, " version %d, %s has passed %s at offset %d, owned by %s", l.Version, l.PartID, l.Passed, l.Next, owner)
	}
	return b.String()
}

// Reached is nil when all partitions of both versions stand exactly at the hold's
// mark, and a *NotReachedError until then.
func (s *Store) Reached(ctx context.Context, projection string, from, to int, at Mark) error {
	return s.reached(ctx, s.pool, projection, from, to, at)
}

func (s *Store) reached(ctx context.Context, db DB, projection string, from, to int, at Mark) error {
	e := &NotReachedError{Projection: projection, At: at}
	for _, number := range []int{from, to} {
		h, ok, err := holdOf(ctx, db, projection, number)
		if err != nil {
			return err
		}
		e.Lapsed = e.Lapsed || !ok || h.At.Compare(at) != 0
		parts, err := s.Parts(ctx, db, projection, number)
		if err != nil {
			return err
		}
		for _, p := range parts {
			if p.Passed.Compare(at) != 0 || MarkAt(p.Applied).Compare(at) > 0 {
				e.Late = append(e.Late, Late{number, p})
			}
		}
	}
	if e.Lapsed || len(e.Late) > 0 {
		return e
	}
	return nil
}

// Swap makes readers see version to instead of from, in one transaction: it
// locks all partitions of both, checks that they stand exactly at the mark, points
// the views, keeps from, sets the Since of to, and clears the holds. Where readers
// hold the views it lets them pass and tries again, for as long as the hold lasts.
// After an error nothing has changed.
func (s *Store) Swap(ctx context.Context, projection string, from, to int, at Mark, views []View) error {
	for {
		err := s.swapOnce(ctx, projection, from, to, at, views)
		switch {
		case err == nil:
			return nil
		case !isCode(err, "55P03", "40P01"):
			return fmt.Errorf("swap %s from version %d to %d: %w", projection, from, to, err)
		}
		// A long query of a reader holds a view. We have left the queue for its
		// lock, so that others are served; they need a moment.
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("swap %s from version %d to %d: %w; readers hold its views: %w", projection, from, to, context.Cause(ctx), err)
		case <-timer.C:
		}
	}
}

// swapLock is how long one attempt may queue for a view: readers that come later
// stand behind it.
const swapLock = "100"

func (s *Store) swapOnce(ctx context.Context, projection string, from, to int, at Mark, views []View) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true), set_config('synchronous_commit', 'on', true)`, swapLock); err != nil {
			return err
		}
		if err := lockVersions(ctx, tx, projection, from, to); err != nil {
			return err
		}
		if err := s.reached(ctx, tx, projection, from, to, at); err != nil {
			return err
		}
		rows, err := queryVersions(ctx, tx, `projection = $1 AND number IN ($2, $3)`, projection, from, to)
		if err != nil {
			return err
		}
		byNumber := func(n int) *Version {
			if i := slices.IndexFunc(rows, func(v Version) bool { return v.Number == n }); i >= 0 {
				return &rows[i]
			}
			return nil
		}
		old, next := byNumber(from), byNumber(to)
		switch {
		case old == nil || next == nil:
			return ErrNotFound
		case old.State != Active:
			return &StateError{projection, from, old.State, Kept}
		case next.State != Following && next.State != Kept:
			return &StateError{projection, to, next.State, Active}
		}
		if err := s.PointViews(ctx, tx, *next, views); err != nil {
			return err
		}
		for _, change := range []struct {
			number int
			state  State
			note   string
		}{{from, Kept, fmt.Sprintf("swapped to %d", to)}, {to, Active, fmt.Sprintf("swapped from %d", from)}} {
			if _, err := tx.Exec(ctx, `UPDATE banyan.version SET state = $3, note = $4, changed_at = clock_timestamp()
				WHERE projection = $1 AND number = $2`, projection, change.number, change.state, change.note); err != nil {
				return err
			}
		}
		if err := s.SetSince(ctx, tx, projection, to, at); err != nil {
			return err
		}
		if err := clearHold(ctx, tx, projection); err != nil {
			return err
		}
		return notify(ctx, tx, VersionChanged, projection)
	})
}
