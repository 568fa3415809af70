package declared

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/money"
	"banyan/projections/state"
)

// measureKind is how a measure counts.
type measureKind string

const (
	countOf    measureKind = "count"
	sumOf      measureKind = "sum"
	avgOf      measureKind = "avg"
	minOf      measureKind = "min"
	maxOf      measureKind = "max"
	distinctOf measureKind = "distinct"
)

var measureKinds = []measureKind{countOf, sumOf, avgOf, minOf, maxOf, distinctOf}

// measure is a column of a group or a window. Its partial results stand in one
// or two cells of a row, those of distinct in a table of their own.
type measure struct {
	node     document.Node
	name     string
	kind     measureKind
	typ      string
	class    class
	currency string
	comment  string
	// cell is the place of the first cell in a row; -1 for distinct in groups.
	cell int
	// finer holds, for distinct, one row per group and value.
	finer *relation
}

// readMeasure reads count, or {sum: ..., where: ...}.
func (c *compiler) readMeasure(e document.Entry) *measure {
	m := &measure{node: e.Node, name: e.Key, kind: countOf, typ: e.Get("type").Text(), currency: e.Get("currency").Text(), comment: e.Get("comment").Text(), cell: -1}
	if text, ok := e.Scalar(); !ok {
		var found []string
		for _, k := range measureKinds {
			if v := e.Get(string(k)); !v.Null() {
				found = append(found, string(k))
				m.kind = k
			}
		}
		if len(found) != 1 {
			e.Fault("want one of count, sum, avg, min, max and distinct, not %s", cmp.Or(strings.Join(found, " and "), "none"))
		}
		if is, ok := e.Get("count").Bool(); ok && !is {
			e.Get("count").Fault("want true")
		}
	} else if text != "count" {
		e.Fault("want count")
	}
	switch {
	case m.typ != "":
	case m.kind == countOf || m.kind == distinctOf:
		m.typ = "bigint"
	case m.kind == minOf || m.kind == maxOf:
		e.Fault("want a type with %s, as in {%s: %s, type: timestamptz}", m.kind, m.kind, e.Get(string(m.kind)).Text())
		m.typ = "text"
	default:
		m.typ = "numeric"
	}
	m.class = classOf(m.typ)
	switch {
	case (m.kind == countOf || m.kind == distinctOf) && m.class != classInt:
		e.Get("type").Fault("is no type to count in; want bigint")
	case (m.kind == sumOf || m.kind == avgOf) && m.class != classInt && m.class != classNumeric:
		e.Get("type").Fault("is no type of exact sums; want numeric(p,s) or bigint")
	case (m.kind == minOf || m.kind == maxOf) && (m.class == classJSON || m.class == classBytes || m.class == classFloat):
		e.Get("type").Fault("has no order here; want a number, a text, a date or a time")
	}
	if m.currency != "" && m.kind != sumOf && m.kind != avgOf {
		e.Get("currency").Fault("belongs to sum and avg")
	}
	if strings.HasPrefix(m.name, "banyan_") {
		e.Fault("names that begin with banyan_ are taken")
	}
	return m
}

// cells are the columns that keep partial results.
func (m *measure) cells() []state.Column {
	switch m.kind {
	case countOf:
		return []state.Column{{Name: m.name, Type: m.typ, NotNull: true, Comment: m.comment}}
	case sumOf:
		return []state.Column{{Name: m.name, Type: m.typ, NotNull: true, Comment: m.comment}}
	case avgOf:
		return []state.Column{{Name: "banyan_sum_" + m.name, Type: "numeric", NotNull: true}, {Name: "banyan_count_" + m.name, Type: "bigint", NotNull: true}}
	case minOf, maxOf:
		return []state.Column{{Name: m.name, Type: m.typ, Comment: m.comment}}
	}
	return nil
}

// input is what one source gives a measure.
type input struct {
	value, where *formula
}

// cell is what events add to a measure.
type cell struct {
	n   int64
	sum money.Decimal
	// paid is money that is not in sum yet: while an event is gathered it is
	// added up without big numbers.
	paid   money.Amount
	value  any              // of min and max
	values map[string]int64 // of distinct: how often each is there
}

// add evaluates a measure for one contribution.
func (m *measure) add(s *scope, in input, to *cell) error {
	if in.where != nil {
		holds, err := in.where.Truth(s)
		if err != nil || !holds {
			return err
		}
	}
	if m.kind == countOf {
		to.n++
		return nil
	}
	v, err := in.value.Eval(s)
	if err != nil || v == nil {
		return err
	}
	switch m.kind {
	case sumOf, avgOf:
		to.n++
		if a, ok := v.(money.Amount); ok && a.Currency == m.currency {
			if to.paid.Currency == "" {
				to.paid = a
				return nil
			}
			if sum, err := to.paid.Add(a); err == nil {
				to.paid = sum
				return nil
			}
		}
		d, err := m.number(v)
		if err != nil {
			return err
		}
		to.sum = to.sum.Add(d)
	case distinctOf:
		text, err := distinctText(v)
		if err != nil {
			return err
		}
		if to.values == nil {
			to.values = map[string]int64{}
		}
		to.values[text]++
	default:
		if v, err = m.class.convert(v); err != nil {
			return err
		}
		to.value, err = m.better(to.value, v)
		return err
	}
	return nil
}

