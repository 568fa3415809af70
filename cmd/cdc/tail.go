package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
)

// tailed is one event as `cdc tail --output json` prints it, one per line.
type tailed struct {
	Topic     string          `json:"topic"`
	Partition int             `json:"partition"`
	Offset    int64           `json:"offset"`
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Key       string          `json:"key"`
	Time      time.Time       `json:"time"`
	Seq       int64           `json:"seq"`
	Position  string          `json:"position"`
	Rules     int             `json:"rules"`
	Cause     string          `json:"cause,omitempty"`
	Data      json.RawMessage `json:"data"`
}

type tailFlags struct {
	from   string
	key    string
	where  []string
	follow bool
	sorted bool
	brief  bool
}

func (a *app) tailCommand() *cobra.Command {
	var f tailFlags
	cmd := &cobra.Command{
		Use:   "tail TOPIC...",
		Short: "Read events without any other tool",
		Long: `Prints the events of topics, repeats left out. It reads each partition from its
start, from its present end, or from an offset, and stops at the end that it
found unless --follow is given.

With --from end it always follows. --sort prints the events of several topics
in the order of their positions, which is the order of commits.

--where keeps the events with a field of that value, at the top or in the
state: --where order_id=17.

--output json prints one object per line: {topic, partition, offset, id, type,
key, time, seq, position, rules, cause, data}.`,
		Example: `  cdc tail shop.orders --from start
  cdc tail shop.orders shop.payments --from start --where order_id=17 --sort
  cdc tail shop.orders --from end -o json | jq .data.state`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, topics []string) error { return a.tail(c.Context(), topics, f) },
	}
	cmd.Flags().StringVar(&f.from, "from", "end", "start, end, or an offset")
	cmd.Flags().StringVar(&f.key, "key", "", "only this record key")
	cmd.Flags().StringArrayVar(&f.where, "where", nil, "only events with this `field=value`; several must all hold")
	cmd.Flags().BoolVar(&f.follow, "follow", false, "go on after the end")
	cmd.Flags().BoolVar(&f.sorted, "sort", false, "print in the order of positions, all topics together; not with --follow")
	cmd.Flags().BoolVar(&f.brief, "brief", false, "one line per event, without its data")
	return cmd
}

// matcher says whether an event is wanted.
func (f tailFlags) matcher() (func(*event.Event) bool, error) {
	type cond struct{ field, value string }
	var conds []cond
	for _, w := range f.where {
		field, value, ok := strings.Cut(w, "=")
		if !ok || field == "" {
			return nil, cli.BadInput("--where %q: want field=value, such as order_id=17", w)
		}
		conds = append(conds, cond{field, value})
	}
	return func(e *event.Event) bool {
		if f.key != "" && e.Key() != f.key {
			return false
		}
		if len(conds) == 0 {
			return true
		}
		var data map[string]json.RawMessage
		if json.Unmarshal(e.Data, &data) != nil {
			return false
		}
		state := map[string]json.RawMessage{}
		for _, part := range []string{"last", "state"} {
			var m map[string]json.RawMessage
			if json.Unmarshal(data[part], &m) == nil && m != nil {
				state = m
			}
		}
		return !slices.ContainsFunc(conds, func(c cond) bool {
			return !sameText(data[c.field], c.value) && !sameText(state[c.field], c.value)
		})
	}, nil
}

// sameText compares a JSON value with what a person types for it.
func sameText(v json.RawMessage, text string) bool {
	if v == nil {
		return false
	}
	var s string
	if json.Unmarshal(v, &s) == nil && string(v) != "null" {
		return s == text
	}
	return string(v) == text
}

