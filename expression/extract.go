package expression

import (
	"fmt"
	"slices"
)

// Extractor reads some values out of JSON in one scan and decodes nothing else.
// It is not for several goroutines at a time.
type Extractor struct {
	root   want
	values []any
	scans  uint64
	// of one that an Env lends: the state of the Env that it was made for, and how
	// many paths that had.
	made  uint64
	paths int
	vars  []string // the first name of each path
}

// NewExtractor makes an Extractor of paths below the JSON's root: {"state",
// "id"} is the 7 of {"state":{"id":7}}, the empty path is the whole.
func NewExtractor(paths ...Path) *Extractor {
	e := &Extractor{root: want{slot: -1}}
	for i, p := range paths {
		e.add(&use{path: p, whole: true}, i)
	}
	e.values = make([]any, len(paths))
	return e
}

// List makes the Extractor read a list too, of whose items only these fields are
// asked, for those who read many: its value comes behind all others, and is a []any
// whose items Item takes apart. Call it before the first Extract.
func (e *Extractor) List(path Path, fields ...string) {
	slot := len(e.values)
	e.values = append(e.values, nil)
	e.add(&use{path: path, whole: true}, slot)
	w := &e.root
	for _, name := range path {
		w = w.kids[slices.IndexFunc(w.kids, func(k *want) bool { return k.name == name })]
	}
	if w.slot == slot {
		w.pruned, w.fields = true, slices.Clone(fields)
	}
}

// Item gives the fields of an item of a list that was asked for with List, in the
// order of the call; ok is false where the item is no object.
func Item(item any) (fields []any, ok bool) {
	r, ok := item.(*record)
	if !ok {
		return nil, false
	}
	return r.values, true
}

// Extract gives the values in the order of the paths, as FromJSON makes them,
// nil for what is not there. The slice is good until the next call, the values
// stay. What no path names is checked for its brackets and quotes only. A path
// that stands twice gives its value at the first place.
func (e *Extractor) Extract(raw []byte) ([]any, error) {
	clear(e.values)
	return e.values, e.scan(&e.root, raw)
}

func (e *Extractor) scan(w *want, raw []byte) error {
	s := scanners.Get().(*scanner)
	defer s.free()
	s.raw, s.at = raw, 0
	e.scans++
	err := e.read(s, w, 0)
	if err == nil {
		err = s.end()
	}
	return err
}

// want is what is wanted of one place of the JSON.
type want struct {
	name string
	slot int // of the value; -1 where only something below is wanted
	kids []*want
	// pruned is set where the value is only gone through as a list, and of its
	// items only fields are asked.
	pruned bool
	fields []string
	seen   uint64 // number of the scan that has met it
	null   bool   // as that has seen it
}

func (e *Extractor) add(u *use, slot int) {
	w := &e.root
	for _, name := range u.path {
		i := slices.IndexFunc(w.kids, func(k *want) bool { return k.name == name })
		if i < 0 {
			i = len(w.kids)
			w.kids = append(w.kids, &want{name: name, slot: -1})
		}
		w = w.kids[i]
	}
	if w.slot >= 0 {
		return
	}
	w.slot = slot
	if !u.whole {
		w.pruned = true
		for name := range u.fields {
			w.fields = append(w.fields, name)
		}
		slices.Sort(w.fields)
	}
}

// kid gives the member that is wanted by this name.
func (w *want) kid(name []byte) *want {
	for _, k := range w.kids {
		if k.name == string(name) {
			return k
		}
	}
	return nil
}

func (e *Extractor) read(s *scanner, w *want, depth int) error {
	if w.seen == e.scans {
		e.forget(w)
	}
	c := s.peek()
	w.seen, w.null = e.scans, c == 'n'
	if w.slot < 0 {
		if c != '{' {
			return s.skip()
		}
		return s.members(func(key []byte) error {
			if k := w.kid(key); k != nil {
				return e.read(s, k, depth+1)
			}
			return s.skip()
		})
	}
	if w.pruned && c == '[' {
		list, err := s.records(w.fields, depth)
		e.values[w.slot] = list
		return err
	}
	v, err := s.value(depth)
	if err != nil {
		return err
	}
	return e.fill(w, v)
}

// forget is for a member that stands twice: its last value counts.
func (e *Extractor) forget(w *want) {
	if w.slot >= 0 {
		e.values[w.slot] = nil
	}
	for _, k := range w.kids {
		e.forget(k)
	}
}

// fill gives a value, and what is wanted below it, their places.
func (e *Extractor) fill(w *want, v any) error {
	if w.slot >= 0 {
		e.values[w.slot] = v
	}
	for _, k := range w.kids {
		var below any
		if v != nil {
			var err error
			if below, err = member(v, k.name); err != nil {
				return err
			}
		}
		if err := e.fill(k, below); err != nil {
			return err
		}
	}
	return nil
}

