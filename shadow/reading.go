package shadow

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"banyan/compare"
	"banyan/event"
	"banyan/expression"
	"banyan/money"
	"banyan/projections"
)

// What an event is to a shadow.
type kind int

const (
	nothing kind = iota
	placed
	added
	recorded
	refusedOrder
	returned
	stockTold
	priceTold
)

// reading is what a shadow takes from an event. It is made by several goroutines and
// rests on the event alone. Nine of ten tell of stock: a reading is small, and has what
// only some have elsewhere.
type reading struct {
	kind kind
	// bad says why the data are not what the mapping says; nothing else counts then.
	bad   string
	stock *int64

	*deal    // of orders, refusals and returns
	*listing // of list prices
}

// deal is what an order, a refusal or a return tells.
type deal struct {
	at                         time.Time
	customer, channel, country string
	lines                      []soldLine
	linked                     bool // of a return: its order is known
	// untimed says that nobody knows the business time of an order that a snapshot
	// tells of: what it asked for is no demand of any day.
	untimed bool
}

// listing is what a product costs, as it is told.
type listing struct {
	code    string
	text    string
	list    price
	tier    price
	tierQty int64
	cost    price
}

// soldLine is a line of an order, of a refusal or of a return.
type soldLine struct {
	line     int64
	product  string
	quantity int64
	wanted   int64 // of a refusal, whose quantity is what was available
	price    price
}

// price is a sum of money as it is counted here. Known is false where there is none,
// Fine where it has more decimals than are counted.
type price struct {
	Units    compare.Units `json:"units"`
	Scale    int           `json:"scale"` // that it was told with
	Currency string        `json:"currency"`
	Known    bool          `json:"known"`
	Fine     bool          `json:"fine,omitempty"`
}

// amount is the price in its own scale.
func (p price) amount() money.Amount {
	if !p.Known {
		return money.Amount{}
	}
	u := p.Units
	for i := p.Scale; i < compare.Scale; i++ {
		u /= 10
	}
	return money.Amount{Amount: u, Scale: min(p.Scale, compare.Scale), Currency: p.Currency}
}

// priceOf counts an amount in compare.Units.
func priceOf(a money.Amount) price {
	p := price{Currency: a.Currency, Scale: a.Scale}
	u := a.Amount
	for s := a.Scale; s < compare.Scale; s++ {
		var ok bool
		if u, ok = compare.Times(u, 10); !ok {
			return p
		}
	}
	for s := a.Scale; s > compare.Scale; s-- {
		if u%10 != 0 {
			p.Fine = true
			return p
		}
		u /= 10
	}
	p.Units, p.Known = u, a.Currency != ""
	return p
}

// reader takes from events what the mapping says.
type reader struct {
	m       Mapping
	kinds   map[string]map[string]kind // by topic, then by type; "" stands for all types
	order   pool
	refusal pool
	back    pool
	stock   pool
	prices  pool
}

// pool lends extractors, which are for one goroutine each.
type pool struct{ sync.Pool }

func poolOf(list string, fields []string, paths ...string) pool {
	return pool{sync.Pool{New: func() any {
		var all []expression.Path
		for _, p := range paths {
			all = append(all, pathOf(p))
		}
		x := expression.NewExtractor(all...)
		if len(fields) > 0 {
			x.List(pathOf(list), fields...)
		}
		return x
	}}}
}

// pathOf cuts a name of a mapping at its dots. What is not named is looked for where
// nothing is.
func pathOf(name string) expression.Path {
	if name == "" {
		return expression.Path{"\x00"}
	}
	return strings.Split(name, ".")
}