func (a *app) tail(ctx context.Context, topics []string, f tailFlags) error {
	wanted, err := f.matcher()
	if err != nil {
		return err
	}
	from := bus.First
	switch f.from {
	case "start":
	case "end":
		from = bus.Last
	default:
		if from, err = strconv.ParseInt(f.from, 10, 64); err != nil || from < 0 {
			return cli.BadInput("--from %q: want start, end or an offset", f.from)
		}
	}
	follow := f.follow || f.from == "end"
	if f.sorted && follow {
		return cli.BadInput("--sort needs an end: use it with --from start or an offset, without --follow")
	}
	cluster, err := a.reachBus(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()

	out := make(chan tailed, 256)
	told := ctx // to stop, by the user
	g, ctx := errgroup.WithContext(ctx)
	for _, topic := range topics {
		if _, err := cluster.Partitions(ctx, topic); err != nil {
			return a.noTopic(ctx, cluster, topic, err)
		}
	}
	for _, topic := range topics {
		read := cluster.Follow(ctx, topic, bus.FollowOptions{From: from, UntilCaughtUp: !follow})
		g.Go(func() error { return tailTopic(ctx, topic, read, wanted, out) })
	}
	go func() {
		g.Wait()
		close(out)
	}()
	printErr := a.printTail(out, f)
	if err := g.Wait(); err != nil && !(follow && told.Err() != nil) {
		return err
	}
	return printErr
}

// tailTopic hands over the wanted events of one topic, repeats left out.
func tailTopic(ctx context.Context, topic string, read iter.Seq2[event.Record, error], wanted func(*event.Event) bool, out chan<- tailed) error {
	last := map[int]int64{} // seq by partition
	for r, err := range read {
		if err != nil {
			return err
		}
		if r.Value == nil {
			continue // a tombstone of a .latest topic: the key is gone
		}
		e, err := event.FromRecord(topic, &r)
		if err != nil {
			return cli.AnswerNo("%s, partition %d, offset %d: not one of our events: %w", topic, r.Partition, r.Offset, err)
		}
		if e.Seq <= last[r.Partition] {
			continue // a repeat
		}
		last[r.Partition] = e.Seq
		if !wanted(&e) {
			continue
		}
		t := tailed{Topic: topic, Partition: r.Partition, Offset: r.Offset, ID: e.ID.String(), Type: e.Type, Key: e.Key(), Time: e.Time,
			Seq: e.Seq, Position: e.Position.String(), Rules: e.Rules, Cause: e.Cause, Data: slices.Clone(e.Data)}
		select {
		case out <- t:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (a *app) printTail(out <-chan tailed, f tailFlags) error {
	var failed error
	show := func(t tailed) {
		if failed == nil {
			failed = a.Print.Line(t, func(w io.Writer) { a.writeEvent(w, &t, f.brief) })
		}
	}
	if !f.sorted {
		for t := range out {
			show(t)
		}
		return failed
	}
	var all []tailed
	for t := range out {
		all = append(all, t)
	}
	slices.SortStableFunc(all, func(x, y tailed) int {
		p, _ := event.ParsePosition(x.Position)
		q, _ := event.ParsePosition(y.Position)
		return p.Compare(q)
	})
	for _, t := range all {
		show(t)
	}
	return failed
}

// writeEvent is one event for people.
func (a *app) writeEvent(w io.Writer, t *tailed, brief bool) {
	fmt.Fprintf(w, "%s  %-22s %s\n", t.Time.UTC().Format("2006-01-02 15:04:05.000"), t.Type, a.Print.Dim(t.ID))
	if brief {
		return
	}
	fmt.Fprintf(w, "  %s/%d@%d %s\n", t.Topic, t.Partition, t.Offset, t.Data)
}

// noTopic makes an error of a topic that is not there list those that are.
func (a *app) noTopic(ctx context.Context, c *bus.Cluster, topic string, err error) error {
	all, listErr := c.Topics(ctx)
	if listErr != nil {
		return err
	}
	var names []string
	for _, t := range all {
		if t.Name == topic {
			return err
		}
		names = append(names, t.Name)
	}
	return cli.BadInput("there is no topic %q; there are: %s", topic, strings.Join(names, ", "))
}
