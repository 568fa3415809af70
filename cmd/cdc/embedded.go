package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"banyan/internal/embedded"
)

func (a *app) embeddedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "embedded",
		Short: "Start, stop or look at the servers that cdc brings along",
		Long: `A Postgres for the store and a broker, for one machine and for trying. They are
processes of their own, found through embedded.json in --data-dir: ending or
killing cdc ends neither. The broker is franz-go's kfake; use --brokers for
Kafka.`,
		Example: `  cdc embedded start
  cdc embedded status -o json
  cdc embedded stop`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "start", Short: "Start what is not running", Args: cobra.NoArgs, Example: "  cdc embedded start --data-dir /var/lib/banyan",
			RunE: func(c *cobra.Command, _ []string) error {
				st, err := embedded.Start(c.Context(), embedded.Options{Dir: a.flags.dataDir, Postgres: true, Broker: true, Log: a.log})
				if err != nil {
					return err
				}
				return a.printEmbedded(st)
			},
		},
		&cobra.Command{
			Use: "stop", Short: "Stop what is running; the data stay", Args: cobra.NoArgs, Example: "  cdc embedded stop",
			RunE: func(c *cobra.Command, _ []string) error {
				if err := embedded.Stop(c.Context(), a.flags.dataDir); err != nil {
					return err
				}
				st, err := embedded.Status(c.Context(), a.flags.dataDir)
				if err != nil {
					return err
				}
				return a.printEmbedded(st)
			},
		},
		&cobra.Command{
			Use: "status", Short: "Say what runs where", Args: cobra.NoArgs, Example: "  cdc embedded status -o json",
			RunE: func(c *cobra.Command, _ []string) error {
				st, err := embedded.Status(c.Context(), a.flags.dataDir)
				if err != nil {
					return err
				}
				return a.printEmbedded(st)
			},
		},
		a.serveBrokerCommand(),
	)
	return cmd
}

// serveBrokerCommand is the broker's own process; embedded.Start runs it.
func (a *app) serveBrokerCommand() *cobra.Command {
	var opts embedded.BrokerOptions
	cmd := &cobra.Command{
		Use: "serve-broker", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return embedded.ServeBroker(c.Context(), opts) },
	}
	cmd.Flags().StringVar(&opts.Dir, "dir", "", "where the broker keeps its data")
	cmd.Flags().StringVar(&opts.Listen, "listen", "127.0.0.1:0", "address")
	return cmd
}

func (a *app) printEmbedded(st embedded.State) error {
	st = st.Redacted()
	return a.print.result(st, func(w io.Writer) {
		if p := st.Postgres; p != nil {
			fmt.Fprintf(w, "postgres  %-8s  version %s, port %d, data in %s\n", upOrDown(p.PID), p.Version, p.Port, p.DataDir)
		}
		if b := st.Broker; b != nil {
			fmt.Fprintf(w, "broker    %-8s  %s (kfake: for one machine and for trying; use --brokers for Kafka)\n", upOrDown(b.PID), strings.Join(b.Addrs, ","))
		}
		if st.Postgres == nil && st.Broker == nil {
			fmt.Fprintf(w, "there are no embedded servers in %s\n", a.flags.dataDir)
		}
	})
}

func upOrDown(pid int) string {
	if pid == 0 {
		return "stopped"
	}
	return "running"
}
