package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/compare/structure"
	"banyan/shadow/parity"
	"banyan/token"
)

type parityFlags struct {
	control, candidate string
	from, path         string
	replay             string
	methods            []string
	headers            []string
	send               []string
	ignore             []string
	unordered          []string
	token              string
	noTokens           bool
	timeout            time.Duration
	concurrency        int
	perSecond          float64
	sample             float64
	seed               uint64
	noise, once        bool
	controlWaits       bool
	maxDiffering       float64
	maxUnanswered      float64
}

func (a *app) parityCommand() *cobra.Command {
	var f parityFlags
	cmd := &cobra.Command{
		Use:   "parity",
		Short: "Ask two services the same, and say where their answers differ",
		Long: `For a service that takes over an endpoint: the one that answers today is the control,
the new one the candidate. Both are asked the same, as of the same commit where they
know Banyan's tokens; what differs is told by field, share and cause, with examples
and a line that repeats each.

Requests come from a topic (--from topic:shop.orders with --path '/orders/{key}';
{key} and every field of the event's state may stand in it) or from a file with one a
line (--from requests.txt, or - for standard input).

Only methods that change nothing are asked unless --method allows more. Exit code 1
says that more requests differ than --max-differing allows.`,
		Example: `  shadow parity --control http://shop --candidate http://new --from topic:shop.orders --path '/orders/{key}'
  shadow parity --control http://shop --candidate http://new --from paths.txt --ignore '$.updatedAt'
  shadow parity --control http://shop --candidate http://new --replay 'GET /orders/17'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.parity(c.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.control, "control", "", "base URL of the service that answers today")
	fl.StringVar(&f.candidate, "candidate", "", "base URL of the one that is to take over")
	fl.StringVar(&f.from, "from", "", "where requests come from: topic:NAME, a `file`, or -")
	fl.StringVar(&f.path, "path", "/orders/{key}", "with a topic: the `request` that each event makes")
	fl.StringVar(&f.replay, "replay", "", "one `request` instead, as a report names it")
	fl.StringSliceVar(&f.methods, "method", nil, "methods that may be asked; more than GET, HEAD and OPTIONS do things twice")
	fl.StringSliceVar(&f.headers, "header", []string{"Content-Type"}, "response headers that are compared")
	fl.StringArrayVar(&f.send, "send", nil, "a request `header: value` for both")
	fl.StringArrayVar(&f.ignore, "ignore", nil, "`places` that are not compared: $.items[*].updatedAt, $..etag")
	fl.StringArrayVar(&f.unordered, "unordered", nil, "`lists` whose order says nothing: $.items, or $.items=id to pair items by a field")
	fl.StringVar(&f.token, "token", "", "the commit that all answers must have seen at least")
	fl.BoolVar(&f.noTokens, "no-tokens", false, "ask for no tokens and send none")
	fl.DurationVar(&f.timeout, "timeout", 10*time.Second, "of one call")
	fl.IntVar(&f.concurrency, "concurrency", 4, "requests under way at a time")
	fl.Float64Var(&f.perSecond, "per-second", 0, "requests a second at most; 0: no limit")
	fl.Float64Var(&f.sample, "sample", 0, "percent of keys that are asked about; 0: all")
	fl.Uint64Var(&f.seed, "seed", 1, "of the sample")
	fl.BoolVar(&f.noise, "noise", true, "ask the control twice: what it has different with itself does not count")
	fl.BoolVar(&f.once, "once", true, "ask each request once, however often it comes")
	fl.BoolVar(&f.controlWaits, "control-waits", false, "the control is a read model too: it waits for tokens, and makes none")
	fl.Float64Var(&f.maxDiffering, "max-differing", 0, "percent of compared requests that may differ")
	fl.Float64Var(&f.maxUnanswered, "max-unanswered", 0, "percent of requests that a side may leave unanswered")
	return cmd
}

func (a *app) parity(ctx context.Context, f parityFlags) error {
	c, err := f.config()
	if err != nil {
		return cli.BadInput("%w", err)
	}
	c.Log = a.Log
	if err := c.Validate(); err != nil {
		return cli.BadInput("%w", err)
	}
	source, end, err := a.requests(ctx, f)
	if err != nil {
		return err
	}
	defer end()
	r, err := parity.Run(ctx, c, source)
	if r != nil {
		if printErr := a.Print.Result(r, func(w io.Writer) { _ = r.WriteText(w) }); printErr != nil {
			return printErr
		}
	}
	if err != nil {
		return err
	}
	if !r.OK {
		return cli.ErrNo
	}
	return nil
}

func (f *parityFlags) config() (parity.Config, error) {
	c := parity.Config{Control: f.control, Candidate: f.candidate, Methods: f.methods, Headers: f.headers, Timeout: f.timeout,
		Concurrency: f.concurrency, PerSecond: f.perSecond, Sample: f.sample, Seed: f.seed, Noise: f.noise, Once: f.once,
		MaxDiffering: f.maxDiffering, MaxUnanswered: f.maxUnanswered, Structure: structure.Options{Ignore: f.ignore}}
	for _, u := range f.unordered {
		list, by, _ := strings.Cut(u, "=")
		c.Structure.Lists = append(c.Structure.Lists, structure.List{Path: list, Key: by})
	}
	for _, h := range f.send {
		name, value, ok := strings.Cut(h, ":")
		if word, _, more := strings.Cut(strings.TrimSpace(name), " "); !ok || more || word == "" {
			return c, fmt.Errorf("--send %q and what follows: want a header such as Accept: application/json", word) // which may be secret
		}
		if c.Send == nil {
			c.Send = http.Header{}
		}
		c.Send.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if f.controlWaits {
		c.ControlToken = parity.Wait
	}
	if f.noTokens {
		c.ControlToken, c.CandidateToken = parity.None, parity.None
	}
	if f.token != "" {
		t, err := token.Parse(f.token)
		if err != nil {
			return c, fmt.Errorf("--token: %w", err)
		}
		c.Token = t
	}
	if len(f.methods) == 0 {
		c.Methods = nil
	}
	if f.from == "" && f.replay == "" {
		return c, fmt.Errorf("where do the requests come from? Give --from topic:NAME or --from FILE, or one with --replay")
	}
	return c, nil
}

// requests are those that are asked; the caller calls end.
func (a *app) requests(ctx context.Context, f parityFlags) (source iter.Seq2[parity.Request, error], end func(), err error) {
	end = func() {}
	if f.replay != "" {
		r, err := parity.ParseRequest(f.replay)
		if err != nil {
			return nil, end, cli.BadInput("--replay: %w", err)
		}
		return parity.List([]parity.Request{r}), end, nil
	}
	if topic, ok := strings.CutPrefix(f.from, "topic:"); ok {
		return a.fromTopic(ctx, topic, f.path)
	}
	in := io.Reader(os.Stdin)
	if f.from != "-" {
		file, err := os.Open(f.from)
		if err != nil {
			return nil, end, cli.BadInput("--from: %w", err)
		}
		defer file.Close()
		in = file
	}
	list, err := parity.ParseRequests(in)
	if err != nil {
		return nil, end, cli.BadInput("--from %s: %w", f.from, err)
	}
	return parity.List(list), end, nil
}

// fromTopic makes a request of each event that lies in a topic now.
func (a *app) fromTopic(ctx context.Context, topic, path string) (iter.Seq2[parity.Request, error], func(), error) {
	t, err := parity.ParseTemplate(path)
	if err != nil {
		return nil, func() {}, cli.BadInput("--path: %w", err)
	}
	cluster, err := a.dial(ctx)
	if err != nil {
		return nil, func() {}, err
	}
	return t.Requests(recordsOf(ctx, cluster, topic)), cluster.Close, nil
}
