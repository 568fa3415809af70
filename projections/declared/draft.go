package declared

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"banyan/event"
	"banyan/expression"
)

// Draft writes a first definition from samples of topics: a table for each, and
// one for each list of objects in a state. Every guess has its reason as a comment
// behind it. What it writes compiles as it is. Topics without an event are an
// error: there is nothing to guess from.
func Draft(name string, known *Known) ([]byte, error) {
	d := &draft{taken: map[string]bool{}}
	fmt.Fprintf(&d.out, "# Drafted from the events that the topics hold today; each guess has its reason behind it.\n"+
		"# docs/projections.md explains every key. Rename, drop and add at will: projector check tells what is wrong.\nprojection: %s\ntables:\n", name)
	for _, topic := range sortedNames(known.Topics) {
		if err := d.topic(topic, known.Topics[topic].Sample); err != nil {
			return nil, fmt.Errorf("draft a table of %s: %w", topic, err)
		}
	}
	f, faults := Load(name+".yaml", d.out.Bytes())
	if err := faults.Err(); err != nil {
		return nil, fmt.Errorf("the draft is wrong: %w", err)
	}
	if _, faults = Compile(f, known); faults.Err() != nil {
		return nil, fmt.Errorf("the draft is wrong: %w", faults.Err())
	}
	return d.out.Bytes(), nil
}

type draft struct {
	out     bytes.Buffer
	taken   map[string]bool // names of tables
	columns map[string]bool // of the table at hand
}

func (d *draft) topic(topic string, sample []event.Event) error {
	all := &fields{by: map[string]*seen{}}
	var states []map[string]any
	var keys [][]string
	gone, types := map[string]bool{}, map[string]bool{}
	for _, e := range sample {
		if e.Data == nil {
			continue
		}
		types[e.Type] = true
		state, order, err := stateOf(e.Data)
		if err != nil {
			return fmt.Errorf("%s: %w", e.ID, err)
		}
		if state == nil {
			gone[e.Type] = true
			continue
		}
		all.look(state, order)
		parts, err := event.SplitKey(e.Key())
		if err != nil {
			return err
		}
		states, keys = append(states, state), append(keys, parts)
	}
	if len(states) == 0 {
		return fmt.Errorf("it has no event with a state yet")
	}
	table := d.name(topic[strings.LastIndexByte(strings.TrimSuffix(topic, ".latest"), '.')+1:])
	fmt.Fprintf(&d.out, "  %s:                # from %s: %s\n    from: %s\n", table, plural(len(sample), "event"), strings.Join(sortedNames(types), ", "), topic)
	if len(gone) > 0 {
		fmt.Fprintf(&d.out, "    # %s had no state: the row goes with it.\n", strings.Join(sortedNames(gone), ", "))
	}
	d.begin()
	own := d.keyColumns(all, states, keys)
	d.fields(all, "state")
	d.lists(all, topic, table, own)
	return nil
}

// begin begins the columns of a table.
func (d *draft) begin() {
	d.out.WriteString("    columns:\n")
	d.columns = map[string]bool{}
}

// column writes a column under a name that no other has.
func (d *draft) column(name, typ, attributes, source, field, why string) {
	for d.columns[name] {
		name += "_"
	}
	d.columns[name] = true
	value := typ + attributes
	if field == "" || source != field+name {
		value += " = " + source
	}
	fmt.Fprintf(&d.out, "      %s: %s   # %s\n", name, quoted(value), why)
}

// keyColumns finds the fields that are the aggregate's key, takes them out of the
// rest, and gives their types.
func (d *draft) keyColumns(all *fields, states []map[string]any, keys [][]string) []string {
	var types []string
	for part := range keys[0] {
		source, name := "key", "key"
		if len(keys[0]) > 1 {
			source, name = fmt.Sprintf("key_parts[%d]", part), fmt.Sprintf("key_%d", part+1)
		}
		typ, why := "text", "no field of the state is the aggregate's key"
		for _, field := range all.order {
			if s := all.by[field]; s != nil && s.key() && isKey(states, keys, field, part) {
				typ, _ = s.typ()
				name, why = columnName(field), "state."+field+" is the aggregate's key in every event"
				delete(all.by, field)
				break
			}
		}
		d.column(name, typ, " key", source, "", why)
		types = append(types, typ)
	}
	return types
}

func isKey(states []map[string]any, keys [][]string, name string, part int) bool {
	for i, s := range states {
		text, err := toText(s[name])
		if s[name] == nil || err != nil || len(keys[i]) <= part || text != keys[i][part] {
			return false
		}
	}
	return true
}

func (s *seen) key() bool {
	typ, _ := s.typ()
	return typ == "bigint" || typ == "text" || typ == "uuid"
}

