package quote

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"banyan/money"
)

// MaxLines is how many lines an order may have.
const MaxLines = 10_000

// maxName bounds ids, keys and names, in bytes.
const maxName = 1_000

// Fault is one thing wrong in a request or in an answer.
type Fault struct {
	Field string // "orders[3].lines[0].quantity"
	Value string // as it stands there, cut to a length that can be shown; "" where it is missing
	Want  string // what would be right
}

// Error writes field: value "x": what would be right.
func (f Fault) Error() string {
	if f.Value == "" {
		return f.Field + ": " + f.Want
	}
	return f.Field + ": value " + strconv.Quote(f.Value) + ": " + f.Want
}

// Faults are all that is wrong, or the first of it: there are at most maxFaults.
type Faults []Fault

// maxFaults bounds what is told at once. Who sends a thousand orders in the wrong
// form needs a few to see it.
const maxFaults = 20

// Error writes one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// checker collects faults.
type checker struct{ faults Faults }

func (c *checker) say(field, value, want string) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, Fault{field, cut(value), want})
	}
}

func (c *checker) err() error {
	if len(c.faults) == 0 {
		return nil
	}
	return c.faults
}

// Check tells all that is wrong with an order, as Faults with fields such as
// "lines[0].quantity"; nil where it can be priced.
func (o *Order) Check() error {
	var c checker
	o.check(&c, "")
	return c.err()
}

// check tells what is wrong with an order whose fields begin with at.
func (o *Order) check(c *checker, at string) {
	c.name(at+"id", o.ID, "want the id of the event that tells of the order")
	c.name(at+"order", o.Order, "want the order's own key")
	c.asOf(at+"asOf", o.AsOf)
	c.optional(at+"customer", o.Customer)
	c.optional(at+"channel", o.Channel)
	c.optional(at+"country", o.Country)
	c.time(at+"placedAt", o.PlacedAt)
	c.time(at+"committedAt", o.CommittedAt)
	c.currency(at+"currency", o.Currency)
	if n := len(o.Lines); n == 0 || n > MaxLines {
		c.say(at+"lines", fmt.Sprintf("%d lines", n), fmt.Sprintf("want 1 to %d", MaxLines))
		return
	}
	seen := make(map[int64]bool, len(o.Lines))
	for i := range o.Lines {
		l := &o.Lines[i]
		at := fmt.Sprintf("%slines[%d].", at, i)
		if seen[l.Line] {
			c.say(at+"line", strconv.FormatInt(l.Line, 10), "want another number for each line")
		}
		seen[l.Line] = true
		l.check(c, at)
	}
}

func (l *Line) check(c *checker, at string) {
	c.name(at+"product", l.Product, "want the product's key")
	if l.Quantity < 1 {
		c.say(at+"quantity", strconv.FormatInt(l.Quantity, 10), "want at least 1 piece")
	}
	k := &l.Known
	at += "known."
	c.optional(at+"code", k.Code)
	c.optional(at+"description", k.Description)
	c.known(at+"list", k.List)
	c.known(at+"tier", k.Tier)
	c.known(at+"cost", k.Cost)
	c.notNegative(at+"tierQuantity", k.TierQuantity)
	at += "demand."
	c.notNegative(at+"days1", k.Demand.Days1)
	c.notNegative(at+"days7", k.Demand.Days7)
	c.notNegative(at+"days28", k.Demand.Days28)
	c.notNegative(at+"refused", k.Demand.Refused)
}

// Check tells all that is wrong with an answer by itself, as Faults; whether it
// answers what was asked is seen beside the order alone.
func (a *Answer) Check() error {
	var c checker
	a.check(&c, "")
	return c.err()
}

func (a *Answer) check(c *checker, at string) {
	c.name(at+"id", a.ID, "want the id of the order, echoed")
	if a.AsOf != "" {
		c.asOf(at+"asOf", a.AsOf)
	}
	if len(a.Lines) > MaxLines {
		c.say(at+"lines", fmt.Sprintf("%d lines", len(a.Lines)), fmt.Sprintf("want at most %d", MaxLines))
		return
	}
	seen := make(map[int64]bool, len(a.Lines))
	for i := range a.Lines {
		p := &a.Lines[i]
		at := fmt.Sprintf("%slines[%d].", at, i)
		if seen[p.Line] {
			c.say(at+"line", strconv.FormatInt(p.Line, 10), "want each line of the order once")
		}
		seen[p.Line] = true
		p.check(c, at)
	}
}

func (p *Price) check(c *checker, at string) {
	c.price(at+"unit", p.Unit)
	if c.known(at+"total", p.Total); p.Total.Currency != "" && p.Total.Currency != p.Unit.Currency {
		c.say(at+"total.currency", p.Total.Currency, "want that of unit")
	}
	c.optional(at+"rule", p.Rule)
	if p.Propensity != "" && !propensity(p.Propensity) {
		c.say(at+"propensity", p.Propensity, `want a decimal above 0 and at most 1, as text: "0.25"`)
	}
	for i := range p.Trail {
		s, at := &p.Trail[i], fmt.Sprintf("%strail[%d].", at, i)
		c.name(at+"rule", s.Rule, "want the rule's name")
		c.price(at+"from", s.From)
		c.price(at+"to", s.To)
	}
}

// propensity reports whether text is a decimal in (0, 1].
func propensity(text string) bool {
	if len(text) > 50 {
		return false
	}
	d, err := money.ParseNumber(text)
	return err == nil && d.Sign() > 0 && d.Cmp(money.NewDecimal(1, 0)) <= 0
}

func (c *checker) name(field, value, want string) {
	if value == "" {
		c.say(field, "", want)
	}
	c.optional(field, value)
}

func (c *checker) optional(field, value string) {
	if len(value) > maxName {
		c.say(field, value, fmt.Sprintf("want at most %d bytes", maxName))
	}
}

func (c *checker) asOf(field, value string) {
	if _, _, err := ParseAsOf(value); err != nil {
		c.say(field, value, "want generation:LSN, such as 1:0/1A2B3C8")
	}
}

const wantTime = "want a time of RFC 3339, such as 2010-12-01T08:26:00Z"

// time wants a time that RFC 3339 can write.
func (c *checker) time(field string, t time.Time) {
	switch y := t.Year(); {
	case t.IsZero():
		c.say(field, "", wantTime)
	case y < 1 || y > 9999:
		c.say(field, t.String(), "want a year from 1 to 9999")
	}
}

func (c *checker) currency(field, value string) {
	if len(value) == 3 && strings.IndexFunc(value, func(r rune) bool { return r < 'A' || r > 'Z' }) < 0 {
		return
	}
	c.say(field, value, "want a currency of ISO 4217, such as GBP")
}

// price wants a sum of money from zero on.
func (c *checker) price(field string, a money.Amount) {
	if a == (money.Amount{}) {
		c.say(field, "", "want an amount")
		return
	}
	c.currency(field+".currency", a.Currency)
	c.notNegative(field+".amount", a.Amount)
	if a.Scale < 0 || a.Scale > money.MaxScale {
		c.say(field+".scale", strconv.Itoa(a.Scale), fmt.Sprintf("want 0 to %d", money.MaxScale))
	}
}

// known is a price that may be absent.
func (c *checker) known(field string, a money.Amount) {
	if a != (money.Amount{}) {
		c.price(field, a)
	}
}

func (c *checker) notNegative(field string, n int64) {
	if n < 0 {
		c.say(field, strconv.FormatInt(n, 10), "want 0 or more")
	}
}
