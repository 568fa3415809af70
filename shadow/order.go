package shadow

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"banyan/compare"
	"banyan/event"
	"banyan/money"
	"banyan/projections"
	"banyan/quote"
)

// comparison is one order on its way into the ledger.
type comparison struct {
	e     *projections.Event
	order compare.Order
	ask   quote.Order     // of the lines that can be compared
	asked []int           // places of those lines in order.Lines
	clues []compare.Clues // by line of ask
}

// AsOf is the position as of which an event's order is asked about.
func AsOf(p event.Position) string {
	return quote.FormatAsOf(p.Generation, p.LSN)
}

// noCurrency is ISO 4217's code for it: the book of lines that have none.
const noCurrency = "XXX"

// begin makes a comparison of an order that an event tells of, with what is known at
// this moment. The memory of c is used again. A line that was added and cannot be read
// counts as an order that cannot: it must not vanish.
func (s *core) begin(c *comparison, e *projections.Event, n *reading) {
	o := &s.opts
	day := dayOf(n.at)
	guest := n.customer == ""
	c.e = e
	c.order = compare.Order{Event: e.ID.String(), Topic: e.Topic, Partition: e.Partition, Offset: e.Offset, Day: day, Guest: guest,
		Added: n.kind == added && n.bad == "", Lines: c.order.Lines[:0], Segments: c.order.Segments[:0]}
	c.asked, c.clues = c.asked[:0], c.clues[:0]
	c.ask.Lines = c.ask.Lines[:0]
	if guest {
		c.order.Cluster = "guest-" + s.salted("order", e.ID.Key)
	} else {
		c.order.Cluster = s.salted("customer", n.customer)
	}
	for _, dim := range o.Segments {
		c.order.Segments = append(c.order.Segments, s.segment(dim, n, guest))
	}
	c.order.Size = sizeOf(len(n.lines))
	switch {
	case n.bad != "":
		c.order.Reason = compare.Unreadable
		return
	case len(n.lines) == 0:
		c.order.Reason = compare.NoLines
		return
	}
	var all compare.Reason
	switch {
	case n.kind == recorded:
		all = compare.Recorded
	case s.opts.Since.Generation > 0 && s.opts.Since.Covers(e.ID.Position):
		all = compare.BeforeStart
	case e.ID.Position.Compare(e.Position) < 0:
		all = compare.Released // the stock that it took itself is known by now
	case sampled(c.order.Cluster, s.sample):
		all = compare.Sampled
	}
	currency := n.currency()
	for i := range n.lines {
		l := &n.lines[i]
		p := s.world.products[l.product]
		line := lineOf(l, p, currency)
		if line.Reason == "" {
			line.Reason = all
		}
		if line.Reason == "" {
			c.asked = append(c.asked, i)
			c.clues = append(c.clues, p.clues(line.Currency))
			c.ask.Lines = append(c.ask.Lines, quote.Line{Line: l.line, Product: l.product, Quantity: l.quantity, Known: p.at(day)})
		}
		c.order.Lines = append(c.order.Lines, line)
	}
	if len(c.asked) == 0 {
		return
	}
	customer := ""
	if !guest {
		customer = c.order.Cluster
	}
	c.ask = quote.Order{ID: c.order.Event, Order: e.ID.Key, AsOf: AsOf(e.Position), Customer: customer, PlacedAt: n.at, CommittedAt: e.Time,
		Channel: n.channel, Country: n.country, Currency: c.order.Lines[c.asked[0]].Currency, Lines: c.ask.Lines}
}

// lineOf makes a line with what is known of its product, and says why it cannot be
// compared where that is so already.
func lineOf(l *soldLine, p *product, currency string) compare.Line {
	n := compare.Line{Line: l.line, Product: l.product, Quantity: l.quantity, Currency: l.price.Currency, Control: l.price.Units}
	if n.Currency == "" {
		if n.Currency = currency; currency == "" {
			n.Currency = noCurrency
		}
	}
	if p != nil {
		n.Code, n.Description = p.Code, p.Description
		if p.Cost.Known && p.Cost.Currency == n.Currency {
			n.Cost, n.CostKnown = p.Cost.Units, true
		}
		if p.Stock != nil {
			n.Stock, n.StockKnown = *p.Stock, true
		}
	}
	paid, ok := compare.Times(n.Control, n.Quantity)
	n.Paid = paid
	switch {
	case l.price.Fine || !l.price.Known || n.Control < 0: // what was paid is the order's fault, and no candidate's
		n.Reason = compare.NoPrice
	case !ok:
		n.Reason = compare.TooLarge
	case n.Quantity <= 0:
		n.Reason = compare.NotSold
	case n.Control == 0:
		n.Reason = compare.Free
	}
	return n
}

// salted names somebody, differently in each run.
func (s *core) salted(what, key string) string {
	sum := sha256.Sum256([]byte(s.opts.Salt + "\x00" + what + "\x00" + key))
	return hex.EncodeToString(sum[:8])
}

// segment is the same text for the same segment, the same memory too.
func (s *core) segment(dim string, n *reading, guest bool) string {
	value := "registered"
	switch {
	case dim == "channel":
		value = n.channel
	case dim == "country":
		value = n.country
	case guest:
		value = "guest"
	}
	if value == "" {
		value = "unknown"
	}
	key := [2]string{dim, value}
	text, ok := s.segments[key]
	if !ok {
		text = dim + "=" + value
		if len(s.segments) < 10_000 {
			s.segments[key] = text
		}
	}
	return text
}

