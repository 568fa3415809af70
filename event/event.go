// Package event is the vocabulary of Banyan: what a business event is, how it
// is identified, and which bytes it becomes on the wire.
//
// A business event is a fact with state, in the past tense and in the words of
// the business: OrderPlaced, StockChanged, CustomerMoved. It carries the state
// of its aggregate at the end of the transaction that caused it, so that
// applying it twice does no harm. Its id is derived from the source alone, so
// the same change gets the same id however often it is read.
package event

import (
	"encoding/json"
	"time"
)

// Event is one business event, ready to be stored in an outbox.
type Event struct {
	ID      ID
	Type    string    // "OrderPlaced"
	Version int       // of the type's data, from the rule; from 1
	Topic   string    // "shop.orders"
	Time    time.Time // commit time of the source transaction, UTC
	// Position is where the event stands in the order of commits. It is the
	// position in ID except for an event released from a parked chain, whose
	// position is that of the release.
	Position Position
	Rules    int    // version of the rule set that made it
	Cause    string // id of the event whose transaction part this one is, or ""
	// TraceParent is the W3C trace context of the request, where known.
	TraceParent string
	// Data is the value on the wire:
	// {occurredAt, <fields the rule names>, state, changed[]}; a removal has
	// "state": null and "last".
	Data json.RawMessage

	// Partition, Seq and Writer are assigned by the store, durably, in the
	// transaction that stores the event. Seq is dense per (topic, partition),
	// from 1. Writer is the epoch of the owner that committed it.
	Partition int
	Seq       int64
	Writer    int64
}

// Key is the record key: the aggregate's id, percent-encoded and comma-joined.
func (e *Event) Key() string { return e.ID.Key }
