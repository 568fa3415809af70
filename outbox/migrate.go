package outbox

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

type migration struct {
	version int
	digest  string
	sql     string
}

// migrations gives the embedded steps in order; the file name begins with the
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

// migrationLock is the key of the advisory lock under which the schema
// changes: any constant that nobody else is likely to use.
const migrationLock = 0x62616e79616e // "banyan"

// migrate brings the schema to the version of this program, in one transaction.
func (s *Store) migrate(ctx context.Context) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return fmt.Errorf("lock the schema: %w", err)
		}
		var standby, schema, ours, empty bool
		if err := tx.QueryRow(ctx, `SELECT pg_is_in_recovery(), to_regnamespace('banyan') IS NOT NULL,
			to_regclass('banyan.migration') IS NOT NULL,
			NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('banyan'))`).Scan(&standby, &schema, &ours, &empty); err != nil {
			return fmt.Errorf("look at the schema: %w", err)
		}
		switch {
		case standby:
			return &SchemaError{"this server is a standby and takes no writes; use the primary"}
		case schema && !ours && !empty:
			return &SchemaError{"it exists and holds something else; use another database, or rename that schema"}
		case !schema:
			if _, err := tx.Exec(ctx, `CREATE SCHEMA banyan`); err != nil {
				return fmt.Errorf("create schema banyan (the role needs CREATE on the database, or let its owner run CREATE SCHEMA banyan AUTHORIZATION this role): %w", err)
			}
		}
		if !ours {
			if _, err := tx.Exec(ctx, `CREATE TABLE banyan.migration (version integer PRIMARY KEY, digest text NOT NULL,
				at timestamptz NOT NULL DEFAULT clock_timestamp())`); err != nil {
				return fmt.Errorf("create the table of migrations: %w", err)
			}
		}
		return applyMigrations(ctx, tx, steps)
	})
}

func applyMigrations(ctx context.Context, tx pgx.Tx, steps []migration) error {
	rows, err := tx.Query(ctx, `SELECT version, digest FROM banyan.migration ORDER BY version`)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	done, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (m migration, err error) {
		return m, r.Scan(&m.version, &m.digest)
	})
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	for i, m := range done {
		if i >= len(steps) || m.version > len(steps) {
			return &SchemaError{fmt.Sprintf("it is of version %d, this program knows %d: use the newer program", done[len(done)-1].version, len(steps))}
		}
		if m.version != steps[i].version || m.digest != steps[i].digest {
			return &SchemaError{fmt.Sprintf("version %d is not the one this program knows (digest %s, want %s): it was made by another build", m.version, m.digest, steps[i].digest)}
		}
	}
	for _, m := range steps[len(done):] {
		if _, err := tx.Exec(ctx, m.sql); err != nil {
			return fmt.Errorf("migrate to version %d: %w", m.version, err)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO banyan.migration (version, digest) VALUES ($1, $2)`, m.version, m.digest); err != nil {
			return fmt.Errorf("record version %d: %w", m.version, err)
		}
	}
	return nil
}
