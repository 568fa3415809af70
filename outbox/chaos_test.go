package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/outbox"
)

// chaos drives owners through faults, and knows what must be in the store.
type chaos struct {
	t     *testing.T
	rnd   *rand.Rand
	db    *pgtest.DB
	admin *pgxpool.Pool
	proxy *proxy
	store *outbox.Store
	owner *outbox.Owner
	n     int // the last position that is in the store

	mu                                                            sync.Mutex
	commits, failed, fenced, retried, cuts, kills, coups, settled int
}

// batch is what belongs to position n: always the same.
func batch(n int) event.Step {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	var step event.Step
	for i := range 1 + rnd.IntN(30) {
		e := order(fmt.Sprint(rnd.IntN(50)), n, i)
		e.Data = fmt.Appendf(nil, `{"n":%d,"i":%d,"pad":"%0*d"}`, n, i, rnd.IntN(400), 0)
		step.Events = append(step.Events, e)
	}
	step.States = []event.State{{Ref: event.Ref{Aggregate: "Order", Key: "last"}, Body: fmt.Append(nil, n), Event: step.Events[0].ID.String()}}
	step.Traces = []event.Trace{{Generation: 1, CommitLSN: at(n).Commit, Time: at(n).Time, Body: []byte("t")}}
	step.Counts = map[string]event.Counts{"public.orders": {Changes: 1, Used: 1}}
	return step
}

// TestFaultsKeepTheSequenceWhole cuts wires, ends sessions, fails in the middle
// and takes over, at random, and expects every batch exactly once.
func TestFaultsKeepTheSequenceWhole(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx := t.Context() // no limit: with many faults it takes long on a busy machine
	db := pgtest.New(t)
	p, via := newProxy(t, db.URL)
	c := &chaos{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), db: db, admin: db.Pool(t), proxy: p}
	c.store = open(t, via, outbox.Options{Expiry: 400 * time.Millisecond, SlabBytes: 32 << 10, Partitions: 4, CacheBytes: 4 << 10})
	c.takeOver(ctx)
	faults, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.trouble(faults, rand.New(rand.NewPCG(seed, 1))) })
	for c.n < 250 && !t.Failed() {
		c.step(ctx)
	}
	stop()
	wg.Wait()
	p.set(whole)
	c.check(ctx)
	t.Logf("%d commits, %d failed on purpose, %d retried, %d fenced, %d settled by a successor; %d wires cut, %d sessions ended, %d takeovers",
		c.commits, c.failed, c.retried, c.fenced, c.settled, c.cuts, c.kills, c.coups)
}

