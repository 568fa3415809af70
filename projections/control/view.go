package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// View is one relation of a version that readers see under the projection's own
// schema: p.name shows p_vN.name.
type View struct {
	Name    string
	Columns []string // in order; all it has where there are none
	// SQL, where it is not "", is a declared view: CreateViews makes it in the
	// version's schema, over tables that it names without a schema.
	SQL     string
	Comment string
}

// DependentsError says that others have views on something that has to change.
type DependentsError struct {
	View       string
	Dependents []string
}

// Error names them.
func (e *DependentsError) Error() string {
	return fmt.Sprintf("%s has to change and others depend on it: %s; drop those first, and make them again after", e.View, listed(e.Dependents))
}

// CreateViews makes the declared views of a version in its own schema, in order.
// Tables have no part in it.
func (s *Store) CreateViews(ctx context.Context, tx pgx.Tx, v Version, views []View) error {
	var before string
	if err := tx.QueryRow(ctx, `SELECT current_setting('search_path'), set_config('search_path', quote_ident($1) || ', pg_catalog', true)`, v.Schema).Scan(&before, nil); err != nil {
		return fmt.Errorf("make views in %s: %w", v.Schema, err)
	}
	for _, view := range views {
		if view.SQL == "" {
			continue
		}
		// One statement, whatever the text holds: the extended protocol takes no
		// second one.
		sql := "CREATE VIEW " + pgx.Identifier{v.Schema, view.Name}.Sanitize() + " AS " + view.SQL
		if r := tx.Conn().PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Read(); r.Err != nil {
			return fmt.Errorf("make the view %s: %w", view.Name, r.Err)
		}
	}
	if _, err := tx.Exec(ctx, `SELECT set_config('search_path', $1, true)`, before); err != nil {
		return fmt.Errorf("make views in %s: %w", v.Schema, err)
	}
	return nil
}

// PointViews makes the schema p show exactly these relations of the version, and
// lets the reader role select from them, where there is one. A view whose columns
// stay is replaced, so that views of others on it live on; one whose columns
// change is made anew, and where others depend on it that is a *DependentsError.
// It waits for readers as long as lock_timeout allows.
func (s *Store) PointViews(ctx context.Context, tx pgx.Tx, v Version, views []View) error {
	rows, err := tx.Query(ctx, `SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind = 'v' ORDER BY 1`, v.Projection)
	var old []string
	if err == nil {
		old, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return fmt.Errorf("look at the views of %s: %w", v.Projection, err)
	}
	for _, name := range old {
		if !slices.ContainsFunc(views, func(w View) bool { return w.Name == name }) {
			if err := dropView(ctx, tx, v.Projection, name); err != nil {
				return err
			}
		}
	}
	for _, view := range views {
		if err := pointView(ctx, tx, v, view, slices.Contains(old, view.Name)); err != nil {
			return err
		}
	}
	return grantReader(ctx, tx, v.Projection)
}

func pointView(ctx context.Context, tx pgx.Tx, v Version, view View, there bool) error {
	name := pgx.Identifier{v.Projection, view.Name}.Sanitize()
	if len(view.Columns) == 0 {
		rows, err := tx.Query(ctx, `SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, v.Schema, view.Name)
		if err == nil {
			view.Columns, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			return fmt.Errorf("read the columns of %s.%s: %w", v.Schema, view.Name, err)
		}
	}
	columns := make([]string, len(view.Columns))
	for i, c := range view.Columns {
		columns[i] = pgx.Identifier{c}.Sanitize()
	}
	as := "VIEW " + name + " AS SELECT " + strings.Join(columns, ", ") + " FROM " + pgx.Identifier{v.Schema, view.Name}.Sanitize()
	if there {
		err := inSavepoint(ctx, tx, "CREATE OR REPLACE "+as)
		if isCode(err, "42P16") { // other columns
			if err := dropView(ctx, tx, v.Projection, view.Name); err != nil {
				return err
			}
			there = false
		} else if err != nil {
			return fmt.Errorf("point the view %s to %s: %w", name, v.Schema, err)
		}
	}
	if !there {
		if _, err := tx.Exec(ctx, "CREATE "+as); err != nil {
			return fmt.Errorf("make the view %s: %w", name, err)
		}
	}
	comment := "NULL"
	if view.Comment != "" {
		comment = string(appendQuoted(nil, view.Comment))
	}
	if _, err := tx.Exec(ctx, "COMMENT ON VIEW "+name+" IS "+comment); err != nil {
		return fmt.Errorf("comment on the view %s: %w", name, err)
	}
	return nil
}

func dropView(ctx context.Context, tx pgx.Tx, schema, name string) error {
	quoted := pgx.Identifier{schema, name}.Sanitize()
	err := inSavepoint(ctx, tx, "DROP VIEW "+quoted)
	if isCode(err, "2BP01") {
		others, lookErr := dependents(ctx, tx, schema, name)
		if lookErr != nil {
			return lookErr
		}
		return &DependentsError{View: "view " + schema + "." + name, Dependents: others}
	}
	if err != nil {
		return fmt.Errorf("drop the view %s: %w", quoted, err)
	}
	return nil
}

// inSavepoint runs a statement whose failure leaves tx of use.
func inSavepoint(ctx context.Context, tx pgx.Tx, sql string) error {
	sp, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := sp.Exec(ctx, sql); err != nil {
		return errors.Join(err, sp.Rollback(ctx))
	}
	return sp.Commit(ctx)
}

// dependents names the relations that are views on a relation, or, where name is
// "", those outside a schema that are views on anything in it.
func dependents(ctx context.Context, db DB, schema, name string) ([]string, error) {
	rows, err := db.Query(ctx, `SELECT DISTINCT vn.nspname || '.' || v.relname
		FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
		JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace vn ON vn.oid = v.relnamespace
		JOIN pg_class c ON c.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND ($2 = '' AND vn.nspname <> $1 OR c.relname = $2) AND v.oid <> c.oid ORDER BY 1`, schema, name)
	if err == nil {
		var names []string
		if names, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return names, nil
		}
	}
	return nil, fmt.Errorf("look who depends on %s: %w", schema, err)
}

// dropOwnViews drops the views of the projection's schema that still show a
// version.
func dropOwnViews(ctx context.Context, tx pgx.Tx, v Version) error {
	shown, err := dependents(ctx, tx, v.Schema, "")
	if err != nil {
		return err
	}
	for _, full := range shown {
		if name, ok := strings.CutPrefix(full, v.Projection+"."); ok {
			if err := dropView(ctx, tx, v.Projection, name); err != nil {
				return err
			}
		}
	}
	return nil
}
