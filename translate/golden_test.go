package translate

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banyan/event"
	"banyan/wal"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

const ruler = "---- events ----\n"

// A transcript is a file of testdata: statements in transactions above, what
// they become below. The rules are the shop's, or those of the file that the
// first line names (rules: NAME.yaml, with the tables of NAME.sql).
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(b), ruler)
			p := newPlayer(t, script)
			if err := p.play(script); err != nil {
				t.Fatal(err)
			}
			got := p.out.String()
			if err := p.prove(); err != nil {
				t.Error(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(script+ruler+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("the transcript differs (-want +got); if that is meant, run with -update\n%s", d)
			}
		})
	}
}

// player plays a script.
type player struct {
	t       testing.TB
	rules   *Rules
	engine  *Engine
	db      *database
	past    *memory
	out     strings.Builder
	lsn     wal.LSN
	xid     uint32
	traced  bool
	version int
}

func newPlayer(t testing.TB, script string) *player {
	p := &player{t: t, past: newMemory(), lsn: 0x100, xid: 700}
	first, _, _ := strings.Cut(script, "\n")
	name, ok := strings.CutPrefix(first, "rules: ")
	if ok {
		sql, _, _ := strings.Cut(strings.TrimSuffix(name, filepath.Ext(name)), "-")
		p.rules, p.db = loadRules(t, name, 1), newDatabase(testTables(t, sql+".sql"))
	} else {
		p.rules, p.db = shopRules(t), newDatabase(shopTables(t))
	}
	p.version = 1
	p.engine = &Engine{Rules: p.rules, Source: p.rules.Config.Source.Name, Generation: 1, SpillDir: t.TempDir()}
	return p
}

func testTables(t testing.TB, name string) []*wal.Table {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []*wal.Table
	for i, m := range createTable.FindAllStringSubmatch(strings.ReplaceAll(string(b), "CREATE TABLE ", "CREATE TABLE IF NOT EXISTS "), -1) {
		out = append(out, parseTable(uint32(20000+i), "public", m[1], strings.Split(m[2], "\n")))
	}
	return out
}

func loadRules(t testing.TB, name string, version int) *Rules {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(name, b)
	if err != nil {
		t.Fatal(err)
	}
	sql := strings.TrimSuffix(name, filepath.Ext(name))
	sql, _, _ = strings.Cut(sql, "-")
	rules, _, err := Compile(cfg, testTables(t, sql+".sql"), version)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func (p *player) play(script string) error {
	var open []string
	in := false
	for n, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		var err error
		switch {
		case line == "" || line[0] == '#' || strings.HasPrefix(line, "rules: "):
		case line == "begin":
			in = true
		case line == "commit":
			in = false
			err = p.commit(open)
			open = nil
		case in:
			open = append(open, line)
		case word == "trace":
			p.traced = true
		case word == "switch":
			p.version++
			p.rules = loadRules(p.t, rest, p.version)
			fmt.Fprintf(&p.out, "# rules %s:%s\n", rest, resnapshots(Diff(p.engine.Rules, p.rules)))
			p.engine.Rules = p.rules
		case word == "snapshot":
			err = p.snapshot(rest)
		case word == "release":
			err = p.release(rest)
		case word == "silent":
			// A statement that the log never sees: what a lost slot loses.
			err = p.db.run(rest)
			p.db.changes = nil
		default:
			err = p.commit([]string{line})
		}
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", n+1, line, err)
		}
	}
	p.out.WriteString(formatCounts(p.past.counts))
	return nil
}

func resnapshots(list []Resnapshot) string {
	if len(list) == 0 {
		return " no new snapshot"
	}
	s := ""
	for _, r := range list {
		s += " " + r.Aggregate + " (" + r.Reason + ")"
	}
	return s
}

func (p *player) tx() *wal.Tx {
	p.lsn += 0x100
	p.xid++
	at := time.Date(2010, 12, 1, 8, 0, int(p.xid-700), 0, time.UTC)
	tx := wal.NewTx(p.xid, p.lsn, p.lsn+0x20, at, p.db.changes)
	p.db.changes = nil
	return tx
}

func (p *player) commit(statements []string) error {
	p.db.changes = nil
	for _, s := range statements {
		if err := p.db.run(s); err != nil {
			return err
		}
	}
	return p.watch(func() error {
		return p.engine.Translate(context.Background(), p.past, []*wal.Tx{p.tx()}, p.past.put)
	})
}

