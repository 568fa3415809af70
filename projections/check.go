package projections

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"banyan/event"
	"banyan/projections/control"
)

// checkTopics looks whether the topics are those that the version was made for,
// and makes the rows of a version that has none yet. A topic whose partitions
// were counted otherwise is refused: its keys lie elsewhere now.
func (r *run) checkTopics(ctx context.Context, ids []control.PartID) error {
	store, name, number := r.opts.Store, r.spec.Name, r.opts.Version.Number
	parts, err := store.Parts(ctx, r.opts.Pool, name, number)
	if err != nil {
		return err
	}
	known := map[string]int{}
	for _, p := range parts {
		known[p.Topic]++
	}
	all := 0
	for _, topic := range r.spec.Topics {
		n, err := r.opts.Log.Partitions(ctx, topic)
		if err != nil {
			return err
		}
		all += n
		switch known[topic] {
		case n:
		case 0:
			starts := make([]control.Start, n)
			for p := range starts {
				starts[p].PartID = control.PartID{Topic: topic, Part: p}
			}
			if err := store.EnsureParts(ctx, r.opts.Pool, name, number, starts); err != nil {
				return err
			}
			known[topic] = n
		default:
			return &Fault{control.PartID{Topic: topic, Part: -1}, -1, fmt.Sprintf("it has %d partitions, and had %d when version %d was made", n, known[topic], number),
				"keys have moved between partitions, so their events are no longer in one order; publish to a new topic and rebuild from it", ErrPartitions}
		}
	}
	for _, id := range ids {
		if id.Part < 0 || id.Part >= known[id.Topic] {
			return fmt.Errorf("topic %s has partitions 0 to %d, not %d", id.Topic, known[id.Topic]-1, id.Part)
		}
	}
	if r.spec.Aligned && len(ids) != all {
		return fmt.Errorf("projection %s: %w: it has %d of %d", name, errNotAll, len(ids), all)
	}
	return nil
}

var errNotAll = errors.New("an aligned projection needs one owner of all its partitions")

// checkLogs looks whether the logs still are what was read before and hold what
// comes next. It remembers their ends.
func (r *run) checkLogs(ctx context.Context, parts []control.Part) error {
	ends := make([]int64, len(parts))
	for i, p := range parts {
		first, next, err := r.opts.Log.Ends(ctx, p.Topic, p.Part)
		if err != nil {
			return err
		}
		ends[i] = next
		switch {
		case next < p.Next:
			return newTopic(p.PartID, p.Next, fmt.Sprintf("the log ends at offset %d, before what was already applied", next))
		case first > p.Next && !IsLatest(p.Topic):
			return historyGone(p.PartID, p.Next, first)
		}
		if err := r.checkAnchor(ctx, p, first); err != nil {
			return err
		}
	}
	r.ends = ends
	return nil
}

// checkAnchor reads the record that was applied last and compares its id.
func (r *run) checkAnchor(ctx context.Context, p control.Part, first int64) error {
	if p.Anchor == "" || p.AnchorOffset < first {
		return nil
	}
	for rec, err := range r.opts.Log.Read(ctx, p.Topic, p.Part, p.AnchorOffset, p.AnchorOffset+1) {
		if err != nil {
			return fmt.Errorf("read the last applied record of %s: %w", p.PartID, err)
		}
		if rec.Offset != p.AnchorOffset {
			continue
		}
		if id, _ := rec.Header(event.HeaderID); string(id) != p.Anchor {
			return newTopic(p.PartID, p.AnchorOffset, fmt.Sprintf("the record there is %q, and was %q when it was applied", id, p.Anchor))
		}
	}
	return nil
}

// Passing reports whether a failure of the database or of the log goes away by
// itself, so that the same may be tried again.
func Passing(err error) bool { return passing(err) }

// passing reports whether a failure of the database or of the log goes away by
// itself, so that the same may be tried again.
func passing(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, control.ErrFenced) {
		return false
	}
	var broker interface{ Permanent() bool }
	if errors.As(err, &broker) {
		return !broker.Permanent()
	}
	var locked *control.LockedError
	if errors.As(err, &locked) {
		return true
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "40001", "40P01", "55P03", // serialization, deadlock, lock not available
			"57P01", "57P02", "57P03", "57014", // shutdown, crash, starting up, cancelled
			"25006", "25P03": // a standby, for the moment; idle in transaction for too long
			return true
		}
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "58")
	}
	var conn *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &conn) || errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, pgx.ErrTxClosed) || lostConn(err)
}

// lostConn knows the errors of a connection that was closed under its user, which
// have no type.
func lostConn(err error) bool {
	s := err.Error()
	return strings.Contains(s, "conn closed") || strings.Contains(s, "conn busy") || strings.Contains(s, "closed pool")
}

// refused reports whether the database refuses what an event makes of the rows:
// data that does not fit, a constraint, an exception raised. Trying again is of no
// use, and other events are not concerned.
func refused(err error) bool {
	var own *batchError
	if errors.As(err, &own) && !errors.As(err, new(*pgconn.PgError)) {
		return true
	}
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code[:2] {
	case "22", "23", "54", "P0": // data, constraint, program limit, raised
		return true
	}
	return pg.Code == "25P02" // an error before it was passed over
}
