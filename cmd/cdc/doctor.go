package main

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/doctor"
	"banyan/translate"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "May I read this database, and what would it do to it? Changes nothing",
		Long: `Looks at the catalog of the source and reports what stands in the way of reading
it, what would hurt it, and what the owner of the tables can do. It changes
nothing and needs no more than the right to connect.

With a banyan.yaml the tables that it names are judged as captured; without
one every table of the user is looked at as one that might be.

--output json prints {verdict, server, database, role, tables, errors, warnings,
infos, findings: [{id, severity, object, message, why, fix: [SQL]}], unseen}.
Exit code 1 means blocked.`,
		Example: `  cdc doctor --source postgres://me@localhost/shop
  cdc doctor -o json | jq '.findings[] | select(.severity == "error")'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			report, err := a.examine(c)
			if err != nil {
				return err
			}
			if err := a.Print.Result(report, func(w io.Writer) { _ = report.Text(w, a.Print.Colour()) }); err != nil {
				return err
			}
			if report.Verdict == doctor.Blocked {
				return cli.ErrNo
			}
			return nil
		},
	}
}

func (a *app) examine(c *cobra.Command) (doctor.Report, error) {
	var opts doctor.Options
	url, err := a.sourceURL()
	if err != nil {
		return doctor.Report{}, err
	}
	if _, err := os.Stat(a.flags.config); err == nil {
		cfg, err := a.config()
		if err != nil {
			return doctor.Report{}, err
		}
		opts = doctorOptions(cfg)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return doctor.Report{}, cli.BadInput("read the configuration: %w", err)
	}
	cat, err := a.inspect(c.Context(), url)
	if err != nil {
		return doctor.Report{}, err
	}
	return doctor.Examine(cat, opts), nil
}

// doctorOptions tells the doctor what the configuration captures.
func doctorOptions(cfg *translate.Config) doctor.Options {
	opts := doctor.Options{Tables: map[string]doctor.Use{}, Slot: cfg.Source.Slot, Publication: cfg.Source.Publication}
	for _, t := range cfg.Tables {
		opts.Tables[t.Name] = doctor.Use{Columns: t.Columns, Key: rowKey(cfg, t.Name)}
	}
	return opts
}
