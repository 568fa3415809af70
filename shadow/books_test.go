package shadow

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"banyan/compare"
	"banyan/money"
	"banyan/quote"
)

// books are what the shop has told, in the order of its commits.
type books struct {
	orders                 []booked
	returned, back         int64 // lines and, of GBP, money
	refused, wanted, short int64
	unread, unlinked       int64
}

// booked is an order, or a line that was added to one.
type booked struct {
	event, order, customer string
	added                  bool
	reason                 compare.Reason // of one without lines
	lines                  []bookedLine
}

type bookedLine struct {
	Line, Quantity     int64
	Product, Currency  string
	Control, Candidate int64
	Paid, Quoted       int64
	Reason             compare.Reason
}

// book says what has to become of a line, in units of 10^-4.
func (tx *transaction) book(n map[string]any, c *cart, day int64) bookedLine {
	b := bookedLine{Line: n["line_no"].(int64), Product: n["product_id"].(string), Quantity: n["quantity"].(int64)}
	price, some := n["unit_price"].(map[string]any)
	if some {
		b.Currency = price["currency"].(string)
	}
	w := tx.now[b.Product]
	switch {
	case some && price["scale"].(int) == 5:
		b.Reason = compare.NoPrice
		return b
	case !some:
		b.Reason = compare.NoPrice
		return b
	}
	b.Control = units(price["amount"].(int64), price["scale"].(int))
	b.Paid = b.Control * b.Quantity
	switch {
	case b.Quantity <= 0:
		b.Reason = compare.NotSold
	case b.Control == 0:
		b.Reason = compare.Free
	case tx.snapshot:
		b.Reason = compare.Recorded
	case c.channel == "phone":
		b.Reason = compare.Declined
	case !w.listed:
		b.Reason = compare.NoAnswer
	case w.currency != b.Currency:
		b.Reason = compare.WrongCurrency
	default:
		amount := w.asked(b.Quantity, day)
		if units(amount, w.scale) > 10*max(b.Control, units(w.list, w.scale))+9 {
			b.Reason = compare.BadPrice
			return b
		}
		b.Candidate = units(amount, w.scale)
		b.Quoted = b.Candidate * b.Quantity
	}
	return b
}

func units(amount int64, scale int) int64 {
	for ; scale < 4; scale++ {
		amount *= 10
	}
	return amount
}

// asked is what the candidate charges for a piece, by what the shop knows.
func (w *ware) asked(quantity, day int64) int64 {
	p := w.list
	if w.tierQuantity > 0 && quantity >= w.tierQuantity {
		p = w.tier
	}
	if w.stock != nil && *w.stock < 10 {
		p += p / 10
	}
	pieces := int64(0)
	for _, s := range w.sold {
		if s.day <= day && s.day > day-7 {
			pieces += s.pieces
		}
	}
	if pieces >= 20 {
		p -= p / 20
	}
	return p
}

// thrifty is the candidate: the same rules, by what it is told.
type thrifty struct{}

func (thrifty) Name() string  { return "thrifty" }
func (thrifty) Build() string { return "1" }

func (thrifty) Price(o *quote.Order, into *quote.Answer) error {
	if o.Channel == "phone" {
		return errors.New("it takes no calls")
	}
	for i := range o.Lines {
		l := &o.Lines[i]
		k := &l.Known
		if k.List.Currency == "" {
			continue
		}
		p := k.List
		if k.TierQuantity > 0 && l.Quantity >= k.TierQuantity {
			p = k.Tier
		}
		if k.Stock != nil && *k.Stock < 10 {
			p.Amount += p.Amount / 10
		}
		if k.Demand.Days7 >= 20 {
			p.Amount -= p.Amount / 20
		}
		into.Lines = append(into.Lines, quote.Price{Line: l.Line, Unit: p, Rule: "thrift"})
	}
	return nil
}

// count is what of a currency was compared, or set aside for a reason.
type count struct {
	Lines, Control, Candidate int64
}

// account is what a ledger says in the words of the books.
type account struct {
	Consumed, Compared, Unread int64
	Excluded                   map[compare.Reason]int64
	Sums                       map[string]map[compare.Reason]count // by currency; "" is compared
	Products                   map[string]map[string]int64         // differences
	Customers                  map[string][]int64                  // differences, sorted: nobody knows whose
	Returned, Unlinked, Back   int64
	Refused, Wanted, Short     int64
}

