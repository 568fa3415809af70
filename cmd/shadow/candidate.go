package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/compare"
	"banyan/pricing"
	"banyan/quote"
	"banyan/shadow"
	"banyan/shadow/ask"
)

// candidateFlags say who is compared.
type candidateFlags struct {
	candidate string
	topic     string
	rules     string
	timeout   time.Duration
	rate      float64
	patience  time.Duration
	killFile  string
	trails    bool // somebody will look at the rules of each price
}

func (f *candidateFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.candidate, "candidate", "", "who is compared: http://host/quotes, or builtin:demand, builtin:control")
	fl.StringVar(&f.topic, "candidate-topic", "", "a `topic` with a candidate's prices, shadow.prices...., joined as of each order")
	fl.StringVar(&f.rules, "rules", "", "the `file` with the rules of builtin:demand (pricing rules --print shows them)")
	fl.DurationVar(&f.timeout, "timeout", time.Second, "of one call to the candidate")
	fl.Float64Var(&f.rate, "rate", 0, "orders a second that the candidate is asked for at most; 0: no limit")
	fl.DurationVar(&f.patience, "patience", 30*time.Second, "how long --until-caught-up waits for a silent candidate topic before orders count as unproven")
	fl.StringVar(&f.killFile, "kill-file", "", "while this `file` exists the candidate is asked nothing: touch it to stop at once, remove it to go on")
}

// chosen is a candidate that was named.
type chosen struct {
	name    string // of the shadow, where none is given
	is      string // what the state is of
	who     shadow.Candidates
	request *shadow.Request
	stream  *shadow.Stream
	close   func()
}

var notPlain = regexp.MustCompile(`[^a-z0-9]+`)

func plainName(s string) string {
	s = strings.Trim(notPlain.ReplaceAllString(strings.ToLower(s), "_"), "_")
	return s[:min(len(s), 24)]
}

// choose finds the candidate; the caller calls its close.
func (a *app) choose(ctx context.Context, f *candidateFlags) (*chosen, error) {
	switch {
	case f.candidate != "" && f.topic != "":
		return nil, cli.BadInput("--candidate and --candidate-topic %s: give one of them", f.topic)
	case f.topic != "":
		return a.chooseTopic(f)
	case f.candidate == "":
		return nil, cli.BadInput("who is compared? Give --candidate http://host/quotes, --candidate builtin:demand or --candidate-topic shadow.prices....")
	}
	if name, ok := strings.CutPrefix(f.candidate, "builtin:"); ok {
		return builtin(name, f)
	}
	return a.chooseURL(f)
}

// builtins are the candidates that live in this process, by name. One of your own is a
// line here: anything that implements quote.Candidate.
var builtins = map[string]func(f *candidateFlags) (quote.Candidate, error){
	"demand": func(f *candidateFlags) (quote.Candidate, error) {
		d, err := pricing.Open(f.rules)
		if err != nil {
			return nil, cli.BadInput("--rules: %w", err)
		}
		return d, nil
	},
}

func builtin(name string, f *candidateFlags) (*chosen, error) {
	c := &chosen{name: name, close: func() {}}
	if name == "control" {
		c.who = shadow.Candidates{Control: true, Who: compare.Candidate{Name: "control", Mode: "in process"}}
	} else {
		create, ok := builtins[name]
		if !ok {
			return nil, cli.BadInput("--candidate builtin:%s: there are %s, and control, which is the price paid", name, joined(slices.Sorted(maps.Keys(builtins))))
		}
		who, err := create(f)
		if err != nil {
			return nil, err
		}
		c.who = shadow.Candidates{InProcess: who, Who: compare.Candidate{Name: who.Name(), Build: who.Build(), Mode: "in process"}}
	}
	c.is = "builtin:" + name + " " + c.who.Who.Build
	return c, nil
}

// attempts at an order that fails while others are answered: a candidate that fails at
// one call in four has it given up once in 4,000.
const attempts = 6

func (a *app) chooseURL(f *candidateFlags) (*chosen, error) {
	u, err := url.Parse(f.candidate)
	if err != nil {
		u = &url.URL{} // ask.New tells what is wrong, without what may be secret
	}
	cfg := ask.Defaults(f.candidate)
	if u.Host != "" && !f.trails {
		with := *u
		q := with.Query()
		q.Set("trail", "false") // what nobody looks at need not be written (quote/openapi.json)
		with.RawQuery = q.Encode()
		cfg.URL = with.String()
	}
	cfg.Timeout, cfg.Rate, cfg.ID = f.timeout, f.rate, a.flags.name
	cfg.Connect = min(cfg.Connect, cfg.Timeout)
	client, err := ask.New(cfg)
	if err != nil {
		return nil, cli.BadInput("--candidate: %w", err)
	}
	r := &shadow.Request{Client: client, Attempts: attempts}
	if f.killFile != "" {
		r.Killed = f.killed
	}
	c := &chosen{name: plainName(u.Host), is: client.Target(), request: r, close: client.Close}
	c.who = shadow.Candidates{Who: compare.Candidate{Name: client.Target(), Mode: "request"}, Pricer: r, Named: r.Named, Operations: r.Operations}
	return c, nil
}

// killed is the kill switch. Where nobody can say whether the file is there, it is on.
func (f *candidateFlags) killed() string {
	switch _, err := os.Stat(f.killFile); {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		return fmt.Sprintf("the kill switch cannot be looked at, and nothing is asked until it can: %v", err)
	}
	return fmt.Sprintf("the kill switch is on: nothing is asked while %s exists", f.killFile)
}
