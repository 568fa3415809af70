package page

import (
	"math"
	"strconv"
	"strings"
	"time"

	"banyan/compare"
	"banyan/money"
)

// Signs are typographic: the minus is as wide as the plus, and numbers keep together
// with what they count.
const (
	minus    = "\u2212"
	noBreak  = "\u00a0"
	nothing  = "n/a"
	percents = noBreak + "%"
)

// exact writes all digits of an amount that are not zero, and at least those of the
// currency's minor unit: what is below it is not rounded away.
func exact(a money.Amount) string { return withCode(plain(a), a.Currency) }

// signed is exact, with a plus before what is above zero.
func signed(a money.Amount) string { return withCode(plus(plain(a), a.Amount), a.Currency) }

// signedNumber is signed without the currency, which stands beside it.
func signedNumber(a money.Amount) string { return plus(plain(a), a.Amount) }

// about is for estimates, which would pretend with all their digits: whole units from
// a hundred on, else the minor unit.
func about(a money.Amount) string { return withCode(roughly(a), a.Currency) }

// aboutSigned is about, with a plus before what is above zero.
func aboutSigned(a money.Amount) string {
	return withCode(roughSigned(a), a.Currency)
}

// roughSigned is aboutSigned where the currency is known from what stands around it.
func roughSigned(a money.Amount) string { return plus(roughly(a), a.Amount) }

func withCode(number, currency string) string {
	if currency == "" {
		return number
	}
	return number + noBreak + currency
}

func plus(number string, n int64) string {
	if n > 0 && strings.ContainsAny(number, "123456789") {
		return "+" + number
	}
	return number
}

// minorUnit is that of the currency; of one that nobody knows it is taken to be 2.
func minorUnit(currency string) int {
	if n, ok := money.MinorUnit(currency); ok {
		return n
	}
	return 2
}

func plain(a money.Amount) string {
	text := a.Decimal().String()
	whole, fraction, _ := strings.Cut(text, ".")
	least := minorUnit(a.Currency)
	for len(fraction) > least && fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
	}
	for len(fraction) < least {
		fraction += "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return group(whole)
}

func roughly(a money.Amount) string {
	scale := minorUnit(a.Currency)
	if math.Abs(value(a)) >= 100 {
		scale = 0
	}
	text := a.Decimal().Round(scale).String()
	if !strings.ContainsAny(text, "123456789") {
		text = strings.TrimPrefix(text, "-") // there is no minus nought
	}
	return group(text)
}

// ranged is an interval in words; one of too few values has no bounds.
func ranged(i compare.Interval) string {
	if !i.Known() {
		return "not yet known"
	}
	return aboutSigned(i.Low) + " to " + aboutSigned(i.High)
}

// value is an amount as a float, for places on a chart and for nothing else.
func value(a money.Amount) float64 {
	return float64(a.Amount) / math.Pow10(a.Scale)
}

// group puts separators between thousands and a typographic minus before.
func group(number string) string {
	number, negative := strings.CutPrefix(number, "-")
	whole, fraction, point := strings.Cut(number, ".")
	var b strings.Builder
	if negative {
		b.WriteString(minus)
	}
	for i, c := range []byte(whole) {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteByte(c)
	}
	if point {
		b.WriteByte('.')
		b.WriteString(fraction)
	}
	return b.String()
}

// count writes a whole number.
func count[N int | int64](n N) string { return group(strconv.FormatInt(int64(n), 10)) }

// decimal writes a number with so many decimals.
func decimal(f float64, decimals int) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nothing
	}
	text := strconv.FormatFloat(f, 'f', decimals, 64)
	if !strings.ContainsAny(text, "123456789") {
		text = strings.TrimPrefix(text, "-")
	}
	return group(text)
}

// trimmed is decimal without zeros at the end.
func trimmed(f float64, decimals int) string {
	text := decimal(f, decimals)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// change writes a relative change in percent, with its sign.
func change(f float64) string {
	text := decimal(f, 2)
	if f > 0 && strings.ContainsAny(text, "123456789") {
		text = "+" + text
	}
	return unit(text, percents)
}

// share writes a part of a whole in percent.
func share(f float64) string {
	if f > 0 && f < 0.05 {
		return "<" + noBreak + "0.1" + percents
	}
	return unit(decimal(f, 1), percents)
}

func unit(number, of string) string {
	if number == nothing {
		return number
	}
	return number + of
}

// chance writes a p-value.
func chance(p float64) string {
	if p >= 0 && p < 0.001 {
		return "<" + noBreak + "0.001"
	}
	return decimal(p, 3)
}

// millis writes a time of milliseconds.
func millis(f float64) string { return unit(trimmed(f, 1), noBreak+"ms") }

// span writes seconds in the unit that a person would use.
func span(seconds float64) string {
	switch {
	case math.IsNaN(seconds) || seconds < 0:
		return nothing
	case seconds < 120:
		return unit(trimmed(seconds, 1), noBreak+"s")
	case seconds < 2*3600:
		return unit(trimmed(seconds/60, 0), noBreak+"min")
	case seconds < 48*3600:
		return unit(trimmed(seconds/3600, 1), noBreak+"h")
	}
	return unit(trimmed(seconds/86400, 1), noBreak+"days")
}

// moment writes a time, always in UTC; "" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05") + noBreak + "UTC"
}

// plural is the word for so many.
func plural[N int | int64](n N, one, many string) string {
	if n == 1 {
		return count(n) + noBreak + one
	}
	return count(n) + noBreak + many
}

// experiment says in a line which one comes next.
func experiment(e compare.Experiment) string {
	where := e.Segment
	if where == "all" {
		where = "the shop"
	}
	return e.Design + " on " + trimmed(e.Share, 1) + percents + " of " + where + ", for " + plural(e.Days, "day", "days")
}

// step is a rung of the ladder, with what it means to somebody who sees it for the
// first time.
type step struct {
	Rung  compare.Rung
	Means string
}

// ladder is in order, lowest first. There is no step above the last.
var ladder = []step{
	{compare.Unhealthy, "the comparison itself cannot be trusted"},
	{compare.NoData, "nothing has been compared"},
	{compare.Collecting, "not enough yet to say anything"},
	{compare.DoNot, "the evidence is against it"},
	{compare.Review, "people have to weigh it"},
	{compare.Ready, "worth a test with real customers"},
}

// sourceOf is a candidate's mode as a reader would say it.
func sourceOf(mode string) string {
	switch mode {
	case "in process":
		return "asked in process"
	case "request":
		return "asked by HTTP"
	case "stream":
		return "read from its own stream"
	}
	return mode
}
