package shadow

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"

	"banyan/compare"
)

// rowsOf gathers rows that are to be written. A batch writes every product and customer
// that it has met, so their JSON is written here by hand: it is what encoding/json
// writes of them, to the byte. The memory is used again for the next batch.
type rowsOf struct {
	kinds, keys, data array
	err               error
}

func (r *rowsOf) reset() {
	r.kinds.reset(pgtype.TextOID)
	r.keys.reset(pgtype.ByteaOID)
	r.data.reset(pgtype.ByteaOID)
	r.err = nil
}

// put takes a row of what has no encoder of its own.
func (r *rowsOf) put(kind, key string, v any) {
	data, err := json.Marshal(v)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("write row %s %q: %w", kind, key, err)
	}
	r.end(append(r.begin(kind, key), data...))
}

// begin begins a row. Its data are to be appended to what it gives, which is then given
// to end.
func (r *rowsOf) begin(kind, key string) []byte {
	r.kinds.end(append(r.kinds.begin(), kind...))
	r.keys.end(append(r.keys.begin(), key...))
	return r.data.begin()
}

func (r *rowsOf) end(raw []byte) { r.data.end(raw) }

// done gives the three columns.
func (r *rowsOf) done() ([][]byte, error) {
	return [][]byte{r.kinds.done(), r.keys.done(), r.data.done()}, r.err
}

// array is a Postgres array of one dimension in the binary form of the protocol
// (array_recv in the server), made in place: pgx lets a parameter grow from 256 bytes,
// which was two fifths of all that a shadow allocated.
type array struct {
	raw  []byte
	n    uint32
	open int // where the element begins that is being appended
}

// arrayCount is where the header has the number of elements.
const arrayCount = 12

func (a *array) reset(element uint32) {
	a.n = 0
	a.raw = binary.BigEndian.AppendUint32(a.raw[:0], 1) // dimensions
	a.raw = binary.BigEndian.AppendUint32(a.raw, 0)     // no nulls
	a.raw = binary.BigEndian.AppendUint32(a.raw, element)
	a.raw = binary.BigEndian.AppendUint32(a.raw, 0) // elements
	a.raw = binary.BigEndian.AppendUint32(a.raw, 1) // the number of the first
}

// begin begins an element, which is to be appended to what it gives.
func (a *array) begin() []byte {
	a.raw = append(a.raw, 0, 0, 0, 0)
	a.open = len(a.raw)
	return a.raw
}

func (a *array) end(raw []byte) {
	a.raw = raw
	a.n++
	binary.BigEndian.PutUint32(a.raw[a.open-4:], uint32(len(raw)-a.open))
}

func (a *array) done() []byte {
	binary.BigEndian.PutUint32(a.raw[arrayCount:], a.n)
	return a.raw
}

// changes takes the rows of a book that have changed.
func (r *rowsOf) changes(b *compare.Book, currency string) {
	ch := b.TakeChanges()
	kind := rowCluster + "/" + currency
	for _, k := range ch.Clusters {
		r.end(appendCluster(r.begin(kind, k), b.Clusters[k]))
	}
	kind = rowProduct + "/" + currency
	for _, k := range ch.Products {
		r.end(appendProduct(r.begin(kind, k), b.Products[k]))
	}
	kind = rowMove + "/" + currency
	for _, k := range ch.Moves {
		r.end(appendMove(r.begin(kind, strconv.FormatInt(k, 10)), b.Moves[k]))
	}
	kind = rowDay + "/" + currency
	for _, k := range ch.Days {
		r.end(appendDay(r.begin(kind, strconv.Itoa(int(k))), b.Days[k]))
	}
}

// Members are appended with the comma before them and with all that is constant, as
// `,"name":`; an optional one only where it is not zero.

func appendNumber(b []byte, name string, v int64) []byte {
	return strconv.AppendInt(append(b, name...), v, 10)
}

func appendOptional(b []byte, name string, v int64) []byte {
	if v == 0 {
		return b
	}
	return appendNumber(b, name, v)
}

func appendMember(b []byte, name, v string) []byte {
	return appendString(append(b, name...), v)
}

// appendString writes a text as encoding/json does: what is not plain is left to it.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			data, err := json.Marshal(s)
			if err != nil {
				data = []byte(`""`) // a text: cannot be
			}
			return append(b, data...)
		}
	}
	b = append(append(b, '"'), s...)
	return append(b, '"')
}

