package translate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"banyan/event"
	"banyan/wal"

	"github.com/google/go-cmp/cmp"
)

func world(t testing.TB) (*player, *Engine) {
	p := newPlayer(t, "rules: world.yaml\n")
	return p, p.engine
}

func (p *player) done(statements ...string) *wal.Tx {
	p.t.Helper()
	p.db.changes = nil
	for _, s := range statements {
		if err := p.db.run(s); err != nil {
			p.t.Fatal(err)
		}
	}
	return p.tx()
}

func told(m *memory) string {
	var out []string
	for _, e := range m.events {
		out = append(out, e.ID.Key+" "+e.Type)
	}
	return strings.Join(out, ", ")
}

func TestABatchAsksThePastInFewCalls(t *testing.T) {
	p, e := world(t)
	var txs []*wal.Tx
	for i := range 200 {
		txs = append(txs, p.done(fmt.Sprintf("insert public.things id=%d status=a", i), fmt.Sprintf("insert public.parts id=%d thing_id=%d", 1000+i, i)),
			p.done(fmt.Sprintf("update public.parts %d label=x", 1000+i)))
	}
	steps := 0
	err := e.Translate(context.Background(), p.past, txs, func(ctx context.Context, s *event.Step) error {
		steps++
		return p.past.put(ctx, s)
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.past.asked > 3 || steps != 1 {
		t.Errorf("400 transactions took %d questions and %d steps", p.past.asked, steps)
	}
	if len(p.past.events) != 400 {
		t.Errorf("%d events", len(p.past.events))
	}
}

func TestUnknownStop(t *testing.T) {
	p, e := world(t)
	b, err := os.ReadFile("testdata/world-strict.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Load("x", []byte(strings.Replace(string(b), "tables:", "unknown: stop\ntables:", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if e.Rules, _, err = Compile(cfg, testTables(t, "world.sql"), 1); err != nil {
		t.Fatal(err)
	}
	for _, onDisk := range []bool{false, true} {
		e.onDisk = onDisk
		id := fmt.Sprint(onDisk)[:1]
		id = map[string]string{"t": "1", "f": "2"}[id]
		if err := e.Translate(context.Background(), p.past, []*wal.Tx{p.done("insert public.boxes id=" + id + " fill=1")}, p.past.put); err != nil {
			t.Fatal(err)
		}
		tx := p.done("delete public.boxes " + id)
		err := e.Translate(context.Background(), p.past, []*wal.Tx{tx}, p.past.put)
		var unknown *UnknownError
		if !errors.As(err, &unknown) || unknown.LSN != tx.CommitLSN || unknown.Table != "public.boxes" || unknown.Key != id || unknown.WayOut == "" {
			t.Errorf("on disk %v: %v", onDisk, err)
		}
	}
}

// TestARangeReadLaterAbsorbsWhatItHasSeen: a range was read while the stream
// went on; transactions that its snapshot saw are absorbed, others apply.
func TestARangeReadLaterAbsorbsWhatItHasSeen(t *testing.T) {
	p, e := world(t)
	seen := p.done("insert public.things id=1 status=a", "insert public.items thing_id=1 no=1 amount=1.000", "insert public.things id=9 status=a")
	e.Snapshot = 1
	at := SnapshotPoint{Number: 1, LSN: 0x50}
	r, err := e.Recorder(p.past, "Thing", at, p.past.put)
	if err != nil {
		t.Fatal(err)
	}
	u := p.rules.Units()[0]
	if err := r.Add(context.Background(), p.db.tree(&u.Root, p.db.rows["public.things"]["1"])); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	later := p.done("update public.things 1 status=b", "delete public.items 1,1")
	e.Absorbs = []Absorb{{Aggregate: "Thing", Holds: func(key []string) bool { return key[0] < "5" }, Visible: func(xid uint32) bool { return xid <= seen.XID }}}
	if err := e.Translate(context.Background(), p.past, []*wal.Tx{seen, later}, p.past.put); err != nil {
		t.Fatal(err)
	}
	if got, want := told(p.past), "1 ThingRecorded, 9 ThingMade, 1 ThingChanged, 1 ItemRemoved"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	if err := p.prove(); err != nil {
		t.Error(err)
	}
	if c := p.past.counts["public.items"]; c.Absorbed != 1 || c.Used != 1 {
		t.Errorf("items: %+v", c)
	}
}

func TestWhatDoesNotFitParks(t *testing.T) {
	p, e := world(t)
	put := func(want string, ref event.Ref, tx *wal.Tx) {
		t.Helper()
		if err := e.Translate(context.Background(), p.past, []*wal.Tx{tx}, p.past.put); err != nil {
			t.Fatal(err)
		}
		chain := p.past.chains[ref]
		if len(chain) == 0 || !strings.Contains(chain[len(chain)-1].Reason, want) {
			t.Errorf("want %v parked for %q, have %v", ref, want, chain)
		}
		if _, err := DecodeParked(chain[len(chain)-1].Body); err != nil {
			t.Error(err)
		}
	}
	put("has more decimals", event.Ref{Aggregate: "Thing", Key: "1"}, p.done("insert public.things id=1 status=a", "insert public.items thing_id=1 no=1 amount=1.0001"))
	tx := p.done("insert public.things id=2 status=a")
	_ = tx // never seen
	put("does not have", event.Ref{Aggregate: "Thing", Key: "2"}, p.done("update public.things 2 status=b"))
	put("whose parent row", event.Ref{Aggregate: "Thing", Key: "77"}, p.done("insert public.items thing_id=77 no=1 amount=1"))
	big := strings.Repeat("x", 33<<20)
	put("more than 64 MiB", event.Ref{Aggregate: "Thing", Key: "33"}, p.done("insert public.things id=33 status=a note="+big, "insert public.parts id=330 thing_id=33 label="+big))
	if err := e.Translate(context.Background(), p.past, []*wal.Tx{p.done("insert public.things id=3 status=a note=" + big)}, p.past.put); err != nil {
		t.Fatal(err)
	}
	put("larger than", event.Ref{Aggregate: "Thing", Key: "3"}, p.done("insert public.parts id=30 thing_id=3 label="+big))
	e.MaxEvent = 1000
	put("more than a record", event.Ref{Aggregate: "Thing", Key: "4"}, p.done("insert public.things id=4 status=a note="+strings.Repeat("y", 1000)))
	put("no aggregate has public.scans", event.Ref{Aggregate: "public.scans", Key: "5"}, p.done("insert public.scans id=5 box_id=1"))
	if err := p.past.balance(); err != nil {
		t.Error(err)
	}
}

func TestMaskedValuesAreNowhere(t *testing.T) {
	p, e := world(t)
	const secret = "open-sesame"
	txs := []*wal.Tx{p.done("insert public.things id=1 status=a", "insert public.memos id=1 thing_id=1 body="+secret), p.done("insert public.memos id=2 thing_id=99 body=" + secret)}
	if err := e.Translate(context.Background(), p.past, txs, p.past.put); err != nil {
		t.Fatal(err)
	}
	look := func(what string, b []byte) {
		if strings.Contains(string(b), secret) {
			t.Errorf("%s has the secret: %s", what, b)
		}
	}
	for _, ev := range p.past.events {
		look("an event", ev.Data)
	}
	for _, s := range p.past.states {
		look("a state", s.Body)
	}
	for _, tr := range p.past.traces {
		b, err := decompress(tr.Body)
		if err != nil {
			t.Fatal(err)
		}
		look("a trace", b)
	}
	if len(p.past.chains) != 1 {
		t.Errorf("chains: %v", p.past.chains)
	}
	for _, chain := range p.past.chains {
		b, err := decompress(chain[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		look("a parked change", b)
	}
}

// TestStatesOutliveRules: a state written under older rules is read under newer
// ones; what it lacks parks the key instead of being made up.
func TestStatesOutliveRules(t *testing.T) {
	p, e := world(t)
	if err := e.Translate(context.Background(), p.past, []*wal.Tx{p.done("insert public.things id=1 status=a note=n stamp='2020-01-01 00:00:00'")}, p.past.put); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("testdata/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Load("x", []byte(strings.Replace(string(b), "state: [id, status, note]", "state: [stamp, status, id]", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if e.Rules, _, err = Compile(cfg, testTables(t, "world.sql"), 2); err != nil {
		t.Fatal(err)
	}
	p.rules = e.Rules
	if err := e.Translate(context.Background(), p.past, []*wal.Tx{p.done("update public.things 1 status=b")}, p.past.put); err != nil {
		t.Fatal(err)
	}
	if err := p.prove(); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff("1 ThingMade, 1 ThingChanged", told(p.past)); d != "" {
		t.Error(d)
	}
}

func TestNoPastServesAPreview(t *testing.T) {
	p, e := world(t)
	p.done("insert public.things id=1 status=a", "insert public.parts id=2 thing_id=1 label=x")
	m := newMemory()
	r, err := e.Recorder(NoPast{}, "Thing", SnapshotPoint{Number: 1, LSN: 1}, m.put)
	if err != nil {
		t.Fatal(err)
	}
	u := p.rules.Units()[0]
	for _, tree := range p.db.trees(u) {
		if err := r.Add(context.Background(), tree); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := told(m); got != "1 ThingRecorded" {
		t.Errorf("events %s", got)
	}
}

// TestTwoAggregatesOfOneRowParkOnce: a product's row feeds two aggregates; where
// both park it is one parked change, whichever way the transaction goes.
func TestTwoAggregatesOfOneRowParkOnce(t *testing.T) {
	for _, onDisk := range []bool{false, true} {
		p := newPlayer(t, "")
		p.engine.onDisk, p.engine.buckets = onDisk, 16
		born := p.done("insert public.products id=1 stock_code=A description=A stock=1 price=1.000 listed_at='2010-11-01 08:00:00' updated_at='2010-11-01 08:00:00'",
			"insert public.products id=2 stock_code=B description=B stock=1 price=1.000 listed_at='2010-11-01 08:00:00' updated_at='2010-11-01 08:00:00'")
		gone := p.done("delete public.products 1", "delete public.products 2")
		for _, tx := range []*wal.Tx{born, gone} {
			if err := p.engine.Translate(context.Background(), p.past, []*wal.Tx{tx}, p.past.put); err != nil {
				t.Fatal(err)
			}
		}
		entries := int64(0)
		for _, chain := range p.past.chains {
			entries += chain[0].Counts["public.products"]
		}
		if c := p.past.counts["public.products"]; len(p.past.chains) != 4 || c.Parked != 2 || entries != 2 || !c.Balanced() {
			t.Errorf("on disk %v: %d chains that count %d, %+v", onDisk, len(p.past.chains), entries, c)
		}
	}
}
