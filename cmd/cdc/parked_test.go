package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// shopRules are rules for shopSQL that do not know every status.
const shopRules = `version: 1
source:
  name: NAME
unknown: park
tables:
  public.customers:
    columns: [id, name, email, updated_at]
    omit: {password_hash: a secret}
  public.products:
    columns: [id, sku, stock, price]
    money: {price: {scale: 3, currency: GBP}}
  public.orders:
    columns: [id, customer_id, status, total, placed_at]
    omit: {note: internal}
    money: {total: {scale: 2, currency: GBP}}
  public.order_items:
    columns: [order_id, line_no, product_id, quantity]
    omit: {unit_price: for the test}
aggregates:
  Customer:
    table: public.customers
    key: [id]
    topic: NAME.customers
    state: [id, name]
    events:
      - {type: CustomerRegistered, on: insert}
      - {type: CustomerRenamed, on: update, when: new.name != old.name, occurred_at: new.updated_at}
      - {type: CustomerLeft, on: delete}
    ignore:
      - {on: update, only: [updated_at], reason: bookkeeping}
  Stock:
    table: public.products
    key: [id]
    topic: NAME.stock
    events:
      - {type: ProductListed, on: insert}
      - {type: StockChanged, on: update}
      - {type: ProductWithdrawn, on: delete}
  Order:
    table: public.orders
    key: [id]
    topic: NAME.orders
    state: [id, customer_id, status, total]
    children:
      - {table: public.order_items, as: lines, key: [order_id, line_no], parent: {order_id: id}, state: [line_no, product_id, quantity]}
    events:
      - {type: OrderPlaced, on: insert, absorb: [public.order_items]}
      # more rules
      - {type: OrderPaid, on: update, when: new.status != old.status && new.status == "paid"}
      - {type: OrderShipped, on: update, when: new.status != old.status && new.status == "shipped"}
      - {type: OrderPriced, on: update, when: new.status == old.status && new.total != old.total}
      - {type: OrderDeleted, on: delete, absorb: [public.order_items]}
      - {type: OrderLinesChanged, on: {table: public.order_items, op: insert}, absorb: [public.order_items]}
      - {type: OrderLinesChanged, on: {table: public.order_items, op: update}, absorb: [public.order_items]}
      - {type: OrderLinesChanged, on: {table: public.order_items, op: delete}, absorb: [public.order_items]}
`

// moreRules stands where a test adds a rule.
const (
	moreRules   = "      # more rules\n"
	mislaidRule = "      - {type: OrderMislaid, on: update, when: new.status != old.status && new.status == \"mislaid\"}\n"
)

// ruled is a house with rules of its own, set up; what follows runs as the role
// that setup makes. It returns the source's name too.
func ruled(t *testing.T, sql, rules string) (*house, string) {
	t.Helper()
	h, name := newHouse(t, sql), sourceName()
	t.Cleanup(func() { h.dropRole(name) })
	h.write(strings.ReplaceAll(rules, "NAME", name))
	h.must(0, "setup", "--apply")
	h.asRole(name)
	return h, name
}

// write replaces banyan.yaml.
func (h *house) write(yaml string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "banyan.yaml"), []byte(yaml), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// decode runs a command with --output json and reads what it prints.
func (h *house) decode(code int, into any, args ...string) {
	h.t.Helper()
	a := h.must(code, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(a.Out), into); err != nil {
		h.t.Fatalf("%v in %s", err, a)
	}
}

// account is the part of `cdc status -o json` that these tests look at.
type account struct {
	Generation int
	ParkedKeys int `json:"parked_keys"`
	Rules      *struct{ Version int }
	Snapshot   *struct{ Number int }
	Outbox     struct {
		Full      bool
		Events    int64
		Used, Max int64
	}
	Tables []struct {
		Table                                               string
		Changes, Parked, Discarded, Used, Absorbed, Ignored int64
		Balanced                                            bool
	}
}

