package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/projections/projectiontest"
)

// chain is what projector parked list prints.
type chain struct {
	Key       string
	Events    int
	Topic     string
	Partition int
	Since     string
	First     string
	Type      string
	Reason    string
}

// parkedEvent is what projector parked show prints.
type parkedEvent struct {
	ID, Type, Topic string
	Partition       int
	Offset, Seq     int64
	Since, Reason   string
	Data            json.RawMessage
}

// settled is what projector parked release and discard print.
type settled struct {
	Keys   int
	Events int
	Stuck  []string
}

// spoil lets the database refuse one customer, as a constraint that somebody has
// forgotten would.
const spoil = `
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'customer 7 is cursed'; END $$;
CREATE TRIGGER curse BEFORE INSERT OR UPDATE ON shipping_v1.customers FOR EACH ROW WHEN (NEW.id = 7) EXECUTE FUNCTION refuse();
`

// move makes one customer move, and writes it into the books.
func (s *shop) move(id int, country string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.customers[id]
	c.country = country
	if err := s.commit(*s.customerEvent(c, "CustomerMoved", map[string]bool{})); err != nil {
		s.t.Fatal(err)
	}
	if err := s.round(0); err != nil {
		s.t.Fatal(err)
	}
}

// register makes customers up to a number, who are never removed.
func (s *shop) register(to int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := len(s.customers) + 1; id <= to; id++ {
		c := &customer{id: id, name: fmt.Sprintf("customer %d", id), country: countries[id%len(countries)]}
		for len(c.name) < s.fat {
			c.name += fmt.Sprintf(" %x", s.rng.Uint64())
		}
		s.customers[id] = c
		if err := s.commit(*s.customerEvent(c, "CustomerRegistered", map[string]bool{})); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.round(0); err != nil {
		s.t.Fatal(err)
	}
}

func TestPoisonParksItsKeyAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	r := h.start()
	url := r.Listening()
	r.Await("running")
	h.shop.register(6)
	h.db.Exec(t, spoil)
	h.shop.register(20)
	for i := range 4 {
		h.shop.move(7, countries[i])
		h.shop.move(8, countries[i])
	}
	h.shop.trade(100) // moves others, and nobody waits for 7
	h.passed("shipping")
	want := h.shop.expected("shipping")["customers"].rows
	want = without(want, "7|")
	if diff := cmp.Diff(want, sorted(h.query(`SELECT concat_ws('|', id, name, country, changes) FROM shipping.customers`))); diff != "" {
		t.Errorf("the others (-want +got):\n%s", diff)
	}

	// Everybody who asks is told.
	var chains []chain
	h.decode(1, &chains, "parked", "list", "shipping")
	if len(chains) != 1 || chains[0].Key != "Customer/7" || chains[0].Events < 5 || chains[0].Type != "CustomerRegistered" || !strings.Contains(chains[0].Reason, "customer 7 is cursed") {
		t.Fatalf("the parked chains are %+v", chains)
	}
	var events []parkedEvent
	h.decode(0, &events, "parked", "show", "shipping", "Customer/7", "--limit", "100")
	if len(events) != chains[0].Events || events[0].ID != chains[0].First {
		t.Errorf("%d events are shown of %+v", len(events), chains[0])
	}
	for i := 1; i < len(events); i++ {
		if events[i].Seq <= events[i-1].Seq {
			t.Errorf("event %d of the chain has seq %d, after %d", i, events[i].Seq, events[i-1].Seq)
		}
	}
	if a := h.must(1, "status", "shipping"); !strings.Contains(a.Out, "1 keys are parked") {
		t.Errorf("status does not say it: %s", a)
	}
	token := h.shop.settle()
	if code, _, body := ask(t, url+"/customers/8", "Banyan-Token", token); code != 200 {
		t.Errorf("another key: %d %s", code, body)
	}
	code, header, body := ask(t, url+"/customers/7", "Banyan-Token", token)
	if code != 409 || header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, "urn:banyan:parked") || !strings.Contains(body, "Customer/7") {
		t.Errorf("the parked key: %d %s %s", code, header, body)
	}
	h.must(0, "verify", "shipping")

	// What is not mended stays.
	var s settled
	h.decode(1, &s, "parked", "release", "shipping", "Customer/7")
	if s.Keys != 0 || len(s.Stuck) != 1 || !strings.Contains(s.Stuck[0], "cursed") {
		t.Errorf("released too early: %+v", s)
	}
	h.shop.move(7, "Wales")
	h.db.Exec(t, `DROP TRIGGER curse ON shipping_v1.customers`)
	h.passed("shipping")
	h.decode(0, &s, "parked", "release", "shipping", "Customer/7")
	if s.Keys != 1 || s.Events < chains[0].Events+1 || len(s.Stuck) != 0 {
		t.Errorf("released: %+v of %d and one more", s, chains[0].Events)
	}
	h.exact("shipping")
	h.decode(0, &chains, "parked", "list", "shipping")
	if code, _, body := ask(t, url+"/customers/7", "Banyan-Token", token); code != 200 || !strings.Contains(body, `"country":"Wales"`) {
		t.Errorf("after the release: %d %s", code, body)
	}
	if a := h.must(1, "parked", "show", "shipping", "Customer/7"); !strings.Contains(a.Err, "Customer/7 is not parked in shipping") {
		t.Errorf("show of what is not parked: %s", a)
	}
	if a := h.projector("parked", "release", "shipping", "Customer/7"); a.Code != 1 {
		t.Errorf("release of what is not parked: %s", a)
	}
	r.Stop()
	if a := h.must(3, "parked", "release", "shipping", "--all"); !strings.Contains(a.Err, "start projector run") {
		t.Errorf("release without anybody who could: %s", a)
	}
}

