package pricing

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"

	"banyan/money"
	"banyan/quote"
)

// basis is how many basis points are the whole.
const basis = 10_000

// Demand is the example candidate: it prices by its Rules. It is a quote.Candidate.
// It keeps nothing between calls, so that several goroutines may use one.
type Demand struct {
	rules Rules
	steps []step
	build string
}

// New makes a candidate of rules; the error tells all that is wrong with them.
func New(rules Rules) (*Demand, error) {
	if err := rules.Check(); err != nil {
		return nil, err
	}
	d := &Demand{rules: slices.Clone(rules)}
	digest := sha256.New()
	for _, r := range rules {
		fmt.Fprintf(digest, "%q %s %s %s %v\n", r.Name, r.Since, r.Until, r.Does.part(), r.Does)
		d.steps = append(d.steps, compile(r))
	}
	d.build = "rules-" + hex.EncodeToString(digest.Sum(nil)[:6])
	return d, nil
}

// Name is what reports call the candidate: "demand".
func (d *Demand) Name() string { return "demand" }

// Build is a digest of the rules: "rules-" and 12 hexadecimal digits.
func (d *Demand) Build() string { return d.build }

// Rules are those that the candidate was made of.
func (d *Demand) Rules() Rules { return slices.Clone(d.rules) }

// Price prices the lines of an order whose list price is known in the order's
// currency; other lines are left out. The prices have the currency and scale of the
// list price, are never below zero, and Total is always the quantity times Unit. The
// answer is as of the order's own position, since nothing else is known here. It
// returns no error.
func (d *Demand) Price(o *quote.Order, into *quote.Answer) error {
	into.ID, into.AsOf = o.ID, o.AsOf
	day := DayOf(o.PlacedAt)
	for i := range o.Lines {
		l := &o.Lines[i]
		list := &l.Known.List
		if list.Currency == "" || list.Currency != o.Currency || list.Amount < 0 || uint(list.Scale) > money.MaxScale {
			continue
		}
		w := work{line: l, scale: list.Scale, price: list.Amount, rule: ListRule, trail: o.WantTrail}
		if !w.run(d.steps, day) {
			continue
		}
		into.Lines = append(into.Lines, quote.Price{Line: l.Line, Rule: w.rule, Trail: w.steps,
			Unit: money.Amount{Amount: w.price, Scale: list.Scale, Currency: list.Currency}})
	}
	return nil
}

// work is one line while it is being priced. Amounts are units of the list price's
// scale.
type work struct {
	line  *quote.Line
	scale int
	ref   int64 // what the list says for the quantity
	price int64
	moved bool // by anything but the list
	// unit and ending are of the rounding that was applied; unit is 0 before.
	unit, ending int64
	rule         string
	trail        bool
	steps        []quote.Step
}

// run applies the steps; false says that the line cannot be priced, because an
// amount would not fit or the tier price is no amount of the list's kind.
func (w *work) run(steps []step, day Day) bool {
	w.ref = w.price
	if w.trail {
		w.steps = make([]quote.Step, 0, len(steps)+1)
		w.steps = append(w.steps, quote.Step{Rule: ListRule, From: w.amount(w.price), To: w.amount(w.price)})
	}
	for i := range steps {
		s := &steps[i]
		if s.since != 0 && day < s.since || s.until != 0 && day > s.until {
			continue
		}
		ok := true
		switch s.kind {
		case kindTier:
			ok = w.tier(s)
		case kindPace:
			ok = w.pace(s)
		case kindRound:
			w.round(s)
		case kindMargin:
			ok = w.margin(s)
		case kindBounds:
			w.bounds(s)
		case kindChange:
			ok = w.change(s)
		}
		if !ok {
			return false
		}
	}
	return true
}

// tier charges the tier price, if the quantity reaches it.
func (w *work) tier(s *step) bool {
	k := &w.line.Known
	if k.TierQuantity <= 0 || k.Tier.Currency == "" {
		return true
	}
	to, why := w.price, ""
	if w.line.Quantity >= k.TierQuantity {
		units, ok := w.units(k.Tier)
		if !ok || units < 0 {
			return false // the list is at odds with itself, and we would have to guess
		}
		to, w.ref = units, units
	}
	if w.trail {
		why = "from " + strconv.FormatInt(k.TierQuantity, 10) + " pieces on"
	}
	w.set(s, to, why)
	return true
}

// mostPieces is beyond any stock or demand. What is more is taken for it, so that
// products with days and percents fit.
const mostPieces = 1_000_000_000_000

// pace moves the price by cover and trend.
func (w *work) pace(s *step) bool {
	k := &w.line.Known
	week, month := pieces(k.Demand.Days7), pieces(k.Demand.Days28)
	if month < s.least {
		if w.trail {
			w.set(s, w.price, "too little demand: "+strconv.FormatInt(month, 10)+" pieces in 28 days")
		}
		return true
	}
	move, cover := int64(0), int64(0)
	if k.Stock != nil {
		stock := pieces(*k.Stock)
		cover = s.cover.move(28*stock, month)
		move += cover
	}
	trend := s.trend.move(400*week, month)
	move = min(max(move+trend, -s.most), s.most)
	to, ok := scaled(w.price, basis+move)
	if !ok {
		return false
	}
	w.moved = w.moved || move != 0
	why := ""
	if w.trail {
		why = w.explain(week, month, cover, trend, move)
	}
	w.set(s, to, why)
	return true
}

// pieces bounds a number of pieces from 0 to mostPieces.
func pieces(n int64) int64 { return min(max(n, 0), mostPieces) }

