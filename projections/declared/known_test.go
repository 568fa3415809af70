package declared

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/projections/projectiontest"
)

// samples makes what Look would give of lines of a history.
func samples(t testing.TB, names []string, lines ...string) *Known {
	t.Helper()
	h := newHistory()
	for _, line := range lines {
		if err := h.line(line); err != nil {
			t.Fatal(err)
		}
	}
	k := &Known{Names: names, Topics: map[string]Topic{}}
	for _, name := range names {
		k.Topics[name] = Topic{Partitions: 3}
	}
	for _, one := range h.all {
		s := k.Topics[one.Topic]
		s.Sample, s.Records = append(s.Sample, one.Event), s.Records+1
		k.Topics[one.Topic] = s
	}
	return k
}

func TestWhatIsKnownOfTopicsIsChecked(t *testing.T) {
	definition := `projection: shipping
tables:
  orders:
    from: shop.orders
    upsert: [OrderPlacd, OrderPaid, OrderLost]
    columns:
      id: bigint key
      customer: bigint key = state.customer_id
      total: numeric(5,1)
      street: text = state.adress.street
      city: text = state.address.citty
      first: text = first(state.lines).anything
      reason: text = data.reasn
      below: text = state.nothing.below
  stock: {from: shop.stok, columns: {id: bigint key}}
  prices: {from: shop.prices, columns: {id: bigint key}}
`
	f, faults := Load("shipping.yaml", []byte(definition))
	if faults.Err() != nil {
		t.Fatal(faults)
	}
	known := samples(t, []string{"shop.orders", "shop.stock", "shop.prices"},
		`shop.orders OrderPlaced Order/7 {"reason":"x","state":{"id":7,"customer_id":1,"total":"12.35","nothing":null,"address":{"street":"Mill Lane","city":"York"},"lines":[]}}`,
		`shop.orders OrderPaid Order/7 {"state":{"id":7,"customer_id":1,"total":"12.35","nothing":null,"address":{"street":"Mill Lane","city":"York"},"lines":[]}}`)
	delete(known.Topics, "shop.stok")
	p, faults := Compile(f, known)
	if p != nil {
		t.Error("it compiles")
	}
	want := `shipping.yaml:15:17: tables.stock.from: value "shop.stok": there is no such topic; did you mean "shop.stock"?
shipping.yaml:16:18: tables.prices.from: value "shop.prices": has no events yet, so event types and fields could not be checked`
	if d := cmp.Diff(want, faults.Error()); d != "" {
		t.Error(d)
	}
	f, _ = Load("shipping.yaml", []byte(strings.Replace(definition, "shop.stok", "shop.stock", 1)))
	p, faults = Compile(f, known)
	if p != nil {
		t.Error("it compiles")
	}
	var texts []string
	for _, one := range faults {
		kind := "fault "
		if one.Warning {
			kind = "warning "
		}
		texts = append(texts, kind+one.Error())
	}
	golden(t, "testdata/known.txt", strings.Join(texts, "\n")+"\n")
}

// golden compares a text with a file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
}

func TestLook(t *testing.T) {
	log := projectiontest.NewLog()
	source := projectiontest.NewSource("shop")
	for i := range 1000 {
		if _, err := source.Commit(projectiontest.Event{Topic: "shop.customers", Type: "CustomerRegistered", Aggregate: "Customer", Key: fmt.Sprint(i),
			Data: fmt.Sprintf(`{"state":{"id":%d}}`, i)}); err != nil {
			t.Fatal(err)
		}
	}
	source.CreateTopics(log, "shop.customers")
	if err := source.Publish(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	f, faults := Load("it.yaml", []byte("projection: it\ntables:\n  a: {from: shop.customers, columns: {id: bigint key}}\n  b: {from: shop.orders, columns: {id: bigint key}}\n"))
	if faults.Err() != nil {
		t.Fatal(faults)
	}
	known, err := Look(t.Context(), log, f, []string{"shop.customers", "shop.watermarks"})
	if err != nil {
		t.Fatal(err)
	}
	c, there := known.Topics["shop.customers"]
	if _, other := known.Topics["shop.orders"]; other || !there || c.Partitions != source.Partitions || c.Records != 1000 {
		t.Errorf("%d partitions, %d records", c.Partitions, c.Records)
	}
	if n := len(c.Sample); n < 500 || n > 2*samplePerEnd*c.Partitions {
		t.Errorf("the sample has %d events", n)
	}
}

func TestSchemaIsThatOfTheGrammar(t *testing.T) {
	got, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "../../docs/projection.schema.json", string(got))
}

func TestAnEmptyBrokerIsToldAsOne(t *testing.T) {
	f, faults := Load("five.yaml", []byte("projection: five\ntables:\n  customers:\n    from: shop.customers\n    columns: {id: bigint key, name: text, country: text}\n"))
	if faults.Err() != nil {
		t.Fatal(faults)
	}
	_, faults = Compile(f, &Known{Names: []string{}, Topics: map[string]Topic{}})
	const want = `five.yaml:4:11: tables.customers.from: value "shop.customers": there is no topic at all yet: cdc run makes those of its rules`
	if err := faults.Err(); err == nil || err.Error() != want {
		t.Errorf("it says %v, want %s", err, want)
	}
}
