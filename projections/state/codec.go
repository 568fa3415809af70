package state

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"banyan/money"
)

// A value travels and rests in Postgres' binary form, with its length before it:
// that is what COPY, the elements of an array and the fields of a result have in
// common. So a Bulk keeps rows as COPY wants them, and nothing is converted twice.

// null is the length of a NULL.
const null = math.MaxUint32

// appendField appends the length and the bytes of a value that coerce has made.
func (c *column) appendField(dst []byte, v any) ([]byte, error) {
	if v == nil {
		return binary.BigEndian.AppendUint32(dst, null), nil
	}
	switch v := v.(type) {
	case int64:
		switch c.kind {
		case kindInt8:
			return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), uint64(v)), nil
		case kindInt4:
			return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 4), uint32(v)), nil
		case kindInt2:
			return binary.BigEndian.AppendUint16(append(dst, 0, 0, 0, 2), uint16(v)), nil
		}
	case string:
		switch c.kind {
		case kindText, kindVarchar:
			return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...), nil
		case kindUUID:
			var raw [16]byte
			if parseUUID(v, &raw) {
				return append(append(dst, 0, 0, 0, 16), raw[:]...), nil
			}
		}
	case money.Decimal:
		if c.kind == kindNumeric {
			return appendNumeric(dst, v), nil
		}
	case bool:
		if c.kind == kindBool {
			if v {
				return append(dst, 0, 0, 0, 1, 1), nil
			}
			return append(dst, 0, 0, 0, 1, 0), nil
		}
	case time.Time:
		switch c.kind {
		case kindTimestamp, kindTimestamptz:
			return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), uint64(micros(v))), nil
		case kindDate:
			return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 4), uint32(int32(floorDiv(v.Unix()-epoch2000, 86400)))), nil
		}
	case json.RawMessage:
		switch c.kind {
		case kindJSONB: // its bytes begin with a version
			return append(append(binary.BigEndian.AppendUint32(dst, uint32(len(v)+1)), 1), v...), nil
		case kindJSON:
			return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...), nil
		}
	case []byte:
		if c.kind == kindBytea {
			return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...), nil
		}
	case float64:
		switch c.kind {
		case kindFloat8:
			return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), math.Float64bits(v)), nil
		case kindFloat4:
			return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 4), math.Float32bits(float32(v))), nil
		}
	}
	return dst, fmt.Errorf("a Go %T is no value of a column of type %s", v, c.typ)
}

// field reads a value from its bytes; nil is NULL. own says that they were made
// by appendField, so that JSON is in its canonical form. The value shares no
// memory with them.
func (c *column) field(b []byte, own bool) (any, error) {
	if b == nil {
		return nil, nil
	}
	switch c.kind {
	case kindInt8:
		if len(b) == 8 {
			return int64(binary.BigEndian.Uint64(b)), nil
		}
	case kindInt4:
		if len(b) == 4 {
			return int64(int32(binary.BigEndian.Uint32(b))), nil
		}
	case kindInt2:
		if len(b) == 2 {
			return int64(int16(binary.BigEndian.Uint16(b))), nil
		}
	case kindText, kindVarchar:
		return string(b), nil
	case kindNumeric:
		return numeric(b)
	case kindBool:
		if len(b) == 1 {
			return b[0] != 0, nil
		}
	case kindUUID:
		if len(b) == 16 {
			return formatUUID((*[16]byte)(b)), nil
		}
	case kindTimestamp, kindTimestamptz:
		if len(b) == 8 {
			return instant(int64(binary.BigEndian.Uint64(b)))
		}
	case kindDate:
		if len(b) == 4 {
			return day(int32(binary.BigEndian.Uint32(b)))
		}
	case kindJSONB:
		if len(b) > 0 && b[0] == 1 {
			return jsonField(b[1:], own)
		}
	case kindJSON:
		return jsonField(b, own)
	case kindBytea:
		return append(make([]byte, 0, len(b)), b...), nil
	case kindFloat8:
		if len(b) == 8 {
			return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
		}
	case kindFloat4:
		if len(b) == 4 {
			return float64(math.Float32frombits(binary.BigEndian.Uint32(b))), nil
		}
	}
	return nil, fmt.Errorf("%d bytes are no value of type %s", len(b), c.typ)
}

