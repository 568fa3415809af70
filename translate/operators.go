package translate

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"banyan/money"
)

// operator is one function that a compiled expression calls. form is a pointer
// to its type, as the expression library wants it.
type operator struct {
	run  func(...any) (any, error)
	form any
}

// operators are what all operators and calls of rules become. They follow one
// law for NULL: it equals NULL, every order with it is false, everything
// computed from it is NULL, and in a condition it is false.
var operators = map[string]operator{
	"_true":      {func(a ...any) (any, error) { b, _ := a[0].(bool); return b, nil }, new(func(any) bool)},
	"_list":      {func(a ...any) (any, error) { l, _ := a[0].([]any); return l, nil }, new(func(any) []any)},
	"_get":       {get, new(func(any, any) any)},
	"_equal":     {func(a ...any) (any, error) { return equal(a[0], a[1]), nil }, new(func(any, any) bool)},
	"_differs":   {func(a ...any) (any, error) { return !equal(a[0], a[1]), nil }, new(func(any, any) bool)},
	"_less":      {order(func(c int) bool { return c < 0 }), new(func(any, any) bool)},
	"_atMost":    {order(func(c int) bool { return c <= 0 }), new(func(any, any) bool)},
	"_more":      {order(func(c int) bool { return c > 0 }), new(func(any, any) bool)},
	"_atLeast":   {order(func(c int) bool { return c >= 0 }), new(func(any, any) bool)},
	"_add":       {func(a ...any) (any, error) { return add(a[0], a[1]) }, new(func(any, any) any)},
	"_subtract":  {func(a ...any) (any, error) { return subtract(a[0], a[1]) }, new(func(any, any) any)},
	"_times":     {func(a ...any) (any, error) { return times(a[0], a[1]) }, new(func(any, any) any)},
	"_remainder": {remainder, new(func(any, any) any)},
	"_negative":  {func(a ...any) (any, error) { return times(a[0], int64(-1)) }, new(func(any) any)},
	"_in":        {in, new(func(any, any) bool)},
	"_contains":  {texts(func(s, t string) any { return strings.Contains(s, t) }), new(func(any, any) any)},
	"_hasPrefix": {texts(func(s, t string) any { return strings.HasPrefix(s, t) }), new(func(any, any) any)},
	"_hasSuffix": {texts(func(s, t string) any { return strings.HasSuffix(s, t) }), new(func(any, any) any)},
	"_split":     {texts(split), new(func(any, any) any)},
	"_upper":     {text(strings.ToUpper), new(func(any) any)},
	"_lower":     {text(strings.ToLower), new(func(any) any)},
	"_trim":      {text(strings.TrimSpace), new(func(any) any)},
	"_replace":   {replace, new(func(any, any, any) any)},
	"_join":      {join, new(func(any, ...any) any)},
	"_len":       {length, new(func(any) any)},
	"_first":     {func(a ...any) (any, error) { return end(a[0], true), nil }, new(func(any) any)},
	"_last":      {func(a ...any) (any, error) { return end(a[0], false), nil }, new(func(any) any)},
	"_abs":       {absolute, new(func(any) any)},
	"_max":       {extreme(1), new(func(...any) any)},
	"_min":       {extreme(-1), new(func(...any) any)},
	"_sum":       {sum, new(func(any, any) any)},
	"_round":     {round, new(func(any, any) any)},
	"_string":    {toString, new(func(any) any)},
}

func get(a ...any) (any, error) {
	switch from := a[0].(type) {
	case *rowValue:
		if name, ok := a[1].(string); ok {
			return from.get(name)
		}
	case map[string]any:
		if name, ok := a[1].(string); ok {
			return from[name], nil
		}
	case []any:
		if i, ok := integer(a[1]); ok {
			if i < 0 {
				i += int64(len(from))
			}
			if i >= 0 && i < int64(len(from)) {
				return from[i], nil
			}
		}
	}
	return nil, nil
}

func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case json.Number:
		n, err := v.Int64()
		return n, err == nil
	}
	return 0, false
}