// fields writes the columns that are no lists of objects.
func (d *draft) fields(all *fields, from string) {
	for _, name := range all.order {
		s := all.by[name]
		if s == nil || s.items != nil {
			continue
		}
		typ, why := s.typ()
		d.column(columnName(name), typ, "", fieldOf(from, name), from+".", why)
		if len(s.currencies) > 1 {
			d.column(columnName(name)+"_currency", "text", "", "currency("+fieldOf(from, name)+")", "", "amounts in "+strings.Join(sortedNames(s.currencies), ", "))
		}
	}
}

// lists makes a table of each list of objects that have a key; types are those of
// the aggregate's key.
func (d *draft) lists(all *fields, topic, table string, types []string) {
	keys := map[string]string{}
	for _, name := range all.order {
		s := all.by[name]
		if s == nil || s.items == nil {
			continue
		}
		if keys[name] = s.items.itemKey(); keys[name] == "" {
			d.column(columnName(name), "jsonb", "", fieldOf("state", name), "state.", "a list of objects; none of their fields tells them apart")
		}
	}
	for _, name := range all.order {
		key := keys[name]
		if key == "" {
			continue
		}
		items := all.by[name].items
		fmt.Fprintf(&d.out, "  %s:\n    from: %s\n    each: %s   # a list of objects: a row for each\n", d.name(table+"_"+columnName(name)), topic, quoted(fieldOf("state", name)))
		d.begin()
		for part, typ := range types {
			source, column := "key", "of_"+strings.TrimSuffix(table, "s")
			if len(types) > 1 {
				source, column = fmt.Sprintf("key_parts[%d]", part), fmt.Sprintf("%s_%d", column, part+1)
			}
			d.column(column, typ, " key", source, "", "whose it is")
		}
		typ, _ := items.by[key].typ()
		d.column(columnName(key), typ, " key", fieldOf("item", key), "item.", "tells the items of a list apart in every event")
		delete(items.by, key)
		for _, inner := range items.order {
			if one := items.by[inner]; one != nil && one.items != nil {
				one.items, one.kinds = nil, map[string]int{"list": 1}
			}
		}
		d.fields(items, "item")
	}
}

// itemKey is the first field that is in every item and tells those of one list
// apart. A number within the list is preferred to what ends in _id: that names
// something else, which may well come twice in the next list.
func (f *fields) itemKey() string {
	var found []string
	for _, name := range f.order {
		s := f.by[name]
		if s.unique && s.nulls == 0 && s.total == f.rows && s.key() {
			found = append(found, name)
		}
	}
	if slices.Contains(found, "id") {
		return "id"
	}
	for _, want := range []string{"no", "number", "position", "id"} {
		for _, name := range found {
			if name == want || strings.HasSuffix(name, "_"+want) {
				return name
			}
		}
	}
	if len(found) > 0 {
		return found[0]
	}
	return ""
}

// stateOf gives the state and the order of its fields; nil for a removal.
func stateOf(data json.RawMessage) (map[string]any, []string, error) {
	var top struct {
		State json.RawMessage `json:"state"`
	}
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, nil, err
	}
	if len(top.State) == 0 || string(top.State) == "null" {
		return nil, nil, nil
	}
	v, err := expression.FromJSON(top.State)
	if err != nil {
		return nil, nil, err
	}
	state, ok := v.(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf("the state is no object")
	}
	return state, namesIn(top.State), nil
}

// namesIn gives the names of an object in the order in which they stand.
func namesIn(object json.RawMessage) []string {
	dec := json.NewDecoder(bytes.NewReader(object))
	var out []string
	if _, err := dec.Token(); err != nil {
		return nil
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return out
		}
		if name, ok := t.(string); ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return out
		}
	}
	return out
}

var notPlain = regexp.MustCompile(`[^a-z0-9_]+`)

// columnName makes a plain SQL name of a field: customerId becomes customer_id.
func columnName(field string) string {
	var b strings.Builder
	for i, r := range field {
		if r >= 'A' && r <= 'Z' && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	name := strings.Trim(notPlain.ReplaceAllString(strings.ToLower(b.String()), "_"), "_")
	if name == "" || name[0] < 'a' || name[0] > 'z' || strings.HasPrefix(name, "banyan_") {
		name = "f_" + name
	}
	if len(name) > 40 {
		name = name[:40]
	}
	if slices.Contains([]string{"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}, name) {
		name += "_"
	}
	return name
}

// name is a table's name that no other has.
func (d *draft) name(from string) string {
	name := columnName(from)
	for d.taken[name] {
		name += "_"
	}
	d.taken[name] = true
	return name
}

var plainField = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func fieldOf(from, name string) string {
	if plainField.MatchString(name) {
		return from + "." + name
	}
	quotedName, err := json.Marshal(name)
	if err != nil {
		return from
	}
	return from + "[" + string(quotedName) + "]"
}

// quoted is a text as YAML takes it.
func quoted(s string) string {
	if strings.ContainsAny(s, `:#"'{}[]&*!|>%@`) {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
