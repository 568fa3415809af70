package control

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Declaration is what a version is made of.
type Declaration struct {
	Projection         string // a plain SQL name: "shipping"
	Source             string
	Definition, Digest string
	Note               string
}

// DigestError says that a projection is declared with another definition than
// its active version has: a rebuild makes a version of it beside the live one.
type DigestError struct {
	Active Version
	Digest string // the declared one
}

// Error names the rebuild.
func (e *DigestError) Error() string {
	return fmt.Sprintf("%s is not what version %d of it was made of (digest %s, was %s): `projector rebuild %s` makes a new version beside the live one",
		e.Active.Projection, e.Active.Number, short(e.Digest), short(e.Active.Digest), e.Active.Projection)
}

func short(digest string) string { return digest[:min(len(digest), 12)] }

// StateError says that a version cannot go from its state to the one asked for.
type StateError struct {
	Projection string
	Number     int
	From, To   State
}

// Error names both states.
func (e *StateError) Error() string {
	return fmt.Sprintf("version %d of %s is %s and cannot become %s", e.Number, e.Projection, e.From, e.To)
}

// NameError says that a projection cannot have this name.
type NameError struct{ Name, Reason string }

// Error says why.
func (e *NameError) Error() string {
	return fmt.Sprintf("projection %q: %s", e.Name, e.Reason)
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// CheckName reports, as a *NameError, why a projection cannot have a name: it is
// that of a schema, of roles and a part of other names.
func CheckName(name string) error {
	switch {
	case !plainName.MatchString(name):
		return &NameError{name, "want a plain SQL name of at most 40 small letters, digits and underscores, a letter first"}
	case name == "banyan" || name == "public" || name == "information_schema" || strings.HasPrefix(name, "pg_"):
		return &NameError{name, "a schema of that name has another use"}
	case versionSchema.MatchString(name):
		return &NameError{name, "names that end in _v and a number are those of versions"}
	}
	return nil
}

var versionSchema = regexp.MustCompile(`_v[0-9]+$`)

const versionColumns = `projection, number, state, definition, digest, schema, source,
	since_generation, since_lsn, since_time, created_at, changed_at, note`

func scanVersion(row pgx.CollectableRow) (v Version, err error) {
	var lsn int64
	var since *time.Time
	err = row.Scan(&v.Projection, &v.Number, &v.State, &v.Definition, &v.Digest, &v.Schema, &v.Source,
		&v.Since.Generation, &lsn, &since, &v.CreatedAt, &v.ChangedAt, &v.Note)
	v.Since.LSN, v.Since.Time = uint64(lsn), utc(since)
	v.CreatedAt, v.ChangedAt = v.CreatedAt.UTC(), v.ChangedAt.UTC()
	return v, err
}

func queryVersions(ctx context.Context, db DB, where string, args ...any) ([]Version, error) {
	rows, err := db.Query(ctx, `SELECT `+versionColumns+` FROM banyan.version WHERE `+where+` ORDER BY projection, number`, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanVersion)
}

// Declare gives the active version of a projection and whether it was made just
// now: the first one is active at once. Where the active version has another
// digest it is a *DigestError. For a new one the schemas (p and p_v1) are made in
// tx too; the caller makes the tables in Version.Schema and then calls
// PointViews, in the same transaction, so that nothing is made halfway.
func (s *Store) Declare(ctx context.Context, tx pgx.Tx, d Declaration) (v Version, made bool, err error) {
	if err := CheckName(d.Projection); err != nil {
		return v, false, err
	}
	if err := lockProjection(ctx, tx, d.Projection); err != nil {
		return v, false, err
	}
	active, err := queryVersions(ctx, tx, `projection = $1 AND state = 'active'`, d.Projection)
	if err != nil {
		return v, false, fmt.Errorf("declare %s: %w", d.Projection, err)
	}
	if len(active) > 0 {
		if active[0].Digest != d.Digest {
			return active[0], false, &DigestError{active[0], d.Digest}
		}
		return active[0], false, nil
	}
	if err := publicSchema(ctx, tx, d.Projection); err != nil {
		return v, false, err
	}
	v, err = s.makeVersion(ctx, tx, d, Active)
	return v, err == nil, err
}

// NewVersion makes the next version of a projection beside the others, with its
// schema, in state Building.
func (s *Store) NewVersion(ctx context.Context, tx pgx.Tx, d Declaration) (v Version, err error) {
	if err := CheckName(d.Projection); err != nil {
		return v, err
	}
	if err := lockProjection(ctx, tx, d.Projection); err != nil {
		return v, err
	}
	return s.makeVersion(ctx, tx, d, Building)
}

// lockProjection lets one at a time make versions of a projection.
func lockProjection(ctx context.Context, tx pgx.Tx, projection string) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, hashtext($2))`, 0x62616e7a, projection); err != nil {
		return fmt.Errorf("lock the versions of %s: %w", projection, err)
	}
	return nil
}

func (s *Store) makeVersion(ctx context.Context, tx pgx.Tx, d Declaration, state State) (v Version, err error) {
	if err := durable(ctx, tx); err != nil {
		return v, err
	}
	var number int
	// A number whose schema is there is not taken again, whoever made it.
	if err := tx.QueryRow(ctx, `SELECT 1 + greatest(
			(SELECT max(number) FROM banyan.version WHERE projection = $1),
			(SELECT max(substring(nspname FROM '[0-9]+$')::bigint) FROM pg_namespace WHERE nspname ~ ('^' || $1 || '_v[1-9][0-9]{0,6}$')), 0)`,
		d.Projection).Scan(&number); err != nil {
		return v, fmt.Errorf("number a version of %s: %w", d.Projection, err)
	}
	schema := fmt.Sprintf("%s_v%d", d.Projection, number)
	if err := createSchema(ctx, tx, schema); err != nil {
		return v, err
	}
	rows, err := tx.Query(ctx, `INSERT INTO banyan.version (projection, number, state, definition, digest, schema, source, note)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING `+versionColumns,
		d.Projection, number, state, d.Definition, d.Digest, schema, d.Source, d.Note)
	if err == nil {
		v, err = pgx.CollectExactlyOneRow(rows, scanVersion)
	}
	if err != nil {
		return v, fmt.Errorf("make version %d of %s: %w", number, d.Projection, err)
	}
	return v, notify(ctx, tx, VersionChanged, d.Projection)
}

// publicSchema makes the schema that readers see, or takes an empty one that was
// prepared for it.
func publicSchema(ctx context.Context, tx pgx.Tx, projection string) error {
	var there, ours bool
	var held []string
	if err := tx.QueryRow(ctx, `SELECT to_regnamespace(quote_ident($1)) IS NOT NULL,
			EXISTS (SELECT FROM banyan.version WHERE projection = $1),
			ARRAY(SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1)`, projection).Scan(&there, &ours, &held); err != nil {
		return fmt.Errorf("look at schema %s: %w", projection, err)
	}
	if len(held) > 0 && !ours {
		return &NameError{projection, "the schema of that name holds " + listed(held) + " already: choose another name, or another database"}
	}
	if there {
		return nil
	}
	return createSchema(ctx, tx, projection)
}

// listed writes the first of many names.
func listed(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// Versions lists the versions of a projection in order of their numbers, or of
// all projections where it is "".
func (s *Store) Versions(ctx context.Context, projection string) ([]Version, error) {
	all, err := queryVersions(ctx, s.pool, `$1 IN ('', projection)`, projection)
	if err != nil {
		return nil, fmt.Errorf("list versions: %w", err)
	}
	return all, nil
}

// Version gives one version, ErrNotFound where there is none.
func (s *Store) Version(ctx context.Context, projection string, number int) (v Version, err error) {
	all, err := queryVersions(ctx, s.pool, `projection = $1 AND number = $2`, projection, number)
	if err != nil {
		return v, fmt.Errorf("read version %d of %s: %w", number, projection, err)
	}
	if len(all) == 0 {
		return v, fmt.Errorf("version %d of projection %s: %w", number, projection, ErrNotFound)
	}
	return all[0], nil
}

// Active gives the version that readers see; ErrNotFound where there is none.
func (s *Store) Active(ctx context.Context, projection string) (v Version, err error) {
	all, err := queryVersions(ctx, s.pool, `projection = $1 AND state = 'active'`, projection)
	if err != nil {
		return v, fmt.Errorf("read the active version of %s: %w", projection, err)
	}
	if len(all) == 0 {
		return v, fmt.Errorf("projection %s: %w", projection, ErrNotFound)
	}
	return all[0], nil
}

// lawful says where a version can go by SetState. Active and Kept are reached by
// Swap alone.
var lawful = map[State][]State{
	Building:  {Following, Retired},
	Following: {Retired},
	Kept:      {Retired},
	Active:    {Retired},
}

// SetState moves a version on: Building to Following or Retired, Following or
// Kept to Retired, Active to Retired where no other is left. Active and Kept are
// reached by Swap alone. Anything else is a *StateError.
func (s *Store) SetState(ctx context.Context, db DB, projection string, number int, to State, note string) error {
	var from []State
	for f, all := range lawful {
		if slices.Contains(all, to) {
			from = append(from, f)
		}
	}
	// The others of the projection are looked at in the same statement; that of an
	// active one is rare and never concurrent with its own swap, which has its
	// rows locked.
	tag, err := db.Exec(ctx, `UPDATE banyan.version v SET state = $3, note = $4, changed_at = clock_timestamp(),
			hold_generation = NULL, hold_lsn = NULL, hold_time = NULL, hold_until = NULL
		WHERE projection = $1 AND number = $2 AND state = ANY($5)
			AND (state <> 'active' OR NOT EXISTS (SELECT FROM banyan.version o WHERE o.projection = $1 AND o.number <> $2 AND o.state <> 'retired'))`,
		projection, number, to, note, from)
	if err != nil {
		return fmt.Errorf("make version %d of %s %s: %w", number, projection, to, err)
	}
	if tag.RowsAffected() == 1 {
		return notify(ctx, db, VersionChanged, projection)
	}
	now, err := queryVersions(ctx, db, `projection = $1 AND number = $2`, projection, number)
	switch {
	case err != nil:
		return fmt.Errorf("make version %d of %s %s: %w", number, projection, to, err)
	case len(now) == 0:
		return fmt.Errorf("version %d of projection %s: %w", number, projection, ErrNotFound)
	}
	return &StateError{projection, number, now[0].State, to}
}

// SetSince sets the mark at which the effects of a version begin.
func (s *Store) SetSince(ctx context.Context, db DB, projection string, number int, since Mark) error {
	tag, err := db.Exec(ctx, `UPDATE banyan.version SET since_generation = $3, since_lsn = $4, since_time = $5
		WHERE projection = $1 AND number = $2`, projection, number, since.Generation, int64(since.LSN), orNull(since.Time))
	if err != nil {
		return fmt.Errorf("set where the effects of %s begin: %w", projection, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("version %d of projection %s: %w", number, projection, ErrNotFound)
	}
	return nil
}

// Drop removes a retired version: its schema and all that is kept of it, but not
// its effects and fired timers, which belong to the projection. Where others have
// views on its tables that is a *DependentsError.
func (s *Store) Drop(ctx context.Context, projection string, number int) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockProjection(ctx, tx, projection); err != nil {
			return err
		}
		all, err := queryVersions(ctx, tx, `projection = $1 AND number = $2`, projection, number)
		switch {
		case err != nil:
			return err
		case len(all) == 0:
			return ErrNotFound
		case all[0].State != Retired:
			return &StateError{projection, number, all[0].State, "dropped"}
		}
		v := all[0]
		if err := dropOwnViews(ctx, tx, v); err != nil {
			return err
		}
		others, err := dependents(ctx, tx, v.Schema, "")
		if err != nil {
			return err
		}
		if len(others) > 0 {
			return &DependentsError{View: v.Schema, Dependents: others}
		}
		if _, err := tx.Exec(ctx, `DROP SCHEMA IF EXISTS `+pgx.Identifier{v.Schema}.Sanitize()+` CASCADE`); err != nil {
			return fmt.Errorf("drop schema %s: %w", v.Schema, err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM banyan.version WHERE projection = $1 AND number = $2`, projection, number); err != nil {
			return err
		}
		return notify(ctx, tx, VersionChanged, projection)
	})
	if err != nil {
		return fmt.Errorf("drop version %d of %s: %w", number, projection, err)
	}
	return nil
}

