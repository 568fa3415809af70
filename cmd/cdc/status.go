package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/internal/figures"
	"banyan/outbox"
	"banyan/proof"
	"banyan/translate"
	"banyan/wal"
)

// statusReport is what `cdc status --output json` prints.
type statusReport struct {
	outbox.Status
	Slot *slotStatus `json:"slot,omitempty"` // absent where the source cannot be asked
	// Watermark is the last one in the topic, absent where Kafka cannot be asked
	// or there is none.
	Watermark *watermarkStatus `json:"watermark,omitempty"`
	Problems  []string         `json:"problems"` // of the surroundings
}

type slotStatus struct {
	Name          string `json:"name"`
	Active        bool   `json:"active"`
	Confirmed     string `json:"confirmed"`
	LagBytes      int64  `json:"lag_bytes"`      // WAL written and not confirmed
	RetainedBytes int64  `json:"retained_bytes"` // WAL that the slot holds on the source's disk
	WALStatus     string `json:"wal_status"`
	SafeWALSize   int64  `json:"safe_wal_size"` // bytes until the slot is in danger, -1 without a limit
}

type watermarkStatus struct {
	Generation int       `json:"generation"`
	LSN        string    `json:"lsn"`
	Time       time.Time `json:"time"`
}

func (a *app) statusCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Position, lag, and the account of every table",
		Long: `Prints who works, how far it is, what waits, what is parked, and for each table
changes = parked + discarded + used + absorbed + ignored.

--wait waits until everything that is committed now is on the bus.

Exit code 1: something is parked, an account does not add up, or --wait ran out.
--output json prints the fields of the store's status (source, generation,
owner, position, outbox, topics, parked, tables, snapshot, rules, traces,
requests) with slot, watermark and problems.`,
		Example: `  cdc status
  cdc status --wait 30s && cdc verify
  cdc status -o json | jq .slot.lag_bytes`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withStore(c.Context(), func(cfg *translate.Config, s *outbox.Store) error { return a.status(c.Context(), cfg, s, wait) })
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait until what is committed now is published")
	return cmd
}

func (a *app) status(ctx context.Context, cfg *translate.Config, store *outbox.Store, wait time.Duration) error {
	late := error(nil)
	if wait > 0 {
		late = a.waitWatermark(ctx, cfg, store, wait)
		if late != nil && !cli.SaysNo(late) {
			return late
		}
	}
	st, err := store.Status(ctx)
	if err != nil {
		return err
	}
	r := statusReport{Status: st, Problems: []string{}}
	a.askSlot(ctx, cfg, &r)
	a.askWatermark(ctx, cfg, &r)
	if err := a.Print.Result(r, func(w io.Writer) { a.writeStatus(w, &r) }); err != nil {
		return err
	}
	if late != nil {
		return late
	}
	for _, t := range r.Tables {
		if !t.Balanced {
			return cli.AnswerNo("the account of %s does not add up: report this", t.Table)
		}
	}
	if r.ParkedKeys > 0 {
		return cli.ErrNo
	}
	return nil
}

// askSlot reads the slot, briefly: status must answer also when the source is
// away.
func (a *app) askSlot(ctx context.Context, cfg *translate.Config, r *statusReport) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s, err := func() (*wal.Slot, error) {
		conn, err := wal.Connect(ctx, cfg.Source.URL)
		if err != nil {
			return nil, err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		return wal.SlotInfo(ctx, conn, cfg.Source.Slot)
	}()
	if err != nil {
		r.Problems = append(r.Problems, cli.Redact(err.Error()))
		return
	}
	r.Slot = &slotStatus{Name: s.Name, Active: s.ActivePID != 0, Confirmed: s.Confirmed.String(), LagBytes: int64(s.Server) - int64(s.Confirmed),
		RetainedBytes: int64(s.Server) - int64(s.Restart), WALStatus: s.WALStatus, SafeWALSize: s.SafeWALSize}
}

func (a *app) askWatermark(ctx context.Context, cfg *translate.Config, r *statusReport) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	w, err := func() (*proof.Mark, error) {
		cluster, err := kafka(cfg).Dial(ctx)
		if err != nil {
			return nil, err
		}
		defer cluster.Close()
		return lastMark(ctx, cluster, cfg.Source.Name)
	}()
	switch {
	case err != nil:
		r.Problems = append(r.Problems, cli.Redact(err.Error()))
	case w != nil:
		r.Watermark = &watermarkStatus{Generation: w.Generation, LSN: wal.LSN(w.LSN).String(), Time: w.Time}
	}
}