func sizeOf(lines int) string {
	switch {
	case lines <= 1:
		return "size=1 line"
	case lines < 10:
		return "size=2 to 9 lines"
	case lines < 50:
		return "size=10 to 49 lines"
	}
	return "size=50 lines and more"
}

// judge enters what became of asking into the comparison's lines.
func (s *core) judge(c *comparison, got Got) {
	reason := got.Reason
	if reason == "" && got.Answer == nil {
		reason = compare.NoAnswer
	}
	straight := false
	if reason == "" {
		reason = proven(c.e.Position, c.ask.AsOf, got.Answer)
		straight = c.answeredInOrder(got.Answer)
	}
	for k, i := range c.asked {
		n := &c.order.Lines[i]
		if n.Reason = reason; reason != "" {
			continue
		}
		var p *quote.Price
		if straight {
			p = &got.Answer.Lines[k]
		} else {
			p, n.Reason = priceFor(got.Answer, n.Line)
		}
		if n.Reason == "" {
			s.price(n, p, &c.clues[k])
		}
	}
}

// proven says what is wrong with the position as of which a candidate answered: none,
// or one behind the order.
func proven(order event.Position, asOf string, a *quote.Answer) compare.Reason {
	if a.Declined != "" {
		return compare.Declined
	}
	if a.AsOf == "" {
		return compare.Unproven
	}
	if a.AsOf == asOf {
		return ""
	}
	gen, lsn, err := quote.ParseAsOf(a.AsOf)
	if err != nil {
		return compare.Unparsable
	}
	if gen > order.Generation || gen == order.Generation && lsn > order.LSN {
		return compare.SawFuture
	}
	return ""
}

// answeredInOrder reports whether the answer has a price for each line that was asked
// about and no other, in their order, as it mostly has.
func (c *comparison) answeredInOrder(a *quote.Answer) bool {
	if len(a.Lines) != len(c.asked) {
		return false
	}
	for k := range c.asked {
		if a.Lines[k].Line != c.ask.Lines[k].Line {
			return false
		}
	}
	return true
}

// priceFor finds the price of a line. One that is answered twice has a price only if
// both are the same.
func priceFor(a *quote.Answer, line int64) (*quote.Price, compare.Reason) {
	var found *quote.Price
	for i := range a.Lines {
		p := &a.Lines[i]
		if p.Line != line {
			continue
		}
		if found != nil && (found.Unit != p.Unit || found.Total != p.Total) {
			return nil, compare.DuplicateAnswer
		}
		found = p
	}
	if found == nil {
		return nil, compare.NoAnswer
	}
	return found, ""
}

// price gives a line the candidate's price, or says why it cannot have it.
func (s *core) price(n *compare.Line, p *quote.Price, clues *compare.Clues) {
	unit := priceOf(p.Unit)
	switch {
	case unit.Currency != n.Currency:
		n.Reason = compare.WrongCurrency
	case unit.Fine:
		n.Reason = compare.TooFine
	case !unit.Known || unit.Units <= 0 || unit.Units/s.opts.MaxFactor > max(n.Control, clues.List):
		n.Reason = compare.BadPrice
	}
	if n.Reason != "" {
		return
	}
	quoted, ok := compare.Times(unit.Units, n.Quantity)
	if !ok {
		n.Reason = compare.TooLarge
		return
	}
	if p.Total.Currency != "" {
		if quoted, n.Reason = s.total(n, p.Total, quoted); n.Reason != "" {
			return
		}
	}
	n.Candidate, n.Quoted, n.Rule = unit.Units, quoted, ruleName(p.Rule)
	clues.SawStock, clues.Minor, clues.Taxes = p.SawStock, s.minor(n.Currency), s.opts.Taxes
	n.Cause = clues.Cause(n)
}

// total takes a line's own total, which may differ from the pieces' by rounding each.
func (s *core) total(n *compare.Line, told money.Amount, quoted compare.Units) (compare.Units, compare.Reason) {
	t := priceOf(told)
	switch {
	case t.Currency != n.Currency:
		return 0, compare.WrongCurrency
	case t.Fine:
		return 0, compare.TooFine
	}
	penny := compare.Units(compare.Whole)
	for range s.minor(n.Currency) {
		penny /= 10
	}
	room, ok := compare.Times(max(penny, 1), n.Quantity)
	if d := t.Units - quoted; !t.Known || t.Units <= 0 || ok && (d > room || -d > room) {
		return 0, compare.BadPrice
	}
	return t.Units, ""
}

func (s *core) minor(currency string) int {
	if d, ok := money.MinorUnit(currency); ok {
		return d
	}
	return 2
}

// At is how a record is named: topic/partition/offset.
func At(topic string, partition int, offset int64) string {
	return topic + "/" + strconv.Itoa(partition) + "/" + strconv.FormatInt(offset, 10)
}

// ParseAt reads what At writes.
func ParseAt(s string) (topic string, partition int, offset int64, err error) {
	rest, last, ok := cutLast(s)
	topic, middle, ok2 := cutLast(rest)
	if ok && ok2 && topic != "" {
		partition, err = strconv.Atoi(middle)
		if err == nil {
			offset, err = strconv.ParseInt(last, 10, 64)
		}
		if err == nil && partition >= 0 && offset >= 0 {
			return topic, partition, offset, nil
		}
	}
	return "", 0, 0, fmt.Errorf("%q: want topic/partition/offset, such as shop.orders/3/1234", s)
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
