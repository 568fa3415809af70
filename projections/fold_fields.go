package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"banyan/money"
	"banyan/projections/state"
)

// field is a column of a struct.
type field struct {
	name, sql string
	key, null bool
	index     []int
	pointer   bool // nil is NULL
	zero      bool // the zero value is NULL
	get       func(reflect.Value) any
	set       func(reflect.Value, any) bool
}

// kinds are the types that a field may have, with the column's type.
var kinds = []struct {
	typ reflect.Type
	sql string
}{
	{reflect.TypeFor[int64](), "bigint"}, {reflect.TypeFor[int](), "bigint"}, {reflect.TypeFor[int32](), "integer"},
	{reflect.TypeFor[int16](), "smallint"}, {reflect.TypeFor[string](), "text"}, {reflect.TypeFor[bool](), "boolean"},
	{reflect.TypeFor[time.Time](), "timestamp with time zone"}, {reflect.TypeFor[money.Decimal](), "numeric"},
	{reflect.TypeFor[json.RawMessage](), "jsonb"}, {reflect.TypeFor[[]byte](), "bytea"}, {reflect.TypeFor[float64](), "double precision"},
}

// columnsOf reads the db tags of a struct; the error tells all that is wrong.
func columnsOf[S any]() ([]field, error) {
	t := reflect.TypeFor[S]()
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%s is no struct: a row needs fields with a db tag", t)
	}
	var columns []field
	var faults []error
	keys := 0
	for _, f := range reflect.VisibleFields(t) {
		tag, ok := f.Tag.Lookup("db")
		if !ok || tag == "-" {
			continue
		}
		c, err := columnOf(f, tag)
		if err != nil {
			faults = append(faults, fmt.Errorf("field %s: %w", f.Name, err))
			continue
		}
		if c.key {
			keys++
		}
		columns = append(columns, c)
	}
	if len(columns) == 0 && faults == nil {
		faults = append(faults, fmt.Errorf(`%s has no field with a db tag, such as db:"customer_id,key"`, t))
	} else if keys == 0 && faults == nil {
		faults = append(faults, fmt.Errorf(`no field of %s is a key: say so in its tag, db:"customer_id,key"`, t))
	}
	return columns, errors.Join(faults...)
}

func columnOf(f reflect.StructField, tag string) (field, error) {
	name, rest, _ := strings.Cut(tag, ",")
	c := field{name: name, index: f.Index}
	if !f.IsExported() {
		return c, errors.New("it is not exported")
	}
	typ := f.Type
	if typ.Kind() == reflect.Pointer {
		c.pointer, c.null, typ = true, true, typ.Elem()
	}
	for _, k := range kinds {
		if k.typ == typ {
			c.sql = k.sql
		}
	}
	if c.sql == "" {
		return c, fmt.Errorf("a column cannot be of type %s", f.Type)
	}
	c.null = c.null || typ.Kind() == reflect.Slice
	for rest != "" {
		var opt string
		opt, rest = nextOption(rest)
		sql, isType := strings.CutPrefix(opt, "type=")
		switch {
		case opt == "key":
			c.key, c.null = true, false
		case opt == "null":
			c.zero, c.null = true, true
		case isType:
			c.sql = sql
		default:
			return c, fmt.Errorf("its db tag says %q: want key, null or type=<a type of Postgres>", opt)
		}
	}
	if c.key && (c.pointer || c.zero) {
		return c, errors.New("a key is never NULL")
	}
	c.get, c.set = access(typ)
	return c, nil
}

// nextOption cuts the next option of a tag; a comma in parentheses is part of it.
func nextOption(s string) (opt, rest string) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				return s[:i], s[i+1:]
			}
		}
	}
	return s, ""
}

// access gives how a value of a type is read from a field, as Rows have it, and
// set. Fields whose column has another type than their own leave the rest to the
// table's own conversion.
func access(t reflect.Type) (get func(reflect.Value) any, set func(reflect.Value, any) bool) {
	switch t.Kind() {
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Int16:
		return func(v reflect.Value) any { return v.Int() }, func(v reflect.Value, x any) bool {
			n, ok := x.(int64)
			if ok = ok && !v.OverflowInt(n); ok {
				v.SetInt(n)
			}
			return ok
		}
	case reflect.String:
		return func(v reflect.Value) any { return v.String() }, func(v reflect.Value, x any) bool {
			s, ok := x.(string)
			if ok {
				v.SetString(s)
			}
			return ok
		}
	case reflect.Slice:
		return func(v reflect.Value) any {
				if v.IsNil() {
					return nil
				}
				return v.Interface()
			}, func(v reflect.Value, x any) bool {
				return assign(v, x)
			}
	}
	return func(v reflect.Value) any { return v.Interface() }, assign
}

func assign(v reflect.Value, x any) bool {
	r := reflect.ValueOf(x)
	if r.Type() != v.Type() {
		return false
	}
	v.Set(r)
	return true
}

// load fills a struct from a row; what the row lacks stays zero.
func load[S any](s *S, columns []field, row state.Row) error {
	v := reflect.ValueOf(s).Elem()
	for i := range columns {
		c := &columns[i]
		if row[i] == nil {
			continue
		}
		f := v.FieldByIndex(c.index)
		if c.pointer {
			f.Set(reflect.New(f.Type().Elem()))
			f = f.Elem()
		}
		if !c.set(f, row[i]) {
			return fmt.Errorf("column %s: a %T does not fit into a field of type %s", c.name, row[i], f.Type())
		}
	}
	return nil
}

// store makes a row of a struct.
func store[S any](s *S, columns []field) state.Row {
	v := reflect.ValueOf(s).Elem()
	row := make(state.Row, len(columns))
	for i := range columns {
		c := &columns[i]
		f := v.FieldByIndex(c.index)
		switch {
		case c.pointer && f.IsNil(), c.zero && f.IsZero():
			continue
		case c.pointer:
			f = f.Elem()
		}
		row[i] = c.get(f)
	}
	return row
}
