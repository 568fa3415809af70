package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/compare"
	"banyan/money"
	"banyan/quote"
	"banyan/shadow"
)

// replayed is what `shadow replay --output json` prints.
type replayed struct {
	At string `json:"at"`
	// Verdict is "same" (to the byte as recorded), "differs", or "not recorded".
	Verdict    string          `json:"verdict"`
	Comparison json.RawMessage `json:"comparison"`
	Recorded   json.RawMessage `json:"recorded,omitempty"`
	shadow.Replayed
}

func (a *app) replayCommand() *cobra.Command {
	var f candidateFlags
	cmd := &cobra.Command{
		Use:   "replay TOPIC/PARTITION/OFFSET",
		Short: "Do one comparison again, with all that went into it",
		Long: `Goes through history up to the order at that place, has it priced with what was known
before it, and holds the comparison against the one that was recorded: to the byte.
Reports print the command for each of their examples.

The candidate of the shadow is asked again, where it was; give --candidate or
--candidate-topic where it is elsewhere by now, or needs a password. It is the same
only if the candidate still is.`,
		Example: "  shadow replay shop.orders/3/1234",
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.replay(c.Context(), f, args[0]) },
	}
	f.register(cmd)
	f.trails = true
	return cmd
}

func (a *app) replay(ctx context.Context, f candidateFlags, at string) error {
	topic, partition, offset, err := shadow.ParseAt(at)
	if err != nil {
		return cli.BadInput("%w", err)
	}
	store, name, err := a.existing(ctx)
	if err != nil {
		return err
	}
	defer store.Pool().Close()
	p, err := shadow.Read(ctx, store, name)
	if err != nil {
		return err
	}
	if want := p.Options.Mapping.Orders.Topic; topic != want {
		return cli.BadInput("%s: the orders of shadow %s lie in %s", at, name, want)
	}
	who, err := a.chooseAgain(ctx, &f, p.Options)
	if err != nil {
		return err
	}
	defer who.close()
	cluster, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	if who.stream != nil {
		who.stream.Log, who.stream.Patience = cluster, f.patience
	}
	was, err := shadow.Recorded(ctx, store, name, partition, offset)
	if err != nil {
		return err
	}
	if leftOut(was) {
		p.Options.Sample = 1 // who was in no sample at that time is in the smallest one still less
	}
	again, err := shadow.Replay(ctx, cluster, p.Options, who.who, partition, offset)
	if errors.Is(err, shadow.ErrNotCompared) {
		return cli.AnswerNo("%w", err)
	}
	if err != nil {
		return err
	}
	r := replayed{At: at, Comparison: again.Entry, Recorded: was, Replayed: *again, Verdict: "not recorded"}
	switch {
	case was == nil:
	case bytes.Equal(was, again.Entry):
		r.Verdict = "same"
	default:
		r.Verdict = "differs"
	}
	if err := a.Print.Result(r, func(w io.Writer) { r.print(w, a) }); err != nil {
		return err
	}
	if r.Verdict == "differs" {
		return cli.ErrNo
	}
	return nil
}

// leftOut reports whether a comparison was recorded as one of a customer who was not in
// the sample, which may have been a smaller one while the shadow was behind.
func leftOut(recorded []byte) bool {
	if recorded == nil {
		return false
	}
	e, err := shadow.ParseEntry(recorded)
	return err == nil && slices.ContainsFunc(e.Lines, func(n shadow.EntryLine) bool { return n.Reason == compare.Sampled })
}

// chooseAgain is choose for a shadow that is there: who lives in this process needs no
// flag.
func (a *app) chooseAgain(ctx context.Context, f *candidateFlags, o shadow.Options) (*chosen, error) {
	if f.candidate == "" && f.topic == "" {
		f.candidate, _, _ = strings.Cut(o.Candidate, " ")
		if topic, ok := strings.CutPrefix(o.Candidate, "topic "); ok {
			f.candidate, f.topic = "", topic
		}
	}
	who, err := a.choose(ctx, f)
	if err != nil {
		return nil, err
	}
	// A run tells itself why it waits, over and over.
	if who.request != nil {
		who.request.Log = a.Log
	}
	if who.stream != nil {
		who.stream.Logger = a.Log
	}
	if who.is != o.Candidate {
		a.Log.Warn("this is another candidate than the shadow's", "shadow", o.Candidate, "this", who.is)
	}
	return who, nil
}

