package state

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"banyan/expression"
	"banyan/money"
)

// holds says, fast, that a value is already as the column wants it. What it says
// no to goes through coerce.
func (c *column) holds(v any) bool {
	switch v := v.(type) {
	case nil:
		return !c.notNull
	case int64:
		switch c.kind {
		case kindInt8:
			return true
		case kindInt4:
			return v == int64(int32(v))
		case kindInt2:
			return v == int64(int16(v))
		}
	case string:
		switch c.kind {
		case kindText, kindVarchar:
			return textFault(v) == "" && (c.limit == 0 || len(v) <= c.limit)
		case kindUUID:
			return plainUUID(v)
		}
	case bool:
		return c.kind == kindBool
	case money.Decimal:
		units, scale, small := v.Int64()
		if c.kind != kindNumeric || !small || scale != c.scale && c.precision > 0 {
			return false
		}
		return c.precision == 0 && scale <= maxDecimals || c.precision > 18 ||
			c.precision > 0 && units < tenTo[c.precision] && units > -tenTo[c.precision]
	case time.Time:
		return c.isTime() && v.Location() == time.UTC && timeFault(v) == "" && (c.kind != kindDate || atMidnight(v))
	case []byte:
		return c.kind == kindBytea
	case float64:
		return c.kind == kindFloat8 && v == v
	}
	return false
}

// coerce converts a value, or says why the column cannot hold it.
func (c *column) coerce(v any) (out any, reason string) {
	if v == nil {
		if c.notNull {
			return nil, "it may not be NULL"
		}
		return nil, ""
	}
	switch c.kind {
	case kindInt2:
		return coerceInt(v, math.MinInt16, math.MaxInt16, "smallint")
	case kindInt4:
		return coerceInt(v, math.MinInt32, math.MaxInt32, "integer")
	case kindInt8:
		return coerceInt(v, math.MinInt64, math.MaxInt64, "bigint")
	case kindNumeric:
		return c.coerceNumeric(v)
	case kindBool:
		switch v {
		case true, "true":
			return true, ""
		case false, "false":
			return false, ""
		}
		return nil, "it is neither true nor false"
	case kindText, kindVarchar:
		return c.coerceText(v)
	case kindUUID:
		return coerceUUID(v)
	case kindDate, kindTimestamp, kindTimestamptz:
		return c.coerceTime(v)
	case kindJSON, kindJSONB:
		return coerceJSON(v)
	case kindBytea:
		return coerceBytes(v)
	}
	return c.coerceFloat(v)
}

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

func (c *column) coerceText(v any) (any, string) {
	var s string
	switch v := v.(type) {
	case string:
		s = v
	case int64:
		s = strconv.FormatInt(v, 10)
	case int:
		s = strconv.Itoa(v)
	case bool:
		s = strconv.FormatBool(v)
	case money.Decimal:
		s = v.String()
	case json.Number:
		s = string(v)
	case expression.Date:
		s = v.String()
	case time.Time:
		switch s = v.UTC().Format(time.RFC3339Nano); {
		case v.Equal(expression.EndOfTime):
			s = "infinity"
		case v.Equal(expression.BeginOfTime):
			s = "-infinity"
		}
	case money.Amount:
		return nil, "it is a sum of money; take a numeric or jsonb column, or its number"
	default:
		return nil, fmt.Sprintf("it is no text but %s", typeName(v))
	}
	if reason := textFault(s); reason != "" {
		return nil, reason
	}
	if c.limit > 0 && len(s) > c.limit {
		if n := utf8.RuneCountInString(s); n > c.limit {
			return nil, fmt.Sprintf("it has %d characters, %s holds %d", n, c.typ, c.limit)
		}
	}
	return s, ""
}

// textFault says why Postgres would refuse a text.
func textFault(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		return "Postgres holds no text with the character \\u0000"
	}
	if !utf8.ValidString(s) {
		return "it is no valid UTF-8"
	}
	return ""
}

func coerceUUID(v any) (any, string) {
	const wants = "it is no uuid, such as 018f3d5e-7b1c-7000-8000-0123456789ab"
	s, ok := v.(string)
	if !ok {
		return nil, wants
	}
	var raw [16]byte
	if !parseUUID(s, &raw) {
		return nil, wants
	}
	if plain := formatUUID(&raw); plain != s {
		return plain, ""
	}
	return s, ""
}

// plainUUID says that a uuid is written as Postgres does.
func plainUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch b := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if b != '-' {
				return false
			}
		case (b < '0' || b > '9') && (b < 'a' || b > 'f'):
			return false
		}
	}
	return true
}

// parseUUID reads 32 hexadecimal digits, with the four usual hyphens or none.
func parseUUID(s string, raw *[16]byte) bool {
	switch {
	case len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-':
		var digits [32]byte
		n := copy(digits[:], s[:8])
		n += copy(digits[n:], s[9:13])
		n += copy(digits[n:], s[14:18])
		n += copy(digits[n:], s[19:23])
		copy(digits[n:], s[24:])
		_, err := hex.Decode(raw[:], digits[:])
		return err == nil
	case len(s) == 32:
		_, err := hex.Decode(raw[:], []byte(s))
		return err == nil
	}
	return false
}