// status waits for what is committed, unless args say otherwise, and checks the
// account.
func (h *house) status(code int, args ...string) (st account) {
	h.t.Helper()
	h.decode(code, &st, append([]string{"status", "--wait", "2m"}, args...)...)
	for _, c := range st.Tables {
		if !c.Balanced || c.Changes != c.Parked+c.Discarded+c.Used+c.Absorbed+c.Ignored {
			h.t.Errorf("the account does not add up: %+v", c)
		}
	}
	return st
}

// verdict runs verify and returns what it says.
func (h *house) verdict(code int) string {
	h.t.Helper()
	var r struct{ Verdict string }
	h.decode(code, &r, "verify", "--wait", "2m")
	return r.Verdict
}

// of reads the events of one key, in order.
func (h *house) of(topic, key string) []line { return h.tail(topic, "--key", key) }

func typesOf(list []line) (out []string) {
	for _, e := range list {
		out = append(out, e.Type)
	}
	return out
}

func (h *house) wantTypes(topic, key string, want ...string) []line {
	h.t.Helper()
	list := h.of(topic, key)
	if got := typesOf(list); !slices.Equal(got, want) {
		h.t.Fatalf("events of %s in %s are %v, want %v", key, topic, got, want)
	}
	return list
}

func TestUnknownChangeParksItsKeyAndIsReleased(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	r := h.start()
	r.Await("streaming")
	h.work([]string{
		`UPDATE orders SET status = 'mislaid' WHERE id = 4`,
		`UPDATE order_items SET quantity = 77 WHERE order_id = 4 AND line_no = 1`,
		`UPDATE orders SET status = 'paid' WHERE id = 4`,
		`BEGIN; UPDATE orders SET status = 'shipped' WHERE id = 4; UPDATE orders SET status = 'paid' WHERE id = 8; COMMIT`,
		`UPDATE orders SET status = 'shipped' WHERE id = 8`,
	})
	st := h.status(1)
	if st.ParkedKeys != 1 {
		t.Errorf("%d keys are parked, want 1", st.ParkedKeys)
	}
	h.wantTypes(name+".orders", "4", "OrderRecorded")
	h.wantTypes(name+".orders", "8", "OrderRecorded", "OrderPaid", "OrderShipped")
	if v := h.verdict(1); v != "parked" {
		t.Errorf("verify says %q, want parked", v)
	}
	h.must(1, "parked", "list", "Order")
	var chains []struct {
		Aggregate, Key, Reason string
		Entries                int
	}
	h.decode(1, &chains, "parked", "list")
	if len(chains) != 1 || chains[0].Aggregate != "Order" || chains[0].Key != "4" || chains[0].Entries != 4 {
		t.Errorf("parked list says %+v", chains)
	}
	for _, want := range []string{"mislaid", "public.orders", "no rule"} {
		if a := h.must(0, "parked", "show", "Order/4"); !strings.Contains(a.Out, want) {
			t.Errorf("parked show does not say %q: %s", want, a)
		}
	}
	h.must(1, "parked", "show", "Order/5")
	h.must(2, "parked", "show", "Order")
	if a := h.must(1, "parked", "release", "Order/4"); !strings.Contains(a.Out, "still parked: Order/4") {
		t.Errorf("release without a new rule says %s", a)
	}
	h.must(1, "parked", "release", "Order/5")

	h.edit(moreRules, mislaidRule)
	r.Stop()
	if a := h.must(3, "parked", "release", "Order/4"); !strings.Contains(a.Err, "no cdc run works") {
		t.Errorf("release without a run says %s", a)
	}
	r = h.start()
	r.Await("streaming")
	h.must(0, "parked", "release", "Order/4")
	h.work([]string{`UPDATE orders SET total = 44 WHERE id = 4`})
	h.status(0)
	h.released(h.wantTypes(name+".orders", "4", "OrderRecorded", "OrderMislaid", "OrderLinesChanged", "OrderPaid", "OrderShipped", "OrderPriced"))
	h.proved()
	h.uniqueIDs()
	if a := h.must(0, "parked", "list"); !strings.Contains(a.Out, "nothing is parked") {
		t.Errorf("parked list says %s", a)
	}
	r.Stop()
	h.proved() // and without a run
}

