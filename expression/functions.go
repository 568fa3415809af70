package expression

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"banyan/money"
)

// function is one of the language's own. Exactly one of one, two and many is
// set; min and max count arguments, max < 0 is any number.
type function struct {
	min, max int
	result   Kind
	// form is a pointer to the type that the library's checker sees; nil for
	// functions that it knows itself.
	form any
	one  func(ops, any) (any, error)
	two  func(o ops, x, y any) (any, error)
	many func(o ops, args []any) (any, error)
}

// The names in the order in which messages list them. The first ones go
// through lists and are nodes of their own.
var (
	loops         = []string{"all", "none", "any", "one", "filter", "map", "find", "count", "sum"}
	functionNames = append(slices.Clone(loops), "len", "upper", "lower", "trim", "hasPrefix", "hasSuffix", "replace", "split",
		"join", "first", "last", "abs", "max", "min", "string", "round", "coalesce", "date", "time", "duration", "month", "week",
		"day", "hour", "minute", "int", "decimal", "text", "amount", "number", "currency", "keys", "has_prefix", "has_suffix",
		"starts_with", "ends_with")
)

var functions = map[string]*function{
	"len":       {min: 1, max: 1, result: Int, one: length},
	"upper":     {min: 1, max: 1, result: Text, one: ofText("upper", strings.ToUpper)},
	"lower":     {min: 1, max: 1, result: Text, one: ofText("lower", strings.ToLower)},
	"trim":      {min: 1, max: 1, result: Text, one: ofText("trim", strings.TrimSpace)},
	"hasPrefix": {min: 2, max: 2, result: Bool, two: hasPrefix},
	"hasSuffix": {min: 2, max: 2, result: Bool, two: hasSuffix},
	"replace":   {min: 3, max: 3, result: Text, many: replace},
	"split":     {min: 2, max: 2, result: List, two: split},
	"join":      {min: 1, max: 2, result: Text, many: join},
	"first":     {min: 1, max: 1, one: func(_ ops, v any) (any, error) { return end(v, true), nil }},
	"last":      {min: 1, max: 1, one: func(_ ops, v any) (any, error) { return end(v, false), nil }},
	"abs":       {min: 1, max: 1, one: absolute},
	"max":       {min: 1, max: -1, many: extreme(1)},
	"min":       {min: 1, max: -1, many: extreme(-1)},
	"string":    {min: 1, max: 1, result: Text, one: toText},
	"round":     {min: 2, max: 2, form: new(func(float64, int) float64), two: round},

	"coalesce":    {min: 1, max: -1, form: new(func(...any) any)}, // a node of its own
	"date":        {min: 1, max: 1, result: Day, form: new(func(any) time.Time), one: date},
	"time":        {min: 1, max: 1, result: Time, form: new(func(any) time.Time), one: toTime},
	"duration":    {min: 1, max: 1, result: Duration, form: new(func(any) time.Duration), one: duration},
	"month":       {min: 1, max: 1, result: Time, form: new(func(any) time.Time), one: truncated("month")},
	"week":        {min: 1, max: 1, result: Time, form: new(func(any) time.Time), one: truncated("week")},
	"day":         {min: 1, max: 1, result: Time, form: new(func(any) time.Time), one: truncated("day")},
	"hour":        {min: 1, max: 1, result: Time, form: new(func(any) time.Time), one: truncated("hour")},
	"minute":      {min: 1, max: 1, result: Time, form: new(func(any) time.Time), one: truncated("minute")},
	"int":         {min: 1, max: 1, result: Int, form: new(func(any) int64), one: toInt},
	"decimal":     {min: 1, max: 1, result: Number, form: new(func(any) float64), one: toDecimal},
	"text":        {min: 1, max: 1, result: Text, form: new(func(any) string), one: toText},
	"amount":      {min: 3, max: 3, result: Amount, form: new(func(any, int, string) float64), many: toAmount},
	"number":      {min: 1, max: 1, result: Number, form: new(func(any) float64), one: toDecimal},
	"currency":    {min: 1, max: 1, result: Text, form: new(func(any) string), one: currency},
	"keys":        {min: 1, max: 1, result: List, form: new(func(any) []any), one: keys},
	"has_prefix":  {min: 2, max: 2, result: Bool, form: new(func(any, any) bool), two: hasPrefix},
	"has_suffix":  {min: 2, max: 2, result: Bool, form: new(func(any, any) bool), two: hasSuffix},
	"starts_with": {min: 2, max: 2, result: Bool, form: new(func(any, any) bool), two: hasPrefix},
	"ends_with":   {min: 2, max: 2, result: Bool, form: new(func(any, any) bool), two: hasSuffix},
}

// unfit is for an argument that a function cannot take.
func (o ops) unfit(name string, v any, want string) (any, error) {
	if v == nil || o.lenient {
		return nil, nil
	}
	return nil, fmt.Errorf("%s() of %s, want %s", name, describe(v), want)
}