func appendCluster(b []byte, c *compare.Cluster) []byte {
	b = append(b, '{')
	if c.Guest {
		b = append(b, `"guest":true,`...)
	}
	b = appendNumber(b, `"orders":`, c.Orders)
	b = appendNumber(b, `,"lines":`, c.Lines)
	b = appendNumber(b, `,"control":`, c.Control)
	b = appendNumber(b, `,"diff":`, c.Diff)
	b = appendNumber(b, `,"known":`, c.Known)
	b = appendOptional(b, `,"rise":`, c.Rise)
	b = appendOptional(b, `,"fall":`, c.Fall)
	b = appendOptional(b, `,"highest":`, c.Highest)
	b = appendOptional(b, `,"owed":`, c.Owed)
	if len(c.Segments) > 0 {
		b = append(b, `,"segments":{`...)
		for i, name := range slices.Sorted(maps.Keys(c.Segments)) {
			if i > 0 {
				b = append(b, ',')
			}
			p := c.Segments[name]
			b = appendString(b, name)
			b = appendNumber(b, `:{"orders":`, p.Orders)
			b = appendNumber(b, `,"control":`, p.Control)
			b = append(appendNumber(b, `,"diff":`, p.Diff), '}')
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendProduct(b []byte, p *compare.Product) []byte {
	b = append(b, '{')
	if p.Code != "" {
		b = append(appendMember(b, `"code":`, p.Code), ',')
	}
	if p.Description != "" {
		b = append(appendMember(b, `"description":`, p.Description), ',')
	}
	b = appendNumber(b, `"lines":`, p.Lines)
	b = appendNumber(b, `,"pieces":`, p.Pieces)
	b = appendNumber(b, `,"control":`, p.Control)
	b = appendNumber(b, `,"diff":`, p.Diff)
	b = appendKnown(append(b, `,"known":`...), &p.Known)
	b = appendNumber(b, `,"lowest":`, p.Lowest)
	b = appendNumber(b, `,"highest":`, p.Highest)
	b = appendMoments(append(b, `,"all":`...), &p.All)
	b = appendMoments(append(b, `,"registered":`...), &p.Registered)
	if len(p.Months) > 0 {
		b = appendMonths(append(b, `,"months":`...), p.Months)
	}
	return append(b, '}')
}

func appendKnown(b []byte, k *compare.Known) []byte {
	b = appendNumber(b, `{"lines":`, k.Lines)
	b = appendNumber(b, `,"control":`, k.Control)
	b = appendNumber(b, `,"candidate":`, k.Candidate)
	return append(appendNumber(b, `,"cost":`, k.Cost), '}')
}

func appendMoments(b []byte, m *compare.Moments) []byte {
	b = appendNumber(b, `{"n":`, m.N)
	b = appendNumber(b, `,"x":`, m.X)
	b = appendNumber(b, `,"y":`, m.Y)
	b = appendNumber(b, `,"xx":`, m.XX)
	b = appendNumber(b, `,"xy":`, m.XY)
	return append(appendNumber(b, `,"yy":`, m.YY), '}')
}

func appendMonths(b []byte, months map[int32]compare.Sales) []byte {
	var room [36]int32
	all := room[:0]
	for m := range months {
		all = append(all, m)
	}
	slices.SortFunc(all, compareAsText)
	b = append(b, '{')
	for i, m := range all {
		if i > 0 {
			b = append(b, ',')
		}
		s := months[m]
		b = strconv.AppendInt(append(b, '"'), int64(m), 10)
		b = appendNumber(b, `":{"pieces":`, s.Pieces)
		b = append(appendNumber(b, `,"control":`, s.Control), '}')
	}
	return append(b, '}')
}

// compareAsText orders numbers by their digits, as encoding/json orders keys.
func compareAsText(a, b int32) int {
	if a >= 10_000 && b >= 10_000 && a < 100_000 && b < 100_000 { // from the year 833 on
		return cmp.Compare(a, b)
	}
	return strings.Compare(strconv.Itoa(int(a)), strconv.Itoa(int(b)))
}

func appendMove(b []byte, m *compare.Move) []byte {
	b = appendNumber(b, `{"lines":`, m.Lines)
	b = appendNumber(b, `,"pieces":`, m.Pieces)
	b = appendNumber(b, `,"control":`, m.Control)
	b = appendNumber(b, `,"candidate":`, m.Candidate)
	return append(appendKnown(append(b, `,"known":`...), &m.Known), '}')
}

func appendDay(b []byte, d *compare.Day) []byte {
	b = appendNumber(b, `{"orders":`, d.Orders)
	b = appendNumber(b, `,"lines":`, d.Lines)
	b = appendNumber(b, `,"control":`, d.Control)
	b = appendNumber(b, `,"diff":`, d.Diff)
	return append(appendNumber(b, `,"known":`, d.Known), '}')
}

// appendProductRow writes what is known of a product.
func appendProductRow(b []byte, p *product) []byte {
	b = appendPrice(append(b, `{"List":`...), &p.List)
	b = appendPrice(append(b, `,"Prev":`...), &p.Prev)
	b = appendPrice(append(b, `,"Tier":`...), &p.Tier)
	b = appendPrice(append(b, `,"Cost":`...), &p.Cost)
	b = appendMember(b, `,"Code":`, p.Code)
	b = appendMember(b, `,"Description":`, p.Description)
	if p.Stock != nil {
		b = appendNumber(b, `,"Stock":`, *p.Stock)
	} else {
		b = append(b, `,"Stock":null`...)
	}
	b = appendNumber(b, `,"TierQuantity":`, p.TierQuantity)
	b = p.Demand.append(append(b, `,"Demand":`...))
	b = p.Refused.append(append(b, `,"Refused":`...))
	return append(b, '}')
}

func appendPrice(b []byte, p *price) []byte {
	b = appendNumber(b, `{"units":`, p.Units)
	b = appendNumber(b, `,"scale":`, int64(p.Scale))
	b = appendMember(b, `,"currency":`, p.Currency)
	b = strconv.AppendBool(append(b, `,"known":`...), p.Known)
	if p.Fine {
		b = append(b, `,"fine":true`...)
	}
	return append(b, '}')
}
