package expression

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"banyan/money"
)

// ops are the operators. They follow one law for NULL: it equals NULL, every
// order with it is false, everything computed from it is NULL, and in a
// condition it is false.
type ops struct {
	// lenient gives NULL where values do not go together, instead of an error.
	lenient bool
}

// mismatch is for what cannot be computed.
func (o ops) mismatch(operation string, x, y any) (any, error) {
	if o.lenient || x == nil || y == nil {
		return nil, nil
	}
	hint := ""
	if _, ok := x.(string); ok {
		hint = "; decimal(), int() and time() read texts"
	} else if _, ok := y.(string); ok {
		hint = "; decimal(), int() and time() read texts"
	}
	return nil, fmt.Errorf("%s %s %s%s", describe(x), operation, describe(y), hint)
}

// member gives a member of an object. What has no members has none of the name.
func member(v any, name string) (any, error) {
	switch from := v.(type) {
	case map[string]any:
		return from[name], nil
	case *record:
		return from.get(name), nil
	case Object:
		return from.Field(name)
	case money.Amount:
		switch name {
		case "amount":
			return from.Amount, nil
		case "scale":
			return int64(from.Scale), nil
		case "currency":
			return from.Currency, nil
		}
	}
	return nil, nil
}

// element gives an item of a list, from its end where the index is negative.
func element(v, index any) any {
	list, ok := v.([]any)
	if !ok {
		return nil
	}
	i, ok := integer(index)
	if !ok {
		return nil
	}
	if i < 0 {
		i += int64(len(list))
	}
	if i >= 0 && i < int64(len(list)) {
		return list[i]
	}
	return nil
}

func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int:
		return int64(v), true
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
		d, err := ParseNumber(string(v))
		return d, err == nil
	case time.Duration:
		return money.NewDecimal(int64(v), 9), true
	}
	n, ok := integer(v)
	return money.NewDecimal(n, 0), ok
}

// instant gives the moment of a time or of a day's begin.
func instant(v any) (time.Time, bool) {
	switch v := v.(type) {
	case time.Time:
		return v, true
	case Date:
		return v.Time(), true
	}
	return time.Time{}, false
}

// moments gives two times; where only one is, and JSON holds times as texts,
// the other is read.
func (o ops) moments(x, y any) (a, b time.Time, ok bool) {
	a, ok1 := instant(x)
	b, ok2 := instant(y)
	if ok1 == ok2 || o.lenient {
		return a, b, ok1 && ok2
	}
	other, at := y, &b
	if ok2 {
		other, at = x, &a
	}
	text, ok := other.(string)
	if !ok {
		return a, b, false
	}
	t, err := ParseTime(text)
	*at = t
	return a, b, err == nil
}

func (o ops) equal(x, y any) bool {
	if x == nil || y == nil {
		return x == nil && y == nil
	}
	if a, ok := x.(money.Amount); ok {
		if b, ok := y.(money.Amount); ok {
			c, err := a.Cmp(b)
			return err == nil && c == 0
		}
	}
	if c, ok := o.compare(x, y); ok {
		return c == 0
	}
	switch x := x.(type) {
	case bool:
		b, ok := y.(bool)
		return ok && x == b
	case []any, map[string]any, Object:
		a, err1 := AppendJSON(nil, x)
		b, err2 := AppendJSON(nil, y)
		return err1 == nil && err2 == nil && string(a) == string(b)
	}
	return false
}

