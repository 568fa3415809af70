package pricing

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"banyan/event"
	"banyan/money"
)

// Topics are the topics of a shop that a View lives on, without the name of the
// source: "prices" is the topic shop.prices. Within one transaction their events
// come in this order.
var Topics = []string{"prices", "stock", "orders"}

// Fact is what a View keeps of an event until its turn comes.
type Fact struct {
	Position event.Position
	Time     time.Time // of the commit
	// At is the business time; the zero time where the event has none.
	At time.Time
	// Fault is why the event cannot be read. A View then knows nothing of the
	// product any more, rather than something old.
	Fault error

	about   about
	product string
	list    list
	stock   int64
	gone    bool // there is no stock any more
	order   string
	lines   []piece
}

// about is what a Fact is about.
type about int

const (
	aboutNothing about = iota
	aboutPrice
	aboutStock
	aboutOrder
)

// list is what a product costs by the shop's list.
type list struct {
	unit, tier, cost money.Amount
	tierQuantity     int64
}

// piece is a line of an order: how many of what.
type piece struct {
	product  string
	quantity int64
}

// Matters reports whether a View can do anything with the fact.
func (f *Fact) Matters() bool { return f.about != aboutNothing }

// Read makes a Fact of an event of one of the Topics. It is pure, so that events can
// be read on several processors. A product is the same in all topics: its key.
func Read(e *event.Event) Fact {
	f := Fact{Position: e.Position, Time: e.Time}
	var err error
	switch e.Topic[strings.LastIndexByte(e.Topic, '.')+1:] {
	case "prices":
		f.about, f.product = aboutPrice, e.ID.Key
		err = f.readPrice(e.Data)
	case "stock":
		f.about, f.product = aboutStock, e.ID.Key
		err = f.readStock(e.Data)
	case "orders":
		// What becomes of an order later does not change what was asked for.
		if e.Type == "OrderPlaced" || e.Type == "OrderRecorded" {
			f.about, f.order = aboutOrder, e.ID.Key
			err = f.readOrder(e.Data)
		}
	}
	if err != nil {
		f.Fault = fmt.Errorf("read %s, %s: %w", e.ID, e.Type, err)
	}
	return f
}

func (f *Fact) readPrice(data []byte) error {
	var d struct {
		OccurredAt *time.Time `json:"occurredAt"`
		State      *struct {
			Price        *money.Amount `json:"price"`
			TierQuantity *int64        `json:"tier_quantity"`
			TierPrice    *money.Amount `json:"tier_price"`
			Cost         *money.Amount `json:"cost"`
		} `json:"state"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	f.setTime(d.OccurredAt)
	if d.State == nil {
		return nil // removed: there is no list price any more
	}
	var err error
	amount := func(a *money.Amount) money.Amount {
		if a == nil {
			return money.Amount{} // not known
		}
		if a.Scale < 0 || a.Scale > money.MaxScale {
			err = fmt.Errorf("an amount has the scale %d", a.Scale)
		}
		return *a
	}
	f.list = list{unit: amount(d.State.Price), tier: amount(d.State.TierPrice), cost: amount(d.State.Cost)}
	if d.State.TierQuantity != nil {
		f.list.tierQuantity = *d.State.TierQuantity
	}
	return err
}

func (f *Fact) readStock(data []byte) error {
	var d struct {
		OccurredAt *time.Time `json:"occurredAt"`
		State      *struct {
			Stock *int64 `json:"stock"`
		} `json:"state"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	f.setTime(d.OccurredAt)
	if d.State == nil {
		f.gone = true
		return nil
	}
	if d.State.Stock == nil {
		return fmt.Errorf("state has no stock")
	}
	f.stock = *d.State.Stock
	return nil
}

func (f *Fact) readOrder(data []byte) error {
	var d struct {
		OccurredAt *time.Time `json:"occurredAt"`
		State      *struct {
			PlacedAt *time.Time `json:"placed_at"`
			Lines    []struct {
				Product  key   `json:"product_id"`
				Quantity int64 `json:"quantity"`
			} `json:"lines"`
		} `json:"state"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	if d.State == nil {
		return fmt.Errorf("it has no state")
	}
	f.setTime(d.OccurredAt)
	f.setTime(d.State.PlacedAt)
	if f.At.IsZero() {
		f.At = f.Time
	}
	f.lines = make([]piece, 0, len(d.State.Lines))
	for _, l := range d.State.Lines {
		if l.Product != "" && l.Quantity > 0 {
			f.lines = append(f.lines, piece{string(l.Product), min(l.Quantity, mostPieces)})
		}
	}
	return nil
}

// setTime takes over a business time. One that lies after the commit is a slip of
// somebody's pen, and would make all demand before it old.
func (f *Fact) setTime(at *time.Time) {
	if at != nil && !at.IsZero() {
		f.At = at.UTC()
		if f.At.After(f.Time.Add(24 * time.Hour)) {
			f.At = f.Time
		}
	}
}

// key is a key column's value, a number or a text, as JoinKey writes it; "" for null.
type key string

func (k *key) UnmarshalJSON(b []byte) error {
	var text string
	switch {
	case string(b) == "null":
		return nil
	case b[0] == '"':
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	default:
		var n json.Number
		if err := json.Unmarshal(b, &n); err != nil {
			return err
		}
		text = n.String()
	}
	*k = key(event.JoinKey(text))
	return nil
}
