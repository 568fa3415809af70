package declared

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"banyan/internal/document"
	"banyan/projections/state"
)

// scratch is the schema that CheckViews makes and rolls back.
const scratch = "banyan_scratch"

// Beginner begins transactions: a pool, or a connection that has none open.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// CheckViews creates the tables and views in a schema of their own, in a
// transaction that is rolled back: nothing stays. What Postgres refuses is told
// at the place of the file. The error is one of the connection or of rights.
func CheckViews(ctx context.Context, db Beginner, p *Program) (faults Faults, err error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("check the views: %w", err)
	}
	defer func() {
		if back := tx.Rollback(context.WithoutCancel(ctx)); err == nil && back != nil {
			err = fmt.Errorf("check the views: %w", back)
		}
	}()
	statements := []string{"CREATE SCHEMA " + scratch, "SET LOCAL search_path = " + scratch + ", pg_catalog", "SET LOCAL statement_timeout = '30s'"}
	statements = append(statements, state.CreateSQL(scratch, p.spec.Tables)...)
	statements = append(statements, state.KeySQL(scratch, p.spec.Tables)...)
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("check the views: %w", err)
		}
	}
	c := &document.Collector{Path: p.path}
	for _, v := range p.spec.Views {
		wrong, err := try(ctx, tx, "CREATE VIEW "+pgx.Identifier{scratch, v.Name}.Sanitize()+" AS "+v.SQL)
		if err != nil {
			return nil, fmt.Errorf("check view %s: %w", v.Name, err)
		}
		if wrong != "" {
			at := p.views[v.Name]
			c.Add(at.At(), "views."+v.Name, firstOf(v.SQL), "%s", wrong)
			continue
		}
		if err := checkKeys(ctx, tx, c, p, v.Name); err != nil {
			return nil, err
		}
	}
	return c.Faults(), nil
}

// checkKeys sees whether a view has the columns that the read API wants of it.
func checkKeys(ctx context.Context, tx pgx.Tx, c *document.Collector, p *Program, view string) error {
	for _, e := range p.endpoints {
		if e.Relation != view {
			continue
		}
		quoted := make([]string, len(e.Key))
		for i, k := range e.Key {
			quoted[i] = quote(k)
		}
		wrong, err := try(ctx, tx, fmt.Sprintf("SELECT %s FROM %s LIMIT 0", strings.Join(quoted, ", "), quote(view)))
		if err != nil {
			return fmt.Errorf("check the key of %s: %w", view, err)
		}
		if wrong != "" {
			at := p.views[view]
			c.Add(at.At(), "api."+e.Path, strings.Join(e.Key, ", "), "%s", wrong)
		}
	}
	return nil
}

// try runs a statement that Postgres may refuse; wrong is what it says then.
func try(ctx context.Context, tx pgx.Tx, sql string) (wrong string, err error) {
	inner, err := tx.Begin(ctx)
	if err != nil {
		return "", err
	}
	_, err = inner.Exec(ctx, sql)
	if err == nil {
		return "", inner.Commit(ctx)
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return "", err
	}
	wrong = refused.Message
	if refused.Hint != "" {
		wrong += "; " + strings.TrimSuffix(refused.Hint, ".")
	}
	return wrong, inner.Rollback(ctx)
}
