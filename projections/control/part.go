package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// LockedError says that partitions could not be locked in time, because another
// session has a batch open on them. Trying again is of use: the server ends a
// session that idles in a transaction.
type LockedError struct {
	Doing   string
	Holders []Holder // as far as this role may see them
}

// Error names the holders.
func (e *LockedError) Error() string {
	if len(e.Holders) == 0 {
		return e.Doing + ": a batch is open on the partitions and does not end (this role may not see whose)"
	}
	var b strings.Builder
	b.WriteString(e.Doing + ": a batch is open and does not end:")
	for i, h := range e.Holders {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " %s is held by server process %d (%s", h.PartID, h.PID, cmp.Or(h.Application, "no application name"))
		if h.Client != "" {
			b.WriteString(" from " + h.Client)
		}
		fmt.Fprintf(&b, ", %s since %s)", h.State, h.Since.UTC().Format(time.TimeOnly))
	}
	fmt.Fprintf(&b, "; SELECT pg_terminate_backend(%d) ends it", e.Holders[0].PID)
	return b.String()
}

// Holder is a session that holds a lock.
type Holder struct {
	PartID
	PID         int // of the server's process
	Application string
	Client      string // address, "" for a local one
	State       string // "idle in transaction"
	Since       time.Time
}

// Start is a partition and the offset at which a version begins to read it.
type Start struct {
	PartID
	Offset int64
}

// arrays splits ids into the two columns of a key.
func arrays(ids []PartID) (topics []string, parts []int32) {
	topics, parts = make([]string, len(ids)), make([]int32, len(ids))
	for i, id := range ids {
		topics[i], parts[i] = id.Topic, int32(id.Part)
	}
	return topics, parts
}

// EnsureParts makes the rows of partitions that have none yet; others keep what
// they have.
func (s *Store) EnsureParts(ctx context.Context, db DB, projection string, version int, starts []Start) error {
	ids, offsets := make([]PartID, len(starts)), make([]int64, len(starts))
	for i, p := range starts {
		ids[i], offsets[i] = p.PartID, p.Offset
	}
	topics, parts := arrays(ids)
	// In the order of all who lock these rows: two that make the same ones wait
	// for each other's commit.
	if _, err := db.Exec(ctx, `INSERT INTO banyan.part (projection, version, topic, part, next_offset)
		SELECT $1, $2, topic, part, first FROM unnest($3::text[], $4::integer[], $5::bigint[]) AS u(topic, part, first)
		ORDER BY topic COLLATE "C", part ON CONFLICT DO NOTHING`, projection, version, topics, parts, offsets); err != nil {
		if isCode(err, "23503") {
			return fmt.Errorf("version %d of projection %s: %w", version, projection, ErrNotFound)
		}
		return fmt.Errorf("make the partitions of version %d of %s: %w", version, projection, err)
	}
	return nil
}

const partColumns = `topic, part, epoch, owner, next_offset, seq, writer,
	applied_generation, applied_lsn, applied_ordinal, applied_snapshot,
	passed_generation, passed_lsn, passed_time, stream_time, anchor, anchor_offset, updated_at`

func scanPart(row pgx.CollectableRow) (p Part, err error) {
	var applied, passed int64
	var passedTime, streamTime *time.Time
	err = row.Scan(&p.Topic, &p.Part, &p.Epoch, &p.Owner, &p.Next, &p.Seq, &p.Writer,
		&p.Applied.Generation, &applied, &p.Applied.Ordinal, &p.Applied.Snapshot,
		&p.Passed.Generation, &passed, &passedTime, &streamTime, &p.Anchor, &p.AnchorOffset, &p.UpdatedAt)
	p.Applied.LSN, p.Passed.LSN = uint64(applied), uint64(passed)
	p.Passed.Time, p.StreamTime, p.UpdatedAt = utc(passedTime), utc(streamTime), p.UpdatedAt.UTC()
	return p, err
}

func comparePart(a, b PartID) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Part, b.Part))
}

// TakeOver makes the caller the owner of partitions: each gets a new epoch, and
// the progress that was committed is returned, in the order of topic and
// partition. It waits for the open batch of the owner before, longer than the
// server leaves a frozen one in it; then it is a *LockedError. A partition
// without a row is ErrNotFound.
func (s *Store) TakeOver(ctx context.Context, projection string, version int, ids []PartID, owner string) ([]Part, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	topics, numbers := arrays(ids)
	doing := fmt.Sprintf("take over %d partitions of version %d of %s", len(ids), version, projection)
	var parts []Part
	err := s.locking(ctx, doing, func(tx pgx.Tx) error {
		if err := lockParts(ctx, tx, projection, version, ids); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `UPDATE banyan.part SET epoch = epoch + 1, owner = $5, updated_at = clock_timestamp()
			WHERE projection = $1 AND version = $2 AND (topic, part) IN (SELECT * FROM unnest($3::text[], $4::integer[]))
			RETURNING `+partColumns, projection, version, topics, numbers, owner)
		if err != nil {
			return err
		}
		parts, err = pgx.CollectRows(rows, scanPart)
		return err
	})
	if locked := (*LockedError)(nil); errors.As(err, &locked) {
		locked.Holders = s.holders(ctx, projection, []int{version}, ids)
		return nil, locked
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	slices.SortFunc(parts, func(a, b Part) int { return comparePart(a.PartID, b.PartID) })
	for _, id := range ids {
		if !slices.ContainsFunc(parts, func(p Part) bool { return p.PartID == id }) {
			return nil, fmt.Errorf("%s: partition %s: %w", doing, id, ErrNotFound)
		}
	}
	return parts, nil
}