func jsonField(b []byte, own bool) (any, error) {
	raw := json.RawMessage(append(make([]byte, 0, len(b)), b...))
	if own {
		return raw, nil
	}
	return canonicalJSON(raw)
}

// appendRow appends a row as a tuple of COPY: the number of its fields, then
// these.
func (s *Shape) appendRow(dst []byte, row Row) ([]byte, error) {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s.columns)))
	var err error
	for i := range s.columns {
		if dst, err = s.columns[i].appendField(dst, row[i]); err != nil {
			return dst, fmt.Errorf("column %s.%s: %w", s.table.Name, s.columns[i].name, err)
		}
	}
	return dst, nil
}

// row reads what appendRow wrote.
func (s *Shape) row(b []byte) (Row, error) {
	row := make(Row, len(s.columns))
	b = b[2:]
	for i := range s.columns {
		if len(b) < 4 {
			return nil, fmt.Errorf("a row of table %s ends early", s.table.Name)
		}
		n := binary.BigEndian.Uint32(b)
		b = b[4:]
		if n == null {
			continue
		}
		if uint64(n) > uint64(len(b)) {
			return nil, fmt.Errorf("a row of table %s ends early", s.table.Name)
		}
		var err error
		if row[i], err = s.columns[i].field(b[:n:n], true); err != nil {
			return nil, fmt.Errorf("column %s.%s: %w", s.table.Name, s.columns[i].name, err)
		}
		b = b[n:]
	}
	return row, nil
}

// fields reads a row from the fields of a result.
func (s *Shape) fields(values [][]byte) (Row, error) {
	row := make(Row, len(s.columns))
	for i := range s.columns {
		var err error
		if row[i], err = s.columns[i].field(values[i], false); err != nil {
			return nil, fmt.Errorf("column %s.%s: %w", s.table.Name, s.columns[i].name, err)
		}
	}
	return row, nil
}

// micros counts from the year 2000.
func micros(t time.Time) int64 {
	return (t.Unix()-epoch2000)*1_000_000 + int64(t.Nanosecond()/1000)
}

func instant(n int64) (any, error) {
	if n == math.MaxInt64 || n == math.MinInt64 {
		return nil, fmt.Errorf("infinity is no time that a row can hold")
	}
	s := floorDiv(n, 1_000_000)
	return time.Unix(s+epoch2000, (n-s*1_000_000)*1000).UTC(), nil
}

