package main_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// setUpAgain lets the owner of the tables run setup, as after a changed file.
func (h *house) setUpAgain() {
	h.t.Helper()
	role := h.url
	h.url = h.source.URL
	h.must(0, "setup", "--apply")
	h.url = role
}

// byRules counts the events of a topic by type and rule set.
func (h *house) byRules(version int, topics ...string) map[string]int {
	h.t.Helper()
	got := map[string]int{}
	for _, e := range h.tail(topics...) {
		if e.Rules == version {
			got[e.Type]++
		}
	}
	return got
}

func TestNewColumnIsReadAgainWhileWritersRun(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules+"      - {type: OrderCancelled, on: update, when: new.status != old.status}\n    ignore: [{on: update, only: [placed_at], reason: it never changes}]\n")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := h.start()
	r.Await("streaming")
	wait := h.load(ctx, 2)
	h.status(0)
	r.Stop()

	h.edit("columns: [id, customer_id, status, total, placed_at]\n    omit: {note: internal}", "columns: [id, customer_id, status, total, placed_at, note]")
	h.edit("state: [id, customer_id, status, total]", "state: [id, customer_id, status, total, note]")
	h.edit("      # more rules\n", "      - {type: OrderNoted, on: update, when: new.note != old.note}\n")
	if a := h.must(1, "run"); !strings.Contains(a.Err, "note") || !strings.Contains(a.Err, "GRANT SELECT") {
		t.Errorf("a run that may not read the new column says %s", a)
	}
	h.setUpAgain()
	r = h.start()
	r.Await("streaming")
	h.must(0, "verify", "--wait", "2m") // with the writers
	for _, what := range []string{"aggregate=Order", "column note of public.orders is new in it", "rules=2"} {
		if !strings.Contains(r.Log(), what) {
			t.Errorf("the log does not say %q:\n%s", what, r.Log())
		}
	}
	if strings.Contains(r.Log(), "aggregate=Customer") || strings.Contains(r.Log(), "aggregate=Stock") {
		t.Errorf("more was read again than the order:\n%s", r.Log())
	}
	h.work([]string{`UPDATE orders SET note = 'a note' WHERE id = 4`})
	cancel()
	wait()
	st := h.status(0)
	if st.Rules == nil || st.Rules.Version != 2 || st.Snapshot == nil || st.Snapshot.Number != 2 {
		t.Errorf("status says rules %+v and snapshot %+v, want 2 and 2", st.Rules, st.Snapshot)
	}
	h.proved()
	h.uniqueIDs()
	got := h.byRules(2, name+".orders", name+".customers", name+".stock")
	if got["OrderCorrected"] == 0 || got["OrderNoted"] == 0 || got["CustomerCorrected"]+got["ProductCorrected"]+got["StockCorrected"] > 0 {
		t.Errorf("rule set 2 has told %v", got)
	}
	r.Stop()
	h.proved()
}

func TestRulesThatNeedNoDataReadNothingAgain(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	h.must(0, "run", "--until-caught-up")
	h.work([]string{`UPDATE orders SET status = 'paid' WHERE id = 4`})
	h.must(0, "run", "--until-caught-up")
	h.edit("state: [id, customer_id, status, total]", "state: [id, status, total]")
	h.edit("OrderPaid, on", "OrderSettled, version: 2, on")
	h.work([]string{`UPDATE orders SET status = 'paid' WHERE id = 8`}) // by the new rules, which are there when it is read
	h.must(0, "run", "--until-caught-up")
	h.wantTypes(name+".orders", "4", "OrderRecorded", "OrderPaid")
	list := h.wantTypes(name+".orders", "8", "OrderRecorded", "OrderSettled")
	if _, there := list[1].Data.State["customer_id"]; there || list[1].Rules != 2 {
		t.Errorf("the event of the new rules is %+v", list[1])
	}
	if st := h.status(0, "--wait", "0"); st.Rules.Version != 2 || st.Snapshot.Number != 1 {
		t.Errorf("status says rules %d and snapshot %d, want 2 and 1", st.Rules.Version, st.Snapshot.Number)
	}
	h.proved()
	// And back: what was kept by rule set 1 is there, what rule set 2 has told is not.
	h.edit("state: [id, status, total]", "state: [id, customer_id, status, total]")
	h.must(0, "run", "--until-caught-up")
	h.work([]string{`UPDATE orders SET total = 9 WHERE id IN (4, 8, 12)`})
	h.must(0, "run", "--until-caught-up")
	h.proved()
	h.uniqueIDs()
}

