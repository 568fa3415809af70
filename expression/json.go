package expression

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"banyan/money"
)

// AppendJSON appends a value's form in JSON, which docs/types.md gives: a
// decimal is a string, an amount is {"amount","scale","currency"}, a time is
// RFC 3339, a duration its seconds. The members of an object are sorted. A value
// of another type than those of the package's list is an error.
func AppendJSON(dst []byte, v any) ([]byte, error) {
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
		return AppendText(dst, v), nil
	case json.Number:
		return append(dst, v...), nil
	case money.Decimal:
		return AppendText(dst, v.String()), nil
	case money.Amount:
		return v.AppendJSON(dst), nil
	case time.Time:
		if v.Equal(EndOfTime) {
			return append(dst, `"infinity"`...), nil
		}
		if v.Equal(BeginOfTime) {
			return append(dst, `"-infinity"`...), nil
		}
		return AppendText(dst, v.UTC().Format(time.RFC3339Nano)), nil
	case Date:
		return append(v.append(append(dst, '"')), '"'), nil
	case time.Duration:
		if v%time.Second == 0 {
			return strconv.AppendInt(dst, int64(v/time.Second), 10), nil
		}
		return AppendText(dst, money.NewDecimal(int64(v), 9).String()), nil
	case Object:
		return v.AppendJSON(dst)
	case []any:
		return appendList(dst, v)
	case map[string]any:
		return appendObject(dst, v)
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
		if dst, err = AppendJSON(dst, item); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

func appendObject(dst []byte, m map[string]any) ([]byte, error) {
	dst = append(dst, '{')
	var err error
	for i, k := range sortedKeys(m) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendText(dst, k), ':')
		if dst, err = AppendJSON(dst, m[k]); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

const hexDigits = "0123456789abcdef"

// AppendText appends a JSON string. Unlike encoding/json it escapes nothing
// that need not be, so that the bytes are the same wherever they are made.
func AppendText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		start = i + 1
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
