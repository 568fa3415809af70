package shadow

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"banyan/compare"
	"banyan/event"
	"banyan/projections/control"
	"banyan/quote"
)

// World is what is known of products at a place in the order of commits. What a
// transaction tells becomes known when the next one is looked at: an order is priced
// with what was known strictly before its own commit, so that it sees neither the
// stock that it took nor another order of the same transaction.
type World struct {
	products map[string]*product
	group    control.Mark // of the transaction that is looked at
	pending  []change     // told by it
	changed  []*product
}

// change is something told of one product that is not known yet.
type change struct {
	Kind    kind   `json:"kind"`
	Product string `json:"product"`
	Stock   *int64 `json:"stock,omitempty"`
	Code    string `json:"code,omitempty"`
	Text    string `json:"text,omitempty"`
	TierQty int64  `json:"tierQty,omitempty"`
	List    price  `json:"list,omitzero"`
	Tier    price  `json:"tier,omitzero"`
	Cost    price  `json:"cost,omitzero"`
	Day     int32  `json:"day,omitempty"`
	Pieces  int64  `json:"pieces,omitempty"`
}

// product is what is known of one. Its exported fields are what is kept in the
// database.
type product struct {
	key   string
	dirty bool
	// known is made of the fields below when they change.
	known quote.Product

	List         price
	Prev         price // the list price before it
	Tier         price
	Cost         price
	Code         string
	Description  string
	Stock        *int64
	TierQuantity int64
	// Demand is pieces by business day, Refused likewise: of the last window days.
	Demand  days
	Refused days
}

// window is how many business days of demand are known.
const window = 28

// days are pieces by day: the day's number modulo window is its place.
type days struct {
	Day    [window]int32
	Pieces [window]int64
	// Last is the latest day with pieces.
	Last int32
}

// MarshalJSON writes the days that have pieces, as pairs: all of them, the old ones
// too, since an order that is told late may ask for them. What was read again has to be
// what was written, or a restart would show.
func (d days) MarshalJSON() ([]byte, error) { return d.append(make([]byte, 0, 64)), nil }

func (d *days) append(b []byte) []byte {
	b = append(b, '[')
	first := len(b)
	for i, n := range d.Pieces {
		if n == 0 {
			continue
		}
		if len(b) > first {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendInt(b, int64(d.Day[i]), 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, n, 10)
		b = append(b, ']')
	}
	return append(b, ']')
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *days) UnmarshalJSON(raw []byte) error {
	var pairs [][2]int64
	if err := json.Unmarshal(raw, &pairs); err != nil {
		return err
	}
	*d = days{}
	for _, p := range pairs {
		d.add(int32(p[0]), p[1])
	}
	return nil
}

// add counts pieces on a day.
func (d *days) add(day int32, pieces int64) {
	i := place(day)
	switch {
	case d.Day[i] == day:
		d.Pieces[i] = plus(d.Pieces[i], pieces)
	case d.Day[i] < day || d.Pieces[i] == 0:
		d.Day[i], d.Pieces[i] = day, pieces
	default:
		return // an order of long ago, told late
	}
	d.Last = max(d.Last, day)
}

// plus adds pieces, which are never negative. An order of more than can be counted is
// as much as can be.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func place(day int32) int {
	i := int(day) % window
	if i < 0 {
		i += window
	}
	return i
}

// sums gives the pieces of the 1, 7 and 28 days that end with a day.
func (d *days) sums(day int32) (one, week, all int64) {
	if d.Last < day-window+1 {
		return 0, 0, 0
	}
	for i, n := range d.Pieces {
		switch ago := day - d.Day[i]; {
		case n == 0 || ago < 0 || ago >= window:
		case ago == 0:
			one, week, all = plus(one, n), plus(week, n), plus(all, n)
		case ago < 7:
			week, all = plus(week, n), plus(all, n)
		default:
			all = plus(all, n)
		}
	}
	return one, week, all
}

func newWorld() *World { return &World{products: map[string]*product{}} }

