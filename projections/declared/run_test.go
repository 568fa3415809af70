package declared

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/event"
	"banyan/expression"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/state"
)

// history makes events of lines such as
//
//	shop.orders OrderPlaced Order/7 {"state": {"id": 7}}
//
// one transaction each, a second apart. `time 2010-12-01T08:26:00Z` sets the
// clock, `idle` lets the source say that nothing has happened until then, and
// `same` puts the next event into the transaction of the one before.
type history struct {
	lsn  uint64
	now  time.Time
	seq  map[string]int64
	same bool
	all  []told
}

// told is an event, or a mark of an idle source.
type told struct {
	event.Event
	idle *control.Mark
}

func newHistory() *history {
	return &history{lsn: 0x1000, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), seq: map[string]int64{}}
}

func (h *history) line(text string) error {
	words := strings.SplitN(text, " ", 4)
	switch {
	case words[0] == "time" && len(words) == 2:
		at, err := time.Parse(time.RFC3339, words[1])
		h.now = at
		return err
	case text == "idle":
		h.lsn += 0x100
		h.all = append(h.all, told{idle: &control.Mark{Generation: 1, LSN: h.lsn, Time: h.now}})
		return nil
	case text == "same":
		h.same = true
		return nil
	case len(words) < 3:
		return fmt.Errorf("%q: want topic, type, Aggregate/key, data", text)
	}
	data := ""
	if len(words) == 4 {
		data = words[3]
	}
	name, key, _ := strings.Cut(words[2], "/")
	typ, version, _ := strings.Cut(words[1], ":")
	h.add(words[0], typ, name, key, data)
	if version != "" {
		fmt.Sscan(version, &h.all[len(h.all)-1].Version)
	}
	return nil
}

func (h *history) add(topic, typ, aggregate, key, data string) {
	ordinal := int64(0)
	if h.same {
		ordinal = h.all[len(h.all)-1].Position.Ordinal + 1
	} else {
		h.lsn += 0x100
		h.now = h.now.Add(time.Second)
	}
	h.same = false
	p := event.Position{Generation: 1, LSN: h.lsn, Ordinal: ordinal}
	part := 0
	for i := range key {
		part += int(key[i])
	}
	part %= 3
	id := fmt.Sprintf("%s/%d", topic, part)
	h.seq[id]++
	e := event.Event{ID: event.ID{Source: "shop", Aggregate: aggregate, Key: key, Position: p}, Type: typ, Version: 1, Topic: topic,
		Time: h.now, Position: p, Partition: part, Seq: h.seq[id], Writer: 1}
	if data != "" {
		e.Data = json.RawMessage(data)
	}
	h.all = append(h.all, told{Event: e})
}

// outcome is all that a run has made.
type outcome struct {
	rows    map[string][]string
	effects []projections.Promise
	parked  []string
}

// give applies events in their order to a program over a space. Events that
// cannot be applied are told.
func give(t testing.TB, p *Program, space state.Space, all []told) outcome {
	t.Helper()
	timers := projections.NewTimers(event.Position{})
	timers.Originate = true
	a, err := projections.NewApplier(p, space, timers, event.Position{})
	if err != nil {
		t.Fatal(err)
	}
	var out outcome
	for i := range all {
		if m := all[i].idle; m != nil {
			if err := a.Idle(*m); err != nil {
				t.Fatal(err)
			}
			continue
		}
		e := &projections.Event{Event: all[i].Event, Tombstone: all[i].Data == nil}
		if err := p.liftEvent(&e.Event); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(p.spec.Topics, e.Topic) {
			continue
		}
		e.Fault = p.Prepare(e)
		if err := a.Advance(e); err != nil {
			t.Fatal(err)
		}
		if err := a.Apply(e); err != nil {
			out.parked = append(out.parked, fmt.Sprintf("%s %s: %s", e.Type, e.ID, err))
		}
	}
	out.effects = a.Effects()
	return out
}

func bulk(t testing.TB, p *Program) *state.Bulk {
	t.Helper()
	b, err := state.NewBulk(p.spec.AllTables(), state.BulkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// run gives a history to a program in memory.
func (h *history) run(t testing.TB, p *Program) outcome {
	t.Helper()
	b := bulk(t, p)
	out := give(t, p, b, h.all)
	out.rows = map[string][]string{}
	for _, table := range p.spec.AllTables() {
		for e, err := range b.Each(table.Name) {
			if err != nil {
				t.Fatal(err)
			}
			out.rows[table.Name] = append(out.rows[table.Name], rowText(t, table, e.Row))
		}
	}
	return out
}

func rowText(t testing.TB, table state.Table, row state.Row) string {
	t.Helper()
	var parts []string
	for i, c := range table.Columns {
		v, err := classOf(c.Type).expressed(row[i])
		if err != nil {
			t.Fatal(err)
		}
		b, err := expression.AppendJSON(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, c.Name+"="+string(b))
	}
	return strings.Join(parts, " ")
}

// String is the outcome as golden files have it.
func (o outcome) String() string {
	var b strings.Builder
	for _, table := range sortedNames(o.rows) {
		fmt.Fprintf(&b, "%s:\n", table)
		for _, row := range o.rows[table] {
			fmt.Fprintf(&b, "  %s\n", row)
		}
	}
	for _, e := range o.effects {
		fmt.Fprintf(&b, "effect %s of %s: %s %s\n", e.Name, e.Source, e.Kind, e.Payload)
	}
	for _, p := range o.parked {
		fmt.Fprintf(&b, "parked %s\n", p)
	}
	return b.String()
}

// TestTranscripts runs testdata/runs/*.txt: a definition, events, and what comes
// of them.
func TestTranscripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/runs/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			definition, rest, _ := strings.Cut(string(text), "---- events ----\n")
			events, want, _ := strings.Cut(rest, "---- outcome ----\n")
			p, h := transcript(t, path)
			first := h.run(t, p)
			got := first.String()
			if again := h.run(t, p).String(); again != got {
				t.Errorf("a replay differs:\n%s", cmp.Diff(got, again))
			}
			if *update {
				if err := os.WriteFile(path, []byte(definition+"---- events ----\n"+events+"---- outcome ----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestPrepareServesManyGoroutines prepares all events at once, then applies them
// in order: a runner does so.
func TestPrepareServesManyGoroutines(t *testing.T) {
	for _, path := range []string{"folds", "groups", "windows", "aligned"} {
		p, h := transcript(t, "testdata/runs/"+path+".txt")
		want := h.run(t, p)
		events := make([]*projections.Event, len(h.all))
		var wg sync.WaitGroup
		for i := range h.all {
			if h.all[i].idle != nil {
				continue
			}
			wg.Go(func() {
				e := &projections.Event{Event: h.all[i].Event, Tombstone: h.all[i].Data == nil}
				for range 20 {
					e.Fault = p.Prepare(e)
				}
				events[i] = e
			})
		}
		wg.Wait()
		b := bulk(t, p)
		timers := projections.NewTimers(event.Position{})
		timers.Originate = true
		a, err := projections.NewApplier(p, b, timers, event.Position{})
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range events {
			if e == nil {
				err = a.Idle(*h.all[i].idle)
			} else if err = a.Advance(e); err == nil && a.Apply(e) != nil {
				continue // parked, as in one goroutine
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, table := range p.spec.AllTables() {
			var got []string
			for e, err := range b.Each(table.Name) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, rowText(t, table, e.Row))
			}
			if d := cmp.Diff(want.rows[table.Name], got); d != "" {
				t.Errorf("%s: %s differs:\n%s", path, table.Name, d)
			}
		}
	}
}
