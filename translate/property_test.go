package translate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banyan/event"
	"banyan/wal"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// history makes up transactions that a database of the world's schema could
// commit, foreign keys with ON UPDATE CASCADE and ON DELETE CASCADE included.
type history struct {
	t    *rapid.T
	db   *database
	next int
}

func (h *history) id() string { h.next++; return strconv.Itoa(h.next) }

func (h *history) pick(table string) string {
	var keys []string
	for k := range h.db.rows[table] {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return ""
	}
	slices.Sort(keys)
	return keys[rapid.IntRange(0, len(keys)-1).Draw(h.t, "pick")]
}

func (h *history) where(table, col, v string) []string {
	var keys []string
	for k, r := range h.db.rows[table] {
		if r[col] == v {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func (h *history) word(label string) string {
	return rapid.SampledFrom([]string{"a", "b", "lost", "closed", "ü\"\\\n"}).Draw(h.t, label)
}

func (h *history) number() string {
	return fmt.Sprintf("%d.%03d", rapid.IntRange(-5, 99).Draw(h.t, "n"), rapid.IntRange(0, 999).Draw(h.t, "m"))
}

func (h *history) must(err error) {
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) deletePart(key string) {
	for _, p := range h.where("public.pieces", "part_id", key) {
		h.must(h.db.delete("public.pieces", p))
	}
	h.must(h.db.delete("public.parts", key))
}

func (h *history) deleteThing(key string) {
	for _, p := range h.where("public.parts", "thing_id", key) {
		h.deletePart(p)
	}
	for _, table := range []string{"public.items", "public.memos"} {
		for _, k := range h.where(table, "thing_id", key) {
			h.must(h.db.delete(table, k))
		}
	}
	h.must(h.db.delete("public.things", key))
}

func (h *history) rekey(key, to string) {
	if h.db.rows["public.things"][to] != nil {
		return
	}
	h.must(h.db.update("public.things", key, map[string]string{"id": to}, nil, h.toast()))
	for _, table := range []string{"public.parts", "public.items", "public.memos"} {
		for _, k := range h.where(table, "thing_id", key) {
			h.must(h.db.update(table, k, map[string]string{"thing_id": to}, nil, nil))
		}
	}
}

func (h *history) toast() []string {
	if rapid.Bool().Draw(h.t, "toast") {
		return []string{"note"}
	}
	return nil
}

// act does one statement, with what its foreign keys do along.
func (h *history) act(truncates bool) {
	thing, part, box := h.pick("public.things"), h.pick("public.parts"), h.pick("public.boxes")
	kind := rapid.IntRange(0, 22).Draw(h.t, "act")
	switch {
	case kind <= 1 || thing == "":
		id := h.id()
		h.must(h.db.insert("public.things", map[string]string{"id": id, "status": h.word("status"), "note": h.word("note")}))
	case kind == 2:
		h.must(h.db.update("public.things", thing, map[string]string{"status": h.word("status")}, nil, h.toast()))
	case kind == 3:
		h.must(h.db.update("public.things", thing, map[string]string{"note": h.word("note")}, nil, nil))
	case kind == 4:
		h.must(h.db.update("public.things", thing, map[string]string{"stamp": "2020-01-01 00:00:00"}, nil, nil))
	case kind == 5:
		h.deleteThing(thing)
	case kind == 6:
		r := h.db.rows["public.things"][thing]
		h.deleteThing(thing)
		h.must(h.db.insert("public.things", map[string]string{"id": r["id"], "status": h.word("status")}))
	case kind == 7:
		h.rekey(thing, strconv.Itoa(rapid.IntRange(1, h.next).Draw(h.t, "to")))
	case kind <= 10 || part == "":
		r := map[string]string{"id": h.id(), "thing_id": thing, "label": h.word("label")}
		if box != "" {
			r["box_id"] = box
		}
		h.must(h.db.insert("public.parts", r))
	case kind == 11:
		h.must(h.db.update("public.parts", part, map[string]string{"label": h.word("label")}, nil, nil))
	case kind == 12:
		h.must(h.db.update("public.parts", part, map[string]string{"thing_id": thing}, nil, nil))
	case kind == 13:
		h.deletePart(part)
	case kind == 14:
		h.must(h.db.insert("public.pieces", map[string]string{"id": h.id(), "part_id": part, "weight": h.number()}))
	default:
		h.more(kind, thing, part, box, truncates)
	}
}

func (h *history) more(kind int, thing, part, box string, truncates bool) {
	piece, memo := h.pick("public.pieces"), h.pick("public.memos")
	switch {
	case kind == 15 && piece != "":
		h.must(h.db.update("public.pieces", piece, map[string]string{"weight": h.number(), "part_id": part}, nil, nil))
	case kind == 16 && piece != "":
		h.must(h.db.delete("public.pieces", piece))
	case kind == 17:
		no := strconv.Itoa(rapid.IntRange(1, 3).Draw(h.t, "no"))
		k := event.JoinKey(thing, no)
		if h.db.rows["public.items"][k] == nil {
			h.must(h.db.insert("public.items", map[string]string{"thing_id": thing, "no": no, "amount": h.number()}))
		} else if rapid.Bool().Draw(h.t, "delete") {
			h.must(h.db.delete("public.items", k))
		} else {
			h.must(h.db.update("public.items", k, map[string]string{"amount": h.number()}, nil, nil))
		}
	case kind == 18:
		r := map[string]string{"id": h.id(), "body": h.word("body")}
		if rapid.Bool().Draw(h.t, "owned") {
			r["thing_id"] = thing
		}
		h.must(h.db.insert("public.memos", r))
	case kind == 19 && memo != "":
		if rapid.Bool().Draw(h.t, "orphan") {
			h.must(h.db.update("public.memos", memo, nil, []string{"thing_id"}, nil))
		} else {
			h.must(h.db.update("public.memos", memo, map[string]string{"thing_id": thing, "body": h.word("body")}, nil, nil))
		}
	case kind == 20 && memo != "":
		h.must(h.db.delete("public.memos", memo))
	case kind == 21 && truncates && rapid.IntRange(0, 4).Draw(h.t, "truncate") == 0:
		if rapid.Bool().Draw(h.t, "all") {
			for _, table := range []string{"things", "parts", "pieces", "items", "memos"} {
				h.db.truncate("public." + table)
			}
		} else {
			h.db.truncate("public.items")
		}
	case box == "" || kind == 22:
		h.must(h.db.insert("public.boxes", map[string]string{"id": h.id(), "fill": "1"}))
	default:
		h.must(h.db.update("public.boxes", box, map[string]string{"fill": h.id()}, nil, nil))
		if rapid.Bool().Draw(h.t, "scan") {
			h.must(h.db.insert("public.scans", map[string]string{"id": h.id(), "box_id": box, "by": "x"}))
		}
	}
}

func (h *history) transactions(truncates bool) []*wal.Tx {
	var out []*wal.Tx
	p := &player{db: h.db, lsn: 0x100, xid: 700}
	for range rapid.IntRange(1, 12).Draw(h.t, "transactions") {
		h.db.changes = nil
		for range rapid.IntRange(1, 10).Draw(h.t, "statements") {
			h.act(truncates)
		}
		out = append(out, p.tx())
	}
	return out
}

func newHistory(t *rapid.T, tables []*wal.Table) *history {
	return &history{t: t, db: newDatabase(tables)}
}

func translateAll(t *rapid.T, e *Engine, m *memory, txs []*wal.Tx, atOnce bool) {
	for len(txs) > 0 {
		n := 1
		if atOnce {
			n = len(txs)
		}
		if err := e.Translate(context.Background(), m, txs[:n], m.put); err != nil {
			t.Fatal(err)
		}
		txs = txs[n:]
	}
}

// TestFoldedEventsAreTheRows: whatever the database commits, the events folded
// by key are the states that the rules give for the rows, every change is
// accounted for once, every id is unique; and it is all the same whether
// transactions come one by one, in one batch, or over the disk.
func TestFoldedEventsAreTheRows(t *testing.T) {
	rules, tables, dir := loadRules(t, "world.yaml", 1), testTables(t, "world.sql"), t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t, tables)
		txs := h.transactions(true)
		var stores []*memory
		for _, way := range []Engine{{}, {}, {scratch: scratch{onDisk: true, buckets: 1}}, {scratch: scratch{onDisk: true, buckets: 7}}} {
			e, m := way, newMemory()
			e.Rules, e.Source, e.Generation, e.SpillDir = rules, "world", 1, dir
			translateAll(t, &e, m, txs, len(stores) == 1)
			stores = append(stores, m)
		}
		for i, m := range stores {
			p := &player{rules: rules, db: h.db, past: m}
			if err := p.prove(); err != nil {
				t.Fatalf("way %d: %v\n%s", i, err, strings.Join(h.db.script, "\n"))
			}
			if len(m.chains) > 0 && !onlyScans(m) {
				t.Fatalf("way %d: parked %v", i, m.chains)
			}
			if d := cmp.Diff(dump(stores[0]), dump(m)); d != "" {
				t.Fatalf("way %d gives something else (-first +it):\n%s", i, d)
			}
		}
	})
}

