package rebuild_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"banyan/money"
	"banyan/projections"
	"banyan/projections/projectiontest"
	"banyan/projections/state"
)

const (
	accounts  = "shop.accounts"
	customers = "shop.customers"
	orders    = "shop.orders"
)

// move is what the test events carry as their state.
type move struct {
	Amount int64  `json:"amount"` // cents
	City   string `json:"city,omitempty"`
	Owner  string `json:"owner,omitempty"`
	Bad    bool   `json:"bad,omitempty"`
}

// parse is the Prepare of all programs here.
func parse(e *projections.Event) error {
	if e.Tombstone {
		return nil
	}
	var d struct {
		State *move `json:"state"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return fmt.Errorf("read the data: %w", err)
	}
	e.Prepared = d.State
	return nil
}

func told(topic, kind, aggregate, key string, m *move) projectiontest.Event {
	return projectiontest.Event{Topic: topic, Type: kind, Aggregate: aggregate, Key: key, Data: map[string]any{"state": m}}
}

func moved(key string, cents int64) projectiontest.Event {
	return told(accounts, "AccountMoved", "Account", key, &move{Amount: cents})
}

func bad(key string) projectiontest.Event {
	return told(accounts, "AccountMoved", "Account", key, &move{Bad: true})
}

func closed(key string) projectiontest.Event {
	return told(accounts, "AccountClosed", "Account", key, nil)
}

func customer(key, city string) projectiontest.Event {
	return told(customers, "CustomerMoved", "Customer", key, &move{City: city})
}

func placed(key, owner string, cents int64) projectiontest.Event {
	return told(orders, "OrderPlaced", "Order", key, &move{Owner: owner, Amount: cents})
}

func paid(key string) projectiontest.Event {
	return told(orders, "OrderPaid", "Order", key, &move{})
}

// balances counts and sums per account, the key of the topic, and keeps partial
// counts per day and partition in a hidden table under a view.
type balances struct {
	Revision int  // from 2 on there is a column more
	Double   bool // a fault: sums count twice
	Lenient  bool // does not mind bad events
	Effects  bool // a mail for each large move
}

var errBad = errors.New("this one is bad")

func (b balances) Spec() projections.Spec {
	account := state.Table{Name: "accounts", Key: []string{"id"}, Comment: "what each account holds",
		Columns: []state.Column{{Name: "id", Type: "text", NotNull: true}, {Name: "moves", Type: "bigint", NotNull: true},
			{Name: "total", Type: "numeric(14,2)", NotNull: true}, {Name: "last", Type: "timestamptz"}},
		Indexes: []state.Index{{Columns: []string{"total"}}}}
	if b.Revision > 1 {
		account.Columns = append(account.Columns, state.Column{Name: "largest", Type: "bigint"})
	}
	return projections.Spec{
		Name: "balances", Source: "shop", Topics: []string{accounts},
		Tables: []state.Table{account, {Name: "day_part", Hidden: true, Key: []string{"day", "part"}, Columns: []state.Column{
			{Name: "day", Type: "date", NotNull: true}, {Name: "part", Type: "bigint", NotNull: true}, {Name: "moves", Type: "bigint", NotNull: true}}}},
		Views: []projections.View{{Name: "days", SQL: "SELECT day, sum(moves)::bigint AS moves FROM day_part GROUP BY day", Comment: "moves per day"}},
		// A program in Go says by hand what it is.
		Definition: fmt.Sprintf("%+v", b), Digest: fmt.Sprintf("%+v", b),
		NotFromLatest: "counts events", Effects: b.Effects,
	}
}

func (b balances) Prepare(e *projections.Event) error { return parse(e) }

func (b balances) Wants(e *projections.Event, want func(string, state.Key)) {
	if k, err := accountShape.Key(e.ID.Key); err == nil {
		want("accounts", k)
	}
}

var accountShape = func() *state.Shape {
	s, err := state.Compile(balances{}.Spec().Tables[0])
	if err != nil {
		panic(err)
	}
	return s
}()

func (b balances) Apply(tx *projections.Tx, e *projections.Event) error {
	m, _ := e.Prepared.(*move)
	if m != nil && m.Bad && !b.Lenient {
		return errBad
	}
	if err := b.countDay(tx, e); err != nil {
		return err
	}
	rows := tx.Rows("accounts")
	key, err := rows.Key(e.ID.Key)
	if err != nil {
		return err
	}
	if m == nil {
		return rows.Delete(key)
	}
	row, ok, err := rows.Get(key)
	if err != nil {
		return err
	}
	moves, total, largest := int64(0), money.NewDecimal(0, 2), int64(0)
	if ok {
		moves, total = row[1].(int64), row[2].(money.Decimal)
		if b.Revision > 1 {
			largest = row[4].(int64)
		}
	}
	cents := m.Amount
	if b.Double {
		cents *= 2
	}
	next := state.Row{e.ID.Key, moves + 1, total.Add(money.NewDecimal(cents, 2)), e.Time}
	if b.Revision > 1 {
		next = append(next, max(largest, cents))
	}
	if b.Effects && cents >= 1000 {
		tx.Effect(projections.Effect{Name: "large", Kind: "mail", Payload: json.RawMessage(`{"to":"desk@example.org"}`)})
	}
	return rows.Put(next)
}

func (b balances) countDay(tx *projections.Tx, e *projections.Event) error {
	rows := tx.Rows("day_part")
	day := e.Time.UTC().Truncate(24 * time.Hour)
	key, err := rows.Key(day, int64(e.Partition))
	if err != nil {
		return err
	}
	row, ok, err := rows.Get(key)
	if err != nil {
		return err
	}
	n := int64(0)
	if ok {
		n = row[2].(int64)
	}
	return rows.Put(state.Row{day, int64(e.Partition), n + 1})
}

// joined writes each order with the city that its customer had then, and marks
// the orders that were not paid in five minutes: a join, a timer, an effect.
type joined struct {
	Upper   bool // another definition, with a column more
	Lenient bool // does not mind bad events
}

func (j joined) Spec() projections.Spec {
	order := state.Table{Name: "orders", Key: []string{"id"}, Columns: []state.Column{{Name: "id", Type: "text", NotNull: true},
		{Name: "owner", Type: "text"}, {Name: "city", Type: "text"}, {Name: "state", Type: "text", NotNull: true}, {Name: "at", Type: "timestamptz"}}}
	if j.Upper {
		order.Columns = append(order.Columns, state.Column{Name: "seen", Type: "bigint"})
	}
	return projections.Spec{
		Name: "joined", Source: "shop", Topics: []string{customers, orders}, Aligned: true, Timers: true, Effects: true,
		Tables: []state.Table{order, {Name: "cities", Key: []string{"id"}, Columns: []state.Column{
			{Name: "id", Type: "text", NotNull: true}, {Name: "city", Type: "text"}}}},
		Definition: fmt.Sprintf("%+v", j), Digest: fmt.Sprintf("%+v", j), NotFromLatest: "joins at the time of the order",
	}
}

func (j joined) Prepare(e *projections.Event) error { return parse(e) }

func (j joined) Apply(tx *projections.Tx, e *projections.Event) error {
	m, _ := e.Prepared.(*move)
	if e.Topic == customers {
		if m == nil {
			k, err := tx.Rows("cities").Key(e.ID.Key)
			if err != nil {
				return err
			}
			return tx.Rows("cities").Delete(k)
		}
		return tx.Rows("cities").Put(state.Row{e.ID.Key, m.City})
	}
	if e.Type == "OrderPaid" {
		tx.CancelTimer("unpaid", e.ID.Key)
		return j.set(tx, e.ID.Key, "paid")
	}
	if m.Bad && !j.Lenient {
		return errBad
	}
	key, err := tx.Rows("cities").Key(m.Owner)
	if err != nil {
		return err
	}
	var city any
	if row, ok, err := tx.Rows("cities").Get(key); err != nil {
		return err
	} else if ok {
		city = row[1]
	}
	tx.SetTimer(projections.Timer{Name: "unpaid", Key: e.ID.Key, At: tx.StreamTime.Add(5 * time.Minute)})
	tx.Effect(projections.Effect{Name: "thanks", Kind: "mail", Payload: json.RawMessage(`{"to":"customer@example.org"}`)})
	row := state.Row{e.ID.Key, m.Owner, city, "placed", tx.StreamTime}
	if j.Upper {
		row = append(row, int64(1))
	}
	return tx.Rows("orders").Put(row)
}

func (j joined) Fire(tx *projections.Tx, t projections.Timer) error {
	tx.Effect(projections.Effect{Name: "remind", Kind: "mail", Payload: json.RawMessage(`{"to":"customer@example.org"}`)})
	return j.set(tx, t.Key, "overdue")
}

func (j joined) set(tx *projections.Tx, id, to string) error {
	rows := tx.Rows("orders")
	key, err := rows.Key(id)
	if err != nil {
		return err
	}
	row, ok, err := rows.Get(key)
	if err != nil || !ok {
		return err
	}
	next := append(state.Row(nil), row...)
	next[3], next[4] = to, tx.StreamTime
	if j.Upper {
		next[5] = next[5].(int64) + 1
	}
	return rows.Put(next)
}

// healed says that what was bad before can be applied now, as after a fix that
// left the definition alone.
var healed atomic.Bool

// healing is a program that refuses bad events until it is healed.
type healing struct{ projections.Program }

func (h healing) Apply(tx *projections.Tx, e *projections.Event) error {
	switch p := h.Program.(type) {
	case balances:
		p.Lenient = healed.Load()
		return p.Apply(tx, e)
	case joined:
		p.Lenient = healed.Load()
		return p.Apply(tx, e)
	}
	return h.Program.Apply(tx, e)
}

func (h healing) Fire(tx *projections.Tx, t projections.Timer) error {
	return h.Program.(joined).Fire(tx, t)
}
