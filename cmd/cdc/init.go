package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/draft"
	"banyan/internal/figures"
	"banyan/translate"
	"banyan/wal"
)

// drafted is what `cdc init --output json` prints.
type drafted struct {
	File    string        `json:"file"`
	Guesses []draft.Guess `json:"guesses"`
}

func (a *app) initCommand() *cobra.Command {
	var name, currency string
	var force bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write banyan.yaml: a first draft of your business events",
		Long: `Looks at the tables, their keys and the values of status columns, and writes a
draft of the rules. It creates nothing in the database. Each guess carries its
reason as a comment; columns that look like secrets are left out. The draft
runs as it is; read it, and put in the words of your business.

--output json prints {file, guesses: [{object, guess, reason}]}.`,
		Example: `  cdc init --source postgres://me@localhost/shop --currency GBP
  cdc init --name shop -f shop.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.flags.source == "" {
				return cli.BadInput("no source: give --source postgres://user@host/database, or BANYAN_SOURCE")
			}
			if _, err := os.Stat(a.flags.config); err == nil && !force {
				return cli.BadInput("%s exists already: --force overwrites it, --config names another file", a.flags.config)
			}
			conn, err := wal.Connect(c.Context(), a.flags.source)
			if err != nil {
				return err
			}
			defer conn.Close(c.Context())
			cat, err := wal.Inspect(c.Context(), conn)
			if err != nil {
				return err
			}
			text, guesses, err := draft.Write(c.Context(), cat, draft.Samples(conn), draft.Options{Source: name, URL: a.flags.source, Currency: currency})
			if err != nil {
				return cli.AnswerNo("%w", err)
			}
			cfg, err := translate.Load(a.flags.config, text)
			if err == nil {
				_, _, err = compileAgainst(cfg, cat, 1)
			}
			if err != nil {
				err = fmt.Errorf("the draft does not run as it is, which should not happen: correct these lines: %w", err)
			}
			if werr := os.WriteFile(a.flags.config, text, 0o644); werr != nil {
				return cli.BadInput("write the draft: %w", errors.Join(werr, err))
			}
			if err != nil {
				return cli.AnswerNo("%w", err)
			}
			return a.Print.Result(drafted{a.flags.config, guesses}, func(w io.Writer) { a.writeDraft(w, cfg, len(guesses)) })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the source, the first part of event ids; the database's name where empty")
	cmd.Flags().StringVar(&currency, "currency", "", "currency of columns that look like money, such as GBP")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file")
	return cmd
}

func (a *app) writeDraft(w io.Writer, cfg *translate.Config, guesses int) {
	fmt.Fprintf(w, "wrote %s: %d tables, %d aggregates, %d guesses, each with its reason\n", a.flags.config, len(cfg.Tables), len(cfg.Aggregates), guesses)
	rows := [][]string{{"aggregate", "table", "topic", "events"}}
	for _, g := range cfg.Aggregates {
		rows = append(rows, []string{g.Name, g.Table, g.Topic, fmt.Sprint(len(g.Events))})
	}
	_ = figures.Table(w, "", figures.Numbers, rows)
	fmt.Fprintln(w, "next: read it; then cdc preview, cdc setup --print-sql, cdc run")
}
