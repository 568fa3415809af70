package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// replayOptions are the flags of replay.
type replayOptions struct {
	target   string
	data     string
	generate int
	seed     uint64
	start    string
	speed    string
	workers  int
	bare     bool
	output   string
}

func replayCommand() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay --target URL --data FILE | --generate DAYS",
		Short: "Drive a running shop over REST as its customers and staff did",
		Long: `Drives a running shop over REST. --data reads a real year, the file "Online
Retail" of the UCI Machine Learning Repository (doi 10.24432/C5BW33) as CSV,
gzipped or not; --generate makes up a shop of the same shape from a seed.

With --data every row ends as exactly one order line, return line, stock
adjustment or fee line. Before the first day every product is listed with all
the pieces that leave the shop during the year, so no order is refused. The
counts of what the shop confirmed are printed at the end; when they do not add
up to the file, the exit code is 1.

Steps of one customer, product or order keep their order; others run side by
side on --workers connections. --speed max does not wait; --speed 60 plays an
hour in a minute. The shop should be empty, or have had only other seeds.

--output json prints one object: source, seconds, calls, rowsRead, rows, sum,
orderLines, returnLines, stockAdjustments and feeLines (each {rows, sum}),
customers, orders, rejected, paid, declined, cancelled, shipped, returns, and
with --generate exampleOrderId, an order that went from placing to return.
Sums are decimal strings.

Exit codes: 0 done and all rows accounted for, 1 the shop refused something or
the rows do not add up, 2 wrong input, 3 the shop cannot be reached or fails.`,
		Example: `  legacy-shop replay --target http://127.0.0.1:8080 --generate 7 --seed 1
  legacy-shop replay --target http://127.0.0.1:8080 --data online_retail.csv.gz --workers 8
  legacy-shop replay --target http://127.0.0.1:8080 --generate 1 --seed 2 --speed 100 --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.target, "target", "", "URL of the running shop")
	flags.StringVar(&o.data, "data", "", "file of the real year")
	flags.IntVar(&o.generate, "generate", 0, "days of a made-up shop")
	flags.Uint64Var(&o.seed, "seed", 1, "seed of the made-up shop")
	flags.StringVar(&o.start, "start", "2011-10-03", "first day of the made-up shop")
	flags.StringVar(&o.speed, "speed", "max", "max, or how many times faster than business time")
	flags.IntVar(&o.workers, "workers", 8, "requests at the same time")
	flags.BoolVar(&o.bare, "bare", false, "with --data: only the rows of the file, no validation, payment, invoice or shipment")
	flags.StringVar(&o.output, "output", "text", "text or json")
	return cmd
}

// validate reports everything that is wrong with the flags at once.
func (o *replayOptions) validate() (speed float64, start time.Time, err error) {
	var wrong []error
	check := func(good bool, format string, args ...any) {
		if !good {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	u, err := url.Parse(o.target)
	check(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "--target must be the http:// URL of a running shop")
	check((o.data != "") != (o.generate != 0), "give either --data FILE or --generate DAYS")
	check(o.generate >= 0 && o.generate <= 3660, "--generate must be 1 to 3660 days")
	check(o.workers >= 1 && o.workers <= 256, "--workers must be 1 to 256")
	check(o.output == "text" || o.output == "json", "--output must be text or json")
	start, err = time.Parse(time.DateOnly, o.start)
	check(err == nil, "--start must be a day such as 2011-10-03")
	if speed = math.Inf(1); o.speed != "max" {
		speed, err = strconv.ParseFloat(o.speed, 64)
		check(err == nil && speed > 0 && speed <= 1e9, "--speed must be max or a number above 0")
	}
	if len(wrong) > 0 {
		return 0, start, &failure{exitBadInput, errors.Join(wrong...)}
	}
	return speed, start, nil
}

func (o *replayOptions) run(cmd *cobra.Command) error {
	speed, start, err := o.validate()
	if err != nil {
		return err
	}
	t := &tally{}
	steps, read, err := o.plan(t, start)
	if err != nil {
		return err
	}
	c := newClient(o.target, o.workers)
	defer c.close()
	ctx := cmd.Context()
	if err := c.call(ctx, http.MethodGet, "/healthz", "", nil, nil); err != nil {
		return err
	}
	began := time.Now()
	d := &driver{client: c, workers: o.workers, speed: speed, progress: cmd.ErrOrStderr(), now: time.Now}
	err = d.drive(ctx, steps)
	switch {
	case errors.Is(err, context.Canceled):
		return surroundings("stopped before the end, after %d calls", c.calls.Load())
	case err != nil:
		return err
	}
	result := t.summary()
	result.Source, result.Seconds, result.Calls = "generate", time.Since(began).Round(time.Millisecond).Seconds(), c.calls.Load()
	if result.RowsRead = result.Rows; o.data != "" {
		result.Source, result.RowsRead = "data", read.Rows
	}
	if err := o.show(cmd, result); err != nil {
		return err
	}
	if o.data != "" && (result.Rows != read.Rows || result.Sum != read.Sum) {
		return answerIsNo("the file has %d rows and %s, the shop confirmed %d rows and %s", read.Rows, read.Sum, result.Rows, result.Sum)
	}
	return nil
}

// plan makes the steps, and says what the rows of the file add up to.
func (o *replayOptions) plan(t *tally, start time.Time) ([]*step, count, error) {
	if o.data == "" {
		return generateShop(t, o.seed, start, o.generate), count{}, nil
	}
	file, err := openYear(o.data)
	if err != nil {
		return nil, count{}, badInput("--data: %w", err)
	}
	defer file.Close()
	papers, read, err := readYear(file)
	if err != nil {
		return nil, count{}, badInput("--data %s: %w", o.data, err)
	}
	return planYear(papers, t, !o.bare), read, nil
}

func (o *replayOptions) show(cmd *cobra.Command, s summary) error {
	if o.output == "json" {
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(s); err != nil {
			return surroundings("print the summary: %w", err)
		}
		return nil
	}
	s.print(cmd.OutOrStdout())
	return nil
}
