package rebuild_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banyan/projections/control"
	"banyan/projections/projectiontest"
	"banyan/projections/rebuild"
)

// Every kind of wrong row is found, named, and laid to its last event.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	v := w.install(balances{})
	w.trade(200)
	w.commit(moved("7", 5))
	w.commit(moved("8", 5))
	w.commit(closed("9"))
	w.publish()
	w.catchUp(v)
	w.proved(v)

	last := func(key string) string {
		id := ""
		for part := range w.src.Partitions {
			_, next, _ := w.log.Ends(t.Context(), accounts, part)
			for r, err := range w.log.Read(t.Context(), accounts, part, 0, next) {
				if err != nil {
					t.Fatal(err)
				}
				if h, _ := r.Header("ce_id"); string(r.Key) == key {
					id = string(h)
				}
			}
		}
		return id
	}
	for _, c := range []struct {
		name, sql, undo, table string
		want                   rebuild.TableReport
		diff                   rebuild.Difference
	}{
		{"one cell", `UPDATE balances_v1.accounts SET total = total + 0.01 WHERE id = '7'`, `UPDATE balances_v1.accounts SET total = total - 0.01 WHERE id = '7'`, "accounts",
			rebuild.TableReport{Different: 1}, rebuild.Difference{Key: "id=7", Kind: "different", Event: last("7")}},
		{"one row less", `CREATE TABLE kept AS SELECT * FROM balances_v1.accounts WHERE id = '8'; DELETE FROM balances_v1.accounts WHERE id = '8'`,
			`INSERT INTO balances_v1.accounts SELECT * FROM kept`, "accounts",
			rebuild.TableReport{Missing: 1}, rebuild.Difference{Key: "id=8", Kind: "missing", Event: last("8")}},
		{"one row more", `INSERT INTO balances_v1.accounts VALUES ('9', 1, 1, NULL)`, `DELETE FROM balances_v1.accounts WHERE id = '9'`, "accounts",
			rebuild.TableReport{Extra: 1}, rebuild.Difference{Key: "id=9", Kind: "extra", Event: last("9")}},
		{"a hidden table", `UPDATE balances_v1.day_part SET moves = moves + 1 WHERE part = 1`, `UPDATE balances_v1.day_part SET moves = moves - 1 WHERE part = 1`, "day_part",
			rebuild.TableReport{Different: 1}, rebuild.Difference{Key: "day=2026-01-01, part=1", Kind: "different"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.db.Exec(t, c.sql)
			r := w.verify(v)
			w.db.Exec(t, c.undo)
			if r.Verdict != rebuild.Differs || len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], "table "+c.table) {
				t.Fatalf("%s: %v", r.Verdict, r.Reasons)
			}
			for _, tab := range r.Tables {
				wrong := tab.Missing + tab.Extra + tab.Different
				if tab.Table != c.table {
					if wrong > 0 || tab.Proved == 0 {
						t.Errorf("%+v", tab)
					}
					continue
				}
				if tab.Missing != c.want.Missing || tab.Extra != c.want.Extra || tab.Different != c.want.Different || len(tab.Examples) != 1 {
					t.Fatalf("%+v", tab)
				}
				d := tab.Examples[0]
				if d.Key != c.diff.Key || d.Kind != c.diff.Kind || d.Event == "" || c.diff.Event != "" && d.Event != c.diff.Event {
					t.Errorf("%+v, want %+v", d, c.diff)
				}
				if d.Kind == "different" && (len(d.Columns) != 1 || d.Columns[0].Want == d.Columns[0].Got) {
					t.Errorf("columns %+v", d.Columns)
				}
			}
		})
	}
	w.proved(v)
}

