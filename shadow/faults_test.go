package shadow

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"banyan/compare"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/quote"
)

// answering is thrifty behind a Pricer, which fails now and then.
type answering struct {
	mu   sync.Mutex
	rng  *rand.Rand
	fail int // of 100 calls
}

func (p *answering) Price(_ context.Context, orders []quote.Order) ([]Got, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rng.IntN(100) < p.fail {
		return nil, errors.New("the candidate is out of its mind")
	}
	got := make([]Got, len(orders))
	for i := range orders {
		a := &quote.Answer{ID: orders[i].ID, AsOf: orders[i].AsOf}
		if err := (thrifty{}).Price(&orders[i], a); err != nil {
			a.Declined = err.Error()
		}
		got[i].Answer = a
	}
	return got, nil
}

// Whatever is killed, each order counts once: the ledger and the journal are, to the
// byte, those of a run that nothing has happened to, and what the shop's own books say.
func TestExactlyOnceUnderFaults(t *testing.T) {
	for _, mode := range []string{"in process", "asked"} {
		t.Run(mode, func(t *testing.T) { underFaults(t, mode == "asked") })
	}
}

func underFaults(t *testing.T, asked bool) {
	seed := randtest.Seed(t)
	shop := newShop(t, seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	server := pgtest.NewServer(t)
	h := newHouse(t, server.NewDB(t), shop)
	who := thriftyOne
	if asked {
		who.InProcess, who.Pricer = nil, &answering{rng: rand.New(rand.NewPCG(seed, 4)), fail: 3}
	}
	v, program := h.shadow(named("faulty"), who)
	faults := []struct {
		name string
		do   func()
	}{
		{"the run is ended", func() {}},
		{"the connections are cut", func() {
			h.db.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test' AND datname = current_database() AND pid <> pg_backend_pid()`)
		}},
		{"answers to commits get lost", func() { h.lose.Add(1 + rng.Int64N(3)) }},
		{"the broker is away", func() { h.log.Break(errors.New("no broker")); h.log.Break(nil) }},
		{"the server restarts", func() { server.Restart(t) }},
		{"the server is killed", func() { server.Kill(t); server.Start(t) }},
	}
	p := program()
	for round := range 18 {
		f := faults[round%len(faults)]
		if rng.IntN(2) == 0 {
			p = program() // another process
		}
		shop.trade(60)
		r := h.runner(p, v, func(o *projections.Options) { o.Limits.Events = 1 + rng.IntN(30) })
		stop, done := h.start(r, h.parts(p))
		some := rng.Int64N(40)
		h.eventually("some batches are committed", func() bool {
			select {
			case <-done: // the candidate's error ends a run
				return true
			default:
				return r.Stats().Events >= some
			}
		})
		f.do()
		if rng.IntN(2) == 0 {
			stop()
		} else {
			shop.trade(10)
			at := control.Mark{Generation: shop.src.Generation, LSN: shop.src.LSN + 0x30}
			h.eventually("the last mark is passed", func() bool {
				select {
				case <-done:
					return true
				default:
					return r.Stats().Passed.Compare(at) >= 0
				}
			})
		}
		if err := stop(); !errors.Is(err, errStopped) && !asked {
			t.Fatalf("%s: Run ended with %v", f.name, err)
		}
	}
	h.lose.Store(0)
	if asked {
		who.Pricer.(*answering).fail = 0
	}
	h.catchUp(program(), v, nil)

	clean := newHouse(t, pgtest.New(t), shop)
	cv, straight := clean.shadow(named("faulty"), thriftyOne)
	clean.catchUp(straight(), cv, nil)
	want, got := clean.picture("faulty"), h.picture("faulty")
	shop.books.check(t, want.Ledger)
	shop.books.check(t, got.Ledger)
	if diff := cmp.Diff(whole(t, want.Ledger), whole(t, got.Ledger)); diff != "" {
		t.Fatalf("under faults (-without +with):\n%s", diff)
	}
	if diff := cmp.Diff(text(clean.journal(cv)), text(h.journal(v))); diff != "" {
		t.Fatalf("the journal under faults (-without +with):\n%s", diff)
	}
	shop.books.checkJournal(t, entries(t, h.journal(v)))
	if want.Facts.Position != got.Facts.Position || want.Facts.AsOf != got.Facts.AsOf {
		t.Errorf("as of %s %s, want %s %s", got.Facts.Position, got.Facts.AsOf, want.Facts.Position, want.Facts.AsOf)
	}
}

// Two owners: the one that comes later has the partitions, the other is told so, and
// nothing counts twice.
func TestTwoOwnersFenceEachOther(t *testing.T) {
	seed := randtest.Seed(t)
	shop := newShop(t, seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	h := newHouse(t, pgtest.New(t), shop)
	v, program := h.shadow(named("owners"), thriftyOne)
	owners := []*Comparator{program(), program()}
	few := func(o *projections.Options) { o.Limits.Events = 1 + rng.IntN(20) }
	shop.trade(30)
	first := h.runner(owners[0], v, few)
	stop, done := h.start(first, h.parts(owners[0]))
	h.eventually("the first owner is at work", func() bool { return first.Stats().Events > 0 })
	for round := 1; round < 8; round++ {
		shop.trade(40)
		next := h.runner(owners[round%2], v, few)
		stopNext, doneNext := h.start(next, h.parts(owners[0]))
		some := 1 + rng.Int64N(30)
		h.eventually("another owner is at work, and the one of before has heard of it", func() bool {
			select {
			case <-done:
				if next.Stats().Events >= some {
					return true
				}
			default:
			}
			shop.trade(1) // an owner hears of it when it has something to write
			return false
		})
		if err := stop(); !errors.Is(err, control.ErrFenced) {
			t.Fatalf("the owner of before ended with %v", err)
		}
		stop, done = stopNext, doneNext
	}
	stop()
	h.catchUp(owners[0], v, nil)
	shop.books.check(t, h.picture("owners").Ledger)
	shop.books.checkJournal(t, entries(t, h.journal(v)))
}

// Memory is believed only where it went the same way as the database. An owner that
// asked for a batch and lost it to another one, whose batch had the same number and
// was larger, reads the state anew.
func TestMemoryOfALostBatchIsNotBelieved(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	shop.trade(60)
	o := named("lost")
	h := newHouse(t, pgtest.New(t), shop)
	v, program := h.shadow(o, thriftyOne)
	events := all(t, shop.log, o)
	one, other := program(), program()
	commit := func(p *Comparator, some []*projections.Event) error {
		return pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
			return projections.ApplyBatch(t.Context(), tx, v.Schema, p, some)
		})
	}
	do := func(p *Comparator, from, until int) {
		t.Helper()
		if err := p.Ask(t.Context(), events[from:until]); err != nil {
			t.Fatal(err)
		}
		if err := commit(p, events[from:until]); err != nil {
			t.Fatal(err)
		}
	}
	do(one, 0, 20)
	if err := one.Ask(t.Context(), events[20:30]); err != nil { // and then nothing is heard of it
		t.Fatal(err)
	}
	do(other, 20, 45)
	if err := commit(one, events[20:30]); err == nil {
		t.Fatal("a batch that rests on another one was written")
	}
	do(one, 45, 50)
	if err := other.Ask(t.Context(), events[50:60]); err != nil {
		t.Fatal(err)
	}
	if err := commit(other, events[50:59]); err == nil {
		t.Fatal("another batch than was asked about was written")
	}
	do(other, 50, 60)
	do(one, 60, len(events))
	shop.books.check(t, h.picture("lost").Ledger)
	shop.books.checkJournal(t, entries(t, h.journal(v)))
}

