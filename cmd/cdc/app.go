package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is one invocation of cdc: where it reads from and prints to, and what
// every command's flags say.
type app struct {
	getenv func(string) string
	stderr io.Writer
	print  *printer
	log    *slog.Logger
	flags  globalFlags
	// started says that flags and arguments are well and the command runs.
	started bool
}

// globalFlags are the flags that every command has.
type globalFlags struct {
	config   string
	source   string
	store    string
	brokers  []string
	dataDir  string
	output   string
	verbose  bool
	noColour bool
}

// Main runs cdc with args and returns its exit code. It is the door: errors
// are printed here, once, and without secrets.
func Main(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	a := &app{getenv: getenv, stderr: stderr}
	root := a.root(stdout)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if e := (*exitError)(nil); err != nil && !a.started && !errors.As(err, &e) {
		err = badInput("%w: cdc --help, and --help of each command, tell more", err) // cobra's own complaints
	}
	if err != nil && !errors.Is(err, errSilent) {
		fmt.Fprintln(stderr, "cdc:", redact(err.Error()))
	}
	return exitCode(err)
}

func (a *app) root(stdout io.Writer) *cobra.Command {
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
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return badInput("there is no command %q: cdc --help lists them", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.flags.config, "config", "f", "banyan.yaml", "the configuration `file`")
	f.StringVar(&a.flags.source, "source", "", "the database to read, postgres://...; its password may come from PGPASSWORD or PGPASSFILE")
	f.StringVar(&a.flags.store, "store", "", "a Postgres database of Banyan's own; empty: embedded, under --data-dir")
	f.StringSliceVar(&a.flags.brokers, "brokers", nil, "Kafka's addresses, host:port,...; empty: embedded, for one machine and for trying")
	f.StringVar(&a.flags.dataDir, "data-dir", "banyan-data", "the `directory` of the embedded servers and of spilled transactions")
	f.StringVarP(&a.flags.output, "output", "o", "text", "text or json")
	f.BoolVarP(&a.flags.verbose, "verbose", "v", false, "log what is going on in detail")
	f.BoolVar(&a.flags.noColour, "no-color", false, "no colour, also on a terminal")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return badInput("%w: %s --help lists the flags", err, c.CommandPath())
	})
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return a.begin(c, stdout) }
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.doctorCommand(), a.initCommand(), a.previewCommand(), a.setupCommand(), a.runCommand(), a.repairCommand(),
		a.tailCommand(), a.explainCommand(), a.whyNotCommand(), a.statusCommand(), a.verifyCommand(),
		a.parkedCommand(), a.embeddedCommand(), a.teardownCommand())
	exactArgs(root)
	a.noteStart(root)
	return root
}

// noteStart makes every command say that it was reached.
func (a *app) noteStart(c *cobra.Command) {
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
			if e := (*exitError)(nil); err != nil && !errors.As(err, &e) {
				return badInput("%w: usage: %s", err, c.UseLine())
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
func (a *app) begin(c *cobra.Command, stdout io.Writer) error {
	var faults []error
	c.Flags().VisitAll(func(f *pflag.Flag) {
		name := "BANYAN_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
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
	if a.flags.output != "text" && a.flags.output != "json" {
		faults = append(faults, fmt.Errorf("--output %q: want text or json", a.flags.output))
	}
	if len(faults) > 0 {
		return badInput("%w", errors.Join(faults...))
	}
	a.print = newPrinter(stdout, a.stderr, a.flags.output, a.flags.noColour || a.getenv("NO_COLOR") != "")
	level := slog.LevelInfo
	if a.flags.verbose {
		level = slog.LevelDebug
	}
	a.log = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	return nil
}

// redact takes passwords out of whatever is printed as an error.
func redact(s string) string {
	s = unreadableURL.ReplaceAllString(s, "cannot parse it")
	s = passwordInURL.ReplaceAllString(s, "${1}:xxxxx@")
	s = passwordPart.ReplaceAllString(s, "${1}\"xxxxx\"")
	return passwordInDSN.ReplaceAllString(s, "${1}xxxxx")
}

var (
	// A URL that cannot be read: nobody knows where its password begins or ends.
	unreadableURL = regexp.MustCompile("(?s)cannot parse `.*`")
	passwordInURL = regexp.MustCompile(`(postgres(?:ql)?://[^:/?#\s@]+):[^@\s/]*@`)
	// Of a password that is not percent-encoded, a part is taken for a port.
	passwordPart  = regexp.MustCompile(`(invalid port |invalid URL escape )"(?:[^"\\]|\\.)*"`)
	passwordInDSN = regexp.MustCompile(`(?i)(password\s*=\s*)('[^']*'|[^\s'&]+)`)
)
