package translate

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"banyan/money"
)

func (c *codec) amount(text string) (money.Amount, error) {
	return money.ParseDecimal(text, c.scale, c.unit)
}

// value gives a column's value as expressions see it: int64, bool, string,
// time.Time, money.Decimal, money.Amount, what JSON holds, or nil for NULL.
// What is no number (NaN, Infinity) is nil: nothing can be computed with it.
func (c *codec) value(text string) (any, error) {
	switch c.kind {
	case kindInt:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, errForm
		}
		return n, nil
	case kindBool:
		return text == "t", nil
	case kindFloat, kindNumeric:
		if text == "NaN" || strings.HasSuffix(text, "Infinity") {
			return nil, nil
		}
		return parseNumber(text)
	case kindMoney:
		return c.amount(text)
	case kindTime, kindDate:
		return parseTime(text)
	case kindJSON:
		return decodeJSON([]byte(text))
	case kindArray:
		b, err := c.appendJSON(nil, text)
		if err != nil {
			return nil, err
		}
		return decodeJSON(b)
	}
	return text, nil
}

// parseNumber reads decimals with an exponent too, as floats print.
func parseNumber(text string) (money.Decimal, error) {
	mantissa, exponent, found := strings.Cut(strings.ToLower(text), "e")
	d, err := money.ParseNumber(mantissa)
	if err != nil || !found {
		return d, err
	}
	n, err := strconv.Atoi(exponent)
	if err != nil || n > 400 || n < -400 {
		return d, errForm
	}
	if n < 0 {
		return d.Mul(money.NewDecimal(1, -n)), nil
	}
	ten, err := money.ParseNumber("1" + strings.Repeat("0", n))
	return d.Mul(ten), err
}

var (
	endOfTime   = time.Date(294277, 1, 1, 0, 0, 0, 0, time.UTC)
	beginOfTime = time.Date(-4713, 1, 1, 0, 0, 0, 0, time.UTC)
)

// parseTime reads timestamps and dates. infinity becomes a moment after (or
// before) all that Postgres can hold, so that comparisons come out right.
func parseTime(text string) (time.Time, error) {
	switch text {
	case "infinity":
		return endOfTime, nil
	case "-infinity":
		return beginOfTime, nil
	}
	s, bc := strings.CutSuffix(text, " BC")
	day, clock, _ := strings.Cut(s, " ")
	parts := strings.Split(day, "-")
	if len(parts) != 3 {
		return time.Time{}, errForm
	}
	var ymd [3]int
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil {
			return time.Time{}, errForm
		}
		ymd[i] = n
	}
	if bc {
		ymd[0] = 1 - ymd[0]
	}
	t := time.Date(ymd[0], time.Month(ymd[1]), ymd[2], 0, 0, 0, 0, time.UTC)
	if clock == "" {
		return t, nil
	}
	return addClock(t, clock)
}

// addClock adds 08:26:00.123456+05:30.
func addClock(day time.Time, clock string) (time.Time, error) {
	var offset time.Duration
	if zone := strings.LastIndexAny(clock, "+-"); zone > 0 {
		unit := time.Hour
		for _, p := range strings.Split(clock[zone+1:], ":") {
			n, err := strconv.Atoi(p)
			if err != nil {
				return time.Time{}, errForm
			}
			offset += time.Duration(n) * unit
			unit /= 60
		}
		if clock[zone] == '-' {
			offset = -offset
		}
		clock = clock[:zone]
	}
	hms := strings.Split(clock, ":")
	if len(hms) != 3 {
		return time.Time{}, errForm
	}
	h, err1 := strconv.Atoi(hms[0])
	m, err2 := strconv.Atoi(hms[1])
	s, err3 := time.ParseDuration(hms[2] + "s")
	if err1 != nil || err2 != nil || err3 != nil {
		return time.Time{}, errForm
	}
	return day.Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + s - offset), nil
}

func decodeJSON(b []byte) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errForm
	}
	return v, nil
}

// appendValue appends what an expression gave.
func appendValue(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case string:
		return appendString(dst, v), nil
	case json.Number:
		return append(dst, v...), nil
	case money.Decimal:
		return appendString(dst, v.String()), nil
	case money.Amount:
		return v.AppendJSON(dst), nil
	case time.Time:
		if v.Equal(endOfTime) {
			return append(dst, `"infinity"`...), nil
		}
		if v.Equal(beginOfTime) {
			return append(dst, `"-infinity"`...), nil
		}
		return appendString(dst, v.UTC().Format(time.RFC3339Nano)), nil
	case *rowValue:
		return v.appendJSON(dst)
	case []any:
		return appendList(dst, v)
	case map[string]any:
		return appendMap(dst, v)
	}
	return dst, fmt.Errorf("a value of type %T has no form in JSON", v)
}

func appendList(dst []byte, list []any) ([]byte, error) {
	dst = append(dst, '[')
	var err error
	for i, item := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendValue(dst, item); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

func appendMap(dst []byte, m map[string]any) ([]byte, error) {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	sort.Strings(names)
	dst = append(dst, '{')
	var err error
	for i, k := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, k), ':')
		if dst, err = appendValue(dst, m[k]); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