func decimal(v any) (money.Decimal, bool) {
	switch v := v.(type) {
	case money.Decimal:
		return v, true
	case money.Amount:
		return v.Decimal(), true
	case json.Number:
		d, err := parseNumber(string(v))
		return d, err == nil
	}
	n, ok := integer(v)
	return money.NewDecimal(n, 0), ok
}

func equal(x, y any) bool {
	if x == nil || y == nil {
		return x == nil && y == nil
	}
	if a, ok := x.(money.Amount); ok {
		if b, ok := y.(money.Amount); ok {
			c, err := a.Cmp(b)
			return err == nil && c == 0
		}
	}
	c, ok := compare(x, y)
	if ok {
		return c == 0
	}
	switch x := x.(type) {
	case bool:
		b, ok := y.(bool)
		return ok && x == b
	case []any, map[string]any, *rowValue:
		a, err1 := appendValue(nil, x)
		b, err2 := appendValue(nil, y)
		return err1 == nil && err2 == nil && string(a) == string(b)
	}
	return false
}

// compare orders two values of one kind; ok is false for what has no order.
func compare(x, y any) (c int, ok bool) {
	switch a := x.(type) {
	case string:
		b, ok := y.(string)
		return strings.Compare(a, b), ok
	case time.Time:
		b, ok := y.(time.Time)
		return a.Compare(b), ok
	}
	a, ok1 := integer(x)
	b, ok2 := integer(y)
	if ok1 && ok2 {
		switch {
		case a < b:
			return -1, true
		case a > b:
			return 1, true
		}
		return 0, true
	}
	d, ok1 := decimal(x)
	e, ok2 := decimal(y)
	if !ok1 || !ok2 {
		return 0, false
	}
	return d.Cmp(e), true
}

func order(holds func(int) bool) func(...any) (any, error) {
	return func(a ...any) (any, error) {
		if m, ok := a[0].(money.Amount); ok {
			if n, ok := a[1].(money.Amount); ok {
				c, err := m.Cmp(n)
				return err == nil && holds(c), err
			}
		}
		c, ok := compare(a[0], a[1])
		return ok && holds(c), nil
	}
}

func add(x, y any) (any, error) {
	if a, ok := x.(money.Amount); ok {
		if b, ok := y.(money.Amount); ok {
			return a.Add(b)
		}
		if isZero(y) {
			return a, nil
		}
	}
	if b, ok := y.(money.Amount); ok && isZero(x) {
		return b, nil
	}
	if a, ok := x.(string); ok {
		if b, ok := y.(string); ok {
			return a + b, nil
		}
		return nil, nil
	}
	a, ok1 := integer(x)
	b, ok2 := integer(y)
	if ok1 && ok2 {
		if s := a + b; (s > a) == (b > 0) {
			return s, nil
		}
	}
	d, ok1 := decimal(x)
	e, ok2 := decimal(y)
	if !ok1 || !ok2 {
		return nil, nil
	}
	return d.Add(e), nil
}

func isZero(v any) bool {
	d, ok := decimal(v)
	return ok && d.Sign() == 0
}

func subtract(x, y any) (any, error) {
	if a, ok := x.(time.Time); ok {
		b, ok := y.(time.Time)
		if !ok {
			return nil, nil
		}
		return int64(a.Sub(b) / time.Second), nil
	}
	minus, err := times(y, int64(-1))
	if err != nil {
		return nil, err
	}
	return add(x, minus)
}

func times(x, y any) (any, error) {
	if a, ok := y.(money.Amount); ok {
		x, y = a, x
	}
	if a, ok := x.(money.Amount); ok {
		if n, ok := integer(y); ok {
			return a.Times(n)
		}
	}
	a, ok1 := integer(x)
	b, ok2 := integer(y)
	if ok1 && ok2 && (a == 0 || b == 0 || a*b/b == a && !(a == math.MinInt64 && b == -1) && !(b == math.MinInt64 && a == -1)) {
		return a * b, nil
	}
	d, ok1 := decimal(x)
	e, ok2 := decimal(y)
	if !ok1 || !ok2 {
		return nil, nil
	}
	return d.Mul(e), nil
}