// enter begins to look at an event: what earlier transactions told is known from here
// on.
func (w *World) enter(p event.Position) {
	g := control.Mark{Generation: p.Generation, LSN: p.LSN}
	if g.Compare(w.group) == 0 {
		return
	}
	w.settle()
	w.group = g
}

// settle makes known what the transaction looked at has told.
func (w *World) settle() {
	for i := range w.pending {
		w.apply(&w.pending[i])
	}
	clear(w.pending)
	w.pending = w.pending[:0]
}

func (w *World) product(key string) *product {
	p := w.products[key]
	if p == nil {
		p = &product{key: key}
		w.products[key] = p
	}
	return p
}

// tell takes in what an event says of products. It is known from the next transaction
// on; at once where a snapshot tells it, since nothing of that is compared.
func (w *World) tell(key string, n *reading, snapshot bool) {
	tell := func(c change) {
		c.Kind = n.kind
		if snapshot {
			w.apply(&c)
			return
		}
		w.pending = append(w.pending, c)
	}
	switch n.kind {
	case stockTold:
		tell(change{Product: key, Stock: n.stock})
	case priceTold:
		tell(change{Product: key, List: n.list, Tier: n.tier, Cost: n.cost, TierQty: n.tierQty, Code: n.code, Text: n.text})
	case placed, added, recorded:
		if n.untimed {
			return
		}
		for _, l := range n.lines {
			if l.quantity > 0 {
				tell(change{Product: l.product, Day: dayOf(n.at), Pieces: l.quantity})
			}
		}
	case refusedOrder:
		for _, l := range n.lines {
			if short := short(&l); short > 0 {
				tell(change{Product: l.product, Day: dayOf(n.at), Pieces: short})
			}
		}
	}
}

// apply makes one change known.
func (w *World) apply(c *change) {
	p := w.product(c.Product)
	switch c.Kind {
	case stockTold:
		p.Stock = c.Stock
		p.know()
	case priceTold:
		if c.List != p.List && p.List.Known {
			p.Prev = p.List
		}
		p.List, p.Tier, p.Cost, p.TierQuantity = c.List, c.Tier, c.Cost, c.TierQty
		if c.Code != "" {
			p.Code = c.Code
		}
		if c.Text != "" {
			p.Description = c.Text
		}
		p.know()
	case refusedOrder:
		p.Refused.add(c.Day, c.Pieces)
	default:
		p.Demand.add(c.Day, c.Pieces)
	}
	if !p.dirty {
		p.dirty = true
		w.changed = append(w.changed, p)
	}
}

// takeChanged gives the products that have changed since it was last called, each once.
// The list is good until the next change.
func (w *World) takeChanged() []*product {
	all := w.changed
	for _, p := range all {
		p.dirty = false
	}
	w.changed = w.changed[:0]
	return all
}

// know makes known of what was told.
func (p *product) know() {
	p.known = quote.Product{Code: p.Code, Description: p.Description, List: p.List.amount(), TierQuantity: p.TierQuantity,
		Tier: p.Tier.amount(), Cost: p.Cost.amount(), Stock: p.Stock}
}

// at is what was known of a product, for an order of a day.
func (p *product) at(day int32) quote.Product {
	if p == nil {
		return quote.Product{}
	}
	k := p.known
	k.Demand.Days1, k.Demand.Days7, k.Demand.Days28 = p.Demand.sums(day)
	_, _, k.Demand.Refused = p.Refused.sums(day)
	return k
}

// dayOf counts days from 1970-01-01.
func dayOf(t time.Time) int32 {
	s := t.Unix()
	d := s / 86400
	if s%86400 < 0 {
		d--
	}
	return int32(d)
}

// clues are what tells the cause of a difference of prices in a currency.
func (p *product) clues(currency string) compare.Clues {
	if p == nil {
		return compare.Clues{}
	}
	return compare.Clues{List: p.List.in(currency), Previous: p.Prev.in(currency), Tier: p.Tier.in(currency), TierQuantity: p.TierQuantity, Stock: p.Stock}
}

// in is the price where it is in a currency, else 0, as one that is not known.
func (p price) in(currency string) compare.Units {
	if p.Currency != currency {
		return 0
	}
	return p.Units
}