func TestAggregatesComeAndGo(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL+`CREATE TABLE invoices (id int PRIMARY KEY, order_id int, sent boolean NOT NULL DEFAULT false); INSERT INTO invoices SELECT i, i FROM generate_series(1, 20) i`, shopRules)
	h.must(0, "run", "--until-caught-up")
	h.edit("aggregates:\n", `aggregates:
  Invoice:
    table: public.invoices
    key: [id]
    topic: `+name+`.invoices
    events: [{type: InvoiceIssued, on: insert}, {type: InvoiceSent, on: update}, {type: InvoiceVoided, on: delete}]
`)
	h.edit("tables:\n", "tables:\n  public.invoices: {columns: [id, order_id, sent]}\n")
	if a := h.must(1, "run"); !strings.Contains(a.Err, "it lacks public.invoices") {
		t.Errorf("a run whose publication lacks a table says %s", a)
	}
	h.setUpAgain()
	h.work([]string{`UPDATE invoices SET sent = true WHERE id = 2`, `DELETE FROM invoices WHERE id = 3`, `INSERT INTO invoices VALUES (30, 1)`})
	r := h.start()
	r.Await("streaming")
	h.work([]string{`UPDATE invoices SET sent = true WHERE id = 4`, `UPDATE orders SET total = 7 WHERE id = 1`})
	h.status(0)
	h.wantTypes(name+".invoices", "4", "InvoiceRecorded", "InvoiceSent")
	h.wantTypes(name+".invoices", "2", "InvoiceRecorded")
	h.wantTypes(name+".invoices", "3")
	h.proved()
	r.Stop()

	// The customers are left out again; the orders go on.
	b := strings.ReplaceAll(shopRules, "NAME", name)
	from, to := strings.Index(b, "  Customer:\n"), strings.Index(b, "  Stock:\n")
	b = b[:from] + b[to:]
	from, to = strings.Index(b, "  public.customers:"), strings.Index(b, "  public.products:")
	h.write(b[:from] + b[to:])
	h.work([]string{`UPDATE customers SET name = 'unheard' WHERE id = 1`})
	r = h.start()
	r.Await("streaming")
	h.work([]string{`UPDATE customers SET name = 'again' WHERE id = 1`, `UPDATE orders SET total = 8 WHERE id = 1`})
	h.status(0)
	h.proved()
	r.Stop()
}

func TestAddedColumnWarnsAndFlows(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	r := h.start()
	r.Await("streaming")
	h.work([]string{`ALTER TABLE orders ADD COLUMN gift boolean NOT NULL DEFAULT false`, `UPDATE orders SET status = 'paid', gift = true WHERE id = 4`, `UPDATE orders SET gift = true WHERE id = 8`})
	h.status(0)
	r.AwaitLog("gift")
	h.wantTypes(name+".orders", "4", "OrderRecorded", "OrderPaid")
	h.proved()
	h.work([]string{`ALTER TABLE orders DROP COLUMN note`, `UPDATE orders SET status = 'shipped' WHERE id = 4`}) // left out: nobody minds
	h.status(0)
	h.proved()
	r.Stop()
}

