package state

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"banyan/expression"
	"banyan/money"
)

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