// ChangeKind says what changed.
type ChangeKind string

// Kinds of changes.
const (
	// Looked is no change: it is yielded first and about every second, however
	// many changes there are, so that a lost notification costs no more than that.
	Looked         ChangeKind = ""
	VersionChanged ChangeKind = "version" // a version was made, changed or dropped
	HoldChanged    ChangeKind = "hold"    // a hold was placed or cleared
	RequestMade    ChangeKind = "request"
	RequestDone    ChangeKind = "done"
	EffectPromised ChangeKind = "effect"
)

// Change is a notification; Projection is "" in one that was Looked.
type Change struct {
	Projection string
	Kind       ChangeKind
}

// Watch yields the changes of all projections of the database, on a connection
// of its own, until ctx is done or the connection fails.
func (s *Store) Watch(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		conn, err := s.ownConn(ctx)
		if err == nil {
			defer closeConn(conn)
			_, err = conn.Exec(ctx, `LISTEN banyan_control`)
		}
		if err != nil {
			yield(Change{}, fmt.Errorf("watch the control store: %w", err))
			return
		}
		if !yield(Change{}, nil) {
			return
		}
		for looked := time.Now(); ; {
			wait, cancel := context.WithDeadline(ctx, looked.Add(time.Second))
			n, err := conn.WaitForNotification(wait)
			cancel()
			var c Change
			switch {
			case ctx.Err() != nil:
				yield(c, context.Cause(ctx))
				return
			case err == nil:
				kind, projection, _ := strings.Cut(n.Payload, " ")
				c = Change{projection, ChangeKind(kind)}
			case !errors.Is(err, context.DeadlineExceeded) || conn.IsClosed():
				yield(c, fmt.Errorf("watch the control store: %w", err))
				return
			}
			if !yield(c, nil) {
				return
			}
			if c.Kind == Looked {
				looked = time.Now()
			}
		}
	}
}
