package control

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

type migration struct {
	version int
	digest  string
	sql     string
}

// migrations gives the embedded steps in order; a file's name begins with the
// version.
func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var all []migration
	for i, name := range names { // Glob sorts
		b, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		digits, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if v, err := strconv.Atoi(digits); err != nil || v != i+1 {
			return nil, fmt.Errorf("migration %s: want version %d", name, i+1)
		}
		sum := sha256.Sum256(b)
		all = append(all, migration{version: i + 1, digest: hex.EncodeToString(sum[:8]), sql: string(b)})
	}
	return all, nil
}

// migrationLock is the key of the advisory lock under which the schema changes:
// any constant that nobody else is likely to use.
const migrationLock = 0x62616e70726f6a // "banproj"

// schemaState is what a database has of the schema.
type schemaState struct {
	standby, schema, ours, empty bool
	done                         []migration
}

// lookAtSchema reads it, and refuses what this program cannot use.
func lookAtSchema(ctx context.Context, db DB, steps []migration) (st schemaState, err error) {
	if err := db.QueryRow(ctx, `SELECT pg_is_in_recovery(), to_regnamespace('banyan') IS NOT NULL,
		EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('banyan') AND relname = 'control_migration'),
		NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('banyan'))`).
		Scan(&st.standby, &st.schema, &st.ours, &st.empty); err != nil {
		return st, fmt.Errorf("look at schema banyan: %w", err)
	}
	if st.schema && !st.ours && !st.empty {
		return st, &SchemaError{"it holds something else, such as the store of cdc: give the projections a database of their own"}
	}
	if !st.ours {
		return st, nil
	}
	rows, err := db.Query(ctx, `SELECT version, digest FROM banyan.control_migration ORDER BY version`)
	if err != nil {
		return st, fmt.Errorf("read migrations: %w", err)
	}
	st.done, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (m migration, err error) {
		return m, r.Scan(&m.version, &m.digest)
	})
	if insufficient(err) {
		// A reader may call the functions and look into no table: the program
		// that made them is not its business.
		st.done = steps
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("read migrations: %w", err)
	}
	for i, m := range st.done {
		if i >= len(steps) || m.version > len(steps) {
			return st, &SchemaError{fmt.Sprintf("it is of version %d, this program knows %d: use the newer program", st.done[len(st.done)-1].version, len(steps))}
		}
		if m.version != steps[i].version || m.digest != steps[i].digest {
			return st, &SchemaError{fmt.Sprintf("version %d is not the one this program knows (digest %s, want %s): it was made by another build", m.version, m.digest, steps[i].digest)}
		}
	}
	return st, nil
}

// Migrate brings the schema banyan to the version of this program, in one
// transaction. Two that migrate at once migrate once. Where the role lacks the
// right to make the schema, the *SchemaError has the SQL that helps.
func (s *Store) Migrate(ctx context.Context) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return fmt.Errorf("lock the schema: %w", err)
		}
		st, err := lookAtSchema(ctx, tx, steps)
		if err != nil {
			return err
		}
		if len(st.done) == len(steps) {
			return nil
		}
		if st.standby {
			return &SchemaError{"this server is a standby and takes no writes; use the primary"}
		}
		if !st.schema {
			if err := createSchema(ctx, tx, "banyan"); err != nil {
				return err
			}
		}
		return applyMigrations(ctx, tx, steps, st)
	})
	if err != nil {
		return fmt.Errorf("migrate the control store: %w", err)
	}
	return nil
}

func applyMigrations(ctx context.Context, tx pgx.Tx, steps []migration, st schemaState) error {
	if !st.ours {
		help := helpfulSQL(ctx, tx, "GRANT CREATE, USAGE ON SCHEMA banyan TO %[2]s;")
		if _, err := tx.Exec(ctx, `CREATE TABLE banyan.control_migration (version integer PRIMARY KEY, digest text NOT NULL,
			at timestamptz NOT NULL DEFAULT clock_timestamp())`); err != nil {
			if insufficient(err) {
				return &SchemaError{"this role may not make tables in it; let its owner run: " + help}
			}
			return fmt.Errorf("create the table of migrations: %w", err)
		}
	}
	for _, m := range steps[len(st.done):] {
		if _, err := tx.Exec(ctx, m.sql); err != nil {
			return fmt.Errorf("migrate to version %d: %w", m.version, err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO banyan.control_migration (version, digest) VALUES ($1, $2)`, m.version, m.digest); err != nil {
			return fmt.Errorf("record version %d: %w", m.version, err)
		}
	}
	return nil
}

// Migrated reports whether the schema is there in this program's version.
func (s *Store) Migrated(ctx context.Context) (bool, error) {
	steps, err := migrations()
	if err != nil {
		return false, err
	}
	st, err := lookAtSchema(ctx, s.pool, steps)
	return err == nil && len(st.done) == len(steps), err
}

// createSchema makes a schema, or says which SQL gives the right to.
func createSchema(ctx context.Context, tx pgx.Tx, name string) error {
	sp, err := tx.Begin(ctx)
	if err != nil {
		return fmt.Errorf("create schema %s: %w", name, err)
	}
	quoted := pgx.Identifier{name}.Sanitize()
	if _, err := sp.Exec(ctx, "CREATE SCHEMA "+quoted); err != nil {
		err = errors.Join(err, sp.Rollback(ctx))
		if insufficient(err) {
			return &SchemaError{"this role may not make the schema " + name + " here; let the database's owner run: " +
				helpfulSQL(ctx, tx, "GRANT CREATE ON DATABASE %[1]s TO %[2]s;")}
		}
		return fmt.Errorf("create schema %s: %w", name, err)
	}
	if err := sp.Commit(ctx); err != nil {
		return fmt.Errorf("create schema %s: %w", name, err)
	}
	return nil
}

// helpfulSQL fills in the database, %[1]s, and the role, %[2]s.
func helpfulSQL(ctx context.Context, tx pgx.Tx, format string) string {
	database, role := "this_database", "this_role"
	if err := tx.QueryRow(ctx, `SELECT quote_ident(current_database()), quote_ident(current_user)`).Scan(&database, &role); err != nil {
		database, role = "this_database", "this_role"
	}
	return strings.NewReplacer("%[1]s", database, "%[2]s", role).Replace(format)
}

// insufficient reports whether a right is missing.
func insufficient(err error) bool { return isCode(err, "42501") }

// isCode reports whether the server answered with one of the SQLSTATEs.
func isCode(err error, codes ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, c := range codes {
		if pg.Code == c {
			return true
		}
	}
	return false
}
