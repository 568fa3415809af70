package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/compare"
	"banyan/compare/page"
	"banyan/projections/control"
	"banyan/shadow"
)

func (a *app) reportCommand() *cobra.Command {
	var out, signed string
	var settings settingsFlags
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Say what a candidate would have changed, and what nobody can know",
		Long: `Reads the shadow's state and prints the verdict; with --out it writes report.html (one
file that opens offline, to be read and signed), report.json, report.md (for a pull
request) and lines.csv (each line that was compared). A run that goes on is not
disturbed. The same state and settings give the same bytes.

Exit code 1 says that a guardrail or the reconciliation fails.`,
		Example: "  shadow report --out report/\n  shadow report -o json | jq .verdict",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			store, name, err := a.existing(c.Context())
			if err != nil {
				return err
			}
			defer store.Pool().Close()
			return a.tell(c.Context(), store, name, out, signed, settings)
		},
	}
	cli.Profiled(cmd)
	settings.register(cmd)
	cmd.Flags().StringVar(&out, "out", "", "write report.html, report.json, report.md and lines.csv into this `folder`")
	cmd.Flags().StringVar(&signed, "signed-by", "", "who answers for the report, as it stands in its footer")
	return cmd
}

// existing opens the database and finds the shadow that is meant: --name, or the only
// one there is. The caller closes the store's pool.
func (a *app) existing(ctx context.Context) (*control.Store, string, error) {
	store, err := a.open(ctx)
	if err != nil {
		return nil, "", err
	}
	name := a.flags.name
	if name == "" {
		name, err = a.only(ctx, store)
	}
	if err != nil {
		store.Pool().Close()
		return nil, "", err
	}
	return store, name, nil
}

func (a *app) only(ctx context.Context, store *control.Store) (string, error) {
	names, err := shadow.Names(ctx, store)
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", cli.AnswerNo("there is no shadow in this database yet: shadow run --candidate ... makes one")
	case len(names) > 1:
		return "", cli.BadInput("which shadow? Give --name with one of: %s", joined(names))
	}
	return names[0], nil
}

// finish is the end of a run that has caught up.
func (a *app) finish(ctx context.Context, store *control.Store, name, out string, settings settingsFlags) error {
	if err := a.stage(stage{Stage: "caught-up", Detail: name}, "caught up: shadow %s\n", name); err != nil {
		return err
	}
	return a.tell(ctx, store, name, out, "", settings)
}

// tell prints a report, writes its files, and says by the exit code whether all that
// must hold does.
func (a *app) tell(ctx context.Context, store *control.Store, name, out, signed string, flags settingsFlags) error {
	r, err := a.report(ctx, store, name, signed, flags)
	if err != nil {
		return err
	}
	if out != "" {
		if err := writeReport(ctx, store, name, out, r); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	var text bytes.Buffer
	if err := page.Text(&text, r, 76); err != nil {
		return err
	}
	if out != "" {
		fmt.Fprintf(&text, "\nreport.html, report.json, report.md and lines.csv are in %s\n", out)
	}
	if err := a.Print.Result(r, func(w io.Writer) { _, _ = text.WriteTo(w) }); err != nil {
		return err
	}
	if failing(r) {
		return cli.ErrNo
	}
	return nil
}

// failing reports whether something does not hold that must, whatever the money says.
func failing(r *compare.Report) bool {
	for _, g := range r.Guardrails {
		if !g.OK {
			return true
		}
	}
	return !r.Reconciliation.OK
}

// report reads the state and makes the report.
func (a *app) report(ctx context.Context, store *control.Store, name, signed string, flags settingsFlags) (*compare.Report, error) {
	settings, err := flags.settings()
	if err != nil {
		return nil, cli.BadInput("%w", err)
	}
	p, err := shadow.Read(ctx, store, name)
	if err != nil {
		return nil, err
	}
	// What is settled by the first run is told as it was settled, and not as a file has it now.
	settings.Segments, settings.TaxRates = p.Options.Segments, []float64{}
	for _, rate := range p.Options.Taxes {
		settings.TaxRates = append(settings.TaxRates, float64(rate)/10_000)
	}
	p.Facts.Build, p.Facts.SignedBy = build(), signed
	p.Facts.Replay = func(at string) string { return "shadow replay --name " + name + " " + at }
	return compare.Analyse(p.Ledger, p.Facts, settings)
}

// build is what this program was built from.
func build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version, revision, changed := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = " " + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", changed"
		}
	}
	return version + revision + changed
}

// writeReport writes the files of a report: each whole, or not at all.
func writeReport(ctx context.Context, store *control.Store, name, dir string, r *compare.Report) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		write func(w io.Writer) error
	}{
		{"report.html", func(w io.Writer) error { return page.HTML(w, r, page.Options{}) }},
		{"report.json", func(w io.Writer) error { return page.JSON(w, r) }},
		{"report.md", func(w io.Writer) error { return page.Markdown(w, r) }},
		{"lines.csv", func(w io.Writer) error { return writeLines(ctx, store, name, r.Inputs.Topics, w) }},
	} {
		if err := whole(filepath.Join(dir, f.name), f.write); err != nil {
			return err
		}
	}
	return nil
}

// whole writes a file beside its place and moves it there.
func whole(file string, write func(w io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".part-*")
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 1<<16)
	err = errors.Join(write(b), b.Flush(), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", file, err), os.Remove(f.Name()))
	}
	return nil
}
