package projections_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/projectiontest"
	"banyan/projections/state"
)

const payments = "shop.payments"

// reminders reminds of orders that are not paid within a minute, and again some
// time later; its journal is of everything in its order.
type reminders struct{}

func (reminders) Spec() projections.Spec {
	return projections.Spec{Name: "reminders", Source: "shop", Topics: []string{orders, payments}, Aligned: true, Timers: true, Effects: true, Digest: "1",
		Tables: []state.Table{
			{Name: "journal", Key: []string{"n"}, Columns: []state.Column{{Name: "n", Type: "bigint", NotNull: true}, {Name: "what", Type: "text", NotNull: true}}},
			{Name: "orders", Key: []string{"id"}, Columns: []state.Column{{Name: "id", Type: "text", NotNull: true}, {Name: "reminded", Type: "bigint", NotNull: true}}},
		}}
}

func (reminders) Prepare(*projections.Event) error { return nil }

func (r reminders) note(tx *projections.Tx, what string) error {
	rows := tx.Rows("journal")
	zero, err := r.journal(0)
	if err != nil {
		return err
	}
	n := int64(0)
	row, ok, err := rows.Get(zero)
	if err != nil {
		return err
	}
	if ok {
		if _, err := fmt.Sscan(row[1].(string), &n); err != nil {
			return err
		}
	}
	n++
	if err := rows.Put(state.Row{int64(0), fmt.Sprint(n)}); err != nil {
		return err
	}
	return rows.Put(state.Row{n, what + " at " + tx.StreamTime.Format(time.TimeOnly)})
}

func (r reminders) journal(n int64) (state.Key, error) { return keyOf(r.Spec().Tables[0], n) }

func keyOf(t state.Table, values ...any) (state.Key, error) {
	shape, err := state.Compile(t)
	if err != nil {
		return "", err
	}
	return shape.Key(values...)
}

func (r reminders) Apply(tx *projections.Tx, e *projections.Event) error {
	key := e.ID.Key
	switch e.Type {
	case "OrderPlaced":
		tx.SetTimer(projections.Timer{Name: "remind", Key: key, At: e.Time.Add(time.Minute), Data: json.RawMessage(`{"first": true}`)})
		if err := tx.Rows("orders").Put(state.Row{key, int64(0)}); err != nil {
			return err
		}
	case "OrderPaid":
		tx.CancelTimer("remind", key)
	}
	tx.Effect(projections.Effect{Name: "seen", Kind: "http", Payload: json.RawMessage(`{}`)})
	return r.note(tx, e.Type+" "+e.ID.String())
}

func (r reminders) Fire(tx *projections.Tx, t projections.Timer) error {
	rows := tx.Rows("orders")
	k, err := keyOf(r.Spec().Tables[1], t.Key)
	if err != nil {
		return err
	}
	row, ok, err := rows.Get(k)
	if err != nil || !ok {
		return errors.Join(err, errors.New("the order is not there"))
	}
	n := row[1].(int64) + 1
	if err := rows.Put(state.Row{t.Key, n}); err != nil {
		return err
	}
	if n < 3 {
		// The first of them soon, and perhaps due already.
		tx.SetTimer(projections.Timer{Name: "remind", Key: t.Key, At: t.At.Add(time.Second + time.Duration(n-1)*20*time.Second)})
	}
	tx.Effect(projections.Effect{Name: "reminder", Kind: "mail", Payload: json.RawMessage(`{}`)})
	return r.note(tx, fmt.Sprintf("reminder %d of %s due %s", n, t.Key, t.At.Format(time.TimeOnly)))
}

// shop tells random transactions; where it is idle the clock moves on and a mark
// says so.
func (h *house) shop(n int) {
	h.t.Helper()
	for range n {
		id := fmt.Sprint("o", h.rng.IntN(12))
		place := projectiontest.Event{Topic: orders, Type: "OrderPlaced", Aggregate: "Order", Key: id}
		paid := projectiontest.Event{Topic: payments, Type: "OrderPaid", Aggregate: "Payment", Key: id}
		switch h.rng.IntN(6) {
		case 0:
			h.commit(paid)
		case 1:
			h.commit(place, paid)
		case 2:
			h.idle(time.Duration(h.rng.IntN(100)) * time.Second)
		case 3:
			h.src.Mark()
		default:
			h.commit(place)
		}
	}
}

