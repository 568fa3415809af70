package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/internal/figures"
	"banyan/projections/control"
	"banyan/token"
)

// statusShown is what `projector status` says of one projection.
type statusShown struct {
	Projection string        `json:"projection"`
	Source     string        `json:"source"`
	Versions   []versionSaid `json:"versions"`
	Token      string        `json:"token"`      // what readers have seen
	AgeSeconds float64       `json:"ageSeconds"` // of what they see; -1 where nobody knows
	Parked     int           `json:"parkedKeys"`
	Effects    any           `json:"effects"`
	Why        []string      `json:"why"` // what is not well
}

type versionSaid struct {
	Number  int       `json:"version"`
	State   string    `json:"state"`
	Schema  string    `json:"schema"`
	Digest  string    `json:"digest"`
	Since   time.Time `json:"since"` // in this state
	Note    string    `json:"note"`
	Running bool      `json:"running"`
	Doing   []string  `json:"doing,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [NAME]", Short: "Versions, owners, age, parked keys: is all well, and if not, why", Args: cobra.MaximumNArgs(1),
		Long: `Says of each projection which versions there are, which one readers see and how
old it is, who runs it, and what is not well. --output json prints
[{projection, source, versions: [{version, state, schema, digest, since, note,
running, doing}], token, ageSeconds, parkedKeys, effects, why}]. Exit code 1
where anything is not well.`,
		Example: "  projector status\n  projector status shipping -o json",
		RunE: func(c *cobra.Command, args []string) error {
			all := []statusShown{}
			err := a.eachProjection(c.Context(), args, func(ctx context.Context, p *opened) error {
				s, err := status(ctx, p)
				all = append(all, s)
				return err
			})
			if err != nil {
				return err
			}
			if err := a.Print.Result(all, func(w io.Writer) { a.writeStatus(w, all) }); err != nil {
				return err
			}
			for _, s := range all {
				if len(s.Why) > 0 {
					return cli.ErrNo
				}
			}
			return nil
		},
	}
}

func status(ctx context.Context, p *opened) (statusShown, error) {
	s := statusShown{Projection: p.name, Source: p.active.Source, Versions: []versionSaid{}, AgeSeconds: -1, Why: []string{}}
	versions, err := p.store.Versions(ctx, p.name)
	if err != nil {
		return s, err
	}
	leases, err := p.store.Leases(ctx, p.name)
	if err != nil {
		return s, err
	}
	for _, v := range versions {
		said := versionSaid{Number: v.Number, State: string(v.State), Schema: v.Schema, Digest: v.Digest, Since: v.ChangedAt, Note: v.Note}
		for _, l := range leases {
			if l.Version == v.Number && l.Kind != control.Sending && l.Alive {
				said.Running = true
				said.Doing = append(said.Doing, strings.TrimSuffix(l.Owner+": "+l.Note, ": "))
			}
		}
		switch {
		case said.Running, v.State == control.Retired:
		case v.State == control.Building:
			s.Why = append(s.Why, fmt.Sprintf("version %d was being built by somebody who has gone: the next rebuild drops it", v.Number))
		default:
			s.Why = append(s.Why, fmt.Sprintf("nobody runs version %d: projector run", v.Number))
		}
		s.Versions = append(s.Versions, said)
	}
	mark, err := p.store.Passed(ctx, p.name)
	if err != nil && !errors.Is(err, control.ErrNotFound) {
		return s, err
	}
	s.Token = mark.String()
	if mark.Generation > 0 {
		age, err := p.store.Age(ctx, p.name)
		if err != nil {
			return s, err
		}
		s.AgeSeconds = age.Seconds()
		if age > time.Minute {
			s.Why = append(s.Why, fmt.Sprintf("readers see a state of %s ago: projector lag tells where it stands still", figures.Round(age)))
		}
	} else {
		s.Token = ""
		s.Why = append(s.Why, "no watermark was passed yet: the source's first snapshot is not told, or cdc does not run")
	}
	chains, err := p.store.Chains(ctx, p.pool, p.name, p.active.Number)
	if err != nil {
		return s, err
	}
	if s.Parked = len(chains); s.Parked > 0 {
		s.Why = append(s.Why, fmt.Sprintf("%d keys are parked: projector parked list %s", s.Parked, p.name))
	}
	counts, err := p.store.EffectCounts(ctx, p.name)
	if err != nil {
		return s, err
	}
	s.Effects = counts
	if n := counts[control.Doubtful]; n > 0 {
		s.Why = append(s.Why, fmt.Sprintf("%d effects are doubtful: projector effects list %s", n, p.name))
	}
	return s, nil
}

func (a *app) writeStatus(w io.Writer, all []statusShown) {
	for i, s := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		age := "age unknown"
		if s.AgeSeconds >= 0 {
			age = figures.Round(time.Duration(s.AgeSeconds*float64(time.Second))).String() + " old"
		}
		fmt.Fprintf(w, "%s (source %s): readers have seen %s, %s\n", s.Projection, s.Source, orNothing(s.Token), age)
		rows := [][]string{{"version", "state", "runs", "since", "note"}}
		for _, v := range s.Versions {
			runs := "no"
			if v.Running {
				runs = "yes"
			}
			rows = append(rows, []string{fmt.Sprint(v.Number), v.State, runs, v.Since.Format(time.RFC3339), v.Note})
		}
		_ = figures.Table(w, "  ", figures.Numbers, rows)
		for _, v := range s.Versions {
			for _, d := range v.Doing {
				fmt.Fprintf(w, "  %s\n", a.Print.Dim(fmt.Sprintf("version %d: %s", v.Number, d)))
			}
		}
		for _, y := range s.Why {
			fmt.Fprintln(w, "  "+a.Print.Warn(y))
		}
		if len(s.Why) == 0 {
			fmt.Fprintln(w, "  "+a.Print.Good("all is well"))
		}
	}
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// lagShown is one partition of one version.
type lagShown struct {
	Projection string  `json:"projection"`
	Version    int     `json:"version"`
	State      string  `json:"state"`
	Topic      string  `json:"topic"`
	Partition  int     `json:"partition"`
	Offset     int64   `json:"offset"` // next to apply
	End        int64   `json:"end"`
	Records    int64   `json:"records"` // behind
	Bytes      int64   `json:"bytes"`   // behind, estimated
	Seconds    float64 `json:"seconds"` // behind, by the source's clock; 0 where nothing waits
	Passed     string  `json:"passed"`  // token
	LSNBytes   uint64  `json:"lsnBytes"`
	Owner      string  `json:"owner"`
	Why        string  `json:"why"`
}

func (a *app) lagCommand() *cobra.Command {
	var limit int64
	cmd := &cobra.Command{
		Use: "lag [NAME]", Short: "How far behind each partition is, in records, bytes, seconds and log, and why", Args: cobra.MaximumNArgs(1),
		Long: `Compares what is applied with the ends of the topics and with the source's last
watermark. Bytes are estimated from the next records. --output json prints
[{projection, version, state, topic, partition, offset, end, records, bytes,
seconds, passed, lsnBytes, owner, why}]. Exit code 1 where a partition is more
than --limit records behind.`,
		Example: "  projector lag\n  projector lag shipping --limit 1000 -o json",
		RunE: func(c *cobra.Command, args []string) error {
			all := []lagShown{}
			err := a.eachProjection(c.Context(), args, func(ctx context.Context, p *opened) error {
				list, err := a.lag(ctx, p)
				all = append(all, list...)
				return err
			})
			if err != nil {
				return err
			}
			if err := a.Print.Result(all, func(w io.Writer) { writeLag(w, all) }); err != nil {
				return err
			}
			for _, l := range all {
				if limit >= 0 && l.Records > limit {
					return cli.ErrNo
				}
			}
			return nil
		},
	}
	cmd.Flags().Int64Var(&limit, "limit", -1, "the answer is no where a partition is more than so many records behind; -1: never")
	return cmd
}

func (a *app) lag(ctx context.Context, p *opened) ([]lagShown, error) {
	cluster, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	head, err := lastWatermark(ctx, cluster, p.active.Source)
	if err != nil {
		return nil, err
	}
	versions, err := p.store.Versions(ctx, p.name)
	if err != nil {
		return nil, err
	}
	leases, err := p.store.Leases(ctx, p.name)
	if err != nil {
		return nil, err
	}
	var all []lagShown
	for _, v := range versions {
		if v.State == control.Retired || v.State == control.Building {
			continue
		}
		parts, err := p.store.Parts(ctx, p.pool, p.name, v.Number)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			l, err := partLag(ctx, cluster, part, head)
			if err != nil {
				return nil, err
			}
			l.Projection, l.Version, l.State = p.name, v.Number, string(v.State)
			l.Why = why(l, part, leases, v)
			all = append(all, l)
		}
	}
	return all, nil
}

// why is what stands in the way, as well as it can be told from outside.
func why(l lagShown, part control.Part, leases []control.Living, v control.Version) string {
	var notes []string
	alive := false
	for _, lease := range leases {
		if lease.Version == v.Number && lease.Kind == control.Owning && lease.Alive {
			alive = true
			if lease.Note != "" {
				notes = append(notes, lease.Note)
			}
		}
	}
	switch {
	case !alive:
		return "nobody runs this version"
	case l.Records == 0 && l.LSNBytes == 0:
		return ""
	case len(notes) > 0:
		return strings.Join(notes, "; ")
	case l.Records > 0 && time.Since(part.UpdatedAt) > 10*time.Second:
		return fmt.Sprintf("nothing was applied for %s", figures.Round(time.Since(part.UpdatedAt)))
	}
	return "catching up"
}

func partLag(ctx context.Context, log *bus.Cluster, part control.Part, head *event.Watermark) (lagShown, error) {
	l := lagShown{Topic: part.Topic, Partition: part.Part, Offset: part.Next, Passed: part.Passed.String(), Owner: part.Owner}
	if part.Passed.Generation == 0 {
		l.Passed = ""
	}
	_, end, err := log.Ends(ctx, part.Topic, part.Part)
	if err != nil {
		return l, err
	}
	l.End, l.Records = end, max(0, end-part.Next)
	if head != nil {
		if m := control.MarkOf(head); part.Passed.Compare(m) < 0 {
			if part.Passed.Generation == m.Generation {
				l.LSNBytes = m.LSN - part.Passed.LSN
			}
			if !part.Passed.Time.IsZero() {
				l.Seconds = max(0, m.Time.Sub(part.Passed.Time).Seconds())
			}
		}
	}
	if l.Records == 0 {
		return l, nil
	}
	var n, size int64
	for r, err := range log.Read(ctx, part.Topic, part.Part, part.Next, min(end, part.Next+100)) {
		if err != nil {
			return l, err
		}
		n++
		size += int64(r.Size())
	}
	if n > 0 {
		l.Bytes = size / n * l.Records
	}
	return l, nil
}

func writeLag(w io.Writer, all []lagShown) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no version is followed")
		return
	}
	rows := [][]string{{"projection", "version", "partition", "records", "bytes", "seconds", "log", "passed", "why"}}
	for _, l := range all {
		rows = append(rows, []string{l.Projection, fmt.Sprintf("%d %s", l.Version, l.State), fmt.Sprintf("%s/%d", l.Topic, l.Partition), figures.Thousands(l.Records),
			figures.Size(l.Bytes), fmt.Sprintf("%.1f", l.Seconds), figures.Size(int64(l.LSNBytes)), orNothing(l.Passed), l.Why})
	}
	_ = figures.Table(w, "", figures.Numbers, rows)
}

func (a *app) waitCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "wait [NAME] TOKEN", Short: "Wait until readers see what a token stands for", Args: cobra.RangeArgs(1, 2),
		Long: `A token is what the monolith answers in the header Banyan-Token. In SQL the same
is SELECT banyan.wait('shipping', '1:0/1A2B3C8', '5 s'). --output json prints
{projection, token, passed, seconds}. Exit code 1 where it is not passed in time.`,
		Example: "  projector wait shipping 1:0/1A2B3C8 --for 10s",
		RunE: func(c *cobra.Command, args []string) error {
			t, err := token.Parse(args[len(args)-1])
			if err != nil {
				return cli.BadInput("%w", err)
			}
			return a.withProjection(c.Context(), args[:len(args)-1], func(ctx context.Context, p *opened) error {
				began := time.Now()
				limit, cancel := context.WithTimeout(ctx, wait)
				defer cancel()
				if err := p.store.Wait(limit, p.name, control.Mark{Generation: t.Generation, LSN: t.LSN}, control.WaitFor{}); err != nil {
					return err
				}
				at, err := p.store.Passed(ctx, p.name)
				if err != nil {
					return err
				}
				took := time.Since(began)
				return a.Print.Result(map[string]any{"projection": p.name, "token": t.String(), "passed": at.String(), "seconds": took.Seconds()},
					func(w io.Writer) {
						fmt.Fprintf(w, "passed: %s stands at %s (waited %s)\n", p.name, at, figures.Round(took))
					})
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "for", 10*time.Second, "how long to wait")
	return cmd
}
