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
	d := json.NewDecoder(bytes.NewReader(e.Data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return v, fmt.Errorf("read the data of %s: %w", e.Type, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return v, fmt.Errorf("read the data of %s: something follows the value", e.Type)
	}
	if at, known := restOf(reflect.TypeFor[T]()); at != nil {
		var all Rest
		if err := json.Unmarshal(e.Data, &all); err != nil {
			return v, fmt.Errorf("read the data of %s: %w", e.Type, err)
		}
		for name := range all {
			if known[strings.ToLower(name)] {
				delete(all, name)
			}
		}
		reflect.ValueOf(&v).Elem().FieldByIndex(at).Set(reflect.ValueOf(all))
	}
	return v, nil
}

type restInfo struct {
	at    []int
	known map[string]bool
}

var rests sync.Map // reflect.Type -> restInfo

// restOf finds the Rest of a struct and the names of its other fields, in small
// letters; nil where it has none.
func restOf(t reflect.Type) ([]int, map[string]bool) {
	if got, ok := rests.Load(t); ok {
		i := got.(restInfo)
		return i.at, i.known
	}
	var info restInfo
	if t.Kind() == reflect.Struct {
		info.known = map[string]bool{}
		for _, f := range reflect.VisibleFields(t) {
			if f.Type == reflect.TypeFor[Rest]() {
				info.at = f.Index
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				name = f.Name
			}
			if f.IsExported() && name != "-" {
				info.known[strings.ToLower(name)] = true
			}
		}
	}
	rests.Store(t, info)
	return info.at, info.known
}