func newReader(m Mapping) *reader {
	r := &reader{m: m, kinds: map[string]map[string]kind{}}
	o := &m.Orders
	types := map[string]kind{}
	for k, names := range map[kind][]string{placed: o.Placed, added: o.Added, recorded: o.Recorded, refusedOrder: o.Refused} {
		for _, n := range names {
			types[n] = k
		}
	}
	r.kinds[o.Topic] = types
	if m.Returns.Topic != "" {
		types := map[string]kind{}
		for _, n := range m.Returns.Accepted {
			types[n] = returned
		}
		r.kinds[m.Returns.Topic] = types
	}
	if m.Stock.Topic != "" {
		r.kinds[m.Stock.Topic] = map[string]kind{"": stockTold}
	}
	if m.Prices.Topic != "" {
		r.kinds[m.Prices.Topic] = map[string]kind{"": priceTold}
	}
	l := o.Line
	r.order = poolOf(o.Lines, []string{l.Number, l.Product, l.Quantity, l.Price}, o.At, o.Customer, o.Channel, o.Country, o.AddedLine, o.PlacedAt)
	f := o.Refusal
	r.refusal = poolOf(o.Refusals, []string{f.Product, f.Wanted, f.Available, f.Price}, o.At)
	l = m.Returns.Line
	r.back = poolOf(m.Returns.Lines, []string{l.Product, l.Quantity, l.Price}, m.Returns.Order)
	r.stock = poolOf("", nil, m.Stock.Pieces)
	p := &m.Prices
	r.prices = poolOf("", nil, p.Code, p.Description, p.List, p.TierQuantity, p.Tier, p.Cost)
	return r
}

// kindOf says what an event is, by its type alone.
func (r *reader) kindOf(e *event.Event) kind {
	types := r.kinds[e.Topic]
	k, ok := types[e.Type]
	if !ok {
		k = types[""]
	}
	if k == placed && e.Position.Snapshot > 0 {
		k = recorded
	}
	return k
}

// read makes the reading of an event; nil where it is nothing to a shadow.
func (r *reader) read(e *projections.Event) *reading {
	k := r.kindOf(&e.Event)
	if k == nothing {
		return nil
	}
	n := &reading{kind: k}
	var err error
	switch k {
	case stockTold:
		err = r.readStock(n, e)
	case priceTold:
		n.listing = &listing{}
		err = r.readPrice(n, e)
	default:
		n.deal = &deal{at: e.Time.UTC()}
		err = r.readDeal(n, e)
	}
	if err != nil {
		n.bad = err.Error()
	}
	return n
}

func (r *reader) readDeal(n *reading, e *projections.Event) error {
	switch n.kind {
	case refusedOrder:
		return r.readRefusal(n, e)
	case returned:
		return r.readReturn(n, e)
	}
	return r.readOrder(n, e)
}

func (r *reader) readOrder(n *reading, e *projections.Event) error {
	x := r.order.Get().(*expression.Extractor)
	defer r.order.Put(x)
	v, err := x.Extract(e.Data)
	if err != nil {
		return err
	}
	told := firstOf(timeOf(v[0]), timeOf(v[5]))
	n.at, n.untimed = firstOf(told, e.Time), n.kind == recorded && told.IsZero()
	n.customer, n.channel, n.country = textOf(v[1]), textOf(v[2]), textOf(v[3])
	items, ok := v[6].([]any)
	if !ok && v[6] != nil {
		return fmt.Errorf("%s is no list", r.m.Orders.Lines)
	}
	only, some := v[4].(int64)
	n.lines = make([]soldLine, 0, len(items))
	for i, it := range items {
		f, ok := expression.Item(it)
		if !ok {
			return fmt.Errorf("%s, item %d, is no object", r.m.Orders.Lines, i)
		}
		l := soldLine{product: textOf(f[1]), price: moneyOf(f[3])}
		if l.line, ok = f[0].(int64); !ok {
			return fmt.Errorf("%s, item %d: %s is no whole number", r.m.Orders.Lines, i, r.m.Orders.Line.Number)
		}
		if n.kind == added && (!some || l.line != only) {
			continue
		}
		if l.quantity, ok = f[2].(int64); !ok || l.product == "" {
			return fmt.Errorf("%s, item %d: it has no %s, or a %s that is no whole number", r.m.Orders.Lines, i, r.m.Orders.Line.Product, r.m.Orders.Line.Quantity)
		}
		n.lines = append(n.lines, l)
	}
	if n.kind == added && len(n.lines) == 0 {
		return fmt.Errorf("the line that was added is not in %s", r.m.Orders.Lines)
	}
	return nil
}

