package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
)

// app is one invocation of cdc, and what the flags that every command has say.
type app struct {
	*cli.App
	flags globalFlags
}

type globalFlags struct {
	config  string
	source  string
	store   string
	brokers []string
}

// Main runs cdc with args and returns its exit code.
func Main(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	a := &app{App: cli.New("cdc", getenv, stdout, stderr)}
	a.Refused = refused
	return a.Run(ctx, a.root(), args)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "cdc",
		Short: "Turn the rows of an existing Postgres database into business events, provably",
		Long: `cdc reads the write-ahead log of a Postgres database that already exists, tells
each transaction as business events by the rules in banyan.yaml, and publishes
them to Kafka through an outbox of its own.

Settings come from flags, then from the environment (--store is BANYAN_STORE,
--data-dir is BANYAN_DATA_DIR), then from banyan.yaml.

Exit codes: 0 done and good; 1 the answer is no (blocked, differs, parked);
2 the input is wrong (flag, configuration); 3 the surroundings fail.`,
		Example: `  cdc doctor --source postgres://me@localhost/shop
  cdc init && cdc setup --apply && cdc run`,
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.flags.config, "config", "f", "banyan.yaml", "the configuration `file`")
	f.StringVar(&a.flags.source, "source", "", "the database to read, postgres://...; its password may come from PGPASSWORD or PGPASSFILE")
	f.StringVar(&a.flags.store, "store", "", "a Postgres database of Banyan's own; empty: embedded, under --data-dir")
	a.BrokersFlag(root, &a.flags.brokers)
	a.DataDirFlag(root, "the `directory` of the embedded servers and of spilled transactions")
	root.AddCommand(a.doctorCommand(), a.initCommand(), a.previewCommand(), a.setupCommand(), a.runCommand(), a.repairCommand(),
		a.tailCommand(), a.explainCommand(), a.whyNotCommand(), a.statusCommand(), a.verifyCommand(),
		a.parkedCommand(), a.EmbeddedCommand("the store"), a.teardownCommand())
	return root
}
