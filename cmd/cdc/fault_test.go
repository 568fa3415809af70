package main_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banyan/internal/pgtest"
	"banyan/internal/randtest"
)

// ready makes a house with drafted rules and setup done.
func ready(t *testing.T) *house {
	h := newHouse(t, shopSQL)
	h.must(0, "init", "--name", "shop", "--currency", "GBP")
	h.must(0, "setup", "--apply")
	return h
}

func TestKillAtRandomMomentsLosesAndDoublesNothing(t *testing.T) {
	rng := randtest.New(t)
	h := ready(t)
	killAtRandom(t, h, rng, 8)
}

// killAtRandom kills cdc run again and again under load, from its very start
// on, so that some kills fall into the first snapshot.
func killAtRandom(t *testing.T, h *house, rng *rand.Rand, kills int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := h.load(ctx, 3)
	for range kills {
		r := h.start()
		<-randtest.Within(rng, 1500*time.Millisecond)
		r.Kill()
	}
	last := h.start()
	last.Await("streaming")
	cancel()
	t.Logf("%d transactions were committed meanwhile", wait())
	h.proved()
	h.uniqueIDs()
	last.Stop()
}

func TestStoppedOwnerIsFencedByItsSuccessor(t *testing.T) {
	rng := rand.New(rand.NewPCG(randtest.Seed(t), 2))
	h := ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := h.load(ctx, 3)
	first := h.start()
	first.Await("streaming")
	<-randtest.Within(rng, time.Second)
	first.Signal(syscall.SIGSTOP) // with whatever it has in flight
	second := h.start()
	second.Await("streaming")
	<-randtest.Within(rng, time.Second)
	first.Signal(syscall.SIGCONT)
	if code := first.End(); code != 3 {
		t.Errorf("the stopped owner, awake again, exits with %d, want 3:\n%s", code, first.Log())
	}
	if !strings.Contains(first.Log(), "taken over") {
		t.Errorf("it does not say why it ended:\n%s", first.Log())
	}
	cancel()
	wait()
	h.proved()
	h.uniqueIDs()
	second.Stop()
}

func TestSecondRunWaitsAndTakesOver(t *testing.T) {
	h := ready(t)
	first := h.start()
	first.Await("streaming")
	second := h.start()
	second.Await("waiting")
	h.source.Exec(t, `UPDATE orders SET status = 'paid' WHERE id = 1`)
	first.Stop()
	second.AwaitNext("streaming")
	h.source.Exec(t, `UPDATE orders SET status = 'shipped' WHERE id = 1`)
	h.proved()
	second.Stop()
}

func TestBrokerAwayNothingIsLostAndTheSlotMoves(t *testing.T) {
	h := ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := h.start()
	r.Await("streaming")
	h.broker.Stop(t)
	before := h.confirmed()
	wait := h.load(ctx, 2)
	h.eventually("the slot moves while Kafka is away", func() bool { return h.confirmed() > before+200_000 })
	h.broker.Start(t)
	cancel()
	wait()
	h.proved()
	h.uniqueIDs()
	r.Stop()
}

func TestServersRestartInMidBatch(t *testing.T) {
	h := newServerHouse(t)
	h.must(0, "init", "--name", "shop", "--currency", "GBP")
	h.must(0, "setup", "--apply")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := h.load(ctx, 3)
	r := h.start()
	r.Await("streaming")
	// Source and store live on one server here: both go away at once.
	h.source.Server().Restart(t)
	h.broker.Restart(t)
	h.source.Server().Kill(t)
	h.source.Server().Start(t)
	// The writers have no brake, and on a machine with much to do nobody keeps up with
	// them: that all of it has come is asked when they have stopped.
	at := h.confirmed()
	h.eventually("changes flow again", func() bool { return h.confirmed() > at })
	cancel()
	wait()
	h.proved()
	h.uniqueIDs()
	r.Stop()
}

// confirmed is the slot's confirmed_flush_lsn.
func (h *house) confirmed() int64 {
	h.t.Helper()
	return h.number(h.source, `SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::text FROM pg_replication_slots WHERE database = current_database()`)
}

// number asks for one whole number, as text. Pollers may ask often: it leaves no
// connection behind.
func (h *house) number(db *pgtest.DB, sql string) int64 {
	h.t.Helper()
	values := db.Column(h.t, sql)
	if len(values) != 1 {
		h.t.Fatalf("%s: %d rows, want 1", sql, len(values))
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
	return n
}
