package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"banyan/internal/embedded"
)

// DataDirFlag gives every command below c the flag --data-dir: banyan-data
// where nothing else is said. The commands of one installation share it, and so
// the embedded servers in it.
func (a *App) DataDirFlag(c *cobra.Command, usage string) {
	c.PersistentFlags().StringVar(&a.DataDir, "data-dir", "banyan-data", usage)
}

// BrokersFlag gives every command below c the flag --brokers.
func (a *App) BrokersFlag(c *cobra.Command, brokers *[]string) {
	c.PersistentFlags().StringSliceVar(brokers, "brokers", nil, "Kafka's addresses, host:port,...; empty: embedded, for one machine and for trying")
}

// Servers makes sure that the embedded servers in DataDir which a command needs
// are running; those that run already are used as they are. Where database is
// not empty, url is that of the database of this name in the embedded Postgres,
// made if missing, with its password. Where broker is true, brokers are the
// addresses of the embedded broker. The servers outlive the program.
func (a *App) Servers(ctx context.Context, database string, broker bool) (url string, brokers []string, err error) {
	if database == "" && !broker {
		return "", nil, nil
	}
	state, err := embedded.Start(ctx, embedded.Options{Dir: a.DataDir, Postgres: database != "", Broker: broker, Log: a.Log})
	if err != nil {
		return "", nil, fmt.Errorf("start the embedded servers: %w", err)
	}
	if database != "" {
		if url, err = embedded.CreateDatabase(ctx, state, database); err != nil {
			return "", nil, err
		}
	}
	if broker {
		brokers = state.Broker.Addrs
	}
	return url, brokers, nil
}

// EmbeddedCommand is the command "embedded", which starts, stops and shows the
// servers in DataDir. Its hidden part serves the embedded broker: a program
// that calls Servers must have it. The database is for what use says, such as
// "the store".
func (a *App) EmbeddedCommand(use string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "embedded",
		Short: fmt.Sprintf("Start, stop or look at the servers that %s brings along", a.Name),
		Long: fmt.Sprintf(`A Postgres for %s and a broker, for one machine and for trying. They are
processes of their own, found through embedded.json in --data-dir: ending or
killing %s ends neither. The broker is franz-go's kfake; use --brokers for
Kafka.`, use, a.Name),
		Example: a.example("embedded start") + "\n" + a.example("embedded status -o json") + "\n" + a.example("embedded stop"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "start", Short: "Start what is not running", Args: cobra.NoArgs, Example: a.example("embedded start --data-dir /var/lib/banyan"),
			RunE: func(c *cobra.Command, _ []string) error {
				st, err := embedded.Start(c.Context(), embedded.Options{Dir: a.DataDir, Postgres: true, Broker: true, Log: a.Log})
				if err != nil {
					return err
				}
				return a.printEmbedded(st)
			},
		},
		&cobra.Command{
			Use: "stop", Short: "Stop what is running; the data stay", Args: cobra.NoArgs, Example: a.example("embedded stop"),
			RunE: func(c *cobra.Command, _ []string) error {
				if err := embedded.Stop(c.Context(), a.DataDir); err != nil {
					return err
				}
				st, err := embedded.Status(c.Context(), a.DataDir)
				if err != nil {
					return err
				}
				return a.printEmbedded(st)
			},
		},
		&cobra.Command{
			Use: "status", Short: "Say what runs where", Args: cobra.NoArgs, Example: a.example("embedded status -o json"),
			RunE: func(c *cobra.Command, _ []string) error {
				st, err := embedded.Status(c.Context(), a.DataDir)
				if err != nil {
					return err
				}
				return a.printEmbedded(st)
			},
		},
		serveBrokerCommand(),
	)
	return cmd
}

func (a *App) example(args string) string { return "  " + a.Name + " " + args }

// serveBrokerCommand is the broker's own process; embedded.Start runs it.
func serveBrokerCommand() *cobra.Command {
	var opts embedded.BrokerOptions
	cmd := &cobra.Command{
		Use: "serve-broker", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return embedded.ServeBroker(c.Context(), opts) },
	}
	cmd.Flags().StringVar(&opts.Dir, "dir", "", "where the broker keeps its data")
	cmd.Flags().StringVar(&opts.Listen, "listen", "127.0.0.1:0", "address")
	return cmd
}

func (a *App) printEmbedded(st embedded.State) error {
	st = st.Redacted()
	return a.Print.Result(st, func(w io.Writer) {
		if p := st.Postgres; p != nil {
			fmt.Fprintf(w, "postgres  %-8s  version %s, port %d, data in %s\n", upOrDown(p.PID), p.Version, p.Port, p.DataDir)
		}
		if b := st.Broker; b != nil {
			fmt.Fprintf(w, "broker    %-8s  %s (kfake: for one machine and for trying; use --brokers for Kafka)\n", upOrDown(b.PID), strings.Join(b.Addrs, ","))
		}
		if st.Postgres == nil && st.Broker == nil {
			fmt.Fprintf(w, "there are no embedded servers in %s\n", a.DataDir)
		}
	})
}

func upOrDown(pid int) string {
	if pid == 0 {
		return "stopped"
	}
	return "running"
}
