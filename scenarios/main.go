// Command scenarios tells the road from a REST monolith to business events and
// to services that live on them, on this machine, with real processes: a shop on
// Postgres, cdc beside it, a broker, six read models that are kept, asked, made
// anew and proved, the proof that nothing is missing, and a pricing service that
// nobody asked for, in the shadow: what its prices would have changed, in money.
//
//	go run ./scenarios
//
// It needs nothing but Go, takes about a minute with a warm build cache, and
// leaves nothing running and no file behind but the report, unless --keep is given.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// ownDatabase is the way on from here.
const ownDatabase = `
Your own database:
   cdc doctor --source postgres://...              what cdc would do to it
   cdc init && cdc setup --apply && cdc run        its business events
   projector init --topics ... && projector run    a service that lives on them
   shadow run --candidate http://...               what its prices would change
`

// run tells the story once. Exit codes: 0 all of it is true, 1 the proof does
// not hold, 2 wrong flags, 3 something could not be built or started.
func run(ctx context.Context, args []string, out, errw io.Writer) int {
	flags := flag.NewFlagSet("scenarios", flag.ContinueOnError)
	flags.SetOutput(errw)
	days := flags.Int("days", 7, "days of the generated shop")
	seed := flags.Uint64("seed", 1, "seed of the generated shop")
	report := flags.String("report", "", "the folder for the shadow's report; empty: a new one among the temporary files")
	keep := flags.Bool("keep", false, "keep the directory with programs, data and logs, and say where it is")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 || *days < 1 {
		fmt.Fprintln(errw, "scenarios: want no arguments, and --days of at least 1; --help lists the flags")
		return 2
	}
	t := &tour{out: out, days: *days, seed: *seed, report: *report, began: time.Now()}
	err := t.tell(ctx)
	if endErr := t.end(*keep || err != nil && !errors.Is(err, context.Canceled)); endErr != nil {
		err = errors.Join(err, endErr)
	}
	var no *notProved
	switch {
	case err == nil:
		fmt.Fprint(out, ownDatabase)
		fmt.Fprintf(out, "\nThe report on the candidate, for a browser:\n   %s\n", filepath.Join(t.report, "report.html"))
		fmt.Fprintf(out, "\nAll of it took %s, and nothing is left running.\n", time.Since(t.began).Round(100*time.Millisecond))
		return 0
	case errors.As(err, &no):
		fmt.Fprintln(errw, "scenarios:", err)
		return 1
	}
	fmt.Fprintln(errw, "scenarios:", err)
	return 3
}