func (r *reader) readRefusal(n *reading, e *projections.Event) error {
	x := r.refusal.Get().(*expression.Extractor)
	defer r.refusal.Put(x)
	v, err := x.Extract(e.Data)
	if err != nil {
		return err
	}
	n.at = firstOf(timeOf(v[0]), e.Time)
	items, ok := v[1].([]any)
	if !ok && v[1] != nil {
		return fmt.Errorf("%s is no list", r.m.Orders.Refusals)
	}
	for i, it := range items {
		f, ok := expression.Item(it)
		if !ok {
			return fmt.Errorf("%s, item %d, is no object", r.m.Orders.Refusals, i)
		}
		l := soldLine{product: textOf(f[0]), price: moneyOf(f[3])}
		if l.wanted, ok = f[1].(int64); !ok {
			return fmt.Errorf("%s, item %d: %s is no whole number", r.m.Orders.Refusals, i, r.m.Orders.Refusal.Wanted)
		}
		l.quantity, _ = f[2].(int64) // where nobody knows what was there, nothing was
		n.lines = append(n.lines, l)
	}
	return nil
}

func (r *reader) readReturn(n *reading, e *projections.Event) error {
	x := r.back.Get().(*expression.Extractor)
	defer r.back.Put(x)
	v, err := x.Extract(e.Data)
	if err != nil {
		return err
	}
	n.linked = v[0] != nil
	items, ok := v[1].([]any)
	if !ok && v[1] != nil {
		return fmt.Errorf("%s is no list", r.m.Returns.Lines)
	}
	for i, it := range items {
		f, ok := expression.Item(it)
		if !ok {
			return fmt.Errorf("%s, item %d, is no object", r.m.Returns.Lines, i)
		}
		l := soldLine{product: textOf(f[0]), price: moneyOf(f[2])}
		if l.quantity, ok = f[1].(int64); !ok {
			return fmt.Errorf("%s, item %d: %s is no whole number", r.m.Returns.Lines, i, r.m.Returns.Line.Quantity)
		}
		n.lines = append(n.lines, l)
	}
	return nil
}

func (r *reader) readStock(n *reading, e *projections.Event) error {
	x := r.stock.Get().(*expression.Extractor)
	defer r.stock.Put(x)
	v, err := x.Extract(e.Data)
	if err != nil {
		return err
	}
	if pieces, ok := v[0].(int64); ok {
		n.stock = &pieces
	}
	return nil
}

func (r *reader) readPrice(n *reading, e *projections.Event) error {
	x := r.prices.Get().(*expression.Extractor)
	defer r.prices.Put(x)
	v, err := x.Extract(e.Data)
	if err != nil {
		return err
	}
	n.code, n.text = textOf(v[0]), textOf(v[1])
	n.list, n.tier, n.cost = moneyOf(v[2]), moneyOf(v[4]), moneyOf(v[5])
	n.tierQty, _ = v[3].(int64)
	return nil
}

// timeOf gives a time; the zero time where there is none. The year 1 is how many
// programs write that they have none.
func timeOf(v any) (at time.Time) {
	switch t := v.(type) {
	case time.Time:
		at = t
	case string:
		if told, err := expression.ParseTime(t); err == nil {
			at = told
		}
	}
	if at.IsZero() {
		return time.Time{}
	}
	return at.UTC()
}

// firstOf gives the first time that is one.
func firstOf(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t.UTC()
		}
	}
	return time.Time{}
}

func textOf(v any) string {
	switch t := v.(type) {
	case string:
		return t
	case int64:
		return strconv.FormatInt(t, 10)
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}

func moneyOf(v any) price {
	if a, ok := v.(money.Amount); ok {
		return priceOf(a)
	}
	return price{}
}

// inCurrency reports whether all known prices of a list are in one currency, and
// which.
func (n *reading) currency() string {
	i := slices.IndexFunc(n.lines, func(l soldLine) bool { return l.price.Currency != "" })
	if i < 0 {
		return ""
	}
	return n.lines[i].price.Currency
}
