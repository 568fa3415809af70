package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/state"
	"banyan/shadow"
)

// app is one invocation of shadow, and what the flags that every command has say.
type app struct {
	*cli.App
	flags  globalFlags
	getenv func(string) string
}

type globalFlags struct {
	name  string
	db    string
	kafka cli.Kafka
}

// Main runs shadow with args and returns its exit code.
func Main(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	a := &app{App: cli.New("shadow", getenv, stdout, stderr), getenv: getenv}
	a.Refused = refused
	return a.Run(ctx, a.root(), args)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "shadow",
		Short: "Run a candidate's prices beside the shop's, and say in money what would change",
		Long: `shadow has each order of the live events priced by a candidate too, with what was
known before the order, and reports what would have changed: exactly at fixed
demand, as a range for everything that nobody can know from a shadow, and which
test comes next. It never says "ship".

The shop is not touched: everything is read from Kafka, in a group of its own, and
nothing is written but shadow's own database. Where the candidate is slow or down,
the shadow waits.

Settings come from flags, then from the environment (--db is BANYAN_DB,
--brokers is BANYAN_BROKERS). Without --db the state lies in the embedded Postgres
under --data-dir, and without --brokers the embedded broker is used: those that cdc
uses in the same folder.

Exit codes: 0 done and good; 1 the answer is no (a guardrail or the reconciliation
fails, answers differ); 2 the input is wrong (flag, file); 3 the surroundings fail.`,
		Example: `  shadow run --candidate builtin:demand --from start --until-caught-up
  shadow report --out report/
  shadow replay shop.orders/3/1234`,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.flags.name, "name", "", "the `name` of this shadow among others; empty: that of the candidate")
	f.StringVar(&a.flags.db, "db", "", "the database of the shadow's state, postgres://...; empty: embedded")
	a.flags.kafka = cli.Kafka{ClientID: "banyan-shadow", FetchBytes: fetchBytes}
	a.KafkaFlags(root, &a.flags.kafka)
	a.DataDirFlag(root, "the `directory` of the embedded servers")
	root.AddCommand(a.runCommand(), a.reportCommand(), a.replayCommand(), a.aaCommand(), a.parityCommand(), a.listCommand(),
		a.forgetCommand(), a.EmbeddedCommand("the shadows"))
	return root
}

// refused reports whether going on would need a decision of a person.
func refused(err error) bool {
	for _, is := range []func(error) bool{
		cli.Is[*projections.Fault], cli.Is[*projections.PoisonError], cli.Is[state.Faults], cli.Is[*control.DigestError],
		cli.Is[*control.SchemaError], cli.Is[*bus.PartitionsChanged],
	} {
		if is(err) {
			return true
		}
	}
	return errors.Is(err, event.ErrForeign) || errors.Is(err, shadow.ErrNoShadow)
}

// database is the one of all shadows in the embedded Postgres.
const database = "shadow"

// open connects to the database of the shadows and makes the schema banyan in it where
// that is missing. The caller closes the store's pool.
func (a *app) open(ctx context.Context) (*control.Store, error) {
	url := a.flags.db
	if url == "" {
		var err error
		if url, _, err = a.Servers(ctx, database, false); err != nil {
			return nil, err
		}
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, cli.BadInput("--db: %w", err)
	}
	cfg.MaxConns = max(cfg.MaxConns, 16) // leases, watches and batches have connections of their own
	control.Configure(cfg, control.Settings{Application: "shadow on " + cli.Owner()})
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the shadow's database: %w", err)
	}
	store, err := migrated(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the shadow's database: %w", err)
	}
	return store, nil
}

func migrated(ctx context.Context, pool *pgxpool.Pool) (*control.Store, error) {
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	store, err := control.Open(limit, pool)
	if err != nil {
		return nil, err
	}
	return store, store.Migrate(limit)
}

// fetchBytes are few, since two dozen partitions are read at once, and so that the
// brokers of a shop are not made to send more than is taken in.
const fetchBytes = 512 << 10

// dial connects to Kafka. The caller closes the cluster.
func (a *app) dial(ctx context.Context) (*bus.Cluster, error) {
	k, err := a.Reach(ctx, a.flags.kafka)
	if err != nil {
		return nil, err
	}
	return k.DialPatiently(ctx, a.Log)
}