func formatUUID(raw *[16]byte) string {
	var out [36]byte
	hex.Encode(out[:], raw[:4])
	hex.Encode(out[9:], raw[4:6])
	hex.Encode(out[14:], raw[6:8])
	hex.Encode(out[19:], raw[8:10])
	hex.Encode(out[24:], raw[10:])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// Postgres counts time from the year 2000, and holds these seconds of it: from
// 4714-11-24 BC until the year 294277.
const (
	epoch2000   = 946684800
	firstSecond = -211813488000
	endSecond   = 9223371331200
)

func timeFault(t time.Time) string {
	switch s := t.Unix() - epoch2000; {
	case t.Equal(expression.EndOfTime) || t.Equal(expression.BeginOfTime):
		return "infinity is no time that a row can hold; take NULL for what has no end"
	case s < firstSecond || s >= endSecond:
		return "it is beyond the times of Postgres, 4714 BC to 294276"
	case t.Nanosecond()%1000 != 0:
		return "it is finer than a microsecond, and nothing is rounded"
	}
	return ""
}

func (c *column) coerceTime(v any) (any, string) {
	var t time.Time
	switch v := v.(type) {
	case time.Time:
		t = v.UTC()
	case expression.Date:
		t = v.Time()
	case string:
		var err error
		if t, err = expression.ParseTime(v); err != nil {
			return nil, "it is no time; want RFC 3339, such as 2010-12-01T08:26:00Z, or a day such as 2010-12-01"
		}
		t = t.UTC()
	default:
		return nil, fmt.Sprintf("it is no time but %s", typeName(v))
	}
	if reason := timeFault(t); reason != "" {
		return nil, reason
	}
	if c.kind == kindDate && !atMidnight(t) {
		return nil, "it has a time of day, which a date would lose; take date(...) of it"
	}
	return t, ""
}

func atMidnight(t time.Time) bool {
	return (t.Unix()-epoch2000)%86400 == 0 && t.Nanosecond() == 0
}

func coerceBytes(v any) (any, string) {
	switch v := v.(type) {
	case []byte:
		return v, ""
	case string:
		if digits, ok := strings.CutPrefix(v, `\x`); ok {
			if raw, err := hex.DecodeString(digits); err == nil {
				return raw, ""
			}
		}
		return nil, `as text it is written \x and pairs of hexadecimal digits`
	}
	return nil, fmt.Sprintf("it is no bytes but %s", typeName(v))
}

func (c *column) coerceFloat(v any) (any, string) {
	f, ok := v.(float64)
	if !ok {
		s, isText := v.(string)
		if !isText {
			d, reason := number(v)
			if reason != "" {
				return nil, reason
			}
			s = d.String()
		}
		var err error
		if f, err = strconv.ParseFloat(s, 64); err != nil {
			return nil, "it is no number that " + c.typ.String() + " can hold"
		}
	}
	if c.kind == kindFloat4 && !math.IsInf(f, 0) {
		if f = float64(float32(f)); math.IsInf(f, 0) {
			return nil, "it is beyond real"
		}
	}
	if math.IsNaN(f) {
		f = math.NaN() // one of the many, so that equal rows have equal bytes
	}
	return f, ""
}

func coerceJSON(v any) (any, string) {
	raw, given := v.(json.RawMessage)
	if !given {
		var err error
		if raw, err = expression.AppendJSON(nil, v); err != nil {
			return nil, fmt.Sprintf("%s has no form in JSON here; give it as json.RawMessage", typeName(v))
		}
	}
	canonical, err := canonicalJSON(raw)
	if err != nil {
		var bad *jsonError
		if errors.As(err, &bad) {
			return nil, fmt.Sprintf("%s, at byte %d of the JSON", bad.reason, bad.at)
		}
		return nil, err.Error()
	}
	return canonical, ""
}

// typeName is the type of a value in the words of expressions, where it has some.
func typeName(v any) string {
	switch v.(type) {
	case bool:
		return "a truth value"
	case string:
		return "text"
	case []byte:
		return "bytes"
	case int64, int, money.Decimal, json.Number, float64:
		return "a number"
	case money.Amount:
		return "a sum of money"
	case time.Time:
		return "a time"
	case expression.Date:
		return "a day"
	case time.Duration:
		return "a duration"
	case []any:
		return "a list"
	case map[string]any, expression.Object:
		return "an object"
	case json.RawMessage:
		return "JSON"
	}
	return fmt.Sprintf("a Go %T", v)
}

// show is a value in one short line.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return cut(strconv.Quote(v))
	case json.RawMessage:
		return cut(string(v))
	case []byte:
		return cut(`\x` + hex.EncodeToString(v[:min(len(v), 40)]))
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	if text, err := expression.AppendJSON(nil, v); err == nil {
		return cut(string(text))
	}
	return cut(fmt.Sprint(v))
}

// cut shortens a text to a line.
func cut(s string) string {
	const most = 80
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\n", " "), "?")
	if len(s) <= most {
		return s
	}
	end := most
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}
