package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"banyan/event"
)

// ask runs banyan.wait and gives its answer.
func (r *rig) ask(token, timeout string, rest ...any) string {
	r.t.Helper()
	var answer string
	sql := `SELECT banyan.wait('shipping', $1, $2::interval)`
	if len(rest) == 2 {
		sql = `SELECT banyan.wait('shipping', $1, $2::interval, $3, $4)`
	}
	must(r.t, r.pool.QueryRow(r.ctx, sql, append([]any{token, timeout}, rest...)...).Scan(&answer))
	return answer
}

func TestWaitInSQL(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(2)
	var passed, age *string
	must(t, r.pool.QueryRow(r.ctx, `SELECT banyan.passed('shipping'), banyan.age('shipping')::text`).Scan(&passed, &age))
	if passed != nil || age != nil {
		t.Errorf("before any watermark: %v, %v", passed, age)
	}
	if got := r.ask("1:0/1", "0"); !strings.HasPrefix(got, "behind: no watermark") {
		t.Error(got)
	}

	// One partition has passed: the other one holds the answer back, until a
	// commit that comes while the statement waits.
	must(t, r.advance(v.Number, step(&parts[0], 0, 0x1_00000020)))
	done := make(chan string, 1)
	go func() { done <- r.ask("1:1/20", "1 minute") }()
	conn := r.db.Conn(t)
	for { // it is in its loop
		var sleeping bool
		must(t, conn.QueryRow(r.ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep')`).Scan(&sleeping))
		if sleeping {
			break
		}
	}
	must(t, r.advance(v.Number, step(&parts[1], 0, 0x1_00000020)))
	if got := <-done; got != "passed" {
		t.Error(got)
	}
	var token string
	must(t, r.pool.QueryRow(r.ctx, `SELECT banyan.passed('shipping')`).Scan(&token))
	if token != "1:1/20" || token != (Mark{Generation: 1, LSN: 0x1_00000020}).String() {
		t.Errorf("passed %s", token)
	}
	if got := r.ask("1:1/2A", "10ms"); !strings.HasPrefix(got, "behind: at 1:1/20, 10 bytes before the token") {
		t.Error(got)
	}
	if got := r.ask("2:0/1", "0"); !strings.HasPrefix(got, "behind: at 1:1/20, of an earlier generation") {
		t.Error(got)
	}
	// A newer generation passes all older tokens.
	for i := range parts {
		st := step(&parts[i], 0, 1)
		st.Passed.Generation = 2
		must(t, r.advance(v.Number, st))
	}
	if got := r.ask("1:FFFFFFFF/FFFFFFF", "0"); got != "passed" {
		t.Error(got)
	}

	for _, bad := range []string{"", "0/1A", "1:0/1A2B3C8.0", "0:0/1", "1:0/123456789", "1:g/1", " 1:0/1", "1:0/1\n", "'; DROP"} {
		_, err := r.pool.Exec(r.ctx, `SELECT banyan.wait('shipping', $1, '0')`, bad)
		if !isCode(err, "BN003") || !strings.Contains(err.Error(), "want generation:LSN, such as 1:0/1A2B3C8") {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	_, err := r.pool.Exec(r.ctx, `SELECT banyan.wait('billing', '1:0/1', '0')`)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "BN004" || pg.Hint != "there are: shipping" {
		t.Errorf("an unknown projection: %v", err)
	}
	// Where later commits can never be seen, waiting is refused at once.
	err = pgx.BeginTxFunc(r.ctx, r.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		var got string
		if err := tx.QueryRow(r.ctx, `SELECT banyan.wait('shipping', '2:0/1', '1 hour')`).Scan(&got); err != nil || got != "passed" {
			t.Errorf("passed already: %q, %v", got, err)
		}
		_, err := tx.Exec(r.ctx, `SELECT banyan.wait('shipping', '2:0/2', '1 hour')`)
		return err
	})
	if !isCode(err, "BN005") || !strings.Contains(err.Error(), "repeatable read") {
		t.Errorf("repeatable read: %v", err)
	}
}

func TestAge(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(2)
	if age, err := r.Age(r.ctx, "shipping"); err != nil || age != -1 {
		t.Errorf("before any watermark: %v, %v", age, err)
	}
	for i, ago := range []time.Duration{time.Minute, time.Hour} {
		st := step(&parts[i], 0, uint64(100-i))
		st.Passed.Time = time.Now().Add(-ago)
		must(t, r.advance(v.Number, st))
	}
	if age, err := r.Age(r.ctx, "shipping"); err != nil || age < time.Hour || age > time.Hour+time.Minute {
		t.Errorf("the older part counts: %v, %v", age, err)
	}
	if m, err := r.Passed(r.ctx, "shipping"); err != nil || m.LSN != 99 {
		t.Errorf("passed %s, %v", m, err)
	}
	if m, err := r.Passed(r.ctx, "shipping", parts[0].PartID); err != nil || m.LSN != 100 {
		t.Errorf("part 0 has passed %s, %v", m, err)
	}
	if m, err := r.Passed(r.ctx, "shipping", parts[0].PartID, PartID{"shop.stock", 0}); err != nil || m != (Mark{}) {
		t.Errorf("a part that is not followed has passed %s, %v", m, err)
	}
	if _, err := r.Passed(r.ctx, "billing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown projection: %v", err)
	}
	if _, err := r.Age(r.ctx, "billing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown projection: %v", err)
	}
}

// Many wait for different marks at once; each is answered, right, and together
// they ask less often than each by itself would.
func TestWaitTogether(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(1)
	const waiters, marks = 200, 20
	var wg sync.WaitGroup
	for i := range waiters {
		wg.Go(func() {
			m := Mark{Generation: 1, LSN: uint64(1 + i%marks)}
			if err := r.Wait(r.ctx, "shipping", m, WaitFor{Parts: []PartID{parts[0].PartID}}); err != nil {
				t.Errorf("wait for %s: %v", m, err)
			}
			if now, err := r.Passed(r.ctx, "shipping"); err != nil || now.Compare(m) < 0 {
				t.Errorf("waited for %s, and it is at %s: %v", m, now, err)
			}
		})
	}
	p := parts[0]
	for lsn := range uint64(marks) {
		must(t, r.advance(v.Number, step(&p, 0, lsn+1)))
	}
	wg.Wait()
}

func TestWaitEnds(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(2)
	must(t, r.advance(v.Number, step(&parts[0], 0, 10), step(&parts[1], 0, 20)))
	mark := func(lsn uint64) Mark { return Mark{Generation: 1, LSN: lsn} }
	over, cancel := context.WithCancel(r.ctx)
	cancel()
	// No time at all is a question.
	must(t, r.Wait(over, "shipping", mark(10), WaitFor{}))
	must(t, r.Wait(over, "shipping", mark(20), WaitFor{Parts: []PartID{parts[1].PartID}}))
	var behind *BehindError
	if err := r.Wait(over, "shipping", mark(11), WaitFor{}); !errors.As(err, &behind) || behind.At.LSN != 10 || behind.Want.LSN != 11 || behind.Age <= 0 {
		t.Errorf("no time: %v", err)
	}
	short, cancel := context.WithTimeout(r.ctx, 30*time.Millisecond)
	defer cancel()
	if err := r.Wait(short, "shipping", mark(11), WaitFor{}); !errors.As(err, &behind) || !strings.Contains(err.Error(), "is at 1:0/A, 1 bytes before 1:0/B") {
		t.Errorf("some time: %v", err)
	}
	if err := r.Wait(over, "shipping", Mark{Generation: 2, LSN: 1}, WaitFor{}); !errors.As(err, &behind) || !strings.Contains(err.Error(), "earlier generation") {
		t.Errorf("another generation: %v", err)
	}
	if err := r.Wait(r.ctx, "billing", mark(1), WaitFor{}); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "there are: shipping") {
		t.Errorf("an unknown projection: %v", err)
	}
	if n := r.pool.Stat().NewConnsCount(); n > 6 {
		t.Errorf("the ends of waits have cost connections: %d were made", n)
	}
}

