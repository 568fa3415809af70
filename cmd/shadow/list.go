package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/internal/figures"
	"banyan/projections/control"
	"banyan/shadow"
)

func joined(names []string) string { return strings.Join(names, ", ") }

// listed is one line of `shadow list`.
type listed struct {
	Name      string `json:"name"`
	Candidate string `json:"candidate"`
	Orders    int64  `json:"orders"`
	Compared  int64  `json:"compared"`
	Position  string `json:"position"`
}

func (a *app) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the shadows of a database",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.list(c.Context()) },
	}
}

func (a *app) list(ctx context.Context) error {
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer store.Pool().Close()
	names, err := shadow.Names(ctx, store)
	if err != nil {
		return err
	}
	all := []listed{}
	rows := [][]string{{"shadow", "candidate", "orders", "compared", "as of"}}
	for _, name := range names {
		p, err := shadow.Read(ctx, store, name)
		if err != nil {
			return err
		}
		l := listed{Name: name, Candidate: p.Options.Candidate, Orders: p.Ledger.Consumed, Compared: p.Ledger.Compared, Position: p.Facts.Position}
		all = append(all, l)
		rows = append(rows, []string{l.Name, l.Candidate, figures.Thousands(l.Orders), figures.Thousands(l.Compared), l.Position})
	}
	return a.Print.Result(all, func(w io.Writer) { _ = figures.Table(w, "", figures.Numbers, rows) })
}

func (a *app) forgetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forget NAME",
		Short: "Remove a shadow and all that it has compared",
		Long: `Removes the state, the journal and the projection of orders of a shadow from its
database. The events stay where they are: a run makes all of it anew. Stop the run
first.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.forget(c.Context(), args[0]) },
	}
}

func (a *app) forget(ctx context.Context, name string) error {
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer store.Pool().Close()
	found := false
	for _, projection := range []string{shadow.Prefix + name, shadow.OrdersName(shadow.Options{Name: name})} {
		err := retire(ctx, store, projection)
		if errors.Is(err, control.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		found = true
	}
	if !found {
		return cli.AnswerNo("there is no shadow %s: shadow list shows those there are", name)
	}
	return a.Print.Result(map[string]string{"forgotten": name}, func(w io.Writer) { fmt.Fprintf(w, "shadow %s is forgotten\n", name) })
}

// retire takes a projection out of use and drops what it has.
func retire(ctx context.Context, store *control.Store, projection string) error {
	v, err := store.Active(ctx, projection)
	if err != nil {
		return err
	}
	if alive, err := store.Alive(ctx, projection, v.Number); err != nil || alive {
		if alive {
			err = cli.AnswerNo("a run still works on %s: stop it first", projection)
		}
		return err
	}
	if err := store.SetState(ctx, store.Pool(), projection, v.Number, control.Retired, "forgotten"); err != nil {
		return err
	}
	if err := store.Drop(ctx, projection, v.Number); err != nil {
		return err
	}
	// What readers have looked into is empty now, unless somebody has put something of
	// their own there.
	_, err = store.Pool().Exec(ctx, `DROP SCHEMA IF EXISTS `+pgx.Identifier{projection}.Sanitize())
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "2BP01" { // dependent_objects_still_exist
		return nil
	}
	return err
}
