package pricing

import (
	"fmt"
	"time"

	"banyan/money"
)

// Day is a day of business in UTC, counted from 1970-01-01. The zero Day is no
// day.
type Day int64

// ParseDay reads 2010-12-01.
func ParseDay(text string) (Day, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return 0, fmt.Errorf("day %q: want year-month-day, such as 2010-12-01", text)
	}
	if d := DayOf(t); d != 0 {
		return d, nil
	}
	return 0, fmt.Errorf("day %q: want another one: it is the day that stands for none", text)
}

// DayOf is the day on which t falls in UTC.
func DayOf(t time.Time) Day {
	s := t.Unix()
	d := s / secondsOfDay
	if s%secondsOfDay < 0 {
		d--
	}
	return Day(d)
}

const secondsOfDay = 24 * 60 * 60

// Time is the beginning of the day, UTC.
func (d Day) Time() time.Time { return time.Unix(int64(d)*secondsOfDay, 0).UTC() }

// String writes 2010-12-01, and nothing for the zero Day.
func (d Day) String() string {
	if d == 0 {
		return ""
	}
	return d.Time().Format(time.DateOnly)
}

// Rules are what a candidate goes by, in the order in which they are applied. The
// price that they begin with is the list price.
type Rules []Rule

// Rule is one rule with its name and its dates. Every price says which rules made
// it, by these names.
type Rule struct {
	// Name is what trails and reports call it: lower case letters, digits and
	// underscores, another one for each rule. ListRule is taken.
	Name string
	// Since is the first day on which the rule holds, Until the last; a zero Day is
	// no bound. The day that counts is that of the order, by business time. A rule
	// that does not hold leaves no trace.
	Since, Until Day
	// Does is what it does to a price: Tier, Pace, Round, Margin, Bounds or Change.
	Does Part
}

// Kind is the name of what the rule does, as the file has it; "" for nothing.
func (r Rule) Kind() string {
	if r.Does == nil {
		return ""
	}
	return r.Does.part().String()
}

// Part is what a Rule does. The parts of this package are all there are.
type Part interface{ part() kind }

// kind tells parts apart without asking for their type; it is also the order in
// which kinds have to stand in Rules.
type kind int

const (
	kindTier kind = iota
	kindPace
	kindRound
	kindMargin
	kindBounds
	kindChange
)

var kindNames = [...]string{"tier", "demand", "round", "margin", "bounds", "change"}

func (k kind) String() string { return kindNames[k] }

// clamp reports whether the kind is a floor or a ceiling.
func (k kind) clamp() bool { return k >= kindMargin }

// ListRule is the name of what each price begins with: the list price.
const ListRule = "list"

// Tier charges the tier price from the tier quantity on, as the list says.
type Tier struct{}

// Pace moves the price by recent demand, as airlines do and far more gently. It
// looks at two things, each by bands: at how many days the stock will last at the
// pace of the last 28 days (Cover, in days), and at the last 7 days against these
// 28 (Trend, in percent: 100 is the same pace). The two moves are added.
type Pace struct {
	// Least is how many pieces must have been asked for in 28 days; below it demand
	// is too thin to say anything, and nothing moves. At least 1.
	Least int64
	Cover Bands
	Trend Bands
	// Most bounds the sum of the moves both ways, in basis points.
	Most int64
}

// Bands give a move for a number: that of the lowest Below which it is less than,
// or else of the highest Above which it is more than, or else none.
type Bands struct{ Below, Above []Band }

// Band is one of Bands.
type Band struct {
	At   int64 // the bound itself is outside
	Move int64 // basis points: 100 is one percent more
}

// Round brings a price that an earlier rule has moved to the nearest one that
// looks like a price: a multiple of Step, plus Ending. {0.01, 0} is whole pennies,
// {1, 0.99} ends in .99. What lies between two goes away from zero. A price that
// would become nothing stays, and so does one at a scale that cannot say Step.
type Round struct{ Step, Ending money.Decimal }

// Margin holds a price above what the product cost, where that is known: at Least
// basis points more.
type Margin struct{ Least int64 }

// Bounds hold a price in one Currency between a floor and a ceiling. A zero
// Ceiling is none.
type Bounds struct {
	Currency       string
	Floor, Ceiling money.Decimal
}

// Change holds a price within Most basis points of what the list says for the
// same quantity, both ways.
type Change struct{ Most int64 }

func (Tier) part() kind   { return kindTier }
func (Pace) part() kind   { return kindPace }
func (Round) part() kind  { return kindRound }
func (Margin) part() kind { return kindMargin }
func (Bounds) part() kind { return kindBounds }
func (Change) part() kind { return kindChange }
