package outbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Source names what the store follows, and the incarnation of it.
type Source struct {
	Name     string // "shop": the first part of event ids
	SystemID string // the server's system identifier
	Timeline int32
	Slot     string // "" for a polled outbox, which needs no first snapshot
	// SlotStart tells a slot from a later one of the same name: the slot's
	// consistent point, or "" where that is not known.
	SlotStart string
	// NewGeneration accepts the source as a new generation: the count goes up
	// by one and the position starts anew.
	NewGeneration bool
}

// Holder is the process that owns the store.
type Holder struct {
	Epoch int64     `json:"epoch"`
	Host  string    `json:"host"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	// Beat is its last heartbeat, by the store's clock.
	Beat  time.Time `json:"beat"`
	Alive bool      `json:"alive"`
}

func (h Holder) String() string {
	return fmt.Sprintf("process %d on %s (epoch %d, since %s)", h.PID, h.Host, h.Epoch, h.Since.UTC().Format(time.RFC3339))
}

const holderColumns = `epoch, host, pid, since, beat, NOT released AND clock_timestamp() - beat <= ttl`

func scanHolder(row pgx.Row) (h Holder, err error) {
	err = row.Scan(&h.Epoch, &h.Host, &h.PID, &h.Since, &h.Beat, &h.Alive)
	return h, err
}

// Holder returns who owns the store, or owned it last.
func (s *Store) Holder(ctx context.Context) (Holder, error) {
	h, err := scanHolder(s.pool.QueryRow(ctx, `SELECT `+holderColumns+` FROM banyan.lease`))
	if err != nil {
		return h, fmt.Errorf("read the lease: %w", err)
	}
	return h, nil
}

// Acquire makes the caller the owner of the store. While another owner lives
// it waits, and calls onWait (may be nil) once per holder it waits for. It
// fails with a *SourceError or an *IncarnationError where the store follows
// something else, without taking the lease. The caller closes the owner; ctx
// only bounds the waiting.
func (s *Store) Acquire(ctx context.Context, src Source, onWait func(Holder)) (*Owner, error) {
	if src.Name == "" {
		return nil, errors.New("acquire the store: the source has no name")
	}
	var told int64
	retry := newBackoff()
	for {
		wait := s.opts.Heartbeat / 4
		held, err := s.takeOver(ctx, src)
		switch {
		case err == nil && held.taken:
			o, err := s.newOwner(ctx, src, held)
			if err != nil {
				return nil, fmt.Errorf("acquire the store: %w", err)
			}
			return o, nil
		case err == nil:
			retry = newBackoff()
			if onWait != nil && told != held.holder.Epoch {
				told = held.holder.Epoch
				onWait(held.holder)
			}
		case passing(err) && ctx.Err() == nil:
			wait = retry.next()
			s.opts.Log.Warn("store: acquire failed, trying again", "error", err, "in", wait)
		default:
			return nil, fmt.Errorf("acquire the store: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("acquire the store: %w", context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// tenure is what takeOver found or took.
type tenure struct {
	taken      bool
	holder     Holder // the living one, where not taken
	epoch      int64
	commits    int64
	generation int
	pos        To
}

// takeOver takes the lease if nobody holds it.
func (s *Store) takeOver(ctx context.Context, src Source) (t tenure, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		h, err := scanHolder(tx.QueryRow(ctx, `SELECT `+holderColumns+` FROM banyan.lease FOR UPDATE`))
		if err != nil {
			return fmt.Errorf("read the lease: %w", err)
		}
		if h.Alive {
			t.holder = h
			// Refused early: no use in waiting for a source that is not ours.
			return s.checkSource(ctx, tx, src)
		}
		// A stopped owner may sit in an open transaction that holds the
		// source's row. Its session goes first, then the row is ours.
		if _, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND usename = current_user AND application_name = $1`, ownerName(h.Epoch)); err != nil {
			return fmt.Errorf("end the sessions of epoch %d: %w", h.Epoch, err)
		}
		if err := s.enter(ctx, tx, src, h.Epoch+1, &t); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE banyan.lease SET epoch = $1, host = $2, pid = $3, since = clock_timestamp(),
			beat = clock_timestamp(), ttl = $4, released = false`, t.epoch, s.opts.Host, os.Getpid(), s.opts.Expiry); err != nil {
			return fmt.Errorf("take the lease: %w", err)
		}
		t.taken = true
		return nil
	})
	return t, err
}

// ownerName is the application_name of the session in which an owner commits.
func ownerName(epoch int64) string { return "banyan owner " + strconv.FormatInt(epoch, 10) }

// checkSource compares src with the store without changing anything.
func (s *Store) checkSource(ctx context.Context, tx pgx.Tx, src Source) error {
	var name string
	var generation int
	err := tx.QueryRow(ctx, `SELECT name, generation FROM banyan.source`).Scan(&name, &generation)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	if name != src.Name {
		return &SourceError{Store: name, Asked: src.Name}
	}
	if src.NewGeneration {
		return nil
	}
	return compareIncarnation(ctx, tx, src, generation)
}

func compareIncarnation(ctx context.Context, tx pgx.Tx, src Source, generation int) error {
	var was Source
	if err := tx.QueryRow(ctx, `SELECT system_id, timeline, slot, slot_start FROM banyan.generation WHERE n = $1`, generation).
		Scan(&was.SystemID, &was.Timeline, &was.Slot, &was.SlotStart); err != nil {
		return fmt.Errorf("read generation %d: %w", generation, err)
	}
	var diff []Difference
	note := func(what, expected, found string) {
		if expected != found {
			diff = append(diff, Difference{what, expected, found})
		}
	}
	note("the system identifier", was.SystemID, src.SystemID)
	note("the timeline", strconv.Itoa(int(was.Timeline)), strconv.Itoa(int(src.Timeline)))
	note("the slot", was.Slot, src.Slot)
	if was.SlotStart != "" && src.SlotStart != "" {
		note("the slot's start", was.SlotStart, src.SlotStart)
	}
	if diff != nil {
		return &IncarnationError{Source: src.Name, Generation: generation, Differs: diff}
	}
	if was.SlotStart == "" && src.SlotStart != "" {
		if _, err := tx.Exec(ctx, `UPDATE banyan.generation SET slot_start = $1 WHERE n = $2`, src.SlotStart, generation); err != nil {
			return fmt.Errorf("record the slot's start: %w", err)
		}
	}
	return nil
}

// enter locks the source's row, checks or counts the incarnation and mints the
// epoch.
func (s *Store) enter(ctx context.Context, tx pgx.Tx, src Source, epoch int64, t *tenure) error {
	if _, err := tx.Exec(ctx, `INSERT INTO banyan.source (name, epoch, generation) VALUES ($1, 0, 0) ON CONFLICT DO NOTHING`, src.Name); err != nil {
		return fmt.Errorf("create the source: %w", err)
	}
	var name string
	var generation int
	if err := tx.QueryRow(ctx, `SELECT name, generation, epoch FROM banyan.source FOR UPDATE`).Scan(&name, &generation, &t.epoch); err != nil {
		return fmt.Errorf("lock the source: %w", err)
	}
	switch {
	case name != src.Name:
		return &SourceError{Store: name, Asked: src.Name}
	case generation > 0 && !src.NewGeneration:
		if err := compareIncarnation(ctx, tx, src, generation); err != nil {
			return err
		}
	default:
		generation++
		if _, err := tx.Exec(ctx, `INSERT INTO banyan.generation (n, system_id, timeline, slot, slot_start) VALUES ($1, $2, $3, $4, $5)`,
			generation, src.SystemID, src.Timeline, src.Slot, src.SlotStart); err != nil {
			return fmt.Errorf("count generation %d: %w", generation, err)
		}
		// LSNs of two generations are never compared: the position starts anew.
		// The source's time goes on, for it never steps back.
		if _, err := tx.Exec(ctx, `UPDATE banyan.source SET generation = $1, commit_lsn = 0, end_lsn = 0`, generation); err != nil {
			return fmt.Errorf("begin generation %d: %w", generation, err)
		}
		// Ranges of the generation before would hide transactions of this one
		// that bear the same xids. The number of a snapshot that was cut short
		// stays taken, since states carry it.
		if _, err := tx.Exec(ctx, `UPDATE banyan.snapshot SET finished = clock_timestamp(), kind = 'dropped' WHERE finished IS NULL`); err != nil {
			return fmt.Errorf("drop the unfinished snapshot: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM banyan.snapshot_range`); err != nil {
			return fmt.Errorf("forget the snapshot ranges of the generation before: %w", err)
		}
	}
	var tm *time.Time
	var commit, end int64
	if err := tx.QueryRow(ctx, `UPDATE banyan.source SET epoch = $1 RETURNING epoch, commits, generation, commit_lsn, end_lsn, time`, max(epoch, t.epoch+1)).
		Scan(&t.epoch, &t.commits, &t.generation, &commit, &end, &tm); err != nil {
		return fmt.Errorf("mint the epoch: %w", err)
	}
	t.pos = To{Commit: uint64(commit), End: uint64(end)}
	if tm != nil {
		t.pos.Time = tm.UTC()
	}
	return nil
}