// released wants that all but the first and the last event were released: ids
// of their own transactions, in order, and one position behind all of them.
func (h *house) released(list []line) {
	h.t.Helper()
	var before event.Position
	for i, e := range list[1 : len(list)-1] {
		id, err := event.ParseID(e.ID)
		if err != nil {
			h.t.Fatal(err)
		}
		pos, err := event.ParsePosition(e.Position)
		if err != nil {
			h.t.Fatal(err)
		}
		if id.Position.Compare(before) <= 0 {
			h.t.Errorf("%s does not follow %s", e.ID, before)
		}
		if id.Position.Compare(pos) >= 0 || i > 0 && e.Position != list[i].Position {
			h.t.Errorf("event %s has position %s, want one of the release", e.ID, e.Position)
		}
		if e.Rules != 2 {
			h.t.Errorf("event %s is of rule set %d, want 2", e.ID, e.Rules)
		}
		before = id.Position
	}
	last := list[len(list)-1]
	if !strings.HasSuffix(last.ID, "@"+last.Position) {
		h.t.Errorf("event %s, after the release, has position %s", last.ID, last.Position)
	}
	if a := h.must(0, "explain", list[1].ID); !strings.Contains(a.Out, "released from a parked chain") || !strings.Contains(a.Out, "OrderMislaid") {
		h.t.Errorf("explain of a released event says %s", a)
	}
}

func TestDiscardRecordsTheAggregateAnew(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	r := h.start()
	r.Await("streaming")
	h.work([]string{
		`UPDATE orders SET status = 'mislaid' WHERE id IN (4, 8, 12)`,
		`UPDATE order_items SET quantity = 9 WHERE order_id = 4`,
		`DELETE FROM order_items WHERE order_id = 8; DELETE FROM orders WHERE id = 8`,
	})
	if st := h.status(1); st.ParkedKeys != 3 {
		t.Fatalf("%d keys are parked, want 3", st.ParkedKeys)
	}
	// The transactions that the discard has seen in the tables come later in the
	// stream: they must not be told twice.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wait := h.load(ctx, 2)
	h.must(0, "parked", "discard", "Order/4")
	h.must(0, "parked", "discard", "Order/8")
	cancel()
	wait()
	h.work([]string{`UPDATE orders SET total = 3 WHERE id = 4`})
	h.status(1)
	list := h.of(name+".orders", "4")
	if types := typesOf(list); len(types) < 3 || types[0] != "OrderRecorded" || types[1] != "OrderCorrected" || types[len(types)-1] != "OrderPriced" {
		t.Errorf("events of Order/4 are %v", types)
	}
	h.wantTypes(name+".orders", "8", "OrderRecorded", "OrderRemoved")
	h.must(0, "parked", "discard", "--all")
	st := h.status(0)
	var discarded int64
	for _, c := range st.Tables {
		discarded += c.Discarded
	}
	if discarded < 8 {
		t.Errorf("the account has %d discarded changes", discarded)
	}
	h.proved()
	h.uniqueIDs()
	r.Stop()
}

func TestMovesParkTheOtherKeyToo(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	r := h.start()
	r.Await("streaming")
	h.work([]string{
		`UPDATE orders SET status = 'mislaid' WHERE id = 4`,
		`UPDATE order_items SET order_id = 8, line_no = 9 WHERE order_id = 4 AND line_no = 2`,
		`UPDATE orders SET status = 'paid' WHERE id = 8`,
		`UPDATE order_items SET quantity = 5 WHERE order_id = 8 AND line_no = 9`,
		`INSERT INTO orders (id, customer_id, status, total) VALUES (1001, 1, 'new', 5)`,
		`DELETE FROM order_items WHERE order_id = 12; UPDATE orders SET status = 'mislaid' WHERE id = 12`,
		`UPDATE orders SET id = 1012 WHERE id = 12`,
		`UPDATE orders SET status = 'paid' WHERE id = 1012`,
	})
	if st := h.status(1); st.ParkedKeys != 4 {
		t.Errorf("%d keys are parked, want Order/4, 8, 12 and 1012", st.ParkedKeys)
	}
	h.wantTypes(name+".orders", "1001", "OrderPlaced")
	r.Stop()
	h.edit(moreRules, mislaidRule)
	r = h.start()
	r.Await("streaming")
	h.must(0, "parked", "release", "--all")
	h.status(0)
	h.proved()
	h.uniqueIDs()
	r.Stop()
}