func ofText(name string, f func(string) string) func(ops, any) (any, error) {
	return func(o ops, v any) (any, error) {
		s, ok := v.(string)
		if !ok {
			return o.unfit(name, v, "a text")
		}
		return f(s), nil
	}
}

// texts are operators of two texts.
func texts(operation string, f func(s, t string) any) func(o ops, x, y any) (any, error) {
	return func(o ops, x, y any) (any, error) {
		s, ok1 := x.(string)
		t, ok2 := y.(string)
		if !ok1 || !ok2 {
			return o.mismatch(operation, x, y)
		}
		return f(s, t), nil
	}
}

var (
	contains  = texts("contains", func(s, t string) any { return strings.Contains(s, t) })
	hasPrefix = texts("startsWith", func(s, t string) any { return strings.HasPrefix(s, t) })
	hasSuffix = texts("endsWith", func(s, t string) any { return strings.HasSuffix(s, t) })
	split     = texts("split by", func(s, sep string) any {
		parts := strings.Split(s, sep)
		out := make([]any, len(parts))
		for i := range parts {
			out[i] = parts[i]
		}
		return out
	})
)

func replace(o ops, a []any) (any, error) {
	s, ok1 := a[0].(string)
	from, ok2 := a[1].(string)
	to, ok3 := a[2].(string)
	if !ok1 || !ok2 || !ok3 {
		for _, v := range a {
			if _, ok := v.(string); !ok {
				return o.unfit("replace", v, "a text")
			}
		}
	}
	if n := strings.Count(s, from); len(to) > len(from) && n*(len(to)-len(from)) > maxText {
		return nil, fmt.Errorf("replace() makes a text of more than 16 MiB")
	}
	return o.text(strings.ReplaceAll(s, from, to))
}

// join leaves NULLs out.
func join(o ops, a []any) (any, error) {
	list, ok := a[0].([]any)
	if !ok && !o.lenient {
		return o.unfit("join", a[0], "a list")
	}
	sep := ""
	if len(a) > 1 {
		sep, _ = a[1].(string)
	}
	var out []byte
	some := false
	for _, item := range list {
		if item == nil {
			continue
		}
		s, err := toText(o, item)
		if err != nil {
			return nil, err
		}
		text, _ := s.(string)
		if len(out)+len(sep)+len(text) > maxText {
			return nil, fmt.Errorf("join() makes a text of more than 16 MiB")
		}
		if some {
			out = append(out, sep...)
		}
		out, some = append(out, text...), true
	}
	return string(out), nil
}

func length(o ops, v any) (any, error) {
	switch v := v.(type) {
	case string:
		return int64(utf8.RuneCountInString(v)), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return o.unfit("len", v, "a text, a list or an object")
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

func absolute(o ops, v any) (any, error) {
	d, ok := decimal(v)
	if !ok && !o.lenient {
		return o.unfit("abs", v, "a number or an amount")
	}
	if ok && d.Sign() < 0 {
		return o.times(v, int64(-1))
	}
	return v, nil
}

// extreme gives the largest (or smallest) of its arguments or of a list; NULLs
// do not count.
func extreme(sign int) func(ops, []any) (any, error) {
	return func(o ops, a []any) (any, error) {
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
			if best == nil {
				best = v
				continue
			}
			c, ok := o.compare(v, best)
			if !o.lenient {
				var err error
				if m, isAmount := v.(money.Amount); isAmount {
					if n, isAmount := best.(money.Amount); isAmount {
						c, err = m.Cmp(n)
					}
				}
				if err == nil && !ok {
					_, err = o.mismatch("compared with", v, best)
				}
				if err != nil {
					return nil, err
				}
			}
			if ok && c*sign > 0 {
				best = v
			}
		}
		return best, nil
	}
}

func round(o ops, x, y any) (any, error) {
	n, ok := integer(y)
	if !ok || n < 0 || n > 1000 {
		if x == nil || y == nil || o.lenient {
			return nil, nil
		}
		return nil, fmt.Errorf("round() to %s decimals, want 0 to 1000", describe(y))
	}
	if m, ok := x.(money.Amount); ok {
		if int(n) >= m.Scale {
			return m, nil
		}
		return m.Decimal().Round(int(n)).Amount(m.Scale, m.Currency)
	}
	d, ok := decimal(x)
	if !ok {
		return o.unfit("round", x, "a number or an amount")
	}
	return d.Round(int(n)), nil
}

func keys(o ops, v any) (any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return o.unfit("keys", v, "an object")
	}
	out := make([]any, 0, len(m))
	for _, name := range sortedKeys(m) {
		out = append(out, name)
	}
	return out, nil
}

// arity says in words how many arguments a function takes.
func (f *function) arity() string {
	count := func(n int) string {
		if n == 1 {
			return "1 argument"
		}
		return fmt.Sprintf("%d arguments", n)
	}
	switch {
	case f.max < 0:
		return "at least " + count(f.min)
	case f.min == f.max:
		return count(f.min)
	}
	return fmt.Sprintf("%d to %s", f.min, count(f.max))
}