// What cannot be said is not said.
// What a verification is at is told, one goroutine at a time, until it is done.
func TestVerifyTellsItsProgress(t *testing.T) {
	w := newWorld(t)
	v := w.install(balances{})
	w.flood(20_000, 1000)
	w.catchUp(v)
	var told []rebuild.Progress
	var busy atomic.Bool
	cfg := w.verifyConfig(v)
	cfg.ProgressEvery = time.Millisecond
	cfg.Progress = func(p rebuild.Progress) {
		if busy.Swap(true) {
			t.Error("two tell the progress at a time")
		}
		defer busy.Store(false)
		switch {
		case len(told) == 0:
			w.log.Break(errors.New("unplugged"))
		case strings.Contains(p.Stalled, "broker: unplugged"):
			w.log.Break(nil)
		}
		told = append(told, p)
	}
	r, err := rebuild.Verify(t.Context(), cfg)
	if err != nil || r.Verdict != rebuild.Proved {
		t.Fatal(r, err)
	}
	var phases []rebuild.Phase
	stalled := false
	for i, p := range told {
		if i > 0 && p.Done < told[i-1].Done || p.Ceiling != 20_000 || p.Version != 1 {
			t.Fatalf("progress went from %+v to %+v", told[max(i-1, 0)], p)
		}
		if i == 0 || p.Phase != told[i-1].Phase {
			phases = append(phases, p.Phase)
		}
		stalled = stalled || p.Stalled != "" && p.Done < p.Ceiling
	}
	if want := []rebuild.Phase{rebuild.Folding, rebuild.Comparing, rebuild.Done}; !slices.Equal(phases, want) || !stalled {
		t.Errorf("the phases were %v, want %v; that the broker was away was told: %t", phases, want, stalled)
	}
	rows := int64(0)
	for _, table := range r.Tables {
		rows += table.Rows
	}
	if last := told[len(told)-1]; last.Done != last.Ceiling || last.Rows != rows || last.RowsTotal != rows || last.ETA != 0 || rows < 1000 {
		t.Errorf("in the end: %+v, want %d rows", last, rows)
	}
}

func TestUnproven(t *testing.T) {
	w := newWorld(t)
	v := w.install(balances{})
	w.trade(100)
	w.catchUp(v)
	unproven := func(why string) {
		t.Helper()
		if r := w.verify(v); r.Verdict != rebuild.Unproven || len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], why) {
			t.Errorf("want unproven because %q: %s %v", why, r.Verdict, r.Reasons)
		}
	}
	w.programs[v.Digest] = balances{Revision: 2}
	unproven("another definition")
	w.programs[v.Digest] = balances{}

	w.log.Trim(accounts, 0, 2)
	unproven("records before it were deleted")

	w.log.DeleteTopic(accounts)
	w.src.CreateTopics(w.log, accounts)
	unproven("the log ends at offset")

	// The same number of records, but others.
	w.src = projectiontest.NewSource("shop")
	w.src.Partitions, w.src.LSN = 3, 0x9000000
	w.trade(400)
	unproven("the topic is another one")
}

// Chains that were parked, released and discarded are folded as they were.
func TestVerifyAfterReleaseAndDiscard(t *testing.T) {
	for name, aligned := range map[string]bool{"partitioned": false, "aligned": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var v control.Version
			spoil := func(key string) { w.commit(bad(key), moved(key, 3)) }
			heal := func() { healed.Store(true) }
			if aligned {
				v = w.install(healing{joined{}})
				spoil = func(key string) {
					e := placed("o"+key, "c1", 10)
					e.Data = map[string]any{"state": move{Bad: true, Owner: "c1"}}
					w.commit(e, customer("c1", "before "+key))
				}
			} else {
				v = w.install(healing{balances{}})
			}
			healed.Store(false)
			more := func() {
				if aligned {
					w.sell(60)
				} else {
					w.trade(60)
				}
			}
			more()
			spoil("1")
			more()
			spoil("2")
			spoil("3")
			more()
			w.catchUp(v)
			w.proved(v)
			heal()
			stop := w.follow(v)
			chains, err := w.store.Chains(t.Context(), w.pool, v.Projection, v.Number)
			if err != nil || len(chains) != 3 {
				t.Fatalf("%+v, %v", chains, err)
			}
			for i, c := range chains {
				kind := control.Release
				if i == 1 {
					kind = control.Discard
				}
				id, err := w.store.Ask(t.Context(), v.Projection, v.Number, kind, c.Ref)
				if err != nil {
					t.Fatal(err)
				}
				done, err := w.store.Await(t.Context(), id)
				if err != nil || done[0].Error != "" {
					t.Fatal(done, err)
				}
				more()
			}
			stop()
			w.catchUp(v)
			r := w.verify(v)
			if r.Verdict != rebuild.Proved || len(r.Parked) != 0 {
				t.Fatalf("%s %v %+v", r.Verdict, r.Reasons, r.Tables)
			}
			if n := w.count(`SELECT count(*) FROM banyan.settled`); n < 3 {
				t.Errorf("%d settled", n)
			}
		})
	}
}
