package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/projections/control"
	"banyan/projections/declared"
)

type initFlags struct {
	topics   []string
	name     string
	out      string
	roles    bool
	printSQL bool
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use: "init", Short: "Draft a projection from the events of topics, and make its roles", Args: cobra.NoArgs,
		Long: `Reads a sample of the topics and writes NAME.yaml: a table for each topic, and one
for each list inside a state; each guess says why. The draft runs as it is.

Then it makes two roles in the service's database: NAME_owner, which alone may
write the tables and which projector run takes on, and NAME_reader, which may
read them: GRANT shipping_reader TO whoever_reads. Where the login may not make
roles, or with --print-sql, it prints the SQL for somebody who may.
--output json prints {file, projection, roles, sql}.`,
		Example: `  projector init --topics shop.customers
  projector init --topics shop.orders,shop.payments --name orders --db postgres://me@db/orders`,
		RunE: func(c *cobra.Command, _ []string) error { return a.init(c.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.topics, "topics", nil, "the topics to read, such as shop.customers")
	fl.StringVar(&f.name, "name", "", "the name of the projection; empty: that of the first topic")
	fl.StringVar(&f.out, "out", "", "the `file` to write; empty: NAME.yaml")
	fl.BoolVar(&f.roles, "roles", true, "make the roles")
	fl.BoolVar(&f.printSQL, "print-sql", false, "print the SQL of the roles instead of running it")
	return cmd
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func (a *app) init(ctx context.Context, f initFlags) error {
	if len(f.topics) == 0 {
		return cli.BadInput("--topics: name one or more, such as shop.customers; cdc status lists those that it writes")
	}
	if f.name == "" {
		f.name = f.topics[0][strings.LastIndex(f.topics[0], ".")+1:]
	}
	if !plainName.MatchString(f.name) {
		return cli.BadInput("--name %q: want a plain SQL name: small letters, digits and _, at most 40", f.name)
	}
	if f.out == "" {
		f.out = f.name + ".yaml"
	}
	if _, err := os.Stat(f.out); err == nil {
		return cli.BadInput("%s exists: --out names another file, --name another projection", f.out)
	}
	draft, err := a.draft(ctx, f)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.out, draft, 0o644); err != nil {
		return cli.BadInput("write the draft: %w", err)
	}
	sql, made, err := a.makeRoles(ctx, f)
	if err != nil {
		return fmt.Errorf("%s is written; make the roles: %w", f.out, err)
	}
	path, err := filepath.Abs(f.out)
	if err != nil {
		path = f.out
	}
	return a.Print.Result(map[string]any{"file": path, "projection": f.name, "roles": made, "sql": sql}, func(w io.Writer) {
		fmt.Fprintf(w, "wrote %s: read it, each guess has its reason\n", f.out)
		switch {
		case made:
			fmt.Fprintf(w, "made the roles %s (writes) and %s (reads)\n", control.OwnerRole(f.name), control.ReaderRole(f.name))
		case sql != "":
			fmt.Fprintf(w, "\n-- for somebody who may make roles in the service's database:\n%s\n", sql)
		}
		fmt.Fprintf(w, "next: projector run -f %s\n", f.out)
	})
}

func (a *app) draft(ctx context.Context, f initFlags) ([]byte, error) {
	cluster, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	topics, err := cluster.Topics(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	there := map[string]bool{}
	for _, t := range topics {
		names, there[t.Name] = append(names, t.Name), true
	}
	var missing []string
	for _, t := range f.topics {
		if !there[t] {
			missing = append(missing, t)
		}
	}
	if len(missing) > 0 {
		return nil, cli.BadInput("--topics: there is no topic %s; there are %s", strings.Join(missing, ", "), strings.Join(names, ", "))
	}
	known, err := declared.LookAt(ctx, cluster, f.topics, names)
	if err != nil {
		return nil, err
	}
	b, err := declared.Draft(f.name, known)
	if err != nil {
		return nil, cli.AnswerNo("%w", err)
	}
	return b, nil
}

// makeRoles makes the roles where the login may; otherwise, or where it is asked
// to, it gives the SQL.
func (a *app) makeRoles(ctx context.Context, f initFlags) (sql string, made bool, err error) {
	if !f.roles {
		return "", false, nil
	}
	err = a.with(ctx, f.name, func(ctx context.Context, o *opened) error {
		var db, login string
		var may bool
		err := o.pool.QueryRow(ctx, `SELECT current_database(), session_user, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = session_user`).Scan(&db, &login, &may)
		if err != nil {
			return fmt.Errorf("ask the database who we are: %w", err)
		}
		if f.printSQL || !may {
			sql = control.RolesSQL(f.name, db, login)
			return nil
		}
		made = true
		return o.store.ApplyRoles(ctx, f.name, login)
	})
	return sql, made, err
}

// takeOn gives the owner's role of a projection where there is one and the login
// may take it on: whatever is made then belongs to it, and not to a superuser.
func takeOn(ctx context.Context, db control.DB, projection string) (string, error) {
	var role string
	err := db.QueryRow(ctx, `SELECT coalesce((SELECT rolname FROM pg_roles WHERE rolname = $1 AND pg_has_role(session_user, oid, 'MEMBER')), '')`, control.OwnerRole(projection)).Scan(&role)
	if err != nil && err != pgx.ErrNoRows {
		return "", fmt.Errorf("look for the role %s: %w", control.OwnerRole(projection), err)
	}
	return role, nil
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of projection files, for editors", Args: cobra.NoArgs,
		Long:    `An editor that speaks YAML completes and checks with it. The output is JSON in any case.`,
		Example: "  projector schema > projection.schema.json",
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := declared.Schema()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(append(b, '\n'))
			return err
		},
	}
}
