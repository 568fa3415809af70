package state

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"banyan/money"
)

// number reads whatever is a number, also one written as text.
func number(v any) (d money.Decimal, reason string) {
	const none = "it is no number"
	switch v := v.(type) {
	case int64:
		return money.NewDecimal(v, 0), ""
	case int:
		return money.NewDecimal(int64(v), 0), ""
	case int32:
		return money.NewDecimal(int64(v), 0), ""
	case uint32:
		return money.NewDecimal(int64(v), 0), ""
	case money.Decimal:
		return v, ""
	case string:
		return plainNumber(v)
	case json.Number:
		return jsonNumber(string(v))
	case time.Duration:
		// As everywhere in expressions: its seconds.
		if v%time.Second == 0 {
			return money.NewDecimal(int64(v/time.Second), 0), ""
		}
		return money.NewDecimal(int64(v), 9), ""
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return d, none
		}
		return plainNumber(strconv.FormatFloat(v, 'f', -1, 64))
	}
	return d, none
}

func plainNumber(s string) (money.Decimal, string) {
	d, err := money.ParseNumber(s)
	if err != nil {
		return d, "it is no number"
	}
	return d, ""
}

// jsonNumber reads a number of JSON, which may have an exponent.
func jsonNumber(s string) (money.Decimal, string) {
	if !validNumber(s) {
		return money.Decimal{}, "it is no number"
	}
	plain, err := appendNumber(nil, []byte(s))
	if err != nil {
		return money.Decimal{}, err.Error()
	}
	return plainNumber(string(plain))
}

func coerceInt(v any, lowest, highest int64, name string) (any, string) {
	n, ok := v.(int64)
	if !ok {
		if _, is := v.(money.Amount); is {
			return nil, "it is a sum of money; take a numeric column, or its amount in units"
		}
		d, reason := number(v)
		if reason != "" {
			return nil, reason
		}
		if d.Scale() > 0 {
			whole := d.Round(0)
			if whole.Cmp(d) != 0 {
				return nil, "it is no whole number"
			}
			d = whole
		}
		if n, _, ok = d.Int64(); !ok {
			return nil, "it is beyond " + name
		}
	}
	if n < lowest || n > highest {
		return nil, fmt.Sprintf("it is beyond %s, %d to %d", name, lowest, highest)
	}
	return n, ""
}

// Postgres' numeric without a precision has at most these digits.
const maxWholeDigits, maxDecimals = 131072, 16383

func (c *column) coerceNumeric(v any) (any, string) {
	var d money.Decimal
	if a, ok := v.(money.Amount); ok {
		d = a.Decimal()
	} else {
		var reason string
		if d, reason = number(v); reason != "" {
			return nil, reason
		}
	}
	if c.precision == 0 {
		if d.Scale() > maxDecimals || len(d.String())-d.Scale() > maxWholeDigits {
			return nil, "it has more digits than numeric can hold"
		}
		return d, ""
	}
	if d.Scale() != c.scale {
		fitted := d.Round(c.scale)
		if fitted.Cmp(d) != 0 {
			return nil, fmt.Sprintf("%s has %d decimals, and nothing is rounded", c.typ, c.scale)
		}
		d = fitted
	}
	if units, _, small := d.Int64(); small && (c.precision > 18 || units < tenTo[c.precision] && units > -tenTo[c.precision]) {
		return d, ""
	}
	digits := len(strings.TrimLeft(strings.Replace(d.String(), ".", "", 1), "-0"))
	if digits > c.precision {
		return nil, fmt.Sprintf("%s has %d digits before the point", c.typ, c.precision-c.scale)
	}
	return d, ""
}

var tenTo = func() (p [19]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()