// onlyScans says whether nothing is parked but scans that no box has taken.
func onlyScans(m *memory) bool {
	for r := range m.chains {
		if r.Aggregate != "public.scans" {
			return false
		}
	}
	return true
}

// dump is all that a store holds, in an order of its own; events by key in
// theirs.
func dump(m *memory) []string {
	var out []string
	byKey := map[string][]string{}
	for _, e := range m.events {
		k := e.ID.Subject()
		byKey[k] = append(byKey[k], fmt.Sprintf("%s %s %s %s %s", e.ID, e.Type, e.Cause, e.Position, e.Data))
	}
	for _, list := range byKey {
		out = append(out, strings.Join(list, "\n"))
	}
	for r, s := range m.states {
		out = append(out, fmt.Sprintf("state %v %x %s", r, s.Body, s.Event))
	}
	for r, l := range m.links {
		list := slices.Clone(l)
		slices.SortFunc(list, func(a, b event.Ref) int { return strings.Compare(a.Key, b.Key) })
		out = append(out, fmt.Sprintf("link %v %v", r, list))
	}
	for r, chain := range m.chains {
		for _, p := range chain {
			out = append(out, fmt.Sprintf("parked %v %s %s", r, p.Position, p.Reason))
		}
	}
	out = append(out, formatCounts(m.counts))
	slices.Sort(out)
	return out
}