func TestReleaseTellsOnlyWhatTheRulesKnow(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	r := h.start()
	r.Await("streaming")
	h.work([]string{
		`UPDATE orders SET status = 'mislaid' WHERE id IN (4, 8)`,
		`UPDATE orders SET status = 'stolen' WHERE id = 8`,
		`UPDATE orders SET status = 'paid' WHERE id = 8`,
	})
	h.status(1)
	r.Stop()
	h.edit(moreRules, mislaidRule+moreRules)
	r = h.start()
	r.Await("streaming")
	if a := h.must(1, "parked", "release", "--all"); !strings.Contains(a.Out, "1 keys flow again") || !strings.Contains(a.Out, "still parked: Order/8") {
		t.Errorf("release of half a chain says %s", a)
	}
	h.status(1)
	h.wantTypes(name+".orders", "8", "OrderRecorded", "OrderMislaid")
	r.Stop()
	h.edit(moreRules, strings.ReplaceAll(strings.ReplaceAll(mislaidRule, "mislaid", "stolen"), "Mislaid", "Stolen"))
	r = h.start()
	r.Await("streaming")
	h.must(0, "parked", "release", "Order/8")
	h.status(0)
	h.wantTypes(name+".orders", "8", "OrderRecorded", "OrderMislaid", "OrderStolen", "OrderPaid")
	h.proved()
	r.Stop()
}

func TestUnknownStopLosesNothing(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, strings.Replace(shopRules, "unknown: park", "unknown: stop", 1))
	r := h.start()
	r.Await("streaming")
	h.work([]string{`UPDATE orders SET status = 'paid' WHERE id = 8`, `UPDATE orders SET status = 'mislaid' WHERE id = 4`, `UPDATE orders SET status = 'shipped' WHERE id = 8`})
	if code := r.End(); code != 1 {
		t.Errorf("cdc run exits with %d, want 1", code)
	}
	for range 2 {
		for _, want := range []string{"public.orders", "Order/4", "0/", "no rule"} {
			if !strings.Contains(r.Log(), want) {
				t.Errorf("the refusal does not say %q:\n%s", want, r.Log())
			}
		}
		r = h.start() // it stops there again
		if code := r.End(); code != 1 {
			t.Errorf("cdc run exits with %d, want 1", code)
		}
	}
	h.work([]string{`UPDATE orders SET total = 99 WHERE id = 4`})
	h.edit(moreRules, mislaidRule)
	h.must(0, "run", "--until-caught-up")
	h.wantTypes(name+".orders", "4", "OrderRecorded", "OrderMislaid", "OrderPriced")
	h.wantTypes(name+".orders", "8", "OrderRecorded", "OrderPaid", "OrderShipped")
	h.status(0, "--wait", "0")
	h.proved()
	h.uniqueIDs()
}

