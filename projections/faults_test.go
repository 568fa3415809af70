package projections_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"banyan/bus"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/projections"
	"banyan/projections/projectiontest"
)

// onKafka moves a house to a broker.
func (h *house) onKafka() *kafkatest.Broker {
	h.t.Helper()
	b := kafkatest.New(h.t)
	b.CreateTopic(h.t, orders, h.src.Partitions, nil)
	b.CreateTopic(h.t, h.src.WatermarkTopic(), 1, nil)
	c, err := bus.Dial(h.t.Context(), bus.Config{Brokers: b.Addrs})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Close)
	h.log, h.to = c, c
	return b
}

// Whatever is killed, each event counts once: the run, the connection, the
// broker, the server.
func TestExactlyOnceUnderFaults(t *testing.T) {
	for _, aligned := range []bool{false, true} {
		t.Run(fmt.Sprintf("aligned=%v", aligned), func(t *testing.T) { underFaults(t, aligned) })
	}
}

func underFaults(t *testing.T, aligned bool) {
	h := newHouse(t)
	server := pgtest.NewServer(t)
	h.useDB(server.NewDB(t))
	broker := h.onKafka()
	p := counting(t, func(f *projections.Fold[tally]) { f.Aligned = aligned })
	v := h.install(p)
	h.trade(500)
	h.publish()
	faults := []struct {
		name string
		do   func()
	}{
		{"the run is ended", func() {}},
		{"the connections are cut", func() {
			// Through the pool they may be cut themselves: then they were busy.
			h.db.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test' AND datname = current_database() AND pid <> pg_backend_pid()`)
		}},
		{"the broker restarts", func() {
			broker.Restart(t)
			if err := h.to.(*bus.Cluster).Ping(t.Context()); err != nil { // the test's own connections are dead as well
				t.Fatal(err)
			}
		}},
		{"the server restarts", func() { server.Restart(t) }},
		{"the server is killed", func() { server.Kill(t); server.Start(t) }},
	}
	for round := range 12 {
		r := h.runner(p, v, func(o *projections.Options) { o.Limits.Events = 1 + h.rng.IntN(40) })
		stop := h.start(r, h.parts(orders))
		h.trade(200)
		h.publish()
		some := h.rng.Int64N(100) // of the 200 that this runner has before it, at least
		h.eventually("some batches are committed", func() bool { return r.Stats().Events >= some })
		f := faults[round%len(faults)]
		t.Logf("round %d: %s after %d events", round, f.name, r.Stats().Events)
		f.do()
		if round%2 == 0 {
			if err := stop(); !errors.Is(err, errStopped) {
				t.Fatalf("%s: Run ended with %v", f.name, err)
			}
			continue
		}
		h.passed(r)
		// What a killed server had not written yet is done again: what was passed
		// before may have to be passed once more.
		h.eventually("the rows are right", func() bool { return h.diff() == "" })
		if err := stop(); !errors.Is(err, errStopped) {
			t.Fatalf("%s: Run ended with %v", f.name, err)
		}
	}
	h.catchUp(p, v)
	h.check()
}

// A database that crashes loses the last commits that did not wait for the disk,
// rows and offsets alike; the runner does them again.
func TestLostCommits(t *testing.T) {
	h := newHouse(t)
	p := counting(t)
	v := h.install(p)
	h.trade(300)
	h.publish()
	h.catchUp(p, v)
	copyOf := func() { // what a crash leaves: an earlier state of rows and offsets
		h.db.Exec(t, `CREATE TABLE saved_part AS SELECT * FROM banyan.part; CREATE TABLE saved_rows AS SELECT * FROM counts_v1.counts`)
	}
	copyOf()
	r := h.runner(p, v)
	stop := h.start(r, h.parts(orders))
	h.trade(300)
	h.publish()
	h.passed(r)
	h.db.Exec(t, `BEGIN; LOCK TABLE banyan.part;
		UPDATE banyan.part p SET next_offset = s.next_offset, seq = s.seq, writer = s.writer, applied_generation = s.applied_generation,
			applied_lsn = s.applied_lsn, applied_ordinal = s.applied_ordinal, applied_snapshot = s.applied_snapshot, passed_generation = s.passed_generation,
			passed_lsn = s.passed_lsn, passed_time = s.passed_time, stream_time = s.stream_time, anchor = s.anchor, anchor_offset = s.anchor_offset
			FROM saved_part s WHERE s.part = p.part;
		TRUNCATE counts_v1.counts; INSERT INTO counts_v1.counts SELECT * FROM saved_rows; COMMIT;
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test' AND datname = current_database() AND pid <> pg_backend_pid()`)
	h.trade(50)
	h.publish()
	h.passed(r)
	h.check()
	if err := stop(); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
}

