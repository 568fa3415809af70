package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/rebuild"
	"banyan/projections/state"
)

// app is one invocation of projector, and what the flags that every command has
// say.
type app struct {
	*cli.App
	flags  globalFlags
	getenv func(string) string
}

type globalFlags struct {
	files    []string
	db, role string
	kafka    cli.Kafka
}

// Main runs projector with args and returns its exit code.
func Main(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	a := &app{App: cli.New("projector", getenv, stdout, stderr), getenv: getenv}
	a.Refused = refused
	return a.Run(ctx, a.root(), args)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "projector",
		Short: "Build the tables of a service from business events, and rebuild them at will",
		Long: `projector keeps plain Postgres tables up to date with business events in Kafka,
exactly once, as a YAML file says (docs/projections.md). Tables can be deleted
and made anew from history, beside the ones that readers see, and swapped.

Files are named with -f, one or more, or a folder of them; without it all
projections in *.yaml of the current folder are meant. A command for one of
several takes its name.

Settings come from flags, then from the environment (--db is BANYAN_DB,
--brokers is BANYAN_BROKERS). Without --db each projection has a database of its
own in the embedded Postgres under --data-dir, and without --brokers the
embedded broker is used: those that cdc uses in the same folder.

Exit codes: 0 done and good; 1 the answer is no (behind, differs, parked);
2 the input is wrong (flag, file); 3 the surroundings fail.`,
		Example: `  projector init --topics shop.customers
  projector run -f shipping.yaml
  projector verify shipping`,
	}
	f := root.PersistentFlags()
	f.StringArrayVarP(&a.flags.files, "file", "f", nil, "a projection's `file`, or a folder of them; may be given again")
	f.StringVar(&a.flags.db, "db", "", "the database of the service, postgres://...; empty: embedded, one for each projection")
	f.StringVar(&a.flags.role, "role", "", "the `role` to take on in it, <projection>_owner by rights; empty: the login's own")
	a.flags.kafka.ClientID = "banyan-projector"
	a.KafkaFlags(root, &a.flags.kafka)
	a.DataDirFlag(root, "the `directory` of the embedded servers and of what a rebuild spills")
	root.AddCommand(a.initCommand(), a.checkCommand(), a.runCommand(), a.statusCommand(), a.lagCommand(), a.waitCommand(),
		a.rebuildCommand(), a.diffCommand(), a.swapCommand(), a.rollbackCommand(), a.retireCommand(), a.verifyCommand(),
		a.parkedCommand(), a.effectsCommand(), a.lintCommand(), a.schemaCommand(), a.EmbeddedCommand("the projections"))
	return root
}

// refused reports whether going on would need a decision of a person.
func refused(err error) bool {
	for _, is := range []func(error) bool{
		cli.Is[*projections.Fault], cli.Is[*projections.PoisonError], cli.Is[state.Faults],
		cli.Is[*control.DigestError], cli.Is[*control.SchemaError], cli.Is[*control.StateError], cli.Is[*control.DependentsError], cli.Is[*control.NotReachedError],
		cli.Is[*control.BehindError], cli.Is[*control.ParkedError],
		cli.Is[*rebuild.Refused], cli.Is[*bus.PartitionsChanged],
	} {
		if is(err) {
			return true
		}
	}
	return errors.Is(err, control.ErrNotParked) || errors.Is(err, event.ErrForeign) || errors.Is(err, rebuild.ErrStale)
}