// trouble breaks something every few milliseconds.
func (c *chaos) trouble(ctx context.Context, rnd *rand.Rand) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(rnd.IntN(250)) * time.Millisecond):
		}
		c.mu.Lock()
		switch what := rnd.IntN(10); {
		case what < 3:
			c.proxy.cutAll()
			c.cuts++
		case what < 8:
			_, _ = c.admin.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'banyan owner%' AND datname = current_database()`)
			c.kills++
		default:
			_, _ = c.admin.Exec(ctx, `UPDATE banyan.lease SET ttl = '-1 hour'`)
			c.coups++
		}
		c.mu.Unlock()
	}
}

func (c *chaos) takeOver(ctx context.Context) {
	c.t.Helper()
	if c.owner != nil && c.rnd.IntN(2) == 0 {
		_ = c.owner.Close(ctx) // a tidy end; its errors are those of the faults
	}
	o, err := c.store.Acquire(ctx, shop, nil)
	for try := 0; err != nil && try < 50; try++ {
		o, err = c.store.Acquire(ctx, shop, nil)
	}
	if err != nil {
		c.t.Log(c.sessions())
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = o.Close(context.Background()) })
	c.owner = o
	switch pos := o.Position(); pos {
	case at(c.n + 1):
		c.n++ // the commit before happened, unknown to its owner
		c.settled++
	case at(c.n), outbox.To{}:
	default:
		c.t.Fatalf("the successor starts at %v, want %v", pos, at(c.n))
	}
}

// step commits the next position, whatever it takes.
func (c *chaos) step(ctx context.Context) {
	fail := c.rnd.IntN(8) == 0
	err := c.owner.Commit(ctx, at(c.n+1), func(tx *outbox.Tx) error {
		ref := event.Ref{Aggregate: "Order", Key: "last"}
		states, err := tx.States(ctx, []event.Ref{ref})
		if err != nil {
			return err
		}
		if got := string(states[ref].Body); c.n > 0 && got != fmt.Sprint(c.n) {
			c.t.Errorf("at position %d the state is of %q", c.n, got)
		}
		step := batch(c.n + 1)
		half := event.Step{Events: step.Events[:len(step.Events)/2]}
		step.Events = step.Events[len(step.Events)/2:]
		if err := tx.Put(ctx, &half); err != nil {
			return err
		}
		if c.rnd.IntN(4) == 0 {
			for _, err := range tx.Keys(ctx, "Order") { // flushes
				if err != nil {
					return err
				}
			}
		}
		if err := tx.Put(ctx, &step); err != nil {
			return err
		}
		if fail {
			return errOnPurpose
		}
		switch c.rnd.IntN(12) {
		case 0:
			c.proxy.set(beforeIt) // the rest of the transaction never arrives
			c.cut()
		case 1:
			c.proxy.set(afterIt) // it does, and is answered into the void
			c.cut()
		}
		return nil
	})
	for len(c.proxy.hit) > 0 {
		<-c.proxy.hit
	}
	switch {
	case err == nil && !fail:
		c.n++
		c.commits++
	case errors.Is(err, errOnPurpose):
		c.failed++
	case outbox.Retryable(err):
		c.retried++
	case errors.Is(err, outbox.ErrFenced):
		c.fenced++
		c.takeOver(ctx)
	default:
		c.t.Fatalf("commit %d: %v", c.n+1, err)
	}
	if c.rnd.IntN(20) == 0 {
		c.coup(ctx)
	}
}

func (c *chaos) cut() {
	c.mu.Lock()
	c.cuts++
	c.mu.Unlock()
}

// coup lets a successor take over from a living owner, which then tries to go
// on.
func (c *chaos) coup(ctx context.Context) {
	c.mu.Lock()
	c.coups++
	c.mu.Unlock()
	if _, err := c.admin.Exec(ctx, `UPDATE banyan.lease SET ttl = '-1 hour'`); err != nil {
		c.t.Fatal(err)
	}
	zombie := c.owner
	c.takeOver(ctx)
	step := batch(c.n + 1)
	err := zombie.Commit(ctx, at(c.n+1), put(ctx, step))
	for try := 0; outbox.Retryable(err) && try < 10; try++ {
		err = zombie.Commit(ctx, at(c.n+1), put(ctx, step))
	}
	switch {
	case errors.Is(err, outbox.ErrFenced):
		c.fenced++
	case !errors.Is(err, outbox.ErrClosed):
		c.t.Errorf("the commit of a zombie: %v", err)
	}
}

func (c *chaos) check(ctx context.Context) {
	_ = c.owner.Close(ctx) // it may have lost its session
	last, err := c.store.Acquire(ctx, shop, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer last.Close(ctx)
	if last.Position() != at(c.n) {
		c.t.Errorf("position %v, want %v", last.Position(), at(c.n))
	}
	want := map[string]string{}
	for n := 1; n <= c.n; n++ {
		for _, e := range batch(n).Events {
			want[e.ID.String()] = string(e.Data)
		}
	}
	writer := map[int]int64{}
	lsn := map[int]uint64{}
	for _, e := range stored(c.t, last) { // no gap, no repeat of a seq
		data, ok := want[e.ID.String()]
		if !ok || data != string(e.Data) {
			c.t.Fatalf("event %s is stored twice, or not as it was put", e.ID)
		}
		delete(want, e.ID.String())
		if e.Writer < writer[e.Partition] || e.Position.LSN < lsn[e.Partition] {
			c.t.Errorf("%s by writer %d after writer %d", e.ID, e.Writer, writer[e.Partition])
		}
		writer[e.Partition], lsn[e.Partition] = e.Writer, e.Position.LSN
	}
	if len(want) > 0 {
		c.t.Errorf("%d events are missing", len(want))
	}
	counts, err := c.store.Counts(ctx)
	if err != nil || counts["public.orders"].Changes != int64(c.n) {
		c.t.Errorf("counts %+v, want %d changes (%v)", counts, c.n, err)
	}
	traces := 0
	for _, err := range c.store.Traces(ctx) {
		if err != nil {
			c.t.Fatal(err)
		}
		traces++
	}
	if traces != c.n {
		c.t.Errorf("%d traces, want %d", traces, c.n)
	}
}

// sessions tells who waits for whom.
func (c *chaos) sessions() string {
	var text string
	_ = c.admin.QueryRow(context.Background(), `SELECT string_agg(format('%s %s %s %s/%s blocked by %s: %s', pid, application_name, state, wait_event_type, wait_event, pg_blocking_pids(pid), left(query, 60)), E'\n')
		FROM pg_stat_activity WHERE datname = current_database()`).Scan(&text)
	return text
}
