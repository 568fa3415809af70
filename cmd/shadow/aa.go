package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/compare"
	"banyan/internal/figures"
	"banyan/shadow"
)

func (a *app) aaCommand() *cobra.Command {
	var f candidateFlags
	cmd := &cobra.Command{
		Use:   "aa",
		Short: "Compare control with itself: it must say zero",
		Long: `Goes through all of history with the price that was paid in the candidate's place, by
the way that a candidate goes: any difference is an error of shadow's, and no verdict
is worth anything as long as there is one. A first verdict asks for it.

The candidate is asked some hundred orders twice too, if it can be (one in process is
found by itself, for others give --candidate): what it says differently the second
time is noise of its own.`,
		Example: "  shadow aa\n  shadow aa --candidate http://localhost:9000/quotes",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.aa(c.Context(), f) },
	}
	f.register(cmd)
	return cmd
}

func (a *app) aa(ctx context.Context, f candidateFlags) error {
	store, name, err := a.existing(ctx)
	if err != nil {
		return err
	}
	defer store.Pool().Close()
	p, err := shadow.Read(ctx, store, name)
	if err != nil {
		return err
	}
	a.useMemory()
	who, end, err := a.twice(ctx, &f, name, p.Options)
	if err != nil {
		return err
	}
	defer end()
	cluster, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	n, err := shadow.Noise(ctx, cluster, p.Options, who)
	if err != nil {
		return err
	}
	if n.Lines > 0 {
		if err := shadow.SaveNoise(ctx, store, name, *n); err != nil {
			return err
		}
	}
	if err := a.Print.Result(n, func(w io.Writer) { printNoise(w, a, n) }); err != nil {
		return err
	}
	if n.Lines == 0 {
		return cli.AnswerNo("there was no order to compare: nothing is proved, and nothing is kept")
	}
	if n.Differ > 0 || n.RepeatDiffer > 0 {
		return cli.ErrNo
	}
	return nil
}

// twice gives the candidate that is asked twice, none where it cannot be: a topic says
// what it says, and a service that nobody has named here may be gone by now. The caller
// calls end.
func (a *app) twice(ctx context.Context, f *candidateFlags, name string, o shadow.Options) (who shadow.Candidates, end func(), err error) {
	end = func() {}
	named := f.candidate != "" || f.topic != "" || f.rules != ""
	if !named && !strings.HasPrefix(o.Candidate, "builtin:") {
		return who, end, nil
	}
	c, err := a.chooseAgain(ctx, f, o)
	switch {
	case err != nil:
		return who, end, err
	case c.is != o.Candidate:
		c.close()
		if named {
			err = cli.BadInput("the candidate of shadow %s is %s, and this is %s: its noise is none of this shadow's", name, o.Candidate, c.is)
		}
		return who, end, err
	case c.stream == nil:
		who = c.who
	}
	return who, c.close, nil
}

func printNoise(w io.Writer, a *app, n *compare.Noise) {
	word := a.Print.Good("zero")
	if n.Differ > 0 {
		word = a.Print.Bad(fmt.Sprintf("%s lines differ", figures.Thousands(n.Differ)))
	}
	fmt.Fprintf(w, "control against control: %s in %s lines", word, figures.Thousands(n.Lines))
	for _, d := range n.Diff {
		fmt.Fprintf(w, ", %s", shorter(d))
	}
	fmt.Fprintf(w, "; up to %s\n", n.At)
	if n.RepeatLines > 0 {
		word = a.Print.Good("the same")
		if n.RepeatDiffer > 0 {
			word = a.Print.Bad(fmt.Sprintf("%s lines differ", figures.Thousands(n.RepeatDiffer)))
		}
		fmt.Fprintf(w, "the candidate asked twice: %s in %s lines\n", word, figures.Thousands(n.RepeatLines))
	}
}
