package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// eventLine is what the story shows of one line of `cdc tail --output json`.
type eventLine struct {
	ID    string    `json:"id"`
	Type  string    `json:"type"`
	Topic string    `json:"topic"`
	Time  time.Time `json:"time"`
	Data  struct {
		OccurredAt time.Time      `json:"occurredAt"`
		Changed    []string       `json:"changed"`
		State      map[string]any `json:"state"`
	} `json:"data"`
}

// life prints the events of one order, from placing to return.
func (t *tour) life(ctx context.Context) error {
	t.title("The life of order %d, as events (cdc tail)", t.order)
	lines, err := t.events(ctx, "shop.orders", "--key", fmt.Sprint(t.order))
	if err != nil {
		return err
	}
	more, err := t.events(ctx, "shop.payments", "shop.invoices", "shop.returns", "--where", fmt.Sprintf("order_id=%d", t.order))
	if err != nil {
		return err
	}
	lines = append(lines, more...)
	if len(lines) == 0 || lines[0].Type != "OrderPlaced" {
		return fmt.Errorf("the events of order %d do not begin with OrderPlaced: %v", t.order, lines)
	}
	t.event = lines[0].ID
	sortByTime(lines)
	for _, e := range lines {
		say(t.out, fmt.Sprintf("%s  %-16s  %-13s  %s", e.Data.OccurredAt.Format("_2 Jan 15:04"), e.Type, e.Topic, e.ID))
	}
	if last := lines[len(lines)-1]; last.Topic != "shop.returns" && last.Topic != "shop.orders" {
		return fmt.Errorf("the life of order %d does not end with its return, but with %s", t.order, last.Type)
	}
	return nil
}

// sortByTime orders events as they happened in the business; the order of the
// topics breaks ties.
func sortByTime(lines []eventLine) {
	for i := 1; i < len(lines); i++ {
		for j := i; j > 0 && lines[j].Data.OccurredAt.Before(lines[j-1].Data.OccurredAt); j-- {
			lines[j], lines[j-1] = lines[j-1], lines[j]
		}
	}
}

func (t *tour) events(ctx context.Context, args ...string) ([]eventLine, error) {
	text, err := t.command(ctx, t.cdc, append([]string{"tail", "--from", "start", "--sort", "-o", "json"}, args...))
	if err != nil {
		return nil, err
	}
	var lines []eventLine
	s := bufio.NewScanner(strings.NewReader(text))
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		var e eventLine
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("read a line of cdc tail: %w", err)
		}
		lines = append(lines, e)
	}
	return lines, s.Err()
}

func (t *tour) explain(ctx context.Context) error {
	t.title("Why does the first of them exist? (cdc explain)")
	text, err := t.command(ctx, t.cdc, []string{"explain", t.event})
	if err != nil {
		return err
	}
	say(t.out, text)
	return nil
}

func (t *tour) prove(ctx context.Context) error {
	t.title("Is anything missing? (cdc verify: topics against tables)")
	text, err := t.command(ctx, t.cdc, []string{"verify"}, 1)
	if err != nil {
		return err
	}
	// The account of every table is cdc status' to show: it is wider than a screen.
	shown, account, _ := strings.Cut(text, "\n  table ")
	if _, limits, ok := strings.Cut(account, "\n\n"); ok {
		shown += "\n" + limits
	}
	say(t.out, shown)
	if !strings.Contains(text, "proved") || strings.Contains(text, "unfinished") || strings.Contains(text, "differs") {
		return &notProved{text}
	}
	return nil
}

// leave takes everything away again, as a team would.
func (t *tour) leave(ctx context.Context) error {
	t.title("Leave: stop both, take away slot, publication and role (cdc teardown)")
	for _, name := range []string{"pricing", "projector", "cdc"} {
		if err := t.stopNamed(name); err != nil {
			return err
		}
	}
	if _, err := t.command(ctx, t.cdc, []string{"teardown", "--apply"}); err != nil {
		return err
	}
	say(t.out, "the monolith is as it was")
	return nil
}

func (t *tour) stopNamed(name string) error {
	for _, p := range t.running {
		if p.name == name {
			return p.stop()
		}
	}
	return fmt.Errorf("there is no process %s", name)
}

// end stops whatever still runs, the last first, and removes the directory.
func (t *tour) end(keep bool) error {
	var errs []error
	for i := len(t.running) - 1; i >= 0; i-- {
		if err := t.running[i].stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", t.running[i].name, err))
		}
	}
	if t.embedded {
		// Not the story's context: this must also happen after Ctrl-C.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := t.command(ctx, t.cdc, []string{"embedded", "stop"}); err != nil {
			errs = append(errs, err)
		}
	}
	switch {
	case t.dir == "":
	case keep:
		fmt.Fprintln(t.out, "\nkept:", t.dir)
	default:
		errs = append(errs, os.RemoveAll(t.dir))
	}
	return errors.Join(errs...)
}