// TestReleaseTellsTheSame: with rules that do not know everything keys park.
// When the rules are repaired and every chain is released, or what still does
// not fit is discarded and recorded anew, the topics are right again and every
// change is accounted for.
func TestReleaseTellsTheSame(t *testing.T) {
	strict, rules := loadRules(t, "world-strict.yaml", 1), loadRules(t, "world.yaml", 2)
	tables, dir := testTables(t, "world.sql"), t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t, tables)
		e, m := &Engine{Rules: strict, Source: "world", Generation: 1, SpillDir: dir}, newMemory()
		e.onDisk = rapid.Bool().Draw(t, "on disk")
		txs := h.transactions(false)
		translateAll(t, e, m, txs, rapid.Bool().Draw(t, "at once"))
		if err := m.balance(); err != nil {
			t.Fatal(err)
		}
		e.Rules = rules
		end := txs[len(txs)-1].EndLSN
		releaseAll(t, e, m, end)
		discardAll(t, e, m, h.db, end+0x1000)
		p := &player{rules: rules, db: h.db, past: m}
		if err := p.prove(); err != nil {
			t.Fatalf("%v\n%s\n%s", err, strings.Join(h.db.script, "\n"), strings.Join(dump(m), "\n"))
		}
		for table, c := range m.counts {
			if c.Parked != 0 {
				t.Fatalf("%s: %+v", table, c)
			}
		}
	})
}

func releaseAll(t *rapid.T, e *Engine, m *memory, lsn wal.LSN) {
	for progress := true; progress; {
		progress = false
		for _, r := range parkedRefs(m) {
			chain := m.chains[r]
			delete(m.chains, r)
			lsn += 0x10
			done, err := e.Release(context.Background(), m, chain, ReleasePoint{Position: event.Position{Generation: 1, LSN: uint64(lsn)}}, m.put)
			if err != nil {
				t.Fatal(err)
			}
			if done.Done < len(chain) {
				if done.Reason == "" {
					t.Fatalf("%v: %d of %d without a reason", r, done.Done, len(chain))
				}
				m.chains[r] = slices.Concat(chain[done.Done:], m.chains[r])
			}
			progress = progress || done.Done > 0
		}
	}
}

func parkedRefs(m *memory) []event.Ref {
	var refs []event.Ref
	for r := range m.chains {
		refs = append(refs, r)
	}
	slices.SortFunc(refs, func(a, b event.Ref) int { return strings.Compare(a.Aggregate+"/"+a.Key, b.Aggregate+"/"+b.Key) })
	return refs
}

// discardAll drops what is left and records those keys anew.
func discardAll(t *rapid.T, e *Engine, m *memory, db *database, lsn wal.LSN) {
	e.Snapshot++
	at := SnapshotPoint{Number: e.Snapshot, LSN: lsn}
	for _, r := range parkedRefs(m) {
		for _, p := range m.chains[r] {
			for table, n := range p.Counts {
				c := m.counts[table]
				c.Parked -= n
				c.Discarded += n
				m.counts[table] = c
			}
		}
		delete(m.chains, r)
		for _, u := range e.Rules.Units() {
			if u.Aggregate == r.Aggregate {
				recordKey(t, e, m, db, u, r.Key, at)
			}
		}
	}
}

func recordKey(t *rapid.T, e *Engine, m *memory, db *database, u wal.Unit, key string, at SnapshotPoint) {
	row := db.rows[u.Root.Table.FullName()][key]
	if row == nil {
		if err := e.AbsentKeys(context.Background(), m, u.Aggregate, []string{key}, at, m.put); err != nil {
			t.Fatal(err)
		}
		return
	}
	r, err := e.Recorder(m, u.Aggregate, at, m.put)
	if err == nil {
		err = r.Add(context.Background(), db.tree(&u.Root, row))
	}
	if err == nil {
		err = r.Close(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
}
