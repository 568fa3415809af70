package shadow

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"banyan/compare"
	"banyan/projections"
)

// Whatever the data of an event are, it can be prepared; an order that cannot be read
// is counted as one, and what the journal says of it can be read.
func FuzzPrepare(f *testing.F) {
	f.Add(uint8(0), twoLines)
	f.Add(uint8(0), `{"state":{"lines":[{"line_no":1,"product_id":"p","quantity":-3,"unit_price":{"amount":-1,"scale":99,"currency":"\u0000"}}]}}`)
	f.Add(uint8(1), `{"line":1,"state":{"lines":[{"line_no":1,"product_id":7,"quantity":9223372036854775807,"unit_price":{"amount":9223372036854775807,"scale":0,"currency":"JPY"}}]}}`)
	f.Add(uint8(2), `{"occurredAt":"0001-01-01T00:00:00Z","state":{"customer_id":{"a":1},"channel":[1],"country":null,"lines":[{}]}}`)
	f.Add(uint8(3), `{"state":{"rejections":[{"product_id":"p","wanted":-9223372036854775808,"available":9223372036854775807,"unit_price":{"amount":1,"scale":0,"currency":"GBP"}}]}}`)
	f.Add(uint8(4), `{"orderId":1,"state":{"lines":[{"product_id":"p","quantity":-9223372036854775808,"unit_price":{"amount":9223372036854775807,"scale":4,"currency":"GBP"}}]}}`)
	f.Add(uint8(5), `{"state":{"stock":1e300}}`)
	f.Add(uint8(6), `{"state":{"price":{"amount":1},"tier_quantity":-1,"tier_price":[],"cost":"x"}}`)
	f.Add(uint8(0), ``)
	f.Add(uint8(6), `[[[[[[[[`)
	f.Add(uint8(4), "\xff\xfe")
	kinds := []struct{ topic, kind string }{{"shop.orders", "OrderPlaced"}, {"shop.orders", "OrderLineAdded"}, {"shop.orders", "OrderRecorded"}, {"shop.orders", "OrderRejected"},
		{"shop.returns", "ReturnAccepted"}, {"shop.stock", "StockChanged"}, {"shop.prices", "PriceChanged"}}
	o := named("fuzz")
	c, err := NewComparator(o, thriftyOne, nil, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, which uint8, data string) {
		k := kinds[int(which)%len(kinds)]
		s := newCore(o)
		s.candidate = thrifty{}
		e := at(s.reader, 1, 0, k.topic, k.kind, "1", data)
		e.Prepared = nil
		if err := c.Prepare(e); err != nil {
			t.Fatalf("it cannot be prepared: %v", err)
		}
		n, _ := e.Prepared.(*reading)
		if n == nil {
			t.Fatal("it is nothing")
		}
		if err := s.take(t.Context(), []*projections.Event{e, at(s.reader, 2, 0, "shop.orders", "OrderPlaced", "2", orderOf("1"))}); err != nil {
			t.Fatal(err)
		}
		order := n.kind == placed || n.kind == added || n.kind == recorded
		lines, orders := int64(0), int64(1) // the second one
		for _, b := range s.ledger.Books {
			lines += b.Consumed.Lines
		}
		switch {
		case n.bad != "" && !order:
			if s.ledger.Unread != 1 {
				t.Fatalf("%s: %d are unread", n.bad, s.ledger.Unread)
			}
		case n.bad != "":
			if orders++; s.ledger.Excluded[compare.Unreadable] != 1 {
				t.Fatalf("%s: %+v", n.bad, s.ledger.Excluded)
			}
		case order:
			if lines -= int64(len(n.lines)); n.kind != added {
				orders++
			}
		}
		if lines != 1 || s.ledger.Consumed != orders {
			t.Fatalf("%d lines too many, %d orders of %d", lines-1, s.ledger.Consumed, orders)
		}
		if order {
			checkEntry(t, s, e)
		}
		checkChanges(t, s)
	})
}

// checkEntry wants an entry of the journal that says the same when it is read and
// written by encoding/json.
func checkEntry(t *testing.T, s *core, e *projections.Event) {
	t.Helper()
	var one comparison
	s.begin(&one, e, e.Prepared.(*reading))
	raw := appendEntry(nil, &one)
	read, err := ParseEntry(raw)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	again, err := json.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	if utf8.Valid(raw) && string(again) != string(raw) {
		t.Fatalf("the journal has %s, encoding/json %s", raw, again)
	}
}

// checkChanges wants what is told and not known yet to be read as it was written.
func checkChanges(t *testing.T, s *core) {
	t.Helper()
	raw, err := json.Marshal(s.world.pending)
	if err != nil {
		t.Fatal(err)
	}
	var read []change
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(read)
	if err != nil || string(again) != string(raw) {
		t.Fatalf("%s is read as %s: %v", raw, again, err)
	}
}

