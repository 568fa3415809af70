package declared

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"banyan/event"
	"banyan/expression"
	"banyan/internal/document"
	"banyan/projections"
)

// lift is one step of an upcaster: from a version to the next.
type lift struct {
	renames [][2][]string
	sets    []setPath
	drops   [][]string
	env     *expression.Env
}

type setPath struct {
	path []string
	*formula
}

func (c *compiler) compileUpcasts() {
	types, _ := c.root.Get("upcast").Entries()
	for _, t := range types {
		steps, _ := t.List()
		var seen []int
		for _, step := range steps {
			from, _ := strconv.Atoi(step.Get("from").Text())
			if slices.Contains(seen, from) {
				step.Get("from").Fault("stands twice")
			}
			seen = append(seen, from)
			l := c.compileLift(step)
			c.p.spec.Upcasters = append(c.p.spec.Upcasters, projections.Upcaster{Type: t.Key, From: from, To: from + 1, Lift: l.lift})
		}
		slices.Sort(seen)
		slices.SortStableFunc(c.p.spec.Upcasters, func(a, b projections.Upcaster) int {
			return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.From, b.From))
		})
		for i, v := range seen {
			if i > 0 && v > seen[i-1]+1 {
				t.FaultOf("", "has no step from version %d to %d", seen[i-1]+1, v)
			}
		}
	}
}

func (c *compiler) compileLift(step document.Node) *lift {
	l := &lift{env: c.env(map[string]expression.Type{"state": {}, "last": {}, "data": {}})}
	renames, _ := step.Get("rename").Entries()
	for _, r := range renames {
		l.renames = append(l.renames, [2][]string{strings.Split(r.Key, "."), strings.Split(r.Text(), ".")})
	}
	sets, _ := step.Get("set").Entries()
	for _, s := range sets {
		if f := c.formula(vocabulary{env: l.env, names: []string{"state", "last", "data"}}, s.Node, s.Text(), expression.Any); f != nil {
			if f.late {
				s.Fault("names rows; an old event is read by itself alone")
			}
			l.sets = append(l.sets, setPath{strings.Split(s.Key, "."), f})
		}
	}
	drops, _ := step.Get("drop").List()
	for _, d := range drops {
		l.drops = append(l.drops, strings.Split(d.Text(), "."))
	}
	if len(l.renames)+len(sets)+len(drops) == 0 {
		step.FaultOf("", "lifts nothing; want rename, set or drop")
	}
	return l
}

// lift changes the data of an event. What it does not name keeps its value.
func (l *lift) lift(data json.RawMessage) (json.RawMessage, error) {
	for _, r := range l.renames {
		var err error
		if data, err = move(data, r[0], r[1]); err != nil {
			return nil, err
		}
	}
	for _, set := range l.sets {
		doc := l.env.NewDocument()
		if err := doc.Read(data); err != nil {
			return nil, err
		}
		if err := doc.SetJSON("data", data); err != nil {
			return nil, err
		}
		v, err := set.Eval(doc)
		if err != nil {
			return nil, fmt.Errorf("set.%s: %w", strings.Join(set.path, "."), err)
		}
		text, err := expression.AppendJSON(nil, v)
		if err != nil {
			return nil, fmt.Errorf("set.%s: %w", strings.Join(set.path, "."), err)
		}
		if data, err = change(data, set.path, text); err != nil {
			return nil, err
		}
	}
	for _, path := range l.drops {
		var err error
		if data, err = change(data, path, nil); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func move(data json.RawMessage, from, to []string) (json.RawMessage, error) {
	value, err := find(data, from)
	if err != nil || value == nil {
		return data, err
	}
	if data, err = change(data, from, nil); err != nil {
		return nil, err
	}
	return change(data, to, value)
}

// find gives the value at a path; nil where there is none.
func find(data json.RawMessage, path []string) (json.RawMessage, error) {
	for _, name := range path {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(data, &object); err != nil {
			return nil, nil // null, or no object: there is nothing below it
		}
		var ok bool
		if data, ok = object[name]; !ok {
			return nil, nil
		}
	}
	return data, nil
}

// change sets the value at a path, or drops it where value is nil. Objects are
// written with sorted names.
func change(data json.RawMessage, path []string, value json.RawMessage) (json.RawMessage, error) {
	if len(path) == 0 {
		return value, nil
	}
	if strings.TrimSpace(string(data)) == "null" {
		return data, nil // a removal has no state to change
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fmt.Errorf("%s: there is no object to change", strings.Join(path, "."))
	}
	if object == nil {
		object = map[string]json.RawMessage{}
	}
	inner, ok := object[path[0]]
	switch {
	case len(path) == 1 && value == nil:
		delete(object, path[0])
	case len(path) == 1:
		object[path[0]] = value
	case !ok && value == nil:
	default:
		if !ok {
			inner = json.RawMessage("{}")
		}
		var err error
		if object[path[0]], err = change(inner, path[1:], value); err != nil {
			return nil, err
		}
	}
	return json.Marshal(object)
}

// liftEvent brings a sample's event to the version that the file knows.
func (p *Program) liftEvent(e *event.Event) error {
	for _, u := range p.spec.Upcasters {
		if u.Type == e.Type && u.From == e.Version && e.Data != nil {
			data, err := u.Lift(e.Data)
			if err != nil {
				return fmt.Errorf("lift version %d: %w", u.From, err)
			}
			e.Data, e.Version = data, u.To
		}
	}
	return nil
}
