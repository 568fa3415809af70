package draft_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"banyan/draft"
	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/translate"
	"banyan/wal"

	"github.com/google/go-cmp/cmp"
)

// memory is a store that keeps nothing beyond the test.
type memory struct {
	states map[event.Ref]event.State
	links  map[event.RowRef][]event.Ref
}

func (m *memory) States(_ context.Context, refs []event.Ref) (map[event.Ref]event.State, error) {
	out := map[event.Ref]event.State{}
	for _, r := range refs {
		if s, ok := m.states[r]; ok {
			out[r] = s
		}
	}
	return out, nil
}

func (m *memory) Roots(_ context.Context, rows []event.RowRef) (map[event.RowRef][]event.Ref, error) {
	out := map[event.RowRef][]event.Ref{}
	for _, r := range rows {
		if refs := m.links[r]; len(refs) > 0 {
			out[r] = refs
		}
	}
	return out, nil
}

func (m *memory) Keys(_ context.Context, aggregate string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for ref, s := range m.states {
			if ref.Aggregate == aggregate && s.Body != nil && !yield(ref.Key, nil) {
				return
			}
		}
	}
}

func (m *memory) Parked(context.Context, []event.Ref) (map[event.Ref]bool, error) { return nil, nil }

func (m *memory) put(step *event.Step) {
	for _, s := range step.States {
		m.states[s.Ref] = s
	}
	for _, l := range step.Links {
		m.links[l.RowRef] = slices.DeleteFunc(m.links[l.RowRef], func(r event.Ref) bool { return r == l.Ref })
		if !l.Gone {
			m.links[l.RowRef] = append(m.links[l.RowRef], l.Ref)
		}
	}
}