// print tells a person what went in and what came out.
func (r *replayed) print(w io.Writer, a *app) {
	e, err := shadow.ParseEntry(r.Comparison)
	if err != nil {
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintf(w, "%s  %s\n", e.At, e.Event)
	if r.Order != nil {
		fmt.Fprintf(w, "as of %s, strictly before it; placed %s\n", r.Order.AsOf, r.Order.PlacedAt.Format("2006-01-02 15:04"))
	}
	for i := range e.Lines {
		r.printLine(w, &e.Lines[i])
	}
	switch r.Verdict {
	case "same":
		fmt.Fprintln(w, a.Print.Good("the same, to the byte, as was recorded"))
	case "differs":
		fmt.Fprintf(w, "%s\nrecorded: %s\nnow:      %s\n", a.Print.Bad("it differs from what was recorded: the candidate is another one, or not a function of what it is asked"), r.Recorded, r.Comparison)
	default:
		fmt.Fprintln(w, a.Print.Warn("nothing was recorded of it: the shadow has not come here, or keeps no journal"))
	}
}

func (r *replayed) printLine(w io.Writer, n *shadow.EntryLine) {
	amount := func(u compare.Units) money.Amount {
		return shorter(money.Amount{Amount: u, Scale: compare.Scale, Currency: n.Currency})
	}
	fmt.Fprintf(w, "\nline %d: %d of product %s\n", n.Line, n.Quantity, shadow.Plain(n.Product))
	if n.Reason != "" {
		fmt.Fprintf(w, "  paid %s each; not compared: %s\n", amount(n.Control), n.Reason)
		return
	}
	fmt.Fprintf(w, "  control %s each, candidate %s each: %s (%s)\n", amount(n.Control), amount(n.Candidate), amount(n.Quoted-n.Paid), n.Cause)
	if r.Order == nil || r.Answer == nil {
		return
	}
	for i := range r.Order.Lines {
		if l := &r.Order.Lines[i]; l.Line == n.Line {
			printKnown(w, &l.Known)
		}
	}
	for i := range r.Answer.Lines {
		if p := &r.Answer.Lines[i]; p.Line == n.Line {
			printTrail(w, p)
		}
	}
}

func printKnown(w io.Writer, k *quote.Product) {
	fmt.Fprintf(w, "  known: %s", shadow.Plain(k.Description))
	if k.List.Currency != "" {
		fmt.Fprintf(w, "; list %s", k.List)
	}
	if k.Tier.Currency != "" {
		fmt.Fprintf(w, ", %s from %d pieces", k.Tier, k.TierQuantity)
	}
	if k.Cost.Currency != "" {
		fmt.Fprintf(w, "; cost %s", k.Cost)
	}
	if k.Stock != nil {
		fmt.Fprintf(w, "; stock %d", *k.Stock)
	}
	fmt.Fprintf(w, "; asked for: %d that day, %d in 7 days, %d in 28\n", k.Demand.Days1, k.Demand.Days7, k.Demand.Days28)
}

func printTrail(w io.Writer, p *quote.Price) {
	for _, s := range p.Trail {
		var notes []string
		if s.Since != "" {
			notes = append(notes, "since "+shadow.Plain(s.Since))
		}
		if s.Clamp {
			notes = append(notes, "held")
		}
		line := "  rule " + shadow.Plain(s.Rule)
		if len(notes) > 0 {
			line += " (" + strings.Join(notes, ", ") + ")"
		}
		fmt.Fprintf(w, "%s: %s -> %s\n", line, s.From, s.To)
		if s.Why != "" {
			fmt.Fprintf(w, "       %s\n", shadow.Plain(s.Why))
		}
	}
}

// shorter drops zeros behind the minor unit.
func shorter(m money.Amount) money.Amount {
	least, ok := money.MinorUnit(m.Currency)
	if !ok {
		least = 2
	}
	for m.Scale > least && m.Amount%10 == 0 {
		m.Amount, m.Scale = m.Amount/10, m.Scale-1
	}
	return m
}