func remainder(a ...any) (any, error) {
	x, ok1 := integer(a[0])
	y, ok2 := integer(a[1])
	if !ok1 || !ok2 || y == 0 {
		return nil, nil
	}
	if y == -1 {
		return int64(0), nil
	}
	return x % y, nil
}

func in(a ...any) (any, error) {
	switch set := a[1].(type) {
	case []any:
		for _, item := range set {
			if equal(a[0], item) {
				return true, nil
			}
		}
	case map[string]any:
		name, ok := a[0].(string)
		_, found := set[name]
		return ok && found, nil
	}
	return false, nil
}

func texts(f func(s, t string) any) func(...any) (any, error) {
	return func(a ...any) (any, error) {
		s, ok1 := a[0].(string)
		t, ok2 := a[1].(string)
		if !ok1 || !ok2 {
			return nil, nil
		}
		return f(s, t), nil
	}
}

func text(f func(string) string) func(...any) (any, error) {
	return func(a ...any) (any, error) {
		s, ok := a[0].(string)
		if !ok {
			return nil, nil
		}
		return f(s), nil
	}
}

func split(s, sep string) any {
	parts := strings.Split(s, sep)
	out := make([]any, len(parts))
	for i := range parts {
		out[i] = parts[i]
	}
	return out
}

func replace(a ...any) (any, error) {
	s, ok1 := a[0].(string)
	from, ok2 := a[1].(string)
	to, ok3 := a[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return nil, nil
	}
	return strings.ReplaceAll(s, from, to), nil
}

// join leaves NULLs out.
func join(a ...any) (any, error) {
	list, _ := a[0].([]any)
	sep := ""
	if len(a) > 1 {
		sep, _ = a[1].(string)
	}
	var parts []string
	for _, item := range list {
		if item != nil {
			s, err := toString(item)
			if err != nil {
				return nil, err
			}
			text, _ := s.(string)
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, sep), nil
}

func length(a ...any) (any, error) {
	switch v := a[0].(type) {
	case string:
		return int64(len([]rune(v))), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return nil, nil
}

func end(v any, first bool) any {
	list, _ := v.([]any)
	if len(list) == 0 {
		return nil
	}
	if first {
		return list[0]
	}
	return list[len(list)-1]
}

func absolute(a ...any) (any, error) {
	if d, ok := decimal(a[0]); ok && d.Sign() < 0 {
		return times(a[0], int64(-1))
	}
	return a[0], nil
}

// extreme gives the largest (or smallest) of its arguments or of a list; NULLs
// do not count.
func extreme(sign int) func(...any) (any, error) {
	return func(a ...any) (any, error) {
		if len(a) == 1 {
			if list, ok := a[0].([]any); ok {
				a = list
			}
		}
		var best any
		for _, v := range a {
			if v == nil {
				continue
			}
			if c, ok := compare(v, best); best == nil || ok && c*sign > 0 {
				best = v
			}
		}
		return best, nil
	}
}

// sum leaves NULLs out; the sum of nothing is its second argument, a zero.
func sum(a ...any) (any, error) {
	list, _ := a[0].([]any)
	total := a[1]
	var err error
	for _, v := range list {
		if v == nil {
			continue
		}
		if total, err = add(total, v); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func round(a ...any) (any, error) {
	n, ok := integer(a[1])
	if !ok || n < 0 || n > 1000 {
		return nil, nil
	}
	if m, ok := a[0].(money.Amount); ok {
		if int(n) >= m.Scale {
			return m, nil
		}
		return m.Decimal().Round(int(n)).Amount(m.Scale, m.Currency)
	}
	d, ok := decimal(a[0])
	if !ok {
		return nil, nil
	}
	return d.Round(int(n)), nil
}

func toString(a ...any) (any, error) {
	switch v := a[0].(type) {
	case nil:
		return nil, nil
	case string:
		return v, nil
	case money.Amount:
		return v.Number(), nil
	case money.Decimal:
		return v.String(), nil
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), nil
	case *rowValue, []any, map[string]any:
		b, err := appendValue(nil, v)
		return string(b), err
	}
	return fmt.Sprint(a[0]), nil
}
