package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/quote"
)

func (a *app) serveCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer over HTTP what orders would have cost",
		Long: `Answers POST /quotes: up to 1,000 orders in, with what was known before each, and
a unit price for each line out. GET /openapi.json describes it; health is at
/healthz and /readyz, numbers at /metrics. It remembers nothing.

It prints a line on stdout once it listens; with --output json as {"stage",
"url", "build"}.`,
		Example: `  pricing serve
  pricing serve --listen 0.0.0.0:9000 --rules rules.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), listen) },
	}
	cli.Profiled(cmd)
	a.rulesFlag(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9000", "address")
	return cmd
}

// stage is a line of output of a service.
type stage struct {
	Stage string `json:"stage"`
	URL   string `json:"url,omitempty"`
	Build string `json:"build,omitempty"`
	Topic string `json:"topic,omitempty"`
	AsOf  string `json:"asOf,omitempty"`
}

func (a *app) stage(s stage, format string, args ...any) error {
	return a.Print.Line(s, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

func (a *app) serve(ctx context.Context, listen string) error {
	if listen == "" {
		return cli.BadInput("--listen is empty: want an address such as 127.0.0.1:9000")
	}
	d, err := a.candidate()
	if err != nil {
		return err
	}
	health := cli.Health(func() string { return "" })
	mux := http.NewServeMux()
	mux.Handle("/", quote.Handler(d, quote.Options{Log: a.Log}))
	mux.Handle("/readyz", health)
	mux.Handle("/metrics", health)
	return cli.Serve(ctx, "--listen", listen, mux, func(url string) error {
		return a.stage(stage{Stage: "listening", URL: url, Build: d.Build()}, "listening on %s with %s", url, d.Build())
	})
}
