package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/internal/figures"
	"banyan/projections/rebuild"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (a *app) verifyCommand() *cobra.Command {
	var version, examples int
	var memory int64
	cmd := &cobra.Command{
		Use: "verify [NAME]", Short: "Prove that the rows are what the history makes of them, key by key", Args: cobra.MaximumNArgs(1),
		Long: `Folds the history anew, up to exactly the offsets where the version stands, and
compares every row of every table. The run may go on meanwhile. Keys that are
parked are listed apart: no verdict is given about them. --output json prints
{verdict, reasons, projection, version, token, parts, events, tables, parked,
tookSeconds}. Exit code 0 only where it is proved.`,
		Example: "  projector verify shipping\n  projector verify shipping --version 2 -o json",
		RunE: func(c *cobra.Command, args []string) error {
			good := true
			err := a.eachProjection(c.Context(), args, func(ctx context.Context, p *opened) error {
				r, err := a.verify(ctx, p, version, examples, memory)
				if err != nil {
					return err
				}
				good = good && r.Verdict == rebuild.Proved
				return a.Print.Result(r, func(w io.Writer) { a.writeReport(w, r) })
			})
			if err == nil && !good {
				return cli.ErrNo
			}
			return err
		},
	}
	cli.Profiled(cmd)
	fl := cmd.Flags()
	fl.IntVar(&version, "version", 0, "the number of the version; 0: the one that readers see")
	fl.IntVar(&examples, "examples", 10, "rows to show of each table that differs")
	fl.Int64Var(&memory, "memory", 192<<20, "bytes of rows to hold in memory; more go to disk under --data-dir")
	return cmd
}

func (a *app) verify(ctx context.Context, p *opened, version, examples int, memory int64) (*rebuild.Report, error) {
	a.useMemory(memory)
	v := p.active
	if version != 0 {
		var err error
		if v, err = p.store.Version(ctx, p.name, version); err != nil {
			return nil, cli.BadInput("--version %d of %s: %w: projector status lists them", version, p.name, err)
		}
	}
	program, err := compileStored(v)
	if err != nil {
		return nil, err
	}
	cluster, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	dir, err := a.spillDir()
	if err != nil {
		return nil, err
	}
	phases := a.Print.Phases("verify " + p.name)
	defer phases.End()
	return rebuild.Verify(ctx, rebuild.VerifyConfig{DB: p.pool, Log: cluster, Program: program, Version: v.Number, Memory: memory, Dir: dir, Examples: examples,
		Logger: a.Log, Progress: showProgress(a, phases)})
}

func (a *app) writeReport(w io.Writer, r *rebuild.Report) {
	at := "at the offsets where it stands"
	if r.Token != "" {
		at = "at " + r.Token
	}
	verdict := a.Print.Good(string(r.Verdict))
	if r.Verdict != rebuild.Proved {
		verdict = a.Print.Bad(string(r.Verdict))
	}
	fmt.Fprintf(w, "%s, version %d: %s %s: %s events folded in %s\n", r.Projection, r.Version, verdict, at, figures.Thousands(r.Events), figures.Round(r.Took))
	for _, reason := range r.Reasons {
		fmt.Fprintln(w, "  "+a.Print.Warn(reason))
	}
	a.writeTables(w, r.Tables, "history", "table")
	for _, k := range r.Parked {
		fmt.Fprintf(w, "  parked: %s/%s, %d events: %s\n", k.Aggregate, k.Key, k.Events, k.Reason)
	}
}

// writeTables writes what was compared; want and got name the two sides.
func (a *app) writeTables(w io.Writer, tables []rebuild.TableReport, want, got string) {
	rows := [][]string{{"table", "rows", "equal", "missing", "extra", "different"}}
	for _, t := range tables {
		name := t.Table
		if t.Hidden {
			name += " (hidden)"
		}
		rows = append(rows, []string{name, figures.Thousands(t.Rows), figures.Thousands(t.Proved), figures.Thousands(t.Missing), figures.Thousands(t.Extra), figures.Thousands(t.Different)})
	}
	_ = figures.Table(w, "  ", figures.Numbers, rows)
	for _, t := range tables {
		for _, e := range t.Examples {
			fmt.Fprintf(w, "  %s %s: %s", t.Table, e.Key, a.Print.Bad(e.Kind))
			for _, c := range e.Columns {
				fmt.Fprintf(w, "; %s is %s in the %s, %s in the %s", c.Column, c.Got, got, c.Want, want)
			}
			if e.Event != "" {
				fmt.Fprintf(w, "; last changed by %s", e.Event)
			}
			fmt.Fprintln(w)
		}
	}
}
