// Command legacy-shop is the monolith that a team would really have: a REST
// shop on Postgres, deliberately plain, that knows nothing of events. `serve`
// runs it; `replay` drives a running one over REST as its customers and staff
// did, from a file of a real year or from a seed.
//
// Read server.go for its routes, orders.go for the one transaction that
// matters most, schema.sql for the tables, and drive.go for how a replay keeps
// cause before effect.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes, the same for every command of Banyan.
const (
	exitDone         = 0
	exitAnswerIsNo   = 1
	exitBadInput     = 2
	exitSurroundings = 3
)

// failure is an error that knows its exit code.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func badInput(format string, args ...any) error {
	return &failure{exitBadInput, fmt.Errorf(format, args...)}
}

func surroundings(format string, args ...any) error {
	return &failure{exitSurroundings, fmt.Errorf(format, args...)}
}

func answerIsNo(format string, args ...any) error {
	return &failure{exitAnswerIsNo, fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program without the process around it. It returns an exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "legacy-shop",
		Short:         "A REST shop on Postgres, as an old one would be",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fillFromEnvironment(cmd.Flags(), getenv)
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(serveCommand(), replayCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(stderr, "legacy-shop:", err)
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	return exitBadInput // cobra's own complaints are about flags
}

// fillFromEnvironment sets each flag that was not given from its variable:
// --idle-timeout from BANYAN_SHOP_IDLE_TIMEOUT.
func fillFromEnvironment(flags *pflag.FlagSet, getenv func(string) string) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "BANYAN_SHOP_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value := getenv(name); value != "" && !f.Changed && f.Name != "help" {
			if err := flags.Set(f.Name, value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	})
	return errors.Join(errs...)
}
