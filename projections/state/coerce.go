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
