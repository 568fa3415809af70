package main_test

import (
	"strings"
	"testing"
)

func TestLostSlotIsRefusedAndRepaired(t *testing.T) {
	h := ready(t)
	h.must(0, "run", "--until-caught-up")
	h.proved()
	before := len(h.tail(h.topics()...))
	h.source.Exec(t, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
	// What nobody will ever stream: a change, a birth, and a removal.
	h.source.Exec(t, `UPDATE orders SET status = 'shipped' WHERE id = 1`)
	h.source.Exec(t, `INSERT INTO customers (name) VALUES ('unseen')`)
	h.source.Exec(t, `DELETE FROM order_items WHERE order_id = 2`)
	h.source.Exec(t, `DELETE FROM orders WHERE id = 2`)

	if a := h.must(1, "run"); !strings.Contains(a.Err, "cdc repair") {
		t.Errorf("the refusal does not name the way out: %s", a)
	}
	h.must(1, "verify", "--wait", "1s")
	h.must(0, "repair")
	h.proved()
	events := h.tail(h.topics()...)
	if n := len(events) - before; n != 3 {
		t.Errorf("%d events were published for three differences", n)
	}
	types := map[string]int{}
	for _, e := range events {
		if strings.Contains(e.ID, "@2:") {
			types[e.Type]++
		}
	}
	if types["CustomerRecorded"] != 1 || types["OrderCorrected"] != 1 || types["OrderRemoved"] != 1 {
		t.Errorf("generation 2 says %v, want a CustomerRecorded, an OrderCorrected and an OrderRemoved", types)
	}

	r := h.start()
	url := r.Listening()
	r.AwaitNext("streaming")
	h.sayGeneration(url, "shop", 2)
	h.source.Exec(t, `UPDATE orders SET status = 'paid' WHERE id = 3`)
	h.proved()
	h.uniqueIDs()
	r.Stop()
}

func TestSlotMadeAnewIsRefused(t *testing.T) {
	h := ready(t)
	h.must(0, "run", "--until-caught-up")
	slot := "banyan_shop"
	h.source.Exec(t, `SELECT pg_drop_replication_slot($1)`, slot)
	h.source.Exec(t, `INSERT INTO customers (name) VALUES ('unseen')`)
	h.source.Exec(t, `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
	a := h.must(1, "run")
	if !strings.Contains(a.Err, "consumed up to") || !strings.Contains(a.Err, "stored position") {
		t.Errorf("the refusal does not name both LSNs: %s", a)
	}
}