func watermark(lsn uint64, keys ...event.ParkedAt) *event.Watermark {
	w := &event.Watermark{Source: "shop", Generation: 1, LSN: lsn, Time: time.Unix(int64(lsn), 0).UTC(), Writer: 1, Seqs: map[string][]int64{"shop.orders": {1, 2}}}
	w.SetParked(keys)
	return w
}

func TestParkedKeys(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(1)
	nine, seven := event.Ref{Aggregate: "Order", Key: "9"}, event.Ref{Aggregate: "Order", Key: "7"}
	save := func(w *event.Watermark) {
		t.Helper()
		r.in(func(tx pgx.Tx) error {
			if err := r.Advance(r.ctx, tx, "shipping", v.Number, []Step{step(&parts[0], 0, w.LSN)}); err != nil {
				return err
			}
			return r.SaveMark(r.ctx, tx, "shipping", v.Number, w)
		})
	}
	parked := func(ref event.Ref) *Hindrance {
		t.Helper()
		h, err := r.IsParked(r.ctx, "shipping", ref)
		must(t, err)
		return h
	}
	if w, err := r.ParkedAtSource(r.ctx, "shipping", v.Number); err != nil || w != nil {
		t.Errorf("before the first: %v, %v", w, err)
	}
	save(watermark(0x100))
	if h := parked(nine); h != nil {
		t.Errorf("nothing is parked: %+v", h)
	}
	save(watermark(0x200, event.ParkedAt{Ref: nine, LSN: 0x180}))
	if h := parked(nine); h == nil || !h.AtSource || h.Since.LSN != 0x180 || h.Since.Generation != 1 {
		t.Errorf("parked at the source: %+v", h)
	}
	if h := parked(seven); h != nil {
		t.Errorf("another key: %+v", h)
	}
	w, err := r.ParkedAtSource(r.ctx, "shipping", v.Number)
	if err != nil || w.LSN != 0x200 || len(w.Parked) != 1 || len(w.Seqs) > 0 {
		t.Errorf("read back: %+v, %v", w, err)
	}
	// What was told before the key was parked is there.
	if got := r.ask("1:0/17F", "0", "Order", "9"); got != "passed" {
		t.Error(got)
	}
	if got := r.ask("1:0/180", "0", "Order", "9"); got != "parked" {
		t.Error(got)
	}
	if got := r.ask("1:0/180", "0", "Order", "7"); got != "passed" {
		t.Error(got)
	}
	var held *ParkedError
	if err := r.Wait(r.ctx, "shipping", Mark{Generation: 1, LSN: 0x999}, WaitFor{Ref: nine}); !errors.As(err, &held) || !held.AtSource {
		t.Errorf("wait for what is parked: %v", err)
	}
	must(t, r.Wait(r.ctx, "shipping", Mark{Generation: 1, LSN: 0x17F}, WaitFor{Ref: nine}))
	must(t, r.Wait(r.ctx, "shipping", Mark{Generation: 1, LSN: 0x200}, WaitFor{Ref: seven}))

	// Parked by the projection itself.
	r.in(func(tx pgx.Tx) error {
		return r.Park(r.ctx, tx, []ParkedEvent{parkedEvent(seven, 0, 1, 0x1F0, "no such column\nat line 3")})
	})
	if h := parked(seven); h == nil || h.AtSource || h.Since.LSN != 0x1F0 || !strings.HasPrefix(h.Reason, "no such column") {
		t.Errorf("parked here: %+v", h)
	}
	if err := r.Wait(r.ctx, "shipping", Mark{Generation: 1, LSN: 0x1F0}, WaitFor{Ref: seven}); !errors.As(err, &held) || !strings.HasSuffix(err.Error(), "Order/7 is parked in shipping: no such column") {
		t.Errorf("wait for what is parked: %v", err)
	}
	if got := r.ask("1:0/999", "1 minute", "Order", "7"); got != "parked" {
		t.Error(got)
	}

	// Released at the source: the next watermark says so. An older one that comes
	// late says nothing.
	save(watermark(0x300))
	if h := parked(nine); h != nil {
		t.Errorf("released: %+v", h)
	}
	save(watermark(0x250, event.ParkedAt{Ref: nine, LSN: 0x180}))
	if h := parked(nine); h != nil {
		t.Errorf("an older mark has come late: %+v", h)
	}

	// Another owner has saved other keys meanwhile: what this process believes to
	// be there is looked at again.
	save(watermark(0x400, event.ParkedAt{Ref: nine, LSN: 0x180}))
	other, err := Open(r.ctx, r.pool)
	must(t, err)
	r.in(func(tx pgx.Tx) error { return other.SaveMark(r.ctx, tx, "shipping", v.Number, watermark(0x500)) })
	r.mu.Lock()
	for k, m := range r.marks {
		m.at = m.at.Add(-savedAgain)
		r.marks[k] = m
	}
	r.mu.Unlock()
	save(watermark(0x600, event.ParkedAt{Ref: nine, LSN: 0x180}))
	if h := parked(nine); h == nil {
		t.Error("the other owner's keys have stayed")
	}
}

