package expression

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/types"
)

// Kind is what is known of a value before it is there.
type Kind uint8

// The kinds. Any is JSON of unknown shape, or a value that nothing is known of.
const (
	Any Kind = iota
	Bool
	Int    // a whole number; where a sum exceeds int64 the value is a Decimal
	Number // int64 or money.Decimal
	Amount // money.Amount
	Text
	Time
	Day // Date
	Duration
	List
	Row // an object
)

var kindNames = [...]string{"anything", "true or false", "a whole number", "a number", "an amount", "a text", "a time", "a date", "a duration", "a list", "an object"}

// String names the kind as messages do: "a number".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Type is a kind and what is known beyond it. The zero Type is Any.
type Type struct {
	Kind Kind
	// Fields are the members of a Row: there are no others. Nil where they are
	// not known.
	Fields map[string]Type
	// Elem is what a List holds; nil where that is not known.
	Elem *Type
	// Scale and Currency are those of an Amount; Currency is "" where they are
	// not known. Where they are, the sum of no such amounts is one too.
	Scale    int
	Currency string
}

// ListOf is the type of a list of elem.
func ListOf(elem Type) Type { return Type{Kind: List, Elem: &elem} }

// Env says what the expressions of one caller may name. Its exported fields
// must not change once something has been compiled with it; all methods may be
// called from many goroutines.
type Env struct {
	// Vars are the variables by name.
	Vars map[string]Type
	// Functions are those of the caller, beside the language's own, whose names
	// they may not have.
	Functions map[string]Function
	// MismatchIsNull makes an operation between values that do not go together,
	// as text times number, NULL. Without it that is an error, and a time may be
	// compared with an RFC 3339 text, which is how JSON holds times. Rules have
	// typed columns, and were promised NULL.
	MismatchIsNull bool

	mu      sync.Mutex
	uses    []*use         // by path number
	ids     map[string]int // of paths
	changes atomic.Uint64  // of uses
	// extractors are at rest; see extractor.
	extractors sync.Pool
}

// Function is a function of the caller's.
type Function struct {
	// Params are the kinds of its parameters; one whose kind is known takes NULL
	// too.
	Params []Kind
	// Variadic lets the last parameter stand any number of times, also none.
	Variadic bool
	// Result is what it gives.
	Result Type
	// Check, where set, may refuse a call when it is compiled.
	Check func(args []Argument) error
	// Call computes the value. in is what the program is evaluated on: a caller
	// that gives its own Input finds what it needs there. args must not be kept.
	// It must be safe for many goroutines where the programs are used so.
	Call func(in Input, args []any) (any, error)
}

// Argument is an argument of a call as far as it is known before it runs.
type Argument struct {
	Type     Type
	Constant bool
	Value    any // of a constant
}

// Path is a variable and the names of members below it: state, address, city.
type Path []string

// String joins the names by dots.
func (p Path) String() string { return strings.Join(p, ".") }

// Input is what a program is evaluated on.
type Input interface {
	// Value gives the value at a path; nil where there is none. id numbers the
	// paths of an Env from 0, for inputs that look values up by it.
	Value(path Path, id int) (any, error)
}

// Object is a value whose members are made when they are asked for.
type Object interface {
	// Field gives a member; nil where there is none.
	Field(name string) (any, error)
	// AppendJSON appends the whole as JSON.
	AppendJSON(dst []byte) ([]byte, error)
}

// Vars is the plain Input: variables by name. A variable that is missing is
// NULL.
type Vars map[string]any

// Value walks the path through maps and Objects.
func (v Vars) Value(path Path, _ int) (any, error) {
	if len(path) == 0 {
		return nil, nil
	}
	return walk(v[path[0]], path[1:])
}

func walk(v any, names []string) (any, error) {
	for _, name := range names {
		switch from := v.(type) {
		case map[string]any:
			v = from[name]
		case nil:
			return nil, nil
		default:
			var err error
			if v, err = member(from, name); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// check finds what is wrong with the Env itself.
func (e *Env) check() error {
	for _, name := range slices.Sorted(maps.Keys(e.Functions)) {
		if _, taken := builtin.Index[name]; taken || functions[name] != nil {
			return fmt.Errorf("the function %s is one of the language's own", name)
		}
		if e.Functions[name].Call == nil {
			return fmt.Errorf("the function %s has no Call", name)
		}
	}
	return nil
}

func (e *Env) functionNames() []string {
	return append(slices.Clone(functionNames), slices.Sorted(maps.Keys(e.Functions))...)
}

func (e *Env) names() []string { return slices.Sorted(maps.Keys(e.Vars)) }

// rows are the types of all objects that an expression can meet.
func (e *Env) rows(visit func(map[string]Type)) {
	var add func(t Type, depth int)
	add = func(t Type, depth int) {
		if depth > 32 {
			return
		}
		if t.Elem != nil {
			add(*t.Elem, depth+1)
		}
		if t.Fields != nil {
			visit(t.Fields)
		}
		for _, f := range t.Fields {
			add(f, depth+1)
		}
	}
	for _, t := range e.Vars {
		add(t, 0)
	}
}

// nature is the type that the library's checker sees. Numbers of every exact
// kind are float64 to it, which makes all arithmetic between them well-typed;
// none is ever computed as one. A date is a time to it.
func (t Type) nature() types.Type {
	switch t.Kind {
	case List:
		if t.Elem == nil {
			return types.Array(types.Any)
		}
		return types.Array(t.Elem.nature())
	case Row:
		if t.Fields == nil {
			return types.Any
		}
		m := types.Map{}
		for name, f := range t.Fields {
			m[name] = f.nature()
		}
		return m
	}
	if r := t.Kind.reflect(); r != anyType {
		return types.TypeOf(reflect.Zero(r).Interface())
	}
	return types.Any
}

// use is what the programs of an Env need of a path's value.
type use struct {
	path Path
	// whole is set where all of the value is needed. Otherwise it is only gone
	// through as a list, and fields are what is asked of its items.
	whole  bool
	fields map[string]bool
}

// path gives a path its number.
func (e *Env) path(p Path) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := strings.Join(p, "\x00")
	id, ok := e.ids[key]
	if !ok {
		if e.ids == nil {
			e.ids = map[string]int{}
		}
		id = len(e.uses)
		e.ids[key] = id
		e.uses = append(e.uses, &use{path: p, fields: map[string]bool{}})
		e.changes.Add(1)
	}
	return id
}

func (e *Env) needWhole(id int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.uses[id].whole = true
	e.changes.Add(1)
}

func (e *Env) needField(id int, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.uses[id].fields[name] = true
	e.changes.Add(1)
}