// A handler with SQL of its own gets each event once as well, and shares its
// transaction.
func TestHandlerUnderFaults(t *testing.T) {
	h := newHouse(t)
	spec := projections.Spec{Name: "seen", Source: "shop", Topics: []string{orders}}
	p := projections.Handle(spec, insertAll)
	h.db.Exec(t, `CREATE TABLE public.seen (id text PRIMARY KEY, amount integer CHECK (amount < 499))`)
	v := h.install(p)
	for range 6 {
		h.trade(100)
		h.publish()
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(h.rng.IntN(60))*time.Millisecond)
		err := h.runner(p, v, func(o *projections.Options) { o.Limits.Events = 20 }).Run(ctx, h.parts(orders))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Run ended with %v", err)
		}
	}
	h.catchUp(p, v)
	var n, parked int64
	if err := h.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM seen), (SELECT count(*) FROM banyan.parked)`).Scan(&n, &parked); err != nil {
		t.Fatal(err)
	}
	var all int64
	for _, c := range h.want {
		all += c.N
	}
	if n+parked != all {
		t.Fatalf("%d rows and %d parked events of %d", n, parked, all)
	}
}

// Whoever is about to own partitions is seen to live before: a swap would take it for
// dead, run the version for the moment, and take the partitions away from it.
func TestOwnerIsAliveBeforeItOwns(t *testing.T) {
	h := newHouse(t)
	p := counting(t)
	v := h.install(p)
	h.trade(10)
	h.publish()
	h.catchUp(p, v)
	alive := func() bool {
		alive, err := h.store.Alive(t.Context(), v.Projection, v.Number)
		if err != nil {
			t.Fatal(err)
		}
		return alive
	}
	h.eventually("nobody runs it", func() bool { return !alive() })
	tx, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background()) //nolint:errcheck // it has ended by then
	if _, err := tx.Exec(t.Context(), `SELECT FROM banyan.part FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	r := h.runner(p, v)
	stop := h.start(r, h.parts(orders))
	h.eventually("it lives, and owns nothing yet", alive)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.trade(10)
	h.publish()
	h.passed(r)
	if err := stop(); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	if alive() {
		t.Error("it lives on after its end")
	}
}

// A broker that is away is named as the reason, and nothing else is lost.
func TestStallIsExplained(t *testing.T) {
	h := newHouse(t)
	p := counting(t)
	v := h.install(p)
	log := h.log.(*projectiontest.Log)
	h.fillAll() // each partition has an end
	h.publish()
	r := h.runner(p, v)
	stop := h.start(r, h.parts(orders))
	h.passed(r)
	// Somebody holds the fence.
	tx, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM banyan.part FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	h.trade(10)
	h.publish()
	// On a slow machine it may say that it reads, before it has come to the fence.
	h.eventually("the stall is explained", func() bool {
		s := r.Stats()
		return s.Stalled == "fence: waiting for the locks of the partitions" && s.Parts[0].End > 0
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.passed(r)
	h.check()
	h.eventually("the stall is over", func() bool { return r.Stats().Stalled == "" })
	if err := stop(); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	log.Break(errors.New("no broker"))
	defer log.Break(nil)
	if err := h.tryCatchUp(p, v); err == nil {
		t.Error("without a broker it has caught up")
	}
}