func (p *player) snapshot(aggregate string) error {
	p.lsn += 0x100
	p.engine.Snapshot++
	at := SnapshotPoint{Number: p.engine.Snapshot, LSN: p.lsn, Time: time.Date(2010, 12, 2, 0, 0, 0, 0, time.UTC)}
	return p.watch(func() error {
		r, err := p.engine.Recorder(p.past, aggregate, at, p.past.put)
		if err != nil {
			return err
		}
		for _, u := range p.rules.Units() {
			if u.Aggregate != aggregate {
				continue
			}
			for _, tree := range p.db.trees(u) {
				if err := r.Add(context.Background(), tree); err != nil {
					return err
				}
			}
		}
		if err := r.Close(context.Background()); err != nil {
			return err
		}
		return p.engine.Absent(context.Background(), p.past, aggregate, at, p.past.put)
	})
}

func (p *player) release(ref string) error {
	aggregate, key, _ := strings.Cut(ref, "/")
	r := event.Ref{Aggregate: aggregate, Key: key}
	p.lsn += 0x100
	return p.watch(func() error {
		chain := p.past.chains[r]
		delete(p.past.chains, r) // put may park the key anew
		done, err := p.engine.Release(context.Background(), p.past, chain, ReleasePoint{Position: event.Position{Generation: 1, LSN: uint64(p.lsn)}, EndLSN: p.lsn + 0x20}, p.past.put)
		if rest := chain[done.Done:]; len(rest) > 0 {
			p.past.chains[r] = append(slices.Clone(rest), p.past.chains[r]...)
		}
		fmt.Fprintf(&p.out, "released %d of %d %s\n", done.Done, len(chain), done.Reason)
		return err
	})
}

// watch writes down what a call has put.
func (p *player) watch(call func() error) error {
	events, traces := len(p.past.events), len(p.past.traces)
	chains := map[event.Ref]int{}
	for r, c := range p.past.chains {
		chains[r] = len(c)
	}
	if err := call(); err != nil {
		return err
	}
	for _, e := range p.past.events[events:] {
		p.writeEvent(&e)
	}
	var refs []event.Ref
	for r := range p.past.chains {
		refs = append(refs, r)
	}
	slices.SortFunc(refs, func(a, b event.Ref) int { return strings.Compare(a.Aggregate+a.Key, b.Aggregate+b.Key) })
	for _, r := range refs {
		for _, e := range p.past.chains[r][min(chains[r], len(p.past.chains[r])):] {
			fmt.Fprintf(&p.out, "parked %s/%s at %s: %s\n", r.Aggregate, r.Key, e.Position, e.Reason)
		}
	}
	if p.traced {
		for _, tr := range p.past.traces[traces:] {
			t, err := DecodeTrace(tr.Body)
			if err != nil {
				return err
			}
			b, err := json.MarshalIndent(t, "  ", "  ")
			if err != nil {
				return err
			}
			fmt.Fprintf(&p.out, "trace %s\n", b)
		}
		p.traced = false
	}
	return nil
}

func (p *player) writeEvent(e *event.Event) {
	fmt.Fprintf(&p.out, "%s %s/%d", e.ID, e.Type, e.Version)
	if e.Position != e.ID.Position {
		fmt.Fprintf(&p.out, " at %s", e.Position)
	}
	if e.Cause != "" {
		fmt.Fprintf(&p.out, " because of %s", e.Cause)
	}
	fmt.Fprintf(&p.out, " > %s\n", e.Topic)
	// One line for each field of the data, as it is on the wire.
	d := json.NewDecoder(bytes.NewReader(e.Data))
	if _, err := d.Token(); err != nil {
		p.t.Error(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			p.t.Error(err)
			return
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			p.t.Error(err)
			return
		}
		fmt.Fprintf(&p.out, "    %s: %s\n", name, v)
	}
}

// prove is verify in small: the events, folded, are what the rules make of the
// rows, and every change is accounted for. Parked keys are no proof.
func (p *player) prove() error {
	if err := p.past.balance(); err != nil {
		return err
	}
	folded, err := p.past.folded()
	if err != nil {
		return err
	}
	for _, u := range p.rules.Units() {
		for _, tree := range p.db.trees(u) {
			key, want, err := p.rules.Expected(u.Aggregate, tree)
			if err != nil {
				return err
			}
			ref := event.Ref{Aggregate: u.Aggregate, Key: key}
			if len(p.past.chains[ref]) == 0 && folded[ref] != string(want) {
				return fmt.Errorf("%s/%s differs:\n%s", u.Aggregate, key, cmp.Diff(string(want), folded[ref]))
			}
			delete(folded, ref)
		}
	}
	for ref := range folded {
		if len(p.past.chains[ref]) == 0 {
			return fmt.Errorf("%s/%s is told and not there", ref.Aggregate, ref.Key)
		}
	}
	return nil
}