// lastMark reads the newest watermark; a topic that is not there has none.
func lastMark(ctx context.Context, cluster *bus.Cluster, source string) (*proof.Mark, error) {
	all, err := cluster.Topics(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.Name == source+".watermarks" {
			return proof.Watermarks(proof.Kafka(cluster), source)(ctx)
		}
	}
	return nil, nil
}

// waitWatermark waits until what is committed now is on the bus.
func (a *app) waitWatermark(ctx context.Context, cfg *translate.Config, store *outbox.Store, wait time.Duration) error {
	target, err := sourceEnd(ctx, cfg.Source.URL)
	if err != nil {
		return err
	}
	cluster, err := kafka(cfg).Dial(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		w, err := lastMark(ctx, cluster, cfg.Source.Name)
		if err != nil {
			return err
		}
		if w != nil && wal.LSN(w.LSN) >= target {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			h, err := store.Holder(ctx)
			if err == nil && !h.Alive {
				return cli.AnswerNo("%s is not published after %s: no cdc run works on this source", target, wait)
			}
			return cli.AnswerNo("%s is not published after %s", target, wait)
		case <-tick.C:
		}
	}
}

func (a *app) writeStatus(w io.Writer, r *statusReport) {
	if r.Source == "" {
		fmt.Fprintln(w, "nothing here yet: cdc run begins")
		return
	}
	owner := a.Print.Warn("no run works")
	if r.Owner.Alive {
		owner = a.Print.Good("working") + ": " + r.Owner.String()
	}
	fmt.Fprintf(w, "source     %s, generation %d; %s\n", r.Source, r.Generation, owner)
	fmt.Fprintf(w, "position   %s", r.Position.EndLSN)
	if !r.Position.Time.IsZero() {
		fmt.Fprintf(w, ", %s", r.Position.Time.Format(time.RFC3339))
	}
	fmt.Fprintln(w)
	if s := r.Slot; s != nil {
		fmt.Fprintf(w, "slot       %s: %s behind, holds %s of WAL (%s)\n", s.Name, figures.Size(s.LagBytes), figures.Size(s.RetainedBytes), s.WALStatus)
	}
	if r.Snapshot != nil && r.Snapshot.Running() {
		fmt.Fprintf(w, "snapshot   %d is running since %s\n", r.Snapshot.Number, r.Snapshot.Started.Format(time.RFC3339))
	}
	fmt.Fprintf(w, "outbox     %s events wait for Kafka; %s of %s", figures.Thousands(r.Outbox.Events), figures.Size(r.Outbox.Used), figures.Size(r.Outbox.Max))
	if r.Outbox.Full {
		fmt.Fprint(w, "; "+a.Print.Bad("full: the source waits"))
	}
	fmt.Fprintln(w)
	if m := r.Watermark; m != nil {
		fmt.Fprintf(w, "watermark  %s, %s\n", m.LSN, m.Time.Format(time.RFC3339))
	}
	if r.Rules != nil {
		fmt.Fprintf(w, "rules      version %d since %s\n", r.Rules.Version, r.Rules.At.Format(time.RFC3339))
	}
	if r.ParkedKeys > 0 {
		fmt.Fprintf(w, "parked     %s\n", a.Print.Bad(fmt.Sprintf("%d keys: cdc parked list", r.ParkedKeys)))
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s    %s\n", a.Print.Bad("problem"), p)
	}
	a.writeAccounts(w, r)
}

// writeAccounts prints how every change of every table was told.
func (a *app) writeAccounts(w io.Writer, r *statusReport) {
	if len(r.Tables) == 0 {
		return
	}
	fmt.Fprintln(w)
	rows := [][]string{{"table", "changes", "parked", "discarded", "used", "absorbed", "ignored", ""}}
	var sum event.Counts
	for _, t := range r.Tables {
		c := event.Counts{Changes: t.Changes, Parked: t.Parked, Discarded: t.Discarded, Used: t.Used, Absorbed: t.Absorbed, Ignored: t.Ignored}
		sum.Add(c)
		rows = append(rows, accountRow(t.Table, c))
	}
	_ = figures.Table(w, "", figures.Numbers, append(rows, accountRow("all", sum)))
}

func accountRow(name string, c event.Counts) []string {
	note := ""
	if !c.Balanced() {
		note = "does not add up"
	}
	return []string{name, figures.Thousands(c.Changes), figures.Thousands(c.Parked), figures.Thousands(c.Discarded), figures.Thousands(c.Used), figures.Thousands(c.Absorbed), figures.Thousands(c.Ignored), note}
}