// More keys than a watermark lists: the filter in SQL is the one in Go.
func TestParkedFilter(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(1)
	var keys []event.ParkedAt
	for i := range event.MaxParkedListed + 1 {
		keys = append(keys, event.ParkedAt{Ref: event.Ref{Aggregate: "Order", Key: fmt.Sprintf("ü%d", i)}})
	}
	w := watermark(0x100, keys...)
	must(t, r.advance(v.Number, step(&parts[0], 0, 0x100)))
	r.in(func(tx pgx.Tx) error { return r.SaveMark(r.ctx, tx, "shipping", v.Number, w) })
	rows, err := r.pool.Query(r.ctx, `SELECT i, EXISTS (SELECT FROM banyan.missing('shipping', 1, 'Order', 'ü' || i)) FROM generate_series(0, 3000) i`)
	must(t, err)
	var i, in int
	var has bool
	_, err = pgx.ForEachRow(rows, []any{&i, &has}, func() error {
		if want := w.IsParked(event.Ref{Aggregate: "Order", Key: fmt.Sprintf("ü%d", i)}); has != want {
			t.Errorf("key %d: %v in SQL, %v in Go", i, has, want)
		}
		if has {
			in++
		}
		return nil
	})
	must(t, err)
	if in < event.MaxParkedListed || in > 1200 {
		t.Errorf("%d of 3001 keys are parked", in)
	}
	if got := r.ask("1:0/50", "0", "Order", "ü5"); got != "parked" {
		t.Error(got)
	}
}
