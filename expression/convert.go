package expression

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"banyan/money"
)

// The conversions say what they cannot read, in rules as in projections: they
// are asked for by name, and NULL would hide a fault of the data.

// moment reads what date(), day() and the others take: times, days, and texts
// that hold one. ok is false for NULL.
func moment(name string, v any) (t time.Time, ok bool, err error) {
	switch v := v.(type) {
	case nil:
		return t, false, nil
	case string:
		t, err := ParseTime(v)
		if err != nil {
			return t, false, fmt.Errorf("%s(): %w", name, err)
		}
		return t, true, nil
	}
	if t, ok := instant(v); ok {
		return t, true, nil
	}
	return t, false, fmt.Errorf("%s() of %s, want a time or a text that holds one", name, describe(v))
}

func toTime(_ ops, v any) (any, error) {
	if t, ok := v.(time.Time); ok {
		return t, nil
	}
	t, ok, err := moment("time", v)
	if !ok {
		return nil, err
	}
	return t, nil
}

func date(_ ops, v any) (any, error) {
	t, ok, err := moment("date", v)
	if !ok {
		return nil, err
	}
	return DateOf(t), nil
}

// truncated gives the begin, in UTC, of the unit that a time lies in. A week
// begins on Monday.
func truncated(unit string) func(ops, any) (any, error) {
	return func(_ ops, v any) (any, error) {
		t, ok, err := moment(unit, v)
		if !ok {
			return nil, err
		}
		t = t.UTC()
		if t.Equal(EndOfTime) || t.Equal(BeginOfTime) {
			return t, nil
		}
		y, m, d := t.Date()
		switch unit {
		case "minute":
			return time.Date(y, m, d, t.Hour(), t.Minute(), 0, 0, time.UTC), nil
		case "hour":
			return time.Date(y, m, d, t.Hour(), 0, 0, 0, time.UTC), nil
		case "week":
			d -= (int(t.Weekday()) + 6) % 7
		case "month":
			d = 1
		}
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC), nil
	}
}

// duration reads "90s", "5m", "1h30m"; days and weeks too: "7d", "2w". A number
// is seconds.
func duration(_ ops, v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case time.Duration:
		return v, nil
	case string:
		days := int64(0)
		if text, ok := strings.CutSuffix(v, "d"); ok {
			v, days = text+"h", 24
		} else if text, ok := strings.CutSuffix(v, "w"); ok {
			v, days = text+"h", 7*24
		}
		d, err := time.ParseDuration(v)
		if err == nil && days > 0 {
			n, fits := product(int64(d), days)
			if !fits {
				err = errForm
			}
			d = time.Duration(n)
		}
		if err != nil {
			return nil, fmt.Errorf("duration(): want a text such as 90s, 5m, 1h30m or 7d")
		}
		return d, nil
	}
	if n, ok := integer(v); ok {
		if ns, ok := product(n, int64(time.Second)); ok {
			return time.Duration(ns), nil
		}
	}
	return nil, fmt.Errorf("duration() of %s, want a text such as 5m, or whole seconds", describe(v))
}

// toInt takes whole numbers in any form: 7, 7.00, "7".
func toInt(_ ops, v any) (any, error) {
	if n, ok := integer(v); ok {
		return n, nil
	}
	var d money.Decimal
	switch v := v.(type) {
	case nil:
		return nil, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case string:
		var err error
		if d, err = ParseNumber(strings.TrimSpace(v)); err != nil {
			return nil, fmt.Errorf("int(): %.40q is not a whole number", v)
		}
	default:
		var ok bool
		if d, ok = decimal(v); !ok {
			return nil, fmt.Errorf("int() of %s, want a number or a text that holds one", describe(v))
		}
	}
	a, err := d.Amount(0, "")
	if err != nil {
		return nil, fmt.Errorf("int(): %.40s is not a whole number that fits 64 bits; round(x, 0) rounds", d)
	}
	return a.Amount, nil
}

// toDecimal takes numbers, amounts (without their currency) and texts.
func toDecimal(_ ops, v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		d, err := ParseNumber(strings.TrimSpace(v))
		if err != nil {
			return nil, fmt.Errorf("decimal(): %w", err)
		}
		return d, nil
	}
	d, ok := decimal(v)
	if !ok {
		return nil, fmt.Errorf("decimal() of %s, want a number, an amount or a text that holds a number", describe(v))
	}
	return d, nil
}

// toAmount makes a sum of money of a number; it is never rounded.
func toAmount(o ops, a []any) (any, error) {
	for _, v := range a {
		if v == nil {
			return nil, nil
		}
	}
	scale, ok1 := integer(a[1])
	unit, ok2 := a[2].(string)
	if !ok1 || !ok2 || scale < 0 || scale > money.MaxScale || !isCurrency(unit) {
		return nil, fmt.Errorf(`amount(): want a scale from 0 to %d and a currency, as in amount(x, 2, "EUR")`, money.MaxScale)
	}
	if m, ok := a[0].(money.Amount); ok && m.Currency != unit {
		return nil, fmt.Errorf("amount(): %s is not in %s", m, unit)
	}
	d, err := toDecimal(o, a[0])
	if err != nil {
		return nil, err
	}
	m, err := d.(money.Decimal).Amount(int(scale), unit)
	if err != nil {
		return nil, fmt.Errorf("amount(): %w", err)
	}
	return m, nil
}

func isCurrency(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return len(s) == 3
}

func currency(o ops, v any) (any, error) {
	if m, ok := v.(money.Amount); ok {
		return m.Currency, nil
	}
	return o.unfit("currency", v, "an amount")
}

func toText(_ ops, v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return v, nil
	case money.Amount:
		return v.Number(), nil
	case money.Decimal:
		return v.String(), nil
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), nil
	case []any, map[string]any, Object:
		b, err := AppendJSON(nil, v)
		return string(b), err
	case json.Number:
		return string(v), nil
	}
	return fmt.Sprint(v), nil
}

var errForm = fmt.Errorf("it has another form")

// ParseNumber reads a decimal exactly, with an exponent too, as JSON and floats
// print them. An exponent beyond 400 is an error.
func ParseNumber(text string) (money.Decimal, error) {
	e := strings.IndexAny(text, "eE")
	if e < 0 {
		return money.ParseNumber(text)
	}
	d, err := money.ParseNumber(text[:e])
	exponent := strings.TrimPrefix(text[e+1:], "+")
	minus := strings.HasPrefix(exponent, "-")
	n, ok := digits(strings.TrimPrefix(exponent, "-"), 9)
	switch {
	case err != nil || !ok:
		return money.Decimal{}, fmt.Errorf("%.40q is not a decimal number", text)
	case n > 400:
		return money.Decimal{}, fmt.Errorf("%.40q is not a decimal number with an exponent up to 400", text)
	case minus:
		return d.Mul(money.NewDecimal(1, n)), nil
	}
	ten, err := money.ParseNumber("1" + strings.Repeat("0", n))
	return d.Mul(ten), err
}