// life changes a database under its draft and returns what the draft tells: a
// line for every event, and one for every change that parked. Each element of
// changes is one transaction.
func life(t *testing.T, schema string, changes []string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db := pgtest.New(t, pgtest.Options{SQL: schema})
	conn := db.Conn(t)
	cat := inspect(t, conn)
	text, _, err := draft.Write(ctx, cat, draft.Samples(conn), draft.Options{Source: "s"})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := compile(cat, text)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range rules.Capture() {
		tab := cat.Find(name)
		names = append(names, fmt.Sprintf("%q.%q", tab.Schema, strings.ReplaceAll(tab.Name, `"`, `""`)))
	}
	slices.Sort(names)
	all := strings.Join(names, ", ")
	db.Exec(t, `TRUNCATE `+all+` CASCADE`) // what was sampled is not known to the engine
	db.Exec(t, `CREATE PUBLICATION p FOR TABLE ONLY `+strings.Join(names, ", ONLY ")+` WITH (publish_via_partition_root = true)`)
	slot, err := wal.CreateSlot(ctx, wal.SlotConfig{URL: db.URL, Slot: strings.ToLower(db.Name)})
	if err != nil {
		t.Fatal(err)
	}
	from := slot.ConsistentPoint
	if err := slot.Close(); err != nil {
		t.Fatal(err)
	}
	for _, sql := range changes {
		db.Exec(t, "BEGIN; "+sql+"; COMMIT")
	}
	stream, err := wal.Open(ctx, wal.StreamConfig{URL: db.URL, Slot: strings.ToLower(db.Name), Publication: "p", Capture: rules.Capture(),
		From: from, SpillDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var told []string
	store := &memory{map[event.Ref]event.State{}, map[event.RowRef][]event.Ref{}}
	engine := &translate.Engine{Rules: rules, Source: "s", Generation: 1}
	for seen := 0; seen < len(changes); {
		batch, err := stream.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range batch.Txs {
			seen++
			var line []string
			err := engine.Translate(ctx, store, []*wal.Tx{tx}, func(_ context.Context, step *event.Step) error {
				for i := range step.Events {
					line = append(line, step.Events[i].Type+" "+step.Events[i].Key())
				}
				for _, p := range step.Parked {
					line = append(line, "PARKED "+p.Aggregate+" "+p.Key+": "+p.Reason)
				}
				for table, c := range step.Counts {
					if !c.Balanced() {
						t.Errorf("%s is not accounted for: %+v", table, c)
					}
				}
				store.put(step)
				return nil
			})
			if err != nil {
				t.Fatalf("transaction %d: %v", seen, err)
			}
			told = append(told, strings.Join(line, ", "))
		}
	}
	return told
}

// The draft of the old shop tells the life of an order, and nothing parks.
func TestShopLives(t *testing.T) {
	schema, err := os.ReadFile("../cmd/legacy-shop/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	sampled := string(schema) + `; INSERT INTO orders (status, channel, country, total, placed_at, updated_at)
		SELECT s, 'web', 'GB', 1, now(), now() FROM unnest('{placed,rejected,validated,validation_failed,paid,shipped,cancelled,returned}'::text[]) s`
	steps := []struct{ sql, want string }{
		{`INSERT INTO customers (id, name, country, registered_at, updated_at) VALUES (1, 'Ada', 'GB', now(), now())`, "CustomerRegistered 1"},
		{`UPDATE customers SET updated_at = now() + interval '1s'`, ""},
		{`UPDATE customers SET password_hash = 'x', updated_at = now() + interval '2s'`, ""},
		{`UPDATE customers SET name = 'Ada L.'`, "CustomerChanged 1"},
		{`INSERT INTO products (id, stock_code, description, stock, price, listed_at, updated_at) VALUES (1, 'A', 'a', 5, 1.5, now(), now())`, "ProductListed 1"},
		{`INSERT INTO orders (id, customer_id, status, channel, country, total, placed_at, updated_at, note) VALUES (1, 1, 'placed', 'web', 'GB', 3, now(), now(), repeat('long ', 2000));
			INSERT INTO order_items VALUES (1, 1, 1, 'a', 2, 1.5, now()); INSERT INTO order_validations VALUES (1, 'fraud', 'pending'); UPDATE products SET stock = 3`,
			"OrderPlaced 1, ProductChanged 1"},
		{`UPDATE order_validations SET result = 'passed', checked_at = now()`, "OrderChanged 1"},
		{`UPDATE orders SET status = 'validated', updated_at = now() + interval '1s'`, "OrderValidated 1"},
		{`INSERT INTO payment_attempts (id, order_id, card_token, amount, result, attempted_at) VALUES (1, 1, 't', 3, 'approved', now());
			INSERT INTO payments (id, order_id, attempt_id, amount, paid_at) VALUES (1, 1, 1, 3, now()); UPDATE orders SET status = 'paid'`,
			"PaymentAttempted 1, PaymentReceived 1, OrderPaid 1"},
		{`UPDATE payment_attempts SET card_token = 'u'`, ""},
		{`INSERT INTO order_items VALUES (1, 2, 1, 'a', 1, 1.5, now()), (1, 3, 1, 'a', 1, 1.5, now())`, "OrderChanged 1"},
		{`UPDATE orders SET status = 'shipped'; INSERT INTO shipments (id, order_id, carrier, shipped_at) VALUES (1, 1, 'post', now())`, "OrderShipped 1, ShipmentDispatched 1"},
		{`UPDATE orders SET deleted_at = now()`, "OrderWithdrawn 1"},
		{`UPDATE orders SET status = 'mislaid'`, "OrderChanged 1"},
		{`INSERT INTO orders (id, status, channel, country, total, placed_at, updated_at) VALUES (2, 'rejected', 'web', 'GB', 3, now(), now()); INSERT INTO order_rejections VALUES (2, 1, 1, 9, 3, 1.5)`, "OrderRejected 2"},
		{`DELETE FROM order_rejections WHERE order_id = 2; DELETE FROM orders WHERE id = 2`, "OrderDeleted 2"},
		{`UPDATE order_items SET order_id = 1, line_no = 9 WHERE line_no = 3; DELETE FROM order_items WHERE line_no = 2`, "OrderChanged 1"},
		{`INSERT INTO access_log VALUES (now(), 'GET', '/', 200, 1); INSERT INTO stock_adjustments (id, product_id, quantity, price, adjusted_at) VALUES (1, 1, 4, 0, now())`, "StockAdjusted 1"},
	}
	compareLives(t, sampled, steps)
}

// The same for the database with every oddity.
func TestWeirdLives(t *testing.T) {
	schema, err := os.ReadFile("testdata/weird.sql")
	if err != nil {
		t.Fatal(err)
	}
	compareLives(t, string(schema), []struct{ sql, want string }{
		{`INSERT INTO "Order" ("Id", "User Id", "Status") VALUES (1, 1, 'new'), (2, 1, NULL)`, "OrderPlaced 1, OrderPlaced 2"},
		{`UPDATE "Order" SET "Status" = 'it''s "done": #1' WHERE "Id" = 1; UPDATE "Order" SET "Status" = '完了' WHERE "Id" = 2`, "OrderItSDone1 1, OrderStatus17 2"},
		{`UPDATE "Order" SET "Updated At" = now(), "updatedAt" = now()`, ""},
		{`UPDATE "Order" SET "in" = 'x', "updatedAt" = NULL WHERE "Id" = 1`, "OrderChanged 1"},
		{`INSERT INTO legacy."order" VALUES (1, 'A')`, "LegacyOrderPlaced 1"},
		{`UPDATE legacy."order" SET state = 'ZZ'`, "LegacyOrderStateZz 1"},
		{`INSERT INTO tickets (id, phase, created_at, updated_at, price, fee) VALUES (1, 'new', now(), now(), 1.25, 0.125); INSERT INTO ticket_notes VALUES (1, 1, 'hello');
			INSERT INTO ticket_note_files VALUES (1, 1, 'a.txt'), (1, 1, 'b.txt'); INSERT INTO ticket_price VALUES (1, 'x'); INSERT INTO watchers VALUES (7, 1)`, "TicketOpened 1"},
		{`UPDATE tickets SET phase = 'in-progress'`, "TicketInProgress 1"},
		{`UPDATE tickets SET is_paid = true, phase = 'done!'`, "TicketDone 1"},
		{`UPDATE tickets SET phase = ''`, "TicketPhase5 1"},
		{`DELETE FROM ticket_note_files WHERE name = 'a.txt'`, "TicketChanged 1"},
		{`UPDATE ticket_notes SET updated_at = now()`, ""},
		{`UPDATE watchers SET id = 8`, "TicketChanged 1"},
		{`INSERT INTO tickets (id, phase, created_at, updated_at) VALUES (2, 'new', now(), now()); UPDATE watchers SET ticket_id = 2`, "TicketOpened 2, TicketChanged 1"},
		{`UPDATE tickets SET deleted = true WHERE id = 1`, "TicketWithdrawn 1"},
		{`INSERT INTO ticket_guest VALUES (1, NULL)`, "TicketGuestCreated 1"},
		{`DELETE FROM ticket_guest; DELETE FROM ticket_note_files; DELETE FROM ticket_notes; DELETE FROM ticket_price; DELETE FROM tickets WHERE id = 1`, "TicketGuestDeleted 1, TicketDeleted 1"},
		{`DELETE FROM tickets WHERE id = 2`, "TicketDeleted 2"},
		{`INSERT INTO by_index VALUES ('a/b,c', '{"a": 1}')`, "ByIndexCreated a%2Fb%2Cc"},
		{`UPDATE by_index SET v = '{"a":1}'`, ""},
		{`DELETE FROM by_index`, "ByIndexDeleted a%2Fb%2Cc"},
		{`INSERT INTO readings VALUES ('2020-05-05', 1, 'NaN'), ('2022-05-05', 1, 2.5)`, "ReadingCreated 1,2020-05-05%2000%3A00%3A00%2B00, ReadingCreated 1,2022-05-05%2000%3A00%3A00%2B00"},
		{`UPDATE readings SET v = 3`, "ReadingChanged 1,2020-05-05%2000%3A00%3A00%2B00, ReadingChanged 1,2022-05-05%2000%3A00%3A00%2B00"},
		{`INSERT INTO people (id, ssn, email) VALUES (1, '123456789', 'a@b')`, "PersonCreated 1"},
		{`UPDATE people SET ssn = '000000000'`, ""},
		{`INSERT INTO base VALUES (1, 'a'); INSERT INTO derived VALUES (1, 'b', 'c')`, "BaseCreated 1, DerivedCreated 1"},
		{`UPDATE base SET v = 'z'`, "BaseChanged 1, DerivedChanged 1"},
	})
}

func compareLives(t *testing.T, schema string, steps []struct{ sql, want string }) {
	t.Helper()
	var changes, want []string
	for _, s := range steps {
		changes, want = append(changes, s.sql), append(want, s.want)
	}
	got := life(t, schema, changes)
	for i := range steps {
		// The order of events about different aggregates in one transaction is
		// the engine's own affair.
		if d := cmp.Diff(sortedParts(want[i]), sortedParts(got[i])); d != "" {
			t.Errorf("%s (-want +got):\n%s", steps[i].sql, d)
		}
	}
}

func sortedParts(s string) []string {
	parts := strings.Split(s, ", ")
	slices.Sort(parts)
	return parts
}