// The changes of a renamed table are told on; the next start wants its new name.
func TestRenamedTableFlowsOn(t *testing.T) {
	for _, tc := range []struct {
		name string
		seen bool
	}{{"seen", true}, {"unseen", false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h, name := ruled(t, shopSQL, shopRules)
			r := h.start()
			r.Await("streaming")
			if !tc.seen {
				r.Stop()
			}
			h.work([]string{`UPDATE order_items SET quantity = 3 WHERE order_id = 8`, `ALTER TABLE order_items RENAME TO order_lines`, `UPDATE order_lines SET quantity = 99 WHERE order_id = 4`})
			if tc.seen {
				h.status(0)
				r.AwaitLog("public.order_lines")
				h.wantTypes(name+".orders", "4", "OrderRecorded", "OrderLinesChanged")
				r.Stop()
			}
			if a := h.must(2, "run"); !strings.Contains(a.Err, "public.order_items") || !strings.Contains(a.Err, "no such table") {
				t.Errorf("a run with the old name says %s", a)
			}
			b, err := os.ReadFile(filepath.Join(h.dir, "banyan.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			h.write(strings.ReplaceAll(string(b), "public.order_items", "public.order_lines"))
			h.setUpAgain()
			r = h.start()
			r.Await("streaming")
			h.work([]string{`UPDATE order_lines SET quantity = 98 WHERE order_id = 4`})
			h.status(0)
			h.proved()
			h.uniqueIDs()
			r.Stop()
		})
	}
}

// A column that the rules name goes, is renamed, or changes its type: the run
// stops there, says where and what to do, and goes on after that.
func TestNamedColumnsThatChangeStopTheRun(t *testing.T) {
	for _, tc := range []struct {
		name, ddl string
		says      []string
		edit      [][2]string
		after     string
	}{
		{"drop", `ALTER TABLE orders DROP COLUMN total`, []string{"column total", "public.orders"},
			[][2]string{{"status, total, placed_at]", "status, placed_at]"}, {"    money: {total: {scale: 2, currency: GBP}}\n", ""}, {"status, total]", "status]"},
				{"      - {type: OrderPriced, on: update, when: new.status == old.status && new.total != old.total}\n", ""}}, `UPDATE orders SET status = 'shipped' WHERE id = 4`},
		{"rename", `ALTER TABLE orders RENAME COLUMN total TO amount`, []string{"column total", "public.orders"},
			[][2]string{{"status, total, placed_at]", "status, amount, placed_at]"}, {"money: {total:", "money: {amount:"}, {"status, total]", "status, amount]"}, {"new.total != old.total", "new.amount != old.amount"}},
			`UPDATE orders SET amount = 17 WHERE id = 4`},
		{"type", `ALTER TABLE order_items ALTER COLUMN quantity TYPE text`, []string{"column quantity", "public.order_items", "type"}, nil, `UPDATE order_items SET quantity = 'many' WHERE order_id = 4`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h, name := ruled(t, shopSQL, shopRules)
			r := h.start()
			r.Await("streaming")
			h.work([]string{`UPDATE orders SET status = 'paid' WHERE id = 4`})
			h.status(0)
			// One transaction before, one with, one after the change of the shape.
			h.work([]string{`UPDATE orders SET status = 'paid' WHERE id = 8`, tc.ddl, tc.after, `UPDATE orders SET status = 'shipped' WHERE id = 12; UPDATE products SET stock = stock - 1 WHERE id = 3`})
			if code := r.End(); code != 1 {
				t.Errorf("cdc run exits with %d, want 1:\n%s", code, r.Log())
			}
			for _, want := range append(tc.says, "0/", "banyan.yaml") {
				if !strings.Contains(r.Log(), want) {
					t.Errorf("the run does not say %q:\n%s", want, r.Log())
				}
			}
			for _, e := range tc.edit {
				h.edit(e[0], e[1])
			}
			h.setUpAgain()
			r = h.start()
			r.Await("streaming")
			h.work([]string{`UPDATE orders SET status = 'placed' WHERE id = 999`, `UPDATE products SET stock = stock - 1 WHERE id = 3`})
			h.status(0)
			h.proved()
			h.uniqueIDs()
			// What was committed before the change of the shape was stored before the
			// run ended, and is published now at the latest.
			if got := typesOf(h.of(name+".orders", "8")); len(got) < 2 || got[0] != "OrderRecorded" || got[1] != "OrderPaid" {
				t.Errorf("events of order 8 are %v, want OrderRecorded and OrderPaid first", got)
			}
			r.Stop()
		})
	}
}

// The same, where nobody was there: transactions of the old shape are still in
// the slot when the corrected rules start.
func TestNamedColumnsThatChangeUnseen(t *testing.T) {
	for _, tc := range []struct {
		name, ddl string
		edit      [][2]string
		after     string
	}{
		{"drop", `ALTER TABLE orders DROP COLUMN total`,
			[][2]string{{"status, total, placed_at]", "status, placed_at]"}, {"    money: {total: {scale: 2, currency: GBP}}\n", ""}, {"status, total]", "status]"},
				{"      - {type: OrderPriced, on: update, when: new.status == old.status && new.total != old.total}\n", ""}}, `UPDATE orders SET status = 'shipped' WHERE id = 4`},
		{"rename", `ALTER TABLE orders RENAME COLUMN total TO amount`,
			[][2]string{{"status, total, placed_at]", "status, amount, placed_at]"}, {"money: {total:", "money: {amount:"}, {"status, total]", "status, amount]"}, {"new.total != old.total", "new.amount != old.amount"}},
			`UPDATE orders SET amount = 17 WHERE id = 4`},
		{"type", `ALTER TABLE order_items ALTER COLUMN quantity TYPE text`, nil, `UPDATE order_items SET quantity = 'many' WHERE order_id = 4`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h, _ := ruled(t, shopSQL, shopRules)
			h.must(0, "run", "--until-caught-up")
			h.work([]string{`UPDATE orders SET status = 'paid' WHERE id = 8`, `UPDATE order_items SET quantity = quantity + 1 WHERE order_id = 4`, `UPDATE orders SET total = 5 WHERE id = 20`, tc.ddl, tc.after,
				`UPDATE orders SET status = 'shipped' WHERE id = 12`})
			for _, e := range tc.edit {
				h.edit(e[0], e[1])
			}
			h.setUpAgain()
			r := h.start()
			r.Await("streaming")
			h.status(0)
			h.proved()
			h.uniqueIDs()
			r.Stop()
		})
	}
}