// locking runs do in a durable transaction that waits for locks as long as the
// store's patience; a lock that is not had by then is a *LockedError without
// holders.
func (s *Store) locking(ctx context.Context, doing string, do func(tx pgx.Tx) error) error {
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		ms := strconv.FormatInt(s.patience.Milliseconds(), 10)
		if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true), set_config('synchronous_commit', 'on', true)`, ms); err != nil {
			return err
		}
		return do(tx)
	})
	if isCode(err, "55P03") {
		return &LockedError{Doing: doing}
	}
	return err
}

// lockParts locks rows of one version in the order that everybody keeps, all of
// them where ids is nil.
func lockParts(ctx context.Context, tx pgx.Tx, projection string, version int, ids []PartID) error {
	topics, parts := arrays(ids)
	_, err := tx.Exec(ctx, `SELECT FROM banyan.part WHERE projection = $1 AND version = $2
		AND ($5 OR (topic, part) IN (SELECT * FROM unnest($3::text[], $4::integer[])))
		ORDER BY topic, part FOR UPDATE`, projection, version, topics, parts, ids == nil)
	return err
}

// holders looks who has rows locked right now: the transaction that a row's xmax
// names.
func (s *Store) holders(ctx context.Context, projection string, versions []int, ids []PartID) []Holder {
	topics, parts := arrays(ids)
	rows, err := s.pool.Query(ctx, `SELECT t.topic, t.part, a.pid, a.application_name, coalesce(host(a.client_addr), ''), coalesce(a.state, ''),
			coalesce(a.state_change, a.xact_start, clock_timestamp())
		FROM banyan.part t JOIN pg_stat_activity a ON a.backend_xid = t.xmax
		WHERE t.projection = $1 AND t.version = ANY($2) AND a.pid <> pg_backend_pid()
			AND ($5 OR (t.topic, t.part) IN (SELECT * FROM unnest($3::text[], $4::integer[])))
		ORDER BY 1, 2`, projection, versions, topics, parts, ids == nil)
	if err != nil {
		return nil // it only adds to an error that is there already
	}
	holders, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (h Holder, err error) {
		return h, r.Scan(&h.Topic, &h.Part, &h.PID, &h.Application, &h.Client, &h.State, &h.Since)
	})
	if err != nil {
		return nil
	}
	return holders
}

// Leave clears the owner's name where the epochs are still those of parts, so
// that status tells a partition that was given back from one that is orphaned.
// It does not wait for anybody.
func (s *Store) Leave(ctx context.Context, projection string, version int, parts []Part) error {
	ids, epochs := make([]PartID, len(parts)), make([]int64, len(parts))
	for i, p := range parts {
		ids[i], epochs[i] = p.PartID, p.Epoch
	}
	topics, numbers := arrays(ids)
	if _, err := s.pool.Exec(ctx, `UPDATE banyan.part SET owner = '' WHERE (projection, version, topic, part) IN (
			SELECT t.projection, t.version, t.topic, t.part FROM banyan.part t
			JOIN unnest($3::text[], $4::integer[], $5::bigint[]) AS u(topic, part, epoch) USING (topic, part, epoch)
			WHERE t.projection = $1 AND t.version = $2 ORDER BY t.topic, t.part FOR UPDATE OF t SKIP LOCKED)`,
		projection, version, topics, numbers, epochs); err != nil {
		return fmt.Errorf("leave the partitions of version %d of %s: %w", version, projection, err)
	}
	return nil
}

// Parts lists the partitions of a version, in the order of topic and partition.
func (s *Store) Parts(ctx context.Context, db DB, projection string, version int) ([]Part, error) {
	rows, err := db.Query(ctx, `SELECT `+partColumns+` FROM banyan.part WHERE projection = $1 AND version = $2 ORDER BY topic, part`, projection, version)
	if err == nil {
		var parts []Part
		if parts, err = pgx.CollectRows(rows, scanPart); err == nil {
			return parts, nil
		}
	}
	return nil, fmt.Errorf("list the partitions of version %d of %s: %w", version, projection, err)
}

// Standing is Parts for an owner whose connection was lost in the middle of a
// batch: it waits until no transaction is open on the rows any more, so that what
// the server makes of that batch is decided, one way or the other. One that stays
// open is a *LockedError.
func (s *Store) Standing(ctx context.Context, projection string, version int) ([]Part, error) {
	var parts []Part
	doing := fmt.Sprintf("look where version %d of %s stands", version, projection)
	err := s.locking(ctx, doing, func(tx pgx.Tx) error {
		if err := lockParts(ctx, tx, projection, version, nil); err != nil {
			return err
		}
		var err error
		parts, err = s.Parts(ctx, tx, projection, version)
		return err
	})
	if locked := (*LockedError)(nil); errors.As(err, &locked) {
		locked.Holders = s.holders(ctx, projection, []int{version}, nil)
		return nil, locked
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return parts, nil
}
