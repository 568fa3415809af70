package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"banyan/money"
)

// A key is its columns' values one after the other, each in a form whose bytes
// compare as the values do in Postgres: numbers with a fixed width and the sign
// turned, text closed by a zero byte (it can hold none) except at the very end, so
// that a key of one text is that text.

// KeyOf gives the key of a row. A key column that is NULL or cannot hold its
// value is a *ValueError.
func (s *Shape) KeyOf(row Row) (Key, error) {
	if len(row) != len(s.columns) {
		return "", fmt.Errorf("a row of table %s has %d values for %d columns", s.table.Name, len(row), len(s.columns))
	}
	var room [64]byte
	b, err := s.appendKey(room[:0], row)
	return Key(b), err
}

// appendKey is KeyOf into a buffer.
func (s *Shape) appendKey(dst []byte, row Row) ([]byte, error) {
	var err error
	for i, place := range s.key {
		if dst, err = s.appendKeyPart(dst, i, row[place]); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// Key makes a key of the values of the key columns, in the order of Table.Key;
// values are converted as Coerce does.
func (s *Shape) Key(values ...any) (Key, error) {
	if len(values) != len(s.key) {
		return "", fmt.Errorf("the key of table %s has %d columns (%s), not %d", s.table.Name, len(s.key), strings.Join(s.table.Key, ", "), len(values))
	}
	var room [64]byte
	b := room[:0]
	var err error
	for i, v := range values {
		if b, err = s.appendKeyPart(b, i, v); err != nil {
			return "", err
		}
	}
	return Key(b), nil
}

// appendKeyPart appends the value of the i-th key column.
func (s *Shape) appendKeyPart(dst []byte, i int, v any) ([]byte, error) {
	c := &s.columns[s.key[i]]
	if v == nil || !c.holds(v) {
		out, reason := c.coerce(v)
		if reason != "" {
			return nil, s.refuse(c, v, reason)
		}
		v = out
	}
	last := i == len(s.key)-1
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(dst, uint64(v)^1<<63), nil
	case string:
		if c.kind == kindUUID {
			var raw [16]byte
			if !parseUUID(v, &raw) {
				return nil, s.refuse(c, v, "it is no uuid")
			}
			return append(dst, raw[:]...), nil
		}
		if dst = append(dst, v...); !last {
			dst = append(dst, 0)
		}
		return dst, nil
	case money.Decimal:
		return appendNumericKey(dst, v), nil
	case bool:
		if v {
			return append(dst, 1), nil
		}
		return append(dst, 0), nil
	case time.Time:
		return binary.BigEndian.AppendUint64(dst, uint64(micros(v))^1<<63), nil
	case []byte:
		if last {
			return append(dst, v...), nil
		}
		for _, b := range v {
			if dst = append(dst, b); b == 0 {
				dst = append(dst, 0xff)
			}
		}
		return append(dst, 0, 0), nil
	case float64:
		return binary.BigEndian.AppendUint64(dst, floatKey(v)), nil
	}
	return nil, s.refuse(c, v, "it cannot be part of a key")
}

// floatKey orders floats as Postgres does: -0 is 0, NaN comes last.
func floatKey(f float64) uint64 {
	if f == 0 {
		f = 0
	}
	bits := math.Float64bits(f)
	if math.IsNaN(f) {
		return math.MaxUint64
	}
	if bits>>63 == 1 {
		return ^bits
	}
	return bits | 1<<63
}

// appendNumericKey writes 1 for zero; for others 2, or 0 with all that follows
// turned over for a negative one: the place of the point and the digits without
// zeros at their ends, closed. 1.5 and 1.50 are one key, as in Postgres.
func appendNumericKey(dst []byte, d money.Decimal) []byte {
	if d.Sign() == 0 {
		return append(dst, 1)
	}
	text, negative := strings.CutPrefix(d.String(), "-")
	whole, decimals, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(whole+decimals, "0")
	point := len(digits) - len(decimals)
	digits = strings.TrimRight(digits, "0")
	begin := len(dst)
	dst = append(dst, 2)
	dst = binary.BigEndian.AppendUint32(dst, uint32(int32(point))^1<<31)
	dst = append(append(dst, digits...), 0)
	if negative {
		dst[begin] = 0
		for i := begin + 1; i < len(dst); i++ {
			dst[i] = ^dst[i]
		}
	}
	return dst
}

// Parse gives the values of the key columns that a key was made of. A numeric
// without a scale comes without zeros at its end.
func (s *Shape) Parse(k Key) ([]any, error) {
	values := make([]any, len(s.key))
	rest := []byte(k)
	for i, place := range s.key {
		var ok bool
		if values[i], rest, ok = s.columns[place].keyPart(rest, i == len(s.key)-1); !ok {
			return nil, fmt.Errorf("%q is no key of table %s", string(k), s.table.Name)
		}
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%q is no key of table %s", string(k), s.table.Name)
	}
	return values, nil
}

// keyPart reads one value and gives what follows it.
func (c *column) keyPart(b []byte, last bool) (v any, rest []byte, ok bool) {
	width := 8
	switch c.kind {
	case kindText, kindVarchar:
		if !last {
			end := bytes.IndexByte(b, 0)
			if end < 0 {
				return nil, nil, false
			}
			return string(b[:end]), b[end+1:], textFault(string(b[:end])) == ""
		}
		return string(b), nil, textFault(string(b)) == ""
	case kindBytea:
		return byteaPart(b, last)
	case kindNumeric:
		return c.numericPart(b)
	case kindUUID:
		width = 16
	case kindBool:
		width = 1
	}
	if len(b) < width {
		return nil, nil, false
	}
	part, rest := b[:width], b[width:]
	switch c.kind {
	case kindUUID:
		return formatUUID((*[16]byte)(part)), rest, true
	case kindBool:
		return part[0] == 1, rest, part[0] <= 1
	}
	n := binary.BigEndian.Uint64(part)
	switch c.kind {
	case kindDate, kindTimestamp, kindTimestamptz:
		t, err := instant(int64(n ^ 1<<63))
		return t, rest, err == nil && c.holds(t)
	case kindFloat4, kindFloat8:
		f := math.NaN()
		if n>>63 == 0 {
			f = math.Float64frombits(^n)
		} else if n != math.MaxUint64 {
			f = math.Float64frombits(n &^ (1 << 63))
		}
		exact := c.kind == kindFloat8 || math.IsNaN(f) || float64(float32(f)) == f
		return f, rest, exact && floatKey(f) == n
	}
	v = int64(n ^ 1<<63)
	return v, rest, c.holds(v)
}

func byteaPart(b []byte, last bool) (any, []byte, bool) {
	if last {
		return bytes.Clone(b), nil, true
	}
	out := []byte{}
	for i := 0; i+1 < len(b); i++ {
		if b[i] != 0 {
			out = append(out, b[i])
			continue
		}
		if b[i+1] == 0 {
			return out, b[i+2:], true
		}
		out = append(out, 0)
		i++
	}
	return nil, nil, false
}

func (c *column) numericPart(b []byte) (any, []byte, bool) {
	if len(b) == 0 || b[0] > 2 {
		return nil, nil, false
	}
	if b[0] == 1 {
		return money.NewDecimal(0, c.scale), b[1:], true
	}
	turn, sign := byte(0), ""
	if b[0] == 0 {
		turn, sign = 0xff, "-"
	}
	end := bytes.IndexByte(b[min(5, len(b)):], turn)
	if end < 1 {
		return nil, nil, false
	}
	rest := b[5+end+1:]
	var part []byte
	for _, x := range b[1 : 5+end] {
		part = append(part, x^turn)
	}
	point := int(int32(binary.BigEndian.Uint32(part) ^ 1<<31))
	digits := string(part[4:])
	if point > maxWholeDigits || point < -maxDecimals {
		return nil, nil, false
	}
	switch {
	case point <= 0:
		digits = "0." + strings.Repeat("0", -point) + digits
	case point < len(digits):
		digits = digits[:point] + "." + digits[point:]
	default:
		digits += strings.Repeat("0", point-len(digits))
	}
	d, err := money.ParseNumber(sign + digits)
	if err != nil {
		return nil, nil, false
	}
	if c.precision > 0 {
		d = d.Round(c.scale)
	}
	return d, rest, true
}
