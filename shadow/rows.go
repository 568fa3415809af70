package shadow

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"banyan/compare"
)

// rowsOf gathers rows that are to be written. A batch writes every product and customer
// that it has met, so their JSON is written here by hand: it is what encoding/json
// writes of them, to the byte. The memory is used again for the next batch.
type rowsOf struct {
	kinds []string
	keys  [][]byte
	data  [][]byte
	text  []byte // of keys and data
	cuts  []int  // where in text each key and each row ends
	err   error
}

func (r *rowsOf) reset() {
	clear(r.kinds)
	*r = rowsOf{kinds: r.kinds[:0], keys: r.keys[:0], data: r.data[:0], text: r.text[:0], cuts: r.cuts[:0]}
}

// put takes a row of what has no encoder of its own.
func (r *rowsOf) put(kind, key string, v any) {
	data, err := json.Marshal(v)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("write row %s %q: %w", kind, key, err)
	}
	r.begin(kind, key)
	r.end(append(r.text, data...))
}

// begin begins a row, whose data are then appended to text and given to end.
func (r *rowsOf) begin(kind, key string) {
	r.kinds = append(r.kinds, kind)
	r.text = append(r.text, key...)
	r.cuts = append(r.cuts, len(r.text))
}

func (r *rowsOf) end(text []byte) {
	r.text = text
	r.cuts = append(r.cuts, len(text))
}

// done cuts keys and data out of the text, which grows no more.
func (r *rowsOf) done() error {
	from := 0
	for i := 0; i < len(r.cuts); i += 2 {
		key, row := r.cuts[i], r.cuts[i+1]
		r.keys, r.data = append(r.keys, r.text[from:key:key]), append(r.data, r.text[key:row:row])
		from = row
	}
	return r.err
}

// changes takes the rows of a book that have changed.
func (r *rowsOf) changes(b *compare.Book, currency string) {
	ch := b.TakeChanges()
	kind := rowCluster + "/" + currency
	for _, k := range ch.Clusters {
		r.begin(kind, k)
		r.end(appendCluster(r.text, b.Clusters[k]))
	}
	kind = rowProduct + "/" + currency
	for _, k := range ch.Products {
		r.begin(kind, k)
		r.end(appendProduct(r.text, b.Products[k]))
	}
	kind = rowMove + "/" + currency
	for _, k := range ch.Moves {
		r.begin(kind, strconv.FormatInt(k, 10))
		r.end(appendMove(r.text, b.Moves[k]))
	}
	kind = rowDay + "/" + currency
	for _, k := range ch.Days {
		r.begin(kind, strconv.Itoa(int(k)))
		r.end(appendDay(r.text, b.Days[k]))
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
