package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/pricing"
	"banyan/projections"
)

// app is one invocation of pricing, and what the flags that its commands share say.
type app struct {
	*cli.App
	rules string
	kafka cli.Kafka
}

// Main runs pricing with args and returns its exit code.
func Main(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	a := &app{App: cli.New("pricing", getenv, stdout, stderr)}
	a.Refused = refused
	return a.Run(ctx, a.root(), args)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "pricing",
		Short: "Quote prices by rules with names and dates: an example of a candidate",
		Long: `pricing is an example of a pricing service that a shop could switch to. It is
run in the shadow of the shop, by cmd/shadow, to see in money what would change.
It can be asked over HTTP (serve), or live on the shop's events and propose
prices as events of its own (run). Both price by the same rules, from --rules or
those that "pricing rules --print" prints.

Settings come from flags, then from the environment (--rules is BANYAN_RULES,
--brokers is BANYAN_BROKERS). Without --brokers the embedded broker under
--data-dir is used, as cdc does in the same folder.

Exit codes: 0 done and good; 1 the answer is no; 2 the input is wrong (flag,
file); 3 the surroundings fail.`,
		Example: `  pricing rules --print > rules.yaml
  pricing serve --rules rules.yaml
  pricing run --brokers kafka1:9092 --rules rules.yaml`,
	}
	a.DataDirFlag(root, "the `directory` of the embedded servers")
	root.AddCommand(a.serveCommand(), a.runCommand(), a.rulesCommand(), a.EmbeddedCommand("the shop's events"))
	return root
}

// rulesFlag gives a command the flag --rules.
func (a *app) rulesFlag(c *cobra.Command) {
	c.Flags().StringVar(&a.rules, "rules", "", "the `file` of rules; empty: those of pricing rules --print")
}

// candidate is made of the rules that --rules names.
func (a *app) candidate() (*pricing.Demand, error) {
	d, err := pricing.Open(a.rules)
	if err != nil {
		return nil, cli.BadInput("--rules: %w", err)
	}
	return d, nil
}

func (a *app) rulesCommand() *cobra.Command {
	var print bool
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Print the rules to begin with, or check those of a file",
		Long: `With --print it prints the rules that are used without --rules, as the file that
--rules takes, with comments. Without it, it checks the file that --rules names
and tells its rules and its build, which is what answers and reports call this
version of the candidate.`,
		Example: `  pricing rules --print > rules.yaml
  pricing rules --rules rules.yaml`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if print {
				return a.Print.Result(map[string]string{"rules": pricing.DefaultText}, func(w io.Writer) { fmt.Fprint(w, pricing.DefaultText) })
			}
			return a.showRules()
		},
	}
	a.rulesFlag(cmd)
	cmd.Flags().BoolVar(&print, "print", false, "print the rules to begin with")
	return cmd
}

// showRules says what the rules are.
func (a *app) showRules() error {
	d, err := a.candidate()
	if err != nil {
		return err
	}
	type row struct {
		Name  string `json:"name"`
		Kind  string `json:"kind"`
		Since string `json:"since,omitempty"`
		Until string `json:"until,omitempty"`
	}
	rows := []row{}
	for _, r := range d.Rules() {
		rows = append(rows, row{r.Name, r.Kind(), r.Since.String(), r.Until.String()})
	}
	return a.Print.Result(map[string]any{"candidate": d.Name(), "build": d.Build(), "rules": rows}, func(w io.Writer) {
		fmt.Fprintf(w, "%s, %s\n", d.Name(), d.Build())
		for _, r := range rows {
			fmt.Fprintf(w, "  %-24s %-8s %10s .. %s\n", r.Name, r.Kind, r.Since, r.Until)
		}
	})
}

// refused reports whether going on would need a decision of a person.
func refused(err error) bool {
	return cli.Is[*projections.Fault](err) || cli.Is[*bus.Mismatch](err) || cli.Is[*otherWriter](err) || errors.Is(err, event.ErrForeign)
}
