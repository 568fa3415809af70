package declared

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/money"
	"banyan/projections/state"
)

// column is a column as it was declared.
type column struct {
	node    document.Node
	name    string
	typ     string // as written
	class   class
	key     bool
	source  string // of the value; "" for the field of the column's name
	value   *formula
	comment string
	notNull bool
}

var columnText = regexp.MustCompile(`^([a-z][a-z0-9_ ]*?(?:\( *[0-9]+ *(?:, *[0-9]+ *)?\))?(?: with(?:out)? time zone)?(?:\[\])?)( key)?( not null)?$`)

// readColumn reads TYPE [key] [not null] [= EXPRESSION], or the mapping.
func readColumn(e document.Entry) *column {
	c := &column{node: e.Node, name: e.Key}
	if text, ok := e.Scalar(); ok {
		left, right, found := strings.Cut(text, "=")
		if found {
			if c.source = strings.TrimSpace(right); c.source == "" {
				e.Fault("has no expression behind =")
			}
		}
		m := columnText.FindStringSubmatch(strings.TrimSpace(left))
		if m == nil {
			e.Fault("want TYPE [key] [not null] [= EXPRESSION], such as bigint key, or text = state.name")
			return c
		}
		c.typ, c.key, c.notNull = m[1], m[2] != "", m[3] != ""
	} else {
		c.typ = e.Get("type").Text()
		c.key, _ = e.Get("key").Bool()
		c.notNull, _ = e.Get("not_null").Bool()
		c.comment = e.Get("comment").Text()
		c.source = e.Get("value").Text()
	}
	if strings.HasPrefix(c.name, "banyan_") {
		e.Fault("names that begin with banyan_ are taken")
	}
	c.notNull = c.notNull || c.key
	c.class = classOf(c.typ)
	return c
}

func (c *column) table() state.Column {
	return state.Column{Name: c.name, Type: c.typ, NotNull: c.notNull, Comment: c.comment}
}

// class is what kind of Go value a column's type holds; see state.Row.
type class uint8

const (
	classText class = iota
	classInt
	classNumeric
	classBool
	classDate
	classTime
	classJSON
	classBytes
	classFloat
)

var classNames = map[string]class{
	"smallint": classInt, "int2": classInt, "integer": classInt, "int": classInt, "int4": classInt, "bigint": classInt, "int8": classInt,
	"numeric": classNumeric, "decimal": classNumeric, "boolean": classBool, "bool": classBool, "date": classDate,
	"timestamp": classTime, "timestamptz": classTime, "timestamp with time zone": classTime, "timestamp without time zone": classTime,
	"json": classJSON, "jsonb": classJSON, "bytea": classBytes,
	"double precision": classFloat, "float8": classFloat, "real": classFloat, "float4": classFloat,
}

func classOf(typ string) class {
	if strings.HasSuffix(typ, "[]") {
		return classText
	}
	base, rest, bracket := strings.Cut(typ, "(")
	if bracket {
		if _, zone, ok := strings.Cut(rest, ")"); ok {
			base = strings.TrimSpace(base) + zone
		}
	}
	return classNames[strings.TrimSpace(base)]
}

// convert makes a column's value of what an expression gave, exactly.
func (c class) convert(v any) (any, error) {
	// What fits as it is goes through as it is: this runs for every column of
	// every event, and making an interface again would allocate.
	switch v.(type) {
	case nil:
		return nil, nil
	case int64:
		if c == classInt {
			return v, nil
		}
	case string:
		if c == classText {
			return v, nil
		}
	case money.Decimal:
		if c == classNumeric {
			return v, nil
		}
	case bool:
		if c == classBool {
			return v, nil
		}
	}
	switch c {
	case classInt:
		return toInt(v)
	case classNumeric:
		return toDecimal(v)
	case classDate:
		return toDay(v)
	case classTime:
		return toTime(v)
	case classJSON:
		b, err := expression.AppendJSON(nil, v)
		return json.RawMessage(b), err
	case classBytes:
		if s, ok := v.(string); ok {
			b, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				return nil, fmt.Errorf("%.40q is not base64", s)
			}
			return b, nil
		}
	case classFloat:
		d, err := toDecimal(v)
		if err != nil {
			return nil, err
		}
		return strconv.ParseFloat(d.(money.Decimal).String(), 64)
	case classText:
		return toText(v)
	}
	return nil, unfit(v, c)
}

