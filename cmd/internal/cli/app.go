// Package cli is what all commands of Banyan have in common for those who type
// them: exit codes, where settings come from, how results, progress and errors
// are printed, the servers that a first run brings along, the health of a run.
// It changes when these habits do, for every command at once; what a command
// does is its own business.
//
// A command's main is
//
//	func main() { cli.Main(Main) }
//
//	func Main(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
//		a := cli.New("projector", getenv, stdout, stderr)
//		return a.Run(ctx, root(a), args)
//	}
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// App is one invocation of a command: where it reads from and prints to, and
// what the flags that every command has say. Print, Log and the flags are set
// when a command's RunE begins.
type App struct {
	// Name is the program's name, as it is typed.
	Name string
	// Print writes results on stdout and progress on stderr.
	Print *Printer
	// Log writes to stderr, in detail with --verbose.
	Log *slog.Logger
	// DataDir is the flag --data-dir, for those that have it: DataDirFlag.
	DataDir string
	// Refused reports whether an error that does not know its exit code means
	// that a person has to decide before going on: it makes exit code 1. Nil
	// refuses nothing.
	Refused func(error) bool

	getenv         func(string) string
	stdout, stderr io.Writer
	started        bool // flags and arguments are well and the command runs

	output   string
	verbose  bool
	noColour bool
}

// EnvPrefix begins the name of each environment variable that stands for a
// flag: --data-dir is BANYAN_DATA_DIR.
const EnvPrefix = "BANYAN_"

// New makes the invocation of the program of that name.
func New(name string, getenv func(string) string, stdout, stderr io.Writer) *App {
	return &App{Name: name, getenv: getenv, stdout: stdout, stderr: stderr}
}

// Main is the whole of a program's main: it runs the program with the
// arguments, environment and streams of the process, ends its context at
// SIGINT and SIGTERM, and exits with the code that it returns.
func Main(run func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run gives root, which has its own flags and commands already, the habits of
// the house, runs it, and returns its exit code. It is the door: errors are
// printed here, once, and without secrets.
func (a *App) Run(ctx context.Context, root *cobra.Command, args []string) int {
	a.furnish(root)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.started && !Is[*Error](err) {
		err = BadInput("%w: %s --help, and --help of each command, tell more", err, a.Name) // cobra's own complaints
	}
	if err != nil && !errors.Is(err, errSilent) {
		fmt.Fprintf(a.stderr, "%s: %s\n", a.Name, Redact(err.Error()))
	}
	return a.code(err)
}

// furnish adds the flags that every command has, and makes cobra's complaints
// ours.
func (a *App) furnish(root *cobra.Command) {
	root.SilenceUsage, root.SilenceErrors = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return BadInput("there is no command %q: %s --help lists them", args[0], a.Name)
		}
		return nil
	}
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", "text", "text or json")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log what is going on in detail")
	f.BoolVar(&a.noColour, "no-color", false, "no colour, also on a terminal")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return BadInput("%w: %s --help lists the flags", err, c.CommandPath())
	})
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return a.begin(c) }
	exactArgs(root)
	a.noteStart(root)
}

// noteStart makes every command say that it was reached.
func (a *App) noteStart(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.started = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		a.noteStart(sub)
	}
}

// exactArgs makes cobra's own complaints about arguments bad input.
func exactArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if err != nil && !Is[*Error](err) {
				return BadInput("%w: usage: %s", err, c.UseLine())
			}
			return err
		}
	}
	for _, sub := range c.Commands() {
		exactArgs(sub)
	}
}

// begin fills what flags leave open from the environment and makes the printer
// and the logger.
func (a *App) begin(c *cobra.Command) error {
	var faults []error
	c.Flags().VisitAll(func(f *pflag.Flag) {
		name := EnvPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v := a.getenv(name)
		if f.Changed || v == "" || f.Name == "help" {
			return
		}
		if err := f.Value.Set(v); err != nil {
			faults = append(faults, fmt.Errorf("%s=%q: %w", name, v, err))
			return
		}
		f.Changed = true
	})
	if a.output != "text" && a.output != "json" {
		faults = append(faults, fmt.Errorf("--output %q: want text or json", a.output))
	}
	if len(faults) > 0 {
		return BadInput("%w", errors.Join(faults...))
	}
	a.Print = newPrinter(a.stdout, a.stderr, a.output == "json", a.noColour || a.getenv("NO_COLOR") != "")
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	a.Log = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	return nil
}