func TestMoneyThatDoesNotFitParks(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL+`; UPDATE orders SET total = 0.125 WHERE id = 7`, shopRules)
	r := h.start()
	r.Await("streaming")
	h.work([]string{`UPDATE orders SET total = 1.005 WHERE id = 4`, `UPDATE orders SET total = 1.5 WHERE id = 8`, `UPDATE orders SET status = 'paid' WHERE id = 4`})
	if st := h.status(1); st.ParkedKeys != 2 {
		t.Errorf("%d keys are parked, want Order/4 by the stream and Order/7 by the snapshot", st.ParkedKeys)
	}
	if a := h.must(0, "parked", "show", "Order/4"); !strings.Contains(a.Out, `"1.005" is no amount with 2 decimals`) {
		t.Errorf("parked show does not say why: %s", a)
	}
	if v := h.verdict(1); v != "parked" {
		t.Errorf("verify says %q", v)
	}
	r.Stop()
	h.edit("total: {scale: 2,", "total: {scale: 3,")
	r = h.start()
	r.Await("streaming")
	h.must(0, "parked", "release", "--all")
	h.status(0)
	h.wantTypes(name+".orders", "4", "OrderRecorded", "OrderPriced", "OrderPaid")
	list := h.of(name+".orders", "4")
	total, _ := list[1].Data.State["total"].(map[string]any)
	if total["amount"] != json.Number("1005") || total["scale"] != json.Number("3") || total["currency"] != "GBP" {
		t.Errorf("the total is %v, want 1005 of scale 3", total)
	}
	h.proved()
	r.Stop()
}

// Keys that rows exchange inside a transaction tell nobody which row is which.
func TestExchangedKeysParkAndAreDiscarded(t *testing.T) {
	t.Parallel()
	h, name := newHouse(t, ranks+`ALTER TABLE ranks REPLICA IDENTITY FULL`), sourceName()
	t.Cleanup(func() { h.dropRole(name) })
	h.must(0, "init", "--name", name)
	h.must(0, "setup", "--apply")
	h.asRole(name)
	r := h.start()
	r.Await("streaming")
	h.work(ranksWork)
	h.status(1)
	if v := h.verdict(1); v != "parked" {
		t.Errorf("verify says %q", v)
	}
	h.must(0, "parked", "discard", "--all")
	h.work([]string{`UPDATE ranks SET name = 'after'`})
	h.status(0)
	h.proved()
	r.Stop()
}

// A key may be an empty text; what its discard has seen is its own only.
func TestDiscardOfTheEmptyKeyLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, `CREATE TABLE codes (code text PRIMARY KEY, status text NOT NULL, n int NOT NULL DEFAULT 0); INSERT INTO codes SELECT CASE WHEN i > 0 THEN 'c' || i ELSE '' END, 'new' FROM generate_series(0, 200) i`, `version: 1
source: {name: NAME}
tables:
  public.codes: {columns: [code, status, n]}
aggregates:
  Code:
    table: public.codes
    key: [code]
    topic: NAME.codes
    events: [{type: CodeCounted, on: update, when: new.n != old.n}]
`)
	r := h.start()
	r.Await("streaming")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	counted := make(chan error, 1)
	go func() { counted <- h.count(ctx) }()
	for range 5 {
		h.work([]string{`UPDATE codes SET status = status || '!' WHERE code = ''`})
		h.eventually("the empty key is parked", func() bool { return h.cdc("parked", "list").Code == 1 })
		h.must(0, "parked", "discard", "--all")
	}
	cancel()
	if err := <-counted; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	h.status(0)
	if list := h.tail(name + ".codes"); len(list) < 200 {
		t.Errorf("only %d events", len(list))
	}
	h.proved()
	r.Stop()
}

// count updates the other keys of codes until ctx ends, never more than twenty
// transactions ahead of what the slot has confirmed: a writer without a brake
// outruns cdc on a small machine, and then the test measures the machine.
func (h *house) count(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, h.source.URL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var ends []string
	for {
		if _, err := conn.Exec(ctx, `UPDATE codes SET n = n + 1 WHERE code > ''`); err != nil {
			return err
		}
		var end string
		if err := conn.QueryRow(ctx, `SELECT pg_current_wal_lsn()`).Scan(&end); err != nil {
			return err
		}
		ends = append(ends, end)
		for confirmed := len(ends) <= 20; !confirmed; {
			if err := conn.QueryRow(ctx, `SELECT coalesce(bool_or(confirmed_flush_lsn >= $1::pg_lsn), false)
				FROM pg_replication_slots WHERE database = current_database()`, ends[len(ends)-20]).Scan(&confirmed); err != nil {
				return err
			}
			if !confirmed {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
	}
}