// record is an item of a list of which only some members were decoded.
type record struct {
	names  []string
	values []any
}

func (r *record) get(name string) any {
	for i, n := range r.names {
		if n == name {
			return r.values[i]
		}
	}
	return nil
}

// records reads a list whose items are only asked for these members.
func (s *scanner) records(names []string, depth int) (any, error) {
	base := len(s.stack)
	defer s.drop(base)
	// Eight items at a time share their memory.
	var made []record
	var values []any
	err := s.items(func() error {
		if s.peek() != '{' {
			v, err := s.value(depth + 1)
			s.stack = append(s.stack, v)
			return err
		}
		if len(made) == cap(made) {
			made, values = make([]record, 0, 8), make([]any, 8*len(names))
		}
		made = append(made, record{names, values[:len(names):len(names)]})
		values = values[len(names):]
		r := &made[len(made)-1]
		s.stack = append(s.stack, r)
		return s.members(func(key []byte) error {
			for i, name := range names {
				if name == string(key) {
					v, err := s.value(depth + 2)
					r.values[i] = v
					return err
				}
			}
			return s.skip()
		})
	})
	if err != nil {
		return nil, err
	}
	return append(make([]any, 0, len(s.stack)-base), s.stack[base:]...), nil
}

// Document is an Input that is read from JSON: of it only what the programs of
// its Env name is decoded, in one scan. It is for one goroutine at a time, and
// is meant to be used for one event after the other. It holds the values and
// nothing else, so that many can wait for their turn.
type Document struct {
	env    *Env
	values []any    // by path number
	vars   []string // that the last Read has looked for
	null   uint64   // those of the first 64 that were there as null
}

// NewDocument makes an empty Document for the programs of the Env. Programs that
// are compiled later are served from the next Read on.
func (e *Env) NewDocument() *Document { return &Document{env: e} }

// extractor lends an Extractor of all paths of the Env; release takes it back.
func (e *Env) extractor() *Extractor {
	changes := e.changes.Load()
	if x, ok := e.extractors.Get().(*Extractor); ok && x.made == changes {
		return x
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	x := &Extractor{root: want{slot: -1}, made: e.changes.Load(), paths: len(e.uses)}
	for id, u := range e.uses {
		x.add(u, id)
	}
	for _, w := range x.root.kids {
		x.vars = append(x.vars, w.name)
	}
	return x
}

func (e *Env) release(x *Extractor) {
	x.values = nil
	e.extractors.Put(x)
}

// borrow gives an Extractor that fills the Document's values.
func (d *Document) borrow() *Extractor {
	x := d.env.extractor()
	if len(d.values) < x.paths {
		d.values = append(make([]any, 0, x.paths), d.values...)[:x.paths]
	}
	x.values = d.values
	return x
}

// Read forgets what the Document held and makes every member of a JSON object a
// variable. After an error nothing in it may be relied on.
func (d *Document) Read(raw []byte) error {
	d.Reset()
	x := d.borrow()
	defer d.env.release(x)
	err := x.scan(&x.root, raw)
	d.vars = x.vars
	for i, w := range x.root.kids[:min(len(x.root.kids), 64)] {
		if w.seen == x.scans && w.null {
			d.null |= 1 << i
		}
	}
	return err
}

// Null reports whether the object that was last read has a variable, and as null.
// ok is false where no program names the variable, so that nobody has looked.
func (d *Document) Null(name string) (null, ok bool) {
	i := slices.Index(d.vars, name)
	return i >= 0 && i < 64 && d.null>>i&1 == 1, i >= 0 && i < 64
}

// Reset forgets what the Document held.
func (d *Document) Reset() {
	clear(d.values)
	d.values, d.vars, d.null = d.values[:0], nil, 0
}

// Set gives a variable its value, one that Read has given too. An error is one
// of an Object's Field.
func (d *Document) Set(name string, v any) error {
	x := d.borrow()
	defer d.env.release(x)
	if w := x.variable(name); w != nil {
		return x.fill(w, v)
	}
	return nil
}

// SetJSON gives a variable its value as JSON.
func (d *Document) SetJSON(name string, raw []byte) error {
	x := d.borrow()
	defer d.env.release(x)
	if w := x.variable(name); w != nil {
		x.forget(w)
		return x.scan(w, raw)
	}
	return nil
}

// Value is for programs.
func (d *Document) Value(path Path, id int) (any, error) {
	switch {
	case id < len(d.values):
		return d.values[id], nil
	case len(d.values) == 0: // nothing was read
		return nil, nil
	}
	return nil, fmt.Errorf("%s was compiled after the document was read", path)
}

// variable gives what is wanted of a variable; nil where nothing is.
func (e *Extractor) variable(name string) *want {
	for _, k := range e.root.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}