// A database that refuses large batches gets small ones, and the same comes of it.
func TestABatchThatIsNarrowed(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	shop.trade(150)
	h := newHouse(t, pgtest.New(t), shop)
	v, program := h.shadow(named("narrow"), thriftyOne)
	h.db.Exec(t, `CREATE FUNCTION few() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF (SELECT count(*) FROM added) > 3 THEN RAISE EXCEPTION 'too many at once'; END IF; RETURN NULL; END $$`)
	h.db.Exec(t, `CREATE TRIGGER few AFTER INSERT ON `+table(v.Schema, tableJournal)+` REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION few()`)
	h.catchUp(program(), v, nil)
	shop.books.check(t, h.picture("narrow").Ledger)
	shop.books.checkJournal(t, entries(t, h.journal(v)))
}

// An order that lies before the start is known to later ones, and not compared; one of
// a customer outside of the sample neither.
func TestSinceAndSample(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	shop.trade(100)
	since := control.Mark{Generation: shop.src.Generation, LSN: shop.src.LSN + 0x30}
	before := len(shop.books.orders)
	shop.trade(200)
	o := named("since")
	o.Since = since
	h := newHouse(t, pgtest.New(t), shop)
	v, program := h.shadow(o, thriftyOne)
	h.catchUp(program(), v, nil)
	for i := range shop.books.orders[:before] {
		for k := range shop.books.orders[i].lines {
			l := &shop.books.orders[i].lines[k]
			switch l.Reason {
			case "", compare.Declined, compare.NoAnswer, compare.WrongCurrency, compare.BadPrice:
				l.Reason, l.Candidate, l.Quoted = compare.BeforeStart, 0, 0
			}
		}
	}
	shop.books.check(t, h.picture("since").Ledger)
	shop.books.checkJournal(t, entries(t, h.journal(v)))

	o = named("sample")
	o.Sample = Everybody / 2
	v, program = h.shadow(o, thriftyOne)
	h.catchUp(program(), v, nil)
	in := map[string]bool{}
	for _, e := range entries(t, h.journal(v)) {
		for _, l := range e.Lines {
			out := l.Reason == compare.Sampled
			if !out && l.Reason != "" && l.Reason != compare.Declined {
				continue
			}
			if was, ok := in[e.Cluster]; ok && was == out {
				t.Fatalf("customer %s is in the sample and is not", e.Cluster)
			}
			in[e.Cluster] = !out
		}
	}
	if n := len(in); n < 20 {
		t.Fatalf("%d customers are too few to say anything", n)
	}
}
