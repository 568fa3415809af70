package main_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// seed is BANYAN_SEED, or a new one; it is printed.
func seed(t *testing.T) uint64 {
	n := rand.Uint64()
	if s := os.Getenv("BANYAN_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("BANYAN_SEED=%d", n)
	return n
}

// within is a moment at random: what is killed is killed wherever it is then.
func within(rng *rand.Rand, limit time.Duration) <-chan time.Time {
	return time.After(time.Duration(rng.Int64N(int64(limit))))
}

// ready makes a house with drafted rules and setup done.
func ready(t *testing.T) *house {
	h := newHouse(t, shopSQL)
	h.must(0, "init", "--name", "shop", "--currency", "GBP")
	h.must(0, "setup", "--apply")
	return h
}

func TestKillAtRandomMomentsLosesAndDoublesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
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
		<-within(rng, 1500*time.Millisecond)
		r.signal(syscall.SIGKILL)
		r.end()
	}
	last := h.start()
	last.await("streaming")
	cancel()
	t.Logf("%d transactions were committed meanwhile", wait())
	h.proved()
	h.uniqueIDs()
	last.stop()
}

func TestStoppedOwnerIsFencedByItsSuccessor(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 2))
	h := ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := h.load(ctx, 3)
	first := h.start()
	first.await("streaming")
	<-within(rng, time.Second)
	first.signal(syscall.SIGSTOP) // with whatever it has in flight
	second := h.start()
	second.await("streaming")
	<-within(rng, time.Second)
	first.signal(syscall.SIGCONT)
	if code := first.end(); code != 3 {
		t.Errorf("the stopped owner, awake again, exits with %d, want 3:\n%s", code, first.text())
	}
	if !strings.Contains(first.text(), "taken over") {
		t.Errorf("it does not say why it ended:\n%s", first.text())
	}
	cancel()
	wait()
	h.proved()
	h.uniqueIDs()
	second.stop()
}

func TestSecondRunWaitsAndTakesOver(t *testing.T) {
	h := ready(t)
	first := h.start()
	first.await("streaming")
	second := h.start()
	second.await("waiting")
	h.source.Exec(t, `UPDATE orders SET status = 'paid' WHERE id = 1`)
	first.stop()
	second.await("streaming")
	h.source.Exec(t, `UPDATE orders SET status = 'shipped' WHERE id = 1`)
	h.proved()
	second.stop()
}

func TestBrokerAwayNothingIsLostAndTheSlotMoves(t *testing.T) {
	h := ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := h.start()
	r.await("streaming")
	h.broker.Stop(t)
	before := h.confirmed()
	wait := h.load(ctx, 2)
	h.eventually("the slot moves while Kafka is away", func() bool { return h.confirmed() > before+200_000 })
	h.broker.Start(t)
	cancel()
	wait()
	h.proved()
	h.uniqueIDs()
	r.stop()
}

func TestServersRestartInMidBatch(t *testing.T) {
	h := newServerHouse(t)
	h.must(0, "init", "--name", "shop", "--currency", "GBP")
	h.must(0, "setup", "--apply")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := h.load(ctx, 3)
	r := h.start()
	r.await("streaming")
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
	r.stop()
}

// confirmed is the slot's confirmed_flush_lsn.
func (h *house) confirmed() (lsn int64) {
	h.t.Helper()
	if err := h.source.Pool(h.t).QueryRow(context.Background(), `SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots WHERE database = current_database()`).Scan(&lsn); err != nil {
		h.t.Fatal(err)
	}
	return lsn
}

// eventually asks until it is true; there is no signal for what others do.
func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	limit := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-limit:
			h.t.Fatalf("not within a minute: %s", what)
		case <-tick.C:
		}
	}
}