func day(n int32) (any, error) {
	if n == math.MaxInt32 || n == math.MinInt32 {
		return nil, fmt.Errorf("infinity is no day that a row can hold")
	}
	return time.Unix(int64(n)*86400+epoch2000, 0).UTC(), nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// A numeric is a number of digits of base 10000, the weight of the first one, a
// sign, the number of decimals to show, and the digits; zeros at both ends of
// them are left out.
const (
	numericNegative = 0x4000
	numericSpecial  = 0xc000 // NaN and the infinities
)

func appendNumeric(dst []byte, d money.Decimal) []byte {
	units, scale, small := d.Int64()
	if !small {
		return appendLargeNumeric(dst, d)
	}
	u := uint64(units)
	sign := uint16(0)
	if units < 0 {
		u, sign = -u, numericNegative
	}
	// Split at the point, so that the decimals fill groups of four.
	var whole, decimals uint64
	if scale > 18 {
		if u != 0 {
			return appendLargeNumeric(dst, d)
		}
	} else {
		whole, decimals = u/uint64(tenTo[scale]), u%uint64(tenTo[scale])
	}
	var groups [12]uint16
	at := 6 // groups[:6] are whole, groups[6:] decimals
	first := at
	for whole > 0 {
		first--
		groups[first] = uint16(whole % 10000)
		whole /= 10000
	}
	end := at
	for left := scale; decimals > 0; left -= 4 {
		var g uint64
		if left >= 4 {
			unit := uint64(tenTo[left-4])
			g, decimals = decimals/unit, decimals%unit
		} else {
			g, decimals = decimals*uint64(tenTo[4-left]), 0
		}
		groups[end] = uint16(g)
		end++
	}
	return appendGroups(dst, groups[first:end], at-first-1, sign, scale)
}

// appendGroups writes a numeric; weight is that of the first group.
func appendGroups(dst []byte, groups []uint16, weight int, sign uint16, scale int) []byte {
	for len(groups) > 0 && groups[0] == 0 {
		groups = groups[1:]
		weight--
	}
	for len(groups) > 0 && groups[len(groups)-1] == 0 {
		groups = groups[:len(groups)-1]
	}
	if len(groups) == 0 {
		weight, sign = 0, 0
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(8+2*len(groups)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(groups)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(int16(weight)))
	dst = binary.BigEndian.AppendUint16(dst, sign)
	dst = binary.BigEndian.AppendUint16(dst, uint16(scale))
	for _, g := range groups {
		dst = binary.BigEndian.AppendUint16(dst, g)
	}
	return dst
}

// appendLargeNumeric goes by the digits of the text.
func appendLargeNumeric(dst []byte, d money.Decimal) []byte {
	text, negative := strings.CutPrefix(d.String(), "-")
	whole, decimals, _ := strings.Cut(text, ".")
	whole = strings.Repeat("0", (4-len(whole)%4)%4) + whole
	decimals += strings.Repeat("0", (4-len(decimals)%4)%4)
	digits := whole + decimals
	groups := make([]uint16, 0, len(digits)/4)
	for i := 0; i < len(digits); i += 4 {
		g := uint16(0)
		for _, b := range []byte(digits[i : i+4]) {
			g = g*10 + uint16(b-'0')
		}
		groups = append(groups, g)
	}
	sign := uint16(0)
	if negative {
		sign = numericNegative
	}
	return appendGroups(dst, groups, len(whole)/4-1, sign, d.Scale())
}

func numeric(b []byte) (any, error) {
	if len(b) < 8 || len(b) != 8+2*int(binary.BigEndian.Uint16(b)) {
		return nil, fmt.Errorf("%d bytes are no numeric", len(b))
	}
	n := int(binary.BigEndian.Uint16(b))
	weight := int(int16(binary.BigEndian.Uint16(b[2:])))
	sign := binary.BigEndian.Uint16(b[4:])
	scale := int(binary.BigEndian.Uint16(b[6:]))
	if sign&numericSpecial == numericSpecial {
		return nil, fmt.Errorf("NaN and infinity are no numbers that a row can hold")
	}
	group := func(i int) int64 {
		if i < n {
			return int64(binary.BigEndian.Uint16(b[8+2*i:]))
		}
		return 0
	}
	// All groups down to the last decimal, as one number where that fits.
	after := (scale + 3) / 4
	total := weight + 1 + after
	if n == 0 {
		return money.NewDecimal(0, scale), nil
	}
	if total >= n && total <= 4 {
		units := int64(0)
		for i := range total {
			units = units*10000 + group(i)
		}
		units /= tenTo[after*4-scale]
		if sign == numericNegative {
			units = -units
		}
		return money.NewDecimal(units, scale), nil
	}
	return largeNumeric(group, n, weight, sign == numericNegative, scale)
}

func largeNumeric(group func(int) int64, n, weight int, negative bool, scale int) (any, error) {
	var text strings.Builder
	if negative {
		text.WriteByte('-')
	}
	if weight < 0 {
		text.WriteByte('0')
	}
	for i := 0; i <= weight; i++ {
		fmt.Fprintf(&text, "%04d", group(i))
	}
	if scale > 0 {
		var decimals strings.Builder
		for at := -1; decimals.Len() < scale; at-- {
			if i := weight - at; i >= 0 && i < n {
				fmt.Fprintf(&decimals, "%04d", group(i))
			} else {
				decimals.WriteString("0000")
			}
		}
		text.WriteByte('.')
		text.WriteString(decimals.String()[:scale])
	}
	d, err := money.ParseNumber(text.String())
	if err != nil {
		return nil, fmt.Errorf("numeric: %w", err)
	}
	return d, nil
}