// account adds the books up.
func (b *books) account() account {
	a := account{Unread: b.unread, Excluded: map[compare.Reason]int64{}, Sums: map[string]map[compare.Reason]count{}, Products: map[string]map[string]int64{}, Customers: map[string][]int64{},
		Returned: b.returned, Unlinked: b.unlinked, Back: b.back, Refused: b.refused, Wanted: b.wanted, Short: b.short}
	customers := map[string]map[string]int64{}
	for _, o := range b.orders {
		first, some := o.reason, false
		for i, l := range o.lines {
			if a.Sums[l.Currency] == nil {
				a.Sums[l.Currency], a.Products[l.Currency], customers[l.Currency] = map[compare.Reason]count{}, map[string]int64{}, map[string]int64{}
			}
			c := a.Sums[l.Currency][l.Reason]
			a.Sums[l.Currency][l.Reason] = count{c.Lines + 1, c.Control + l.Paid, c.Candidate + l.Quoted}
			if l.Reason == "" {
				some = true
				a.Products[l.Currency][l.Product] += l.Quoted - l.Paid
				customers[l.Currency][o.customer] += l.Quoted - l.Paid
			}
			if i == 0 {
				first = l.Reason
			}
		}
		switch {
		case o.added:
			continue
		case some:
			a.Compared++
		default:
			a.Excluded[first]++
		}
		a.Consumed++
	}
	for currency, m := range customers {
		if len(m) == 0 {
			continue
		}
		a.Customers[currency] = slices.Sorted(maps.Values(m))
	}
	return a
}

// accountOf reads a ledger.
func accountOf(l *compare.Ledger) account {
	a := account{Consumed: l.Consumed, Compared: l.Compared, Unread: l.Unread, Excluded: l.Excluded, Sums: map[string]map[compare.Reason]count{}, Products: map[string]map[string]int64{}, Customers: map[string][]int64{}}
	for currency, b := range l.Books {
		sums := map[compare.Reason]count{}
		if b.Compared.Lines > 0 {
			sums[""] = count{b.Compared.Lines, b.Compared.Control, b.Candidate}
		}
		for reason, t := range b.Excluded {
			sums[reason] = count{t.Lines, t.Control, 0}
		}
		for _, r := range []compare.Returned{b.Returns.Linked, b.Returns.Unlinked} {
			a.Returned += r.Lines
			a.Back += r.Control
		}
		a.Unlinked += b.Returns.Unlinked.Lines
		a.Refused, a.Wanted, a.Short = a.Refused+b.Rejected.Lines, a.Wanted+b.Rejected.Wanted, a.Short+b.Rejected.Short
		if b.Consumed.Lines == 0 {
			continue // of a currency in which nothing was ordered
		}
		a.Sums[currency], a.Products[currency] = sums, map[string]int64{}
		for product, p := range b.Products {
			a.Products[currency][product] = p.Diff
		}
		for _, c := range b.Clusters {
			if c.Lines > 0 {
				a.Customers[currency] = append(a.Customers[currency], c.Diff)
			}
		}
		slices.Sort(a.Customers[currency])
	}
	return a
}

// check holds a ledger against the books.
func (b *books) check(t testing.TB, l *compare.Ledger) {
	t.Helper()
	if diff := cmp.Diff(b.account(), accountOf(l), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("the ledger (-want +got):\n%s", diff)
	}
}

// checkJournal wants an entry for each order of the books, with its lines.
func (b *books) checkJournal(t testing.TB, journal []Entry) {
	t.Helper()
	type page struct {
		Order  string
		Reason string
		Lines  []bookedLine
	}
	want, got := map[string]page{}, map[string]page{}
	for _, o := range b.orders {
		want[o.event] = page{o.order, string(o.reason), o.lines}
	}
	for _, e := range journal {
		p := page{e.Order, e.Reason, nil}
		for _, l := range e.Lines {
			p.Lines = append(p.Lines, bookedLine{l.Line, l.Quantity, l.Product, l.Currency, l.Control, l.Candidate, l.Paid, l.Quoted, l.Reason})
		}
		if _, twice := got[e.Event]; twice {
			t.Errorf("%s stands there twice", e.Event)
		}
		got[e.Event] = p
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("the journal (-want +got):\n%s", diff)
	}
}

// whole is everything in a ledger, as JSON.
func whole(t testing.TB, l *compare.Ledger) string {
	t.Helper()
	type book struct {
		Book     *compare.Book
		Clusters map[string]*compare.Cluster
		Products map[string]*compare.Product
		Moves    map[int64]*compare.Move
		Days     map[int32]*compare.Day
	}
	all := map[string]book{}
	for currency, b := range l.Books {
		all[currency] = book{b, b.Clusters, b.Products, b.Moves, b.Days}
	}
	raw, err := json.MarshalIndent(map[string]any{"ledger": l, "books": all}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// gbp is a sum of so many thousandths of a pound.
func gbp(amount int64) money.Amount { return money.Amount{Amount: amount, Scale: 3, Currency: "GBP"} }