// heartbeat renews the lease until the owner is closed or another has the
// store. A store that cannot be reached is no loss: the epoch stays ours until
// somebody else takes it, and every commit asks.
func (o *Owner) heartbeat(ctx context.Context) {
	tick := time.NewTicker(o.store.opts.Heartbeat)
	defer tick.Stop()
	var p pulse
	defer p.close()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-o.lost:
			return
		case <-tick.C:
		}
		mine, err := o.beat(ctx, &p)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && !mine:
			o.lose()
			return
		case err != nil && !failing:
			o.store.opts.Log.Warn("store: heartbeat failed", "epoch", o.epoch, "error", err)
		case err == nil && failing:
			o.store.opts.Log.Info("store: heartbeat again", "epoch", o.epoch)
		}
		failing = err != nil
	}
}

// pulse is the heartbeat's own session: readers must never keep it waiting.
type pulse struct{ conn *pgx.Conn }

func (p *pulse) close() {
	if p.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.conn.Close(ctx) // the session holds nothing
	}
}

// beat renews the lease and reports whether it is still ours.
func (o *Owner) beat(ctx context.Context, p *pulse) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, o.store.opts.Expiry)
	defer cancel()
	if p.conn == nil || p.conn.IsClosed() {
		conn, err := pgx.ConnectConfig(ctx, o.store.config)
		if err != nil {
			return true, fmt.Errorf("renew the lease: %w", err)
		}
		p.conn = conn
	}
	tag, err := p.conn.Exec(ctx, `UPDATE banyan.lease SET beat = clock_timestamp() WHERE epoch = $1`, o.epoch)
	if err != nil {
		return true, fmt.Errorf("renew the lease: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// release gives the lease up, so that a successor need not wait for its expiry.
func (o *Owner) release(ctx context.Context) error {
	if _, err := o.store.pool.Exec(ctx, `UPDATE banyan.lease SET released = true WHERE epoch = $1`, o.epoch); err != nil {
		return fmt.Errorf("release the lease: %w", err)
	}
	return nil
}