// compare orders two values of one kind; ok is false for what has no order.
func (o ops) compare(x, y any) (c int, ok bool) {
	switch a := x.(type) {
	case string:
		if b, ok := y.(string); ok {
			return strings.Compare(a, b), true
		}
		s, t, ok := o.moments(x, y)
		return s.Compare(t), ok
	case time.Time, Date:
		s, t, ok := o.moments(x, y)
		return s.Compare(t), ok
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

func (o ops) order(sign string, holds func(int) bool) func(x, y any) (any, error) {
	return func(x, y any) (any, error) {
		if m, ok := x.(money.Amount); ok {
			if n, ok := y.(money.Amount); ok {
				c, err := m.Cmp(n)
				return err == nil && holds(c), err
			}
		}
		c, ok := o.compare(x, y)
		if !ok {
			_, err := o.mismatch(sign, x, y)
			return false, err
		}
		return holds(c), nil
	}
}

func (o ops) add(x, y any) (any, error) {
	if x == nil || y == nil {
		return nil, nil
	}
	switch a := x.(type) {
	case money.Amount:
		if b, ok := y.(money.Amount); ok {
			return a.Add(b)
		}
		if isZero(y) {
			return a, nil
		}
	case string:
		if b, ok := y.(string); ok {
			return o.text(a + b)
		}
		return o.mismatch("+", x, y)
	case time.Time, Date:
		if d, ok := y.(time.Duration); ok {
			t, _ := instant(x)
			return t.Add(d), nil
		}
		return o.mismatch("+", x, y)
	case time.Duration:
		switch b := y.(type) {
		case time.Duration:
			if s := a + b; (s > a) == (b > 0) {
				return s, nil
			}
		case time.Time, Date:
			return o.add(y, x)
		}
	}
	if b, ok := y.(money.Amount); ok && isZero(x) {
		return b, nil
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
		return o.mismatch("+", x, y)
	}
	return d.Add(e), nil
}

func isZero(v any) bool {
	d, ok := decimal(v)
	return ok && d.Sign() == 0
}

// subtract gives the difference of two times as a number of whole seconds.
func (o ops) subtract(x, y any) (any, error) {
	if x == nil || y == nil {
		return nil, nil
	}
	if a, ok := instant(x); ok {
		if d, ok := y.(time.Duration); ok {
			return a.Add(-d), nil
		}
		a, b, ok := o.moments(x, y)
		if !ok {
			return o.mismatch("-", x, y)
		}
		return int64(a.Sub(b) / time.Second), nil
	}
	if _, ok := instant(y); ok && !o.lenient {
		a, b, ok := o.moments(x, y)
		if !ok {
			return o.mismatch("-", x, y)
		}
		return int64(a.Sub(b) / time.Second), nil
	}
	minus, err := o.times(y, int64(-1))
	if err != nil {
		return nil, err
	}
	return o.add(x, minus)
}

func (o ops) times(x, y any) (any, error) {
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
	if ok1 && ok2 {
		if n, ok := product(a, b); ok {
			return n, nil
		}
	}
	if d, ok := y.(time.Duration); ok {
		x, y = d, x
	}
	if d, ok := x.(time.Duration); ok {
		if n, ok := integer(y); ok {
			if p, ok := product(int64(d), n); ok {
				return time.Duration(p), nil
			}
		}
	}
	d, ok1 := decimal(x)
	e, ok2 := decimal(y)
	if !ok1 || !ok2 {
		return o.mismatch("*", x, y)
	}
	return d.Mul(e), nil
}

// product gives a*b where it fits.
func product(a, b int64) (int64, bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	if a == math.MinInt64 && b == -1 || b == math.MinInt64 && a == -1 {
		return 0, false
	}
	n := a * b
	return n, n/b == a
}

func (o ops) negative(x any) (any, error) { return o.times(x, int64(-1)) }

// remainder of a division by zero is NULL.
func (o ops) remainder(x, y any) (any, error) {
	a, ok1 := integer(x)
	b, ok2 := integer(y)
	if !ok1 || !ok2 {
		return o.mismatch("%", x, y)
	}
	switch b {
	case 0:
		return nil, nil
	case -1:
		return int64(0), nil
	}
	return a % b, nil
}

func (o ops) in(x, y any) (any, error) {
	switch set := y.(type) {
	case []any:
		for _, item := range set {
			if o.equal(x, item) {
				return true, nil
			}
		}
	case map[string]any:
		name, ok := x.(string)
		_, found := set[name]
		return ok && found, nil
	case nil, Object:
	default:
		_, err := o.mismatch("in", x, y)
		return false, err
	}
	return false, nil
}

// maxText bounds the texts that an expression makes.
const maxText = 16 << 20

func (o ops) text(s string) (any, error) {
	if len(s) > maxText {
		return nil, fmt.Errorf("a text of %d bytes: more than 16 MiB", len(s))
	}
	return s, nil
}

// describe names a value for messages, without showing what is in it.
func describe(v any) string {
	switch v.(type) {
	case nil:
		return "NULL"
	case bool:
		return "true or false"
	case int, int64, money.Decimal, json.Number:
		return "a number"
	case money.Amount:
		return "an amount"
	case string:
		return "a text"
	case time.Time:
		return "a time"
	case Date:
		return "a date"
	case time.Duration:
		return "a duration"
	case []any:
		return "a list"
	case map[string]any, Object:
		return "an object"
	}
	return fmt.Sprintf("a value of type %T", v)
}

// fits says whether a value may be where the kind is wanted. NULL fits
// everywhere.
func fits(v any, k Kind) bool {
	switch k {
	case Any:
		return true
	case Bool:
		_, ok := v.(bool)
		return ok || v == nil
	case Int:
		_, ok := integer(v)
		return ok || v == nil
	case Number:
		_, ok := decimal(v)
		return ok || v == nil
	case Amount:
		_, ok := v.(money.Amount)
		return ok || v == nil
	case Text:
		_, ok := v.(string)
		return ok || v == nil
	case Time, Day:
		_, ok := instant(v)
		return ok || v == nil
	case Duration:
		_, ok := v.(time.Duration)
		return ok || v == nil
	case List:
		_, ok := v.([]any)
		return ok || v == nil
	}
	switch v.(type) {
	case nil, map[string]any, Object:
		return true
	}
	return false
}