// idle lets the source's clock go on without any event, and tells it.
func (h *house) idle(d time.Duration) {
	h.src.Now = h.src.Now.Add(d)
	h.src.LSN += 0x100
	h.src.Mark()
}

// secondVersion makes a version beside the first one that begins at the beginning.
func (h *house) secondVersion(p projections.Program) control.Version {
	h.t.Helper()
	spec := p.Spec()
	var v control.Version
	err := pgx.BeginFunc(h.t.Context(), h.pool, func(tx pgx.Tx) (err error) {
		if v, err = h.store.NewVersion(h.t.Context(), tx, control.Declaration{Projection: spec.Name, Source: spec.Source, Digest: spec.Digest}); err != nil {
			return err
		}
		for _, sql := range append(state.CreateSQL(v.Schema, spec.AllTables()), state.KeySQL(v.Schema, spec.AllTables())...) {
			if _, err := tx.Exec(h.t.Context(), sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = h.store.SetState(h.t.Context(), h.pool, spec.Name, v.Number, control.Following, "test")
	}
	if err != nil {
		h.t.Fatal(err)
	}
	v.State = control.Following
	return v
}

func (h *house) journal(schema string) []string {
	h.t.Helper()
	rows, err := h.pool.Query(h.t.Context(), `SELECT n || ': ' || what FROM `+schema+`.journal ORDER BY n`)
	if err != nil {
		h.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// Live, timers fire while the source is idle as well as by events; a version that
// folds the same history later fires them at the same places, whatever its batches
// are, and promises nothing again.
func TestTimersReplayTheSame(t *testing.T) {
	h := newHouse(t)
	h.src.CreateTopics(h.log.(*projectiontest.Log), payments)
	p := reminders{}
	v := h.install(p)
	for range 5 {
		r := h.runner(p, v, func(o *projections.Options) { o.Limits.Events = 1 + h.rng.IntN(9) })
		stop := h.start(r, h.parts(orders, payments))
		for range 1 + h.rng.IntN(6) {
			h.shop(8)
			h.publish()
			if h.rng.IntN(2) == 0 {
				h.passed(r)
			}
		}
		h.passed(r)
		if err := stop(); !errors.Is(err, errStopped) {
			t.Fatal(err)
		}
	}
	h.idle(time.Hour)
	h.publish()
	h.catchUp(p, v)
	var pending, promised, fired int
	count := func() {
		t.Helper()
		if err := h.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM reminders_v1.banyan_timers), (SELECT count(*) FROM banyan.effect), (SELECT count(*) FROM banyan.fired)`).
			Scan(&pending, &promised, &fired); err != nil {
			t.Fatal(err)
		}
	}
	count()
	if pending != 0 || fired == 0 {
		t.Errorf("%d timers are pending an hour later, %d have fired", pending, fired)
	}
	live := h.journal("reminders_v1")
	if promised != len(live)-1 {
		t.Errorf("%d effects are promised for %d entries", promised, len(live)-1)
	}
	before := promised
	v2 := h.secondVersion(p)
	h.catchUp(p, v2, func(o *projections.Options) { o.Limits.Events = 1 + h.rng.IntN(30) })
	if d := cmp.Diff(live, h.journal("reminders_v2")); d != "" {
		t.Fatalf("the replay is another (-live +replay):\n%s", d)
	}
	if count(); promised != before {
		t.Errorf("the replay promised %d effects", promised-before)
	}

	// Both follow: the second never goes ahead of the first.
	r1 := h.runner(p, v)
	r2 := h.runner(p, v2)
	stop1 := h.start(r1, h.parts(orders, payments))
	stop2 := h.start(r2, h.parts(orders, payments))
	for range 6 {
		h.shop(10)
		h.publish()
	}
	h.idle(time.Hour)
	h.publish()
	h.passed(r1)
	h.passed(r2)
	stop1()
	stop2()
	if d := cmp.Diff(h.journal("reminders_v1"), h.journal("reminders_v2")); d != "" {
		t.Fatalf("side by side they differ (-first +second):\n%s", d)
	}
}

// Rows older than the retention go, by the source's time.
func TestRetention(t *testing.T) {
	h := newHouse(t)
	type seen struct {
		Key string    `db:"key,key"`
		At  time.Time `db:"at"`
	}
	p, err := projections.Fold[seen]{Name: "seen", Source: "shop", Topics: []string{orders}, Retain: &state.Retention{Column: "at", For: time.Hour},
		Apply: func(s *seen, e *projections.Event) (projections.Decision, error) {
			s.At = e.Time
			return projections.Keep, nil
		}}.Program()
	if err != nil {
		t.Fatal(err)
	}
	v := h.install(p)
	r := h.runner(p, v)
	r.ExpireEvery(10 * time.Millisecond)
	stop := h.start(r, h.parts(orders))
	h.order("old", 1)
	h.publish()
	h.passed(r)
	keys := func() (keys []string) {
		rows, err := h.pool.Query(t.Context(), `SELECT key FROM seen.seen ORDER BY key`)
		if err == nil {
			keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	if got := keys(); len(got) != 1 {
		t.Fatalf("keys: %v", got)
	}
	h.idle(2 * time.Hour)
	h.order("new", 1)
	h.publish()
	h.eventually("the old row is gone", func() bool { return cmp.Equal(keys(), []string{"new"}) })
	cut, err := h.store.Cutoffs(t.Context(), h.pool, "seen", 1)
	if err != nil || cut["seen"].IsZero() {
		t.Errorf("cutoffs: %v, %v", cut, err)
	}
	stop()
}

// Of a compacted topic the highest seq of each key wins, whatever comes late, also
// across a restart.
func TestLatestTopic(t *testing.T) {
	h := newHouse(t)
	h.src.Twins = true
	log := h.log.(*projectiontest.Log)
	h.src.CreateTopics(log, orders)
	const latest = orders + ".latest"
	type last struct {
		Key    string `db:"key,key"`
		Amount int64  `db:"amount"`
	}
	p, err := projections.Fold[last]{Name: "last", Source: "shop", Topics: []string{latest},
		Apply: func(s *last, e *projections.Event) (projections.Decision, error) {
			if e.Tombstone {
				return projections.Remove, nil
			}
			d, err := projections.Decode[placed](e)
			s.Amount = d.State.Amount
			return projections.Keep, err
		}}.Program()
	if err != nil {
		t.Fatal(err)
	}
	v := h.install(p)
	h.trade(300)
	h.commit(projectiontest.Event{Topic: orders, Type: "OrderRemoved", Aggregate: "Order", Key: "k1", Data: `{"state": null}`})
	h.order("k2", 7)
	h.publish()
	log.Compact(latest)
	h.catchUp(p, v)
	check := func() {
		t.Helper()
		want := map[string]int64{}
		for k, c := range h.want {
			want[k] = c.Last
		}
		delete(want, "k1")
		rows, err := h.pool.Query(t.Context(), `SELECT key, amount FROM last.last`)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		var k string
		var n int64
		if _, err := pgx.ForEachRow(rows, []any{&k, &n}, func() error { got[k] = n; return nil }); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	}
	check()
	// Old records land late, after a restart of the runner.
	for part := range h.src.Partitions {
		for r, err := range h.log.Read(t.Context(), orders, part, 0, 5) {
			if err != nil {
				t.Fatal(err)
			}
			h.produce(latest, part, r)
		}
	}
	h.catchUp(p, v)
	check()
	m, err := h.store.Passed(t.Context(), "last")
	if err != nil || m.LSN != h.src.LSN+0x30 {
		t.Errorf("passed %v, %v", m, err)
	}
}
