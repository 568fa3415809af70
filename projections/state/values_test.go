package state

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"pgregory.net/rapid"

	"banyan/money"
)

// Values that are hard on the way through Postgres and back.
func decimals(scale int) *rapid.Generator[money.Decimal] {
	return rapid.Custom(func(r *rapid.T) money.Decimal {
		switch rapid.IntRange(0, 3).Draw(r, "kind of number") {
		case 0:
			return money.NewDecimal(int64(rapid.IntRange(-3, 3).Draw(r, "units"))*100, 2).Round(scale)
		case 1:
			text := rapid.StringMatching(`-?[1-9][0-9]{0,60}(\.[0-9]{1,40})?`).Draw(r, "number")
			d, err := money.ParseNumber(text)
			if err != nil {
				r.Fatal(err)
			}
			return d
		case 2:
			return money.NewDecimal(rapid.Int64().Draw(r, "units"), rapid.IntRange(0, 30).Draw(r, "scale"))
		}
		return money.NewDecimal(int64(rapid.IntRange(-20000, 20000).Draw(r, "units")), rapid.IntRange(0, 9).Draw(r, "scale"))
	})
}

var texts = rapid.OneOf(
	rapid.SampledFrom([]string{"", " ", "a", "A", "ä", "\x01", "\u007f", "𝄞", "x\"y\\z'", "\n\t", "zebra", "a ", "\U0010FFFF"}),
	rapid.StringMatching(`[a-c]{0,4}`),
	rapid.Custom(func(r *rapid.T) string { return strings.ReplaceAll(rapid.String().Draw(r, "text"), "\x00", "") }),
)

var instants = rapid.OneOf(
	rapid.SampledFrom([]time.Time{
		time.Unix(epoch2000, 0).UTC(), time.Unix(0, 0).UTC(), time.Unix(-1, 999999000).UTC(),
		time.Unix(epoch2000+firstSecond, 0).UTC(), time.Unix(epoch2000+endSecond-1, 999999000).UTC(),
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-43, 3, 15, 12, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC),
	}),
	rapid.Custom(func(r *rapid.T) time.Time {
		return time.UnixMicro(rapid.Int64Range(-1e15, 4e15).Draw(r, "µs")).UTC()
	}),
)

var days = rapid.Custom(func(r *rapid.T) time.Time {
	return time.Unix(int64(rapid.IntRange(-800000, 2000000).Draw(r, "day"))*86400, 0).UTC()
})

func documents(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(r *rapid.T) any {
		most := 6
		if depth == 0 {
			most = 4
		}
		switch rapid.IntRange(0, most).Draw(r, "kind of JSON") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(r, "bool")
		case 2:
			return json.Number(rapid.SampledFrom([]string{"0", "-0", "-0.00", "1.50", "1e3", "1.5E-3", "12345678901234567890.123000", "-1.0e+2", "0e9", "100e-2", "0.001e1"}).Draw(r, "number"))
		case 3, 4:
			return texts.Draw(r, "text")
		case 5:
			return rapid.SliceOfN(documents(depth-1), 0, 3).Draw(r, "list")
		}
		return rapid.MapOfN(texts, documents(depth-1), 0, 4).Draw(r, "object")
	})
}

// rawJSON writes a document loosely: spaces, members in any order, some twice.
func rawJSON(r *rapid.T) any {
	b, err := json.Marshal(documents(2).Draw(r, "document"))
	if err != nil {
		r.Fatal(err)
	}
	text := string(b)
	if rapid.Bool().Draw(r, "twice") {
		text = ` { "k" : ` + text + ` , "bb":1,"a" : {"z":1,"y":[ ]} ,"k" : ` + text + "\n}"
	}
	return json.RawMessage(text)
}

// value draws one for a column.
func value(r *rapid.T, c *column) any {
	if !c.notNull && rapid.IntRange(0, 4).Draw(r, "null") == 0 {
		return nil
	}
	switch c.kind {
	case kindInt2:
		return int64(rapid.Int16().Draw(r, c.name))
	case kindInt4:
		if c.isKey {
			return int64(rapid.IntRange(-2, 2).Draw(r, c.name))
		}
		return int64(rapid.Int32().Draw(r, c.name))
	case kindInt8:
		return rapid.Int64().Draw(r, c.name)
	case kindNumeric:
		switch {
		case c.isKey:
			return money.NewDecimal(int64(rapid.IntRange(-2, 2).Draw(r, c.name))*5, 1)
		case c.precision == 12:
			return money.NewDecimal(int64(rapid.IntRange(-999999999999, 999999999999).Draw(r, c.name)), 3)
		case c.precision > 0:
			return money.NewDecimal(rapid.Int64().Draw(r, c.name), rapid.IntRange(0, 20).Draw(r, "scale"))
		}
		return decimals(9).Draw(r, c.name)
	case kindBool:
		return rapid.Bool().Draw(r, c.name)
	case kindText:
		if c.isKey {
			return rapid.SampledFrom([]string{"", "a", "ab", "b", "ä", "Z", "\x01"}).Draw(r, c.name)
		}
		return texts.Draw(r, c.name)
	case kindVarchar:
		return rapid.SampledFrom([]string{"", "ääääääääääää", "x", "twelve chars", "   "}).Draw(r, c.name)
	case kindUUID:
		var raw [16]byte
		copy(raw[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, c.name))
		return strings.ToUpper(formatUUID(&raw))
	case kindDate:
		if c.isKey {
			return time.Unix(int64(rapid.IntRange(-1, 1).Draw(r, c.name))*86400, 0).UTC()
		}
		return days.Draw(r, c.name)
	case kindTimestamp, kindTimestamptz:
		return instants.Draw(r, c.name)
	case kindJSON, kindJSONB:
		return rawJSON(r)
	case kindBytea:
		if c.isKey {
			return rapid.SampledFrom([][]byte{{}, {0}, {0, 0}, {0, 1}, {1}, {0xff}}).Draw(r, c.name)
		}
		return rapid.SliceOf(rapid.Byte()).Draw(r, c.name)
	case kindFloat4:
		return float64(rapid.Float32().Draw(r, c.name))
	}
	return rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Copysign(0, -1)})).Draw(r, c.name)
}

func drawRow(r *rapid.T, s *Shape) Row {
	row := make(Row, len(s.columns))
	for i := range s.columns {
		row[i] = value(r, &s.columns[i])
	}
	return row
}