// settle puts all money into the sum.
func (c *cell) settle() {
	if c.paid.Currency != "" {
		c.sum, c.paid = c.sum.Add(c.paid.Decimal()), money.Amount{}
	}
}

// number takes what can be summed; money only in the measure's currency.
func (m *measure) number(v any) (money.Decimal, error) {
	a, isAmount := v.(money.Amount)
	switch {
	case isAmount && m.currency == "":
		return money.Decimal{}, fmt.Errorf("is money (%s): say currency: %s, and what is in another one parks", a, a.Currency)
	case isAmount && a.Currency != m.currency:
		return money.Decimal{}, fmt.Errorf("%s is not in %s", a, m.currency)
	}
	d, err := toDecimal(v)
	if err != nil {
		return money.Decimal{}, err
	}
	n := d.(money.Decimal)
	if !isAmount && m.currency != "" && n.Sign() != 0 {
		return money.Decimal{}, fmt.Errorf("%s is a number, not a sum of money in %s", n, m.currency)
	}
	return n, nil
}

// distinctText is one text for each value: 1 and 1.0 are the same number.
func distinctText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case money.Decimal:
		return plainNumber(v.String()), nil
	case []any, map[string]any, expression.Object:
		b, err := expression.AppendJSON(nil, v)
		return string(b), err
	case money.Amount:
		return plainNumber(v.Number()) + " " + v.Currency, nil
	}
	t, err := toText(v)
	if err != nil {
		return "", err
	}
	return t.(string), nil
}

func plainNumber(text string) string {
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if text == "-0" {
		return "0"
	}
	return text
}

// better gives the lesser or greater of two values of the measure's column.
func (m *measure) better(a, b any) (any, error) {
	if a == nil || b == nil {
		if a == nil {
			return b, nil
		}
		return a, nil
	}
	c, err := compareValues(b, a)
	if err != nil {
		return nil, err
	}
	if m.kind == minOf && c < 0 || m.kind == maxOf && c > 0 {
		return b, nil
	}
	return a, nil
}

func compareValues(a, b any) (int, error) {
	switch x := a.(type) {
	case int64:
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y), nil
		}
	case string:
		if y, ok := b.(string); ok {
			return cmp.Compare(x, y), nil
		}
	case money.Decimal:
		if y, ok := b.(money.Decimal); ok {
			return x.Cmp(y), nil
		}
	case time.Time:
		if y, ok := b.(time.Time); ok {
			return x.Compare(y), nil
		}
	case bool:
		if y, ok := b.(bool); ok {
			return cmp.Compare(fmt.Sprint(x), fmt.Sprint(y)), nil
		}
	}
	return 0, errors.New("two values cannot be compared")
}

// combine adds one cell to another; sign is -1 to take it back.
func (m *measure) combine(to *cell, add *cell, sign int64) error {
	to.n += sign * add.n
	if sign < 0 {
		to.sum = to.sum.Sub(add.sum)
	} else {
		to.sum = to.sum.Add(add.sum)
	}
	for v, n := range add.values {
		if to.values == nil {
			to.values = map[string]int64{}
		}
		if to.values[v] += sign * n; to.values[v] == 0 {
			delete(to.values, v)
		}
	}
	if add.value == nil {
		return nil
	}
	v, err := m.better(to.value, add.value)
	to.value = v
	return err
}

func (c *cell) zero() bool {
	return c.n == 0 && c.sum.Sign() == 0 && c.value == nil && len(c.values) == 0
}

// empty writes the cells of nothing into a row.
func (m *measure) empty(row state.Row) {
	switch m.kind {
	case countOf:
		row[m.cell] = int64(0)
	case sumOf:
		row[m.cell] = zeroOf(m.class)
	case avgOf:
		row[m.cell], row[m.cell+1] = money.NewDecimal(0, 0), int64(0)
	case distinctOf:
		if m.cell >= 0 {
			row[m.cell] = int64(0)
		}
	}
}

func zeroOf(c class) any {
	if c == classInt {
		return int64(0)
	}
	return money.NewDecimal(0, 0)
}

// write adds a cell to a row that is the caller's own.
func (m *measure) write(row state.Row, add *cell) error {
	switch m.kind {
	case countOf:
		n, _ := row[m.cell].(int64)
		row[m.cell] = n + add.n
	case sumOf:
		d, err := toDecimal(row[m.cell])
		if err != nil {
			return err
		}
		v, err := m.class.convert(d.(money.Decimal).Add(add.sum))
		if err != nil {
			return fmt.Errorf("measure %s: %w", m.name, err)
		}
		row[m.cell] = v
	case avgOf:
		d, err := toDecimal(row[m.cell])
		if err != nil {
			return err
		}
		n, _ := row[m.cell+1].(int64)
		row[m.cell], row[m.cell+1] = d.(money.Decimal).Add(add.sum), n+add.n
	case minOf, maxOf:
		if add.value != nil {
			v, err := m.better(row[m.cell], add.value)
			if err != nil {
				return err
			}
			row[m.cell] = v
		}
	}
	return nil
}

// result is the value of a measure as expressions see it.
func (m *measure) result(row state.Row) (any, error) {
	if m.kind != avgOf {
		return m.class.expressed(row[m.cell])
	}
	n, _ := row[m.cell+1].(int64)
	if n == 0 {
		return nil, nil
	}
	return nil, errors.New("an avg is not exact; ask the sum and the count instead, as in total > 10 * n")
}
