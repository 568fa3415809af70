package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/translate"
	"banyan/wal"
)

// planned is what `cdc setup` and the owner's part of `cdc teardown` print with
// --output json.
type planned struct {
	Applied    bool            `json:"applied"`
	Role       string          `json:"role"`
	Statements []statementJSON `json:"statements"`
	Obstacles  []string        `json:"obstacles"`
}

type statementJSON struct {
	SQL string `json:"sql"`
	Why string `json:"why"`
}

type ownerFlags struct {
	printSQL, apply bool
	owner, role     string
	passwordFile    string
}

func (f *ownerFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.printSQL, "print-sql", false, "print what is missing, to be read and run by the owner of the tables (the default)")
	cmd.Flags().BoolVar(&f.apply, "apply", false, "run it")
	cmd.Flags().StringVar(&f.owner, "owner", "", "connect as the tables' owner with this `URL`; --source where empty")
	cmd.Flags().StringVar(&f.role, "role", "", "the role that cdc reads with; banyan_<source> where empty")
	cmd.MarkFlagsMutuallyExclusive("print-sql", "apply")
}

func (a *app) setupCommand() *cobra.Command {
	var f ownerFlags
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Role and publication, for the owner of the tables to run",
		Long: `Compares what the database has with what cdc run needs, and prints the SQL that
is missing, or runs it: a role that may replicate and read the captured columns
and no others, and a publication of the captured tables and no others. Twice is
as good as once.

The role gets no password, unless --role-password-file holds one.

--output json prints {applied, role, statements: [{sql, why}], obstacles}. Exit
code 1: tables cannot be published as they are, or this role may not.`,
		Example: `  cdc setup --print-sql > setup.sql
  cdc setup --apply --owner postgres://postgres@db/shop
  BANYAN_SOURCE=postgres://banyan_shop@db/shop cdc run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.setup(c.Context(), f) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.passwordFile, "role-password-file", "", "with --apply: the `file` with the role's password")
	return cmd
}

// access names role, publication, slot and columns for setup and teardown.
func (f *ownerFlags) access(cfg *translate.Config) wal.Access {
	role := f.role
	if role == "" {
		role = "banyan_" + cfg.Source.Name
	}
	capture := wal.Capture{}
	for _, t := range cfg.Tables {
		capture[t.Name] = t.Columns
	}
	return wal.Access{Role: role, Publication: cfg.Source.Publication, Slot: cfg.Source.Slot, Capture: capture}
}

func (f *ownerFlags) connect(ctx context.Context, cfg *translate.Config) (*pgx.Conn, error) {
	url := f.owner
	if url == "" {
		url = cfg.Source.URL
	}
	return wal.Connect(ctx, url)
}

func (a *app) setup(ctx context.Context, f ownerFlags) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	conn, err := f.connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	access := f.access(cfg)
	plan, err := access.Setup(ctx, conn)
	if err != nil {
		return cli.AnswerNo("%w", err)
	}
	if f.apply {
		if len(plan.Obstacles) > 0 {
			return cli.AnswerNo("nothing was changed:\n  %s\nlet the owner run what cdc setup --print-sql prints, or give --owner", strings.Join(plan.Obstacles, "\n  "))
		}
		if err := applyPlan(ctx, conn, plan); err != nil {
			return err
		}
		if err := f.password(ctx, conn, access.Role); err != nil {
			return err
		}
	}
	return a.printPlan(plan, access.Role, f.apply)
}

// applyPlan runs a plan in one transaction: all of it, or nothing.
func applyPlan(ctx context.Context, conn *pgx.Conn, plan *wal.Plan) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, s := range plan.Statements {
			if _, err := tx.Exec(ctx, s.SQL); err != nil {
				return fmt.Errorf("%s: %w; nothing was changed", s.SQL, err)
			}
		}
		return nil
	})
}

// password gives the role the password in the file. It is sent to the server
// and appears nowhere else.
func (f *ownerFlags) password(ctx context.Context, conn *pgx.Conn, role string) error {
	if f.passwordFile == "" {
		return nil
	}
	b, err := os.ReadFile(f.passwordFile)
	if err != nil {
		return cli.BadInput("--role-password-file: %w", err)
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" || strings.ContainsRune(secret, 0) {
		return cli.BadInput("--role-password-file %s: it is empty, or has a zero byte in it", f.passwordFile)
	}
	sql := "ALTER ROLE " + pgx.Identifier{role}.Sanitize() + " PASSWORD " + literal(secret)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("give role %q its password: the server refused it", role)
	}
	return nil
}

func literal(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.ContainsRune(s, '\\') {
		return "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

func (a *app) printPlan(plan *wal.Plan, role string, applied bool) error {
	v := planned{Applied: applied, Role: role, Statements: []statementJSON{}, Obstacles: append([]string{}, plan.Obstacles...)}
	for _, s := range plan.Statements {
		v.Statements = append(v.Statements, statementJSON(s))
	}
	return a.Print.Result(v, func(w io.Writer) {
		if len(plan.Statements) == 0 {
			fmt.Fprintln(w, "-- nothing to do: everything is as it should be")
		}
		for _, s := range plan.Statements {
			fmt.Fprintf(w, "-- %s\n%s;\n", s.Why, s.SQL)
		}
		for _, o := range plan.Obstacles {
			fmt.Fprintf(w, "-- note: %s\n", o)
		}
		if applied {
			fmt.Fprintf(w, "-- done; cdc run can now connect as %s\n", role)
		}
	})
}
