package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/outbox"
	"banyan/proof"
	"banyan/translate"
	"banyan/wal"
)

type verifyFlags struct {
	wait, maxAge time.Duration
	rate         int64
	examples     int
	values       bool
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "The proof: topics against tables",
		Long: `Reads the topics themselves, not the store, and the tables under the snapshot of
a temporary slot, and compares them: per aggregate, by hash, naming what is
missing, extra or different by key. It runs beside a live source.

Verdicts: proved; differs; parked (no proof for the listed keys); unfinished
(what the topics hold is not yet complete up to the snapshot). Exit code 0 only
for proved. --output json prints the report with verdict, reasons, lsn, topics,
aggregates, account, faults and notProved.`,
		Example: `  cdc verify
  cdc verify --rate 5000 --max-age 1m
  cdc verify -o json | jq '.aggregates[] | select(.missing > 0)'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withStore(c.Context(), func(cfg *translate.Config, s *outbox.Store) error { return a.verify(c.Context(), cfg, s, f) })
		},
	}
	cmd.Flags().DurationVar(&f.wait, "wait", time.Minute, "how long to wait for the topics to reach the snapshot")
	cmd.Flags().DurationVar(&f.maxAge, "max-age", 5*time.Minute, "how long one snapshot of the source may be held")
	cmd.Flags().Int64Var(&f.rate, "rate", 0, "rows per second to read from the source at most; 0 is no limit")
	cmd.Flags().IntVar(&f.examples, "examples", 10, "keys to name of each kind")
	cmd.Flags().BoolVar(&f.values, "values", false, "show the states of differing keys; they may be personal")
	return cmd
}

func (a *app) verify(ctx context.Context, cfg *translate.Config, store *outbox.Store, f verifyFlags) error {
	cluster, err := kafka(cfg).Dial(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	st, err := store.Status(ctx)
	if err != nil {
		return err
	}
	if st.Source == "" || st.Rules == nil {
		return cli.AnswerNo("there is nothing to prove yet: cdc run has not recorded anything")
	}
	pc := proof.Config{
		Source: cfg.Source.Name, Generation: st.Generation,
		Topics: proof.Kafka(cluster), Database: proof.Postgres{URL: cfg.Source.URL, Wait: f.wait},
		Current: st.Rules.Version, TopicOf: map[string]string{},
		Watermark: proof.Watermarks(proof.Kafka(cluster), cfg.Source.Name),
		Counts:    store.Counts,
		MaxAge:    f.maxAge, Wait: f.wait, Rate: f.rate, Examples: f.examples, Values: f.values,
		SpillDir: filepath.Join(a.DataDir, "spill"), Log: a.Log,
	}
	if pc.Rules, err = a.rulesOfStore(ctx, cfg, store, st.Rules.Version); err != nil {
		return err
	}
	for _, g := range cfg.Aggregates {
		pc.TopicOf[g.Name] = g.Topic
		pc.Names = appendNew(pc.Names, g.Topic)
	}
	pc.Parked = func(ctx context.Context) ([]event.ParkedAt, error) { return parkedAt(ctx, store) }
	pc.SnapshotRunning = func(ctx context.Context) (bool, error) {
		s, err := store.LastSnapshot(ctx)
		return s.Number > 0 && s.Running(), err
	}
	pc.Settled = func(ctx context.Context, mark *proof.Mark, lsn uint64) (bool, error) {
		return a.settled(ctx, cfg, store, mark, wal.LSN(lsn))
	}
	show := a.Print.Phases("verify")
	pc.Progress = func(p proof.Progress) { show.Set(p.Phase, p.What, p.Done, p.Total) }
	report, err := proof.Verify(ctx, pc)
	show.End()
	if err != nil {
		return err
	}
	if err := a.Print.Result(report, func(w io.Writer) { _ = proof.Render(w, report, a.paintVerdict) }); err != nil {
		return err
	}
	if report.Verdict != proof.Proved {
		return cli.ErrNo
	}
	return nil
}

// settled says, where no run works, whether the last watermark still holds at a
// later LSN: the store has assigned no seq since, everything it has is on the
// bus, and the slot, which starts where the store stands, has no change of a
// captured table below that LSN.
func (a *app) settled(ctx context.Context, cfg *translate.Config, store *outbox.Store, mark *proof.Mark, lsn wal.LSN) (bool, error) {
	st, err := store.Status(ctx)
	if err != nil || st.Owner.Alive || st.Outbox.Events > 0 {
		return false, err
	}
	for _, t := range st.Topics {
		if seqs := mark.Seqs[t.Topic]; t.Partition >= len(seqs) && t.Assigned > 0 || t.Partition < len(seqs) && seqs[t.Partition] != t.Assigned {
			return false, nil
		}
	}
	conn, err := wal.Connect(ctx, cfg.Source.URL)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	s, err := wal.SlotInfo(ctx, conn, cfg.Source.Slot)
	if err != nil || s.Confirmed > storeEnd(st) {
		return false, err
	}
	return wal.Quiet(ctx, conn, cfg.Source.Slot, cfg.Source.Publication, lsn)
}

// storeEnd is the position of the store.
func storeEnd(st outbox.Status) wal.LSN {
	lsn, err := wal.ParseLSN(st.Position.EndLSN)
	if err != nil {
		return 0
	}
	return lsn
}

func appendNew(list []string, s string) []string {
	for _, x := range list {
		if x == s {
			return list
		}
	}
	return append(list, s)
}

func (a *app) paintVerdict(v proof.Verdict, text string) string {
	switch v {
	case proof.Proved:
		return a.Print.Good(text)
	case proof.Differs:
		return a.Print.Bad(text)
	}
	return a.Print.Warn(text)
}

// rulesOfStore gives any version of the rules that the store has recorded,
// compiled against today's tables. The present one must have all its
// aggregates: one that is left out would not be looked at, and the rest proved.
func (a *app) rulesOfStore(ctx context.Context, cfg *translate.Config, store *outbox.Store, present int) (func(context.Context, int) (proof.Rules, error), error) {
	cat, err := a.inspect(ctx, cfg.Source.URL)
	if err != nil {
		return nil, err
	}
	known := map[int]proof.Rules{}
	return func(ctx context.Context, version int) (proof.Rules, error) {
		if r, ok := known[version]; ok {
			return r, nil
		}
		set, err := store.RulesVersion(ctx, version)
		if err != nil {
			return nil, err
		}
		cfg, err := translate.Load(fmt.Sprintf("rule set %d", version), []byte(set.YAML))
		if err != nil {
			return nil, err
		}
		r, _, err := compileAgainst(cfg, cat, version)
		if err != nil {
			// Aggregates whose state the tables can still give are proved by them.
			tables, terr := tablesOf(cfg, cat)
			if terr != nil {
				return nil, terr
			}
			var gone map[string]error
			if r, gone = translate.CompileStates(cfg, tables, version); r == nil {
				return nil, err
			}
			if version == present && len(gone) > 0 {
				return nil, cli.AnswerNo("nothing can be proved: the present rules do not fit today's tables: %w", err)
			}
		}
		known[version] = r
		return r, nil
	}, nil
}

// parkedAt lists what is parked now with the LSN of each key's first change.
func parkedAt(ctx context.Context, store *outbox.Store) (all []event.ParkedAt, err error) {
	const page = 1000
	var after event.Ref
	for {
		chains, err := store.ParkedChains(ctx, "", after, page)
		if err != nil {
			return nil, err
		}
		for _, c := range chains {
			all = append(all, event.ParkedAt{Ref: c.Ref, LSN: c.First.LSN})
			after = c.Ref
		}
		if len(chains) < page {
			return all, nil
		}
	}
}

// rowKey names the columns by which the rules tell the rows of a table apart.
func rowKey(cfg *translate.Config, table string) []string {
	var find func(children []*translate.ChildConfig) []string
	find = func(children []*translate.ChildConfig) []string {
		for _, c := range children {
			if c.Table == table && c.Key != nil {
				return c.Key
			}
			if k := find(c.Children); k != nil {
				return k
			}
		}
		return nil
	}
	for _, g := range cfg.Aggregates {
		if g.Table == table {
			return g.Key
		}
		if k := find(g.Children); k != nil {
			return k
		}
	}
	return nil
}

var _ proof.Rules = (*translate.Rules)(nil)
