package projections

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
)

// Rest keeps the fields of an event that a type does not name: a field of this
// type in the struct that Decode fills gets them all, by name.
type Rest map[string]json.RawMessage

// Decode reads the data of an event into a T by the rules of encoding/json. Fields
// that T does not name are passed over, or kept in its Rest. Numbers keep all
// their digits wherever T leaves the type open. A tombstone gives the zero T.
func Decode[T any](e *Event) (T, error) {
	var v T
	if e.Data == nil {
		return v, nil
	}
	info := shapeOf(reflect.TypeFor[T]())
	if err := info.decode(e.Data, &v); err != nil {
		return v, fmt.Errorf("read the data of %s: %w", e.Type, err)
	}
	if info.rest == nil {
		return v, nil
	}
	var all Rest
	if err := json.Unmarshal(e.Data, &all); err != nil {
		return v, fmt.Errorf("read the data of %s: %w", e.Type, err)
	}
	for name := range all {
		if info.known[strings.ToLower(name)] {
			delete(all, name)
		}
	}
	reflect.ValueOf(&v).Elem().FieldByIndex(info.rest).Set(reflect.ValueOf(all))
	return v, nil
}

// dataShape is what Decode has to know of a type.
type dataShape struct {
	open  bool            // numbers may land where the type is open
	rest  []int           // the field of type Rest; nil for none
	known map[string]bool // names of the other fields, in small letters
}

var dataShapes sync.Map // reflect.Type -> *dataShape

func shapeOf(t reflect.Type) *dataShape {
	if got, ok := dataShapes.Load(t); ok {
		return got.(*dataShape)
	}
	s := &dataShape{open: isOpen(t, map[reflect.Type]bool{})}
	if t.Kind() == reflect.Struct {
		s.known = map[string]bool{}
		for _, f := range reflect.VisibleFields(t) {
			if f.Type == reflect.TypeFor[Rest]() {
				s.rest = f.Index
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				name = f.Name
			}
			if f.IsExported() && name != "-" {
				s.known[strings.ToLower(name)] = true
			}
		}
	}
	dataShapes.Store(t, s)
	return s
}

// isOpen reports whether values of a type hold any other, as an interface does.
func isOpen(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return isOpen(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if isOpen(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// decode reads one value. Numbers lose digits only where an interface takes them
// as float64, so only then the slower way is taken.
func (s *dataShape) decode(data []byte, v any) error {
	if !s.open {
		return json.Unmarshal(data, v)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}

// Read is a Fold's Read that decodes the data of each event into a T, which Apply
// then finds as e.Prepared.(T).
func Read[T any](e *Event) (any, error) {
	v, err := Decode[T](e)
	if err != nil {
		return nil, err
	}
	return v, nil
}