// A source in which everything has another name is compared by a mapping of its own.
func TestAMappingOfAnotherSource(t *testing.T) {
	m := Mapping{Source: "laden",
		Orders: OrderMapping{Topic: "laden.auftrag", Placed: []string{"Bestellt"}, Added: []string{"Ergaenzt"}, Refused: []string{"Abgelehnt"}, At: "um", Customer: "wer.nummer", AddedLine: "zeile",
			Lines: "waren.liste", Line: LineMapping{Number: "nr", Product: "artikel", Quantity: "menge", Price: "preis"},
			Refusals: "fehlt", Refusal: RefusalMapping{Product: "artikel", Wanted: "gewollt", Available: "da", Price: "preis"}},
		Returns: ReturnMapping{Topic: "laden.retoure", Accepted: []string{"Zurueck"}, Order: "auftrag", Lines: "liste", Line: LineMapping{Product: "artikel", Quantity: "menge", Price: "preis"}},
		Stock:   StockMapping{Topic: "laden.lager", Pieces: "bestand"}, Prices: PriceMapping{Topic: "laden.preis", List: "preis"}}
	o := named("laden")
	o.Mapping = m
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	s := newCore(o)
	s.candidate = thrifty{}
	euro := func(n string) string { return `{"amount":` + n + `,"scale":2,"currency":"EUR"}` }
	r := s.reader
	events := []*projections.Event{
		at(r, 1, 0, "laden.preis", "Irgendwas", "7", `{"preis":`+euro("250")+`}`),
		at(r, 2, 0, "laden.lager", "Irgendwas", "7", `{"bestand":5}`),
		at(r, 3, 0, "laden.auftrag", "Bestellt", "1", `{"um":"2026-03-01T10:00:00Z","wer":{"nummer":42},"waren":{"liste":[{"nr":1,"artikel":7,"menge":2,"preis":`+euro("200")+`}]}}`),
		at(r, 4, 0, "laden.auftrag", "Ergaenzt", "1", `{"zeile":2,"wer":{"nummer":42},"waren":{"liste":[{"nr":1,"artikel":7,"menge":2,"preis":`+euro("200")+`},{"nr":2,"artikel":7,"menge":1,"preis":`+euro("200")+`}]}}`),
		at(r, 5, 0, "laden.auftrag", "Abgelehnt", "2", `{"fehlt":[{"artikel":7,"gewollt":4,"da":1,"preis":`+euro("200")+`}]}`),
		at(r, 6, 0, "laden.retoure", "Zurueck", "1", `{"auftrag":1,"liste":[{"artikel":7,"menge":-1,"preis":`+euro("200")+`}]}`),
		at(r, 7, 0, "laden.auftrag", "Storniert", "1", `{}`),
	}
	if err := s.take(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	b := s.ledger.Books["EUR"]
	// 2.50 and a tenth more, as there are 5 left: three times 2.75 for 2.00.
	if b.Compared.Lines != 2 || b.Compared.Control != 60_000 || b.Candidate != 82_500 || s.ledger.Consumed != 1 || len(b.Clusters) != 1 {
		t.Errorf("%+v of %d orders and %d customers", b.Compared, s.ledger.Consumed, len(b.Clusters))
	}
	if b.Returns.Linked.Pieces != -1 || b.Rejected.Short != 3 || s.world.products["7"].Refused.Pieces == (days{}).Pieces {
		t.Errorf("%+v, %+v", b.Returns, b.Rejected)
	}

	// What is not mapped is not there, and nothing else comes of it.
	o.Mapping.Orders.Refusals, o.Mapping.Returns.Lines, o.Mapping.Orders.Customer = "", "", ""
	s = newCore(o)
	s.candidate = thrifty{}
	for i, e := range events {
		events[i] = at(s.reader, uint64(i+1), 0, e.Topic, e.Type, e.ID.Key, string(e.Data))
	}
	if err := s.take(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if b = s.ledger.Books["EUR"]; b.Compared.Lines != 2 || !b.Clusters[sortedKeys(b.Clusters)[0]].Guest || b.Rejected.Lines != 0 {
		t.Errorf("%+v", b)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := named("good")
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"segments":                 func(o *Options) { o.Segments = []string{"weather"} },
		"sample: 0 %":              func(o *Options) { o.Sample = 0 },
		"sample: 100.01 %":         func(o *Options) { o.Sample = 10_001 },
		"maxFactor: 1":             func(o *Options) { o.MaxFactor = 1 },
		"_orders":                  func(o *Options) { o.Name = "my_orders" },
		"source: it is missing":    func(o *Options) { o.Mapping.Source = "" },
		"orders.placed":            func(o *Options) { o.Mapping.Orders.Placed = nil },
		"orders.line.price":        func(o *Options) { o.Mapping.Orders.Line.Price = "" },
		"stands for two things":    func(o *Options) { o.Mapping.Stock.Topic = o.Mapping.Orders.Topic },
		"what a shadow writes":     func(o *Options) { o.Mapping.Stock.Topic = "shadow.prices" },
		"orders.topic: it is miss": func(o *Options) { o.Mapping.Orders.Topic = "" },
	} {
		o := named("good")
		change(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if err := CheckTopic("shadow.prices", ShopMapping()); err != nil {
		t.Error(err)
	}
	for _, topic := range []string{"", "shadow.", "shop.prices", "shadow", "x.shadow.prices"} {
		if CheckTopic(topic, ShopMapping()) == nil {
			t.Errorf("a candidate may write %q", topic)
		}
	}
}