func TestPoisonIsDiscarded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML, ledgerYAML)
	r := h.start()
	r.Await("running: shipping")
	h.shop.register(3)
	h.shop.trade(50)
	// An amount that fits no column of the shipping, and is none of the ledger's
	// business.
	tell := func(id int, status, amount string) {
		h.tell(func() {
			if err := h.shop.commit(projectiontest.Event{Topic: ordersTopic, Type: "OrderPlaced", Aggregate: "Order", Key: fmt.Sprint(id),
				Data: fmt.Sprintf(`{"state":{"id":%d,"customer_id":1,"status":%q,"lines":[],"total":{"amount":%s,"scale":3,"currency":"GBP"}}}`, id, status, amount)}); err != nil {
				t.Fatal(err)
			}
			h.shop.src.Mark()
		})
	}
	tell(900_001, "placed", "999999999999999999")
	tell(900_001, "paid", "1000")
	tell(900_002, "placed", "999999999999999999")
	h.shop.trade(50)
	h.passed("shipping", "ledger")
	var chains []chain
	h.decode(1, &chains, "parked", "list", "shipping")
	if len(chains) != 2 || chains[0].Key == chains[1].Key {
		t.Fatalf("parked: %+v", chains)
	}
	h.decode(0, &[]chain{}, "parked", "list", "ledger")
	if got := h.query(`SELECT id::text FROM ledger.purchases WHERE id > 900000 ORDER BY id`); cmp.Diff([]string{"900001", "900002"}, got) != "" {
		t.Errorf("the ledger has %v", got)
	}
	// Who looks at the topics first must not refuse to go on because of them.
	r.Kill()
	r = h.start("--assign", "all")
	r.Await("running: shipping")
	h.shop.trade(20)
	h.passed("shipping")
	var s settled
	h.decode(1, &s, "parked", "release", "shipping", "--all")
	if s.Keys != 0 || len(s.Stuck) != 2 {
		t.Errorf("released what fits nowhere: %+v", s)
	}
	h.decode(0, &s, "parked", "discard", "shipping", "Order/900001")
	if s.Keys != 1 || s.Events != 2 {
		t.Errorf("discarded: %+v", s)
	}
	h.decode(0, &s, "parked", "discard", "shipping", "--all")
	h.decode(0, &chains, "parked", "list", "shipping")
	// The next event brings the whole state.
	tell(900_001, "shipped", "5000")
	h.passed("shipping")
	if got := h.one(`SELECT concat_ws('|', id, status, total, history) FROM shipping.orders WHERE id > 900000`); got != "900001|shipped|5.000|shipped " {
		t.Errorf("after the next event: %s", got)
	}
	h.must(0, "verify", "shipping")
	r.Stop()
}

func TestRunStopsAtPoisonWhereToldTo(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	h.shop.register(6)
	h.must(0, "run", "--until-caught-up")
	h.db.Exec(t, spoil)
	h.shop.register(20)
	a := h.must(1, "run", "--until-caught-up", "--stop-at-poison")
	if !strings.Contains(a.Err, "shop/Customer/7@1:0/") || !strings.Contains(a.Err, "cursed") || !strings.Contains(a.Err, "shop.customers/") {
		t.Errorf("it does not say at which event: %s", a)
	}
	h.decode(0, &[]chain{}, "parked", "list", "shipping")
	h.db.Exec(t, `DROP TRIGGER curse ON shipping_v1.customers`)
	h.must(0, "run", "--until-caught-up", "--stop-at-poison")
	h.exact("shipping")
}

// without leaves out the rows that begin so.
func without(rows []string, begin string) []string {
	kept := []string{}
	for _, r := range rows {
		if !strings.HasPrefix(r, begin) {
			kept = append(kept, r)
		}
	}
	return kept
}

// ask asks the read API and gives status, headers and body.
func ask(t *testing.T, url string, headers ...string) (int, http.Header, string) {
	t.Helper()
	code, header, body, err := fetch(t.Context(), url, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return code, header, body
}