// explain says in words what moved a price.
func (w *work) explain(week, month, cover, trend, move int64) string {
	why := make([]byte, 0, 96)
	if s := w.line.Known.Stock; s != nil {
		why = append(why, "stock for "...)
		why = strconv.AppendInt(why, 28*pieces(*s)/month, 10)
		why = append(why, " days: "...)
		why = appendMove(why, cover)
	} else {
		why = append(why, "stock unknown"...)
	}
	why = append(why, ", last week at "...)
	why = strconv.AppendInt(why, 400*week/month, 10)
	why = append(why, " % of the month's pace: "...)
	why = appendMove(why, trend)
	if cover+trend != move {
		why = append(why, "; "...)
		why = append(appendMove(why, move), " at most"...)
	}
	return string(why)
}

// appendMove writes +100 bp.
func appendMove(dst []byte, move int64) []byte {
	if move >= 0 {
		dst = append(dst, '+')
	}
	return append(strconv.AppendInt(dst, move, 10), " bp"...)
}

// round brings a moved price to the nearest one that looks like a price.
func (w *work) round(s *step) {
	u := s.units[w.scale]
	if !w.moved || u.step == 0 {
		return
	}
	w.unit, w.ending = u.step, u.ending
	to := nearest(w.price-u.ending, u.step) + u.ending
	if to <= 0 {
		to = w.price
	}
	decided := w.rule
	w.set(s, to, "")
	if to != w.ref {
		w.rule = decided // it gave the price its looks, and the one before its size
	}
}

// margin holds the price above the cost.
func (w *work) margin(s *step) bool {
	if w.line.Known.Cost.Currency != w.line.Known.List.Currency || w.line.Known.Cost.Amount <= 0 {
		return true // not known, or not in this currency
	}
	low, ok := w.least(w.line.Known.Cost, basis+s.most)
	if !ok {
		return false
	}
	w.hold(s, low, math.MaxInt64)
	return true
}

// bounds holds the price between two amounts.
func (w *work) bounds(s *step) {
	if u := s.units[w.scale]; s.currency == w.line.Known.List.Currency && u.high > 0 {
		w.hold(s, u.low, u.high)
	}
}

// change holds the price near the list's.
func (w *work) change(s *step) bool {
	low := share(w.ref, basis-s.most, basis-1)
	high := share(w.ref, basis+s.most, 0)
	if low < 0 || high < 0 {
		return false
	}
	w.hold(s, low, high)
	return true
}

// hold keeps the price from low to high. Where the price was rounded, the bounds
// move inwards to prices of the same look, if there is one between them: a ceiling
// of 2.754 lets 2.75 pass.
func (w *work) hold(s *step, low, high int64) {
	to := w.price
	if to < low || to > high {
		if w.unit > 1 {
			in, out := w.ceil(low), w.floor(high)
			if in >= low && out <= high && in <= out {
				low, high = in, out
			}
		}
		to = max(min(to, high), low)
	}
	if to != w.price {
		w.moved = true
	}
	if w.trail {
		w.note(s, to, to != w.price, w.between(low, high))
	}
	if to != w.price {
		w.price, w.rule = to, s.name
	}
}

// between says in words what a clamp allows.
func (w *work) between(low, high int64) string {
	why := make([]byte, 0, 48)
	switch {
	case high == math.MaxInt64:
		why = append(w.appendNumber(why, low), " at least"...)
	case low <= 0:
		why = append(w.appendNumber(why, high), " at most"...)
	default:
		why = append(w.appendNumber(why, low), " to "...)
		why = w.appendNumber(why, high)
	}
	return string(why)
}

// appendNumber writes an amount from zero on as money.Amount.Number does, and many
// times faster: 2.550.
func (w *work) appendNumber(dst []byte, units int64) []byte {
	if w.scale == 0 {
		return strconv.AppendInt(dst, units, 10)
	}
	one := powers[w.scale]
	dst = append(strconv.AppendInt(dst, units/one, 10), '.')
	rest := units % one
	for one > 1 {
		one /= 10
		dst = append(dst, byte('0'+rest/one))
		rest %= one
	}
	return dst
}

// powers are the powers of ten by scale.
var powers = func() (p [money.MaxScale + 1]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

// set gives the price its next value.
func (w *work) set(s *step, to int64, why string) {
	if w.trail {
		w.note(s, to, false, why)
	}
	if to != w.price {
		w.price, w.rule = to, s.name
	}
}

func (w *work) note(s *step, to int64, clamp bool, why string) {
	w.steps = append(w.steps, quote.Step{Rule: s.name, Since: s.from, From: w.amount(w.price), To: w.amount(to), Clamp: clamp, Why: why})
}

func (w *work) amount(units int64) money.Amount {
	return money.Amount{Amount: units, Scale: w.scale, Currency: w.line.Known.List.Currency}
}

// units gives an amount in units of the list price; false where it is in another
// currency or has more decimals than that.
func (w *work) units(a money.Amount) (int64, bool) {
	if a.Currency != w.line.Known.List.Currency {
		return 0, false
	}
	if a.Scale == w.scale {
		return a.Amount, true
	}
	b, err := a.Rescale(w.scale)
	return b.Amount, err == nil
}

// least is the lowest price that is not below so many basis points of a cost,
// which may have another scale than the price.
func (w *work) least(cost money.Amount, points int64) (int64, bool) {
	if cost.Scale == w.scale {
		low := share(cost.Amount, points, basis-1)
		return low, low >= 0
	}
	exact := cost.Decimal().Mul(money.NewDecimal(points, 4))
	low := exact.Round(w.scale)
	if low.Cmp(exact) < 0 {
		low = low.Add(money.NewDecimal(1, w.scale))
	}
	a, err := low.Amount(w.scale, cost.Currency)
	return a.Amount, err == nil
}
