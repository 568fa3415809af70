package shadow

import (
	"math/rand/v2"
	"strings"
	"testing"

	"banyan/compare"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/declared"
)

// counting is the projection of orders beside a shadow.
func counting(t *testing.T, o Options) projections.Program {
	t.Helper()
	f, faults := declared.Load("orders.yaml", []byte(OrdersProjection(o)))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	p, faults := declared.Compile(f, nil)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	return p
}

// Another program counts the same orders, and finds the same lines and the same money,
// in each currency: of orders, of lines that were added, of a snapshot.
func TestTheProjectionOfOrdersAgrees(t *testing.T) {
	seed := randtest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 8))
	shop := newShop(t, seed)
	shop.tidy = true
	shop.trade(250)
	o := named("both")
	h := newHouse(t, pgtest.New(t), shop)
	v, program := h.shadow(o, thriftyOne)
	if got := h.picture("both").Facts.Projection; got.State != "none" {
		t.Errorf("before there is one: %+v", got)
	}
	orders := counting(t, o)
	ov := h.install(orders)
	check := func(state string) compare.ProjectionCheck {
		t.Helper()
		got := h.picture("both").Facts.Projection
		if got.State != state {
			t.Fatalf("%+v, want %s", got, state)
		}
		return got
	}
	h.catchUp(program(), v, nil)
	check("not comparable")
	h.catchUp(orders, ov, func(o *projections.Options) {
		o.Poison, o.Limits.Events = projections.Park, 1+rng.IntN(50)
	})
	got := check("equal")
	lines := int64(0)
	for _, r := range got.Rows {
		lines += r.Ours.Lines
	}
	want := int64(0)
	for _, b := range shop.books.orders {
		want += int64(len(b.lines))
	}
	if lines != want || got.Detail != "" || len(got.Rows) < 3 {
		t.Errorf("%d lines of %d are compared: %+v", lines, want, got)
	}

	// Only one of the two goes on: what stands at the same offsets is still equal.
	shop.tell(0, func(tx *transaction) { tx.order("OrderPlaced", 1) })
	shop.trade(0)
	h.catchUp(program(), v, nil)
	if got := check("equal"); !strings.Contains(got.Detail, "partitions") {
		t.Errorf("%+v", got)
	}
	shop.trade(200)
	h.catchUp(program(), v, nil)
	check("not comparable")
	h.catchUp(orders, ov, func(o *projections.Options) { o.Poison = projections.Park })
	check("equal")

	// A row that somebody has changed shows, to the smallest sum, and so does one more.
	for _, sql := range []string{`paid = paid + 0.0001`, `paid = paid - 0.0001`, `orders_lines = orders_lines + 1`} {
		change := func(sql string) {
			h.db.Exec(t, `UPDATE `+table(ov.Schema, "lines__parts")+` SET `+sql+` WHERE (currency, banyan_partition) = (SELECT currency, banyan_partition FROM `+table(ov.Schema, "lines__parts")+` ORDER BY 1, 2 LIMIT 1)`)
		}
		change(sql)
		check("differs")
		change(strings.NewReplacer("+ ", "- ", "- ", "+ ").Replace(sql))
		check("equal")
	}
}

func TestJudgingOrders(t *testing.T) {
	l := compare.NewLedger()
	for part := range 3 {
		l.Take(&compare.Order{Partition: part, Lines: []compare.Line{{Line: 1, Currency: "GBP", Quantity: 1, Control: 5, Paid: 5, Reason: compare.Free}}})
	}
	two := map[int]bool{0: true, 2: true}
	for _, c := range []struct {
		name  string
		sums  map[string]counted
		same  map[int]bool
		apart int
		want  string
	}{
		{"equal", map[string]counted{"GBP": {2, 10}}, two, 1, "equal"},
		{"a line more", map[string]counted{"GBP": {3, 10}}, two, 0, "differs"},
		{"a unit more", map[string]counted{"GBP": {2, 11}}, two, 0, "differs"},
		{"a currency that we do not have", map[string]counted{"GBP": {2, 10}, "EUR": {1, 0}}, two, 0, "differs"},
		{"a currency that only we have", map[string]counted{}, two, 0, "differs"},
		{"nowhere at the same place", nil, nil, 3, "not comparable"},
	} {
		if got := judgeOrders(l, c.sums, c.same, c.apart); got.State != c.want {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
	h := newHouse(t, pgtest.New(t), newShop(t, randtest.Seed(t)))
	if _, err := CheckOrders(t.Context(), h.pool, named("none"), l, []control.Part{{}}, nil, "nowhere"); err == nil {
		t.Error("tables that are not there were read")
	}
}