var classWords = [...]string{"text", "a whole number", "a number", "true or false", "a date", "a time", "JSON", "bytes", "a number"}

func unfit(v any, c class) error {
	return fmt.Errorf("%s is not %s", describe(v), classWords[c])
}

// describe writes a value for a message, cut to a line.
func describe(v any) string {
	b, err := expression.AppendJSON(nil, v)
	if err != nil {
		return fmt.Sprintf("a value of type %T", v)
	}
	if len(b) > 60 {
		b = append(b[:57:57], "..."...)
	}
	return string(b)
}

func toInt(v any) (any, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case int:
		return int64(v), nil
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, unfit(v, classInt)
		}
		return n, nil
	}
	d, err := toDecimal(v)
	if err != nil {
		return nil, unfit(v, classInt)
	}
	a, err := d.(money.Decimal).Amount(0, "")
	if err != nil {
		return nil, unfit(v, classInt)
	}
	return a.Amount, nil
}

func toDecimal(v any) (any, error) {
	switch v := v.(type) {
	case money.Decimal:
		return v, nil
	case money.Amount:
		return v.Decimal(), nil
	case int64:
		return money.NewDecimal(v, 0), nil
	case int:
		return money.NewDecimal(int64(v), 0), nil
	case json.Number:
		return expression.ParseNumber(string(v))
	case time.Duration:
		if v%time.Second == 0 {
			return money.NewDecimal(int64(v/time.Second), 0), nil
		}
		return money.NewDecimal(int64(v), 9), nil
	case string:
		d, err := expression.ParseNumber(v)
		if err != nil {
			return nil, unfit(v, classNumeric)
		}
		return d, nil
	}
	return nil, unfit(v, classNumeric)
}

// toTime reads a time with whole microseconds, in UTC.
func toTime(v any) (time.Time, error) {
	var t time.Time
	switch v := v.(type) {
	case time.Time:
		t = v
	case expression.Date:
		t = v.Time()
	case string:
		var err error
		if t, err = expression.ParseTime(v); err != nil {
			return t, err
		}
	default:
		return t, unfit(v, classTime)
	}
	if t.Equal(expression.EndOfTime) || t.Equal(expression.BeginOfTime) {
		return t, fmt.Errorf("infinity has no place in a column of a projection; say nil for it")
	}
	return t.UTC().Truncate(time.Microsecond), nil
}

func toDay(v any) (any, error) {
	t, err := toTime(v)
	if err == nil && !t.Equal(t.Truncate(24*time.Hour)) {
		err = fmt.Errorf("%s is a time, not a date; date(...) gives its day", t.Format(time.RFC3339Nano))
	}
	return t, err
}

// toText takes what has one evident text; an object or a list has none.
func toText(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case int:
		return strconv.Itoa(v), nil
	case money.Decimal:
		return v.String(), nil
	case json.Number:
		return string(v), nil
	case expression.Date:
		return v.String(), nil
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano), nil
	}
	return nil, fmt.Errorf("%s has no one text; name a member of it, or use string(...) or a column of type jsonb", describe(v))
}

// expressed is the other way round: what expressions see of a column's value.
func (c class) expressed(v any) (any, error) {
	switch v := v.(type) {
	case time.Time:
		if c == classDate {
			return expression.DateOf(v), nil
		}
		return v, nil
	case json.RawMessage:
		return expression.FromJSON(v)
	case []byte:
		return base64.StdEncoding.EncodeToString(v), nil
	case float64:
		return expression.ParseNumber(strconv.FormatFloat(v, 'g', -1, 64))
	}
	return v, nil
}

// kind is what the checker of expressions knows of the class.
func (c class) kind() expression.Kind {
	return [...]expression.Kind{expression.Text, expression.Int, expression.Number, expression.Bool, expression.Day, expression.Time, expression.Any, expression.Text, expression.Number}[c]
}
