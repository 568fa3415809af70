package declared

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"banyan/event"
	"banyan/expression"
	"banyan/projections"
	"banyan/projections/state"
)

// scope is what the expressions of a projection are evaluated on: one event, and
// what the step at work adds to it. It belongs to one goroutine at a time.
type scope struct {
	p   *Program
	e   *projections.Event
	doc *expression.Document // nil where the event's data is not needed
	// removal says that the event's aggregate is no more.
	removal bool

	parts []string // of the event's key, once somebody has asked
	part  [1]string
	old   *oldRow
	item  any
	named []named // values, group keys, measures, timer
	timer *projections.Timer

	// tx is set while rows may be read. Without it lookup gives NULLs and notes
	// what it would have read.
	tx   *projections.Tx
	wish []wish
}

type named struct {
	name  string
	value any
}

// wish is a row that will be read.
type wish struct {
	table string
	key   state.Key
}

// open makes the scope ready for an event.
func (s *scope) open(e *projections.Event, whole bool) error {
	s.e, s.removal = e, e.Tombstone
	if e.Tombstone {
		s.doc.Reset()
		return nil
	}
	if err := s.doc.Read(e.Data); err != nil {
		return fmt.Errorf("read the data of %s: %w", e.Type, err)
	}
	if whole {
		if err := s.doc.SetJSON("data", e.Data); err != nil {
			return fmt.Errorf("read the data of %s: %w", e.Type, err)
		}
	}
	removal, known := s.doc.Null("state")
	if !known {
		removal = isRemoval(e.Data)
	}
	s.removal = removal
	return nil
}

// reset forgets the event, so that the scope can serve another one.
func (s *scope) reset() {
	*s = scope{p: s.p, doc: s.doc, named: s.named[:0], wish: s.wish[:0]}
}

// isRemoval says whether the data has "state": null. Most have not even the
// word, so nothing is parsed for them.
func isRemoval(data []byte) bool {
	word := []byte(`"state"`)
	for rest := data; ; {
		at := bytes.Index(rest, word)
		if at < 0 {
			return false
		}
		rest = rest[at+len(word):]
		if after, ok := bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(":")); ok && bytes.HasPrefix(bytes.TrimLeft(after, " \t\r\n"), []byte("null")) {
			break
		}
	}
	var top struct {
		State json.RawMessage `json:"state"`
	}
	return json.Unmarshal(data, &top) == nil && string(top.State) == "null"
}

// lastAsState makes the last state of an aggregate that is gone its state, for
// the key of the row that goes with it.
func (s *scope) lastAsState() error {
	var top struct {
		Last json.RawMessage `json:"last"`
	}
	if err := json.Unmarshal(s.e.Data, &top); err != nil || top.Last == nil {
		return err
	}
	return s.doc.SetJSON("state", top.Last)
}

// keyParts gives the parts of the aggregate's key as texts.
func (s *scope) keyParts() ([]string, error) {
	if s.parts == nil {
		key := s.e.Key()
		if strings.ContainsAny(key, ",%") {
			var err error
			if s.parts, err = event.SplitKey(key); err != nil {
				return nil, err
			}
		} else {
			s.part[0] = key
			s.parts = s.part[:]
		}
	}
	return s.parts, nil
}

// Value is for programs.
func (s *scope) Value(path expression.Path, id int) (any, error) {
	switch path[0] {
	case "state", "last", "data":
		if s.e == nil || s.doc == nil {
			return nil, nil
		}
		return s.doc.Value(path, id)
	case "item":
		return walk(s.item, path[1:])
	case "old":
		return s.oldValue(path[1:])
	case "key", "key_parts":
		if s.e == nil {
			return nil, nil
		}
		return s.keyValue(path)
	case "event":
		if s.e == nil || len(path) < 2 {
			return nil, nil
		}
		return s.eventValue(path[1])
	case "timer":
		return s.timerValue(path[1:])
	}
	for i := range s.named {
		if s.named[i].name == path[0] {
			return walk(s.named[i].value, path[1:])
		}
	}
	return nil, nil
}

func walk(v any, names []string) (any, error) {
	for i, name := range names {
		switch from := v.(type) {
		case nil:
			return nil, nil
		case map[string]any:
			v = from[name]
		default:
			return expression.Vars{"it": from}.Value(append(expression.Path{"it"}, names[i:]...), 0)
		}
	}
	return v, nil
}

func (s *scope) keyValue(path expression.Path) (any, error) {
	parts, err := s.keyParts()
	if err != nil {
		return nil, err
	}
	if path[0] == "key" {
		if len(parts) == 1 {
			return parts[0], nil
		}
		return s.e.Key(), nil
	}
	list := make([]any, len(parts))
	for i, p := range parts {
		list[i] = p
	}
	return list, nil
}

func (s *scope) eventValue(name string) (any, error) {
	switch name {
	case "type":
		return s.e.Type, nil
	case "version":
		return int64(s.e.Version), nil
	case "time":
		return s.e.Time, nil
	case "position":
		return s.e.Position.String(), nil
	case "id":
		return s.e.ID.String(), nil
	case "topic":
		return s.e.Topic, nil
	}
	return nil, nil
}

func (s *scope) timerValue(path []string) (any, error) {
	if s.timer == nil || len(path) == 0 {
		return nil, nil
	}
	switch path[0] {
	case "key":
		if parts, err := event.SplitKey(s.timer.Key); err == nil && len(parts) == 1 {
			return parts[0], nil
		}
		return s.timer.Key, nil
	case "at":
		return s.timer.At, nil
	case "data":
		v, err := expression.FromJSON(s.timer.Data)
		if err != nil {
			return nil, err
		}
		return walk(v, path[1:])
	}
	return nil, nil
}

// position is where in the history the scope stands.
func (s *scope) position() event.Position {
	if s.e != nil {
		return s.e.Position
	}
	if s.tx != nil {
		return s.tx.Position
	}
	return event.Position{}
}

func (s *scope) oldValue(path []string) (any, error) {
	if s.old == nil {
		return nil, nil
	}
	if len(path) == 0 {
		return s.old, nil
	}
	v, err := s.old.Field(path[0])
	if err != nil {
		return nil, err
	}
	return walk(v, path[1:])
}

// oldRow is a row of a table as expressions see it: by columns.
type oldRow struct {
	table *relation
	row   state.Row
}

// Field gives a column; a name that is none is an error.
func (r *oldRow) Field(name string) (any, error) {
	i, ok := r.table.index[name]
	if !ok {
		return nil, &noColumn{r.table, name}
	}
	if r.row == nil {
		return nil, nil
	}
	return r.table.classes[i].expressed(r.row[i])
}

// AppendJSON appends the row as an object of its columns, sorted.
func (r *oldRow) AppendJSON(dst []byte) ([]byte, error) {
	all := map[string]any{}
	for name := range r.table.index {
		v, err := r.Field(name)
		if err != nil {
			return dst, err
		}
		all[name] = v
	}
	return expression.AppendJSON(dst, all)
}

// noColumn says that an expression names a column that a table has not.
type noColumn struct {
	table *relation
	name  string
}

// Error names the nearest column.
func (e *noColumn) Error() string {
	return fmt.Sprintf("%s has no column %q; %s", e.table.name, e.name, expression.DidYouMean(e.name, e.table.columnNames()))
}
