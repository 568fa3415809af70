package expression

import (
	"fmt"
	"slices"
)

// Program is a compiled expression. It may be evaluated from many goroutines.
type Program struct {
	source string
	root   node
	typ    Type
	paths  []Path
	vars   []string
	calls  []string
}

// Source is the expression as written.
func (p *Program) Source() string { return p.source }

// Kind is what the program gives as far as that is known; it can always give
// NULL.
func (p *Program) Kind() Kind { return p.typ.Kind }

// Type is Kind with what is known beyond it: an amount's scale and currency, a
// list's items.
func (p *Program) Type() Type { return p.typ }

// Paths are the paths that the program reads, in the order in which it names
// them. A path stands for all that is below it.
func (p *Program) Paths() []Path { return p.paths }

// Vars are the variables that the program names, in that order.
func (p *Program) Vars() []string { return p.vars }

// Uses says whether the program names the variable.
func (p *Program) Uses(name string) bool { return slices.Contains(p.vars, name) }

// Calls are the functions that the program calls, those of the language
// included, each once.
func (p *Program) Calls() []string { return p.calls }

// Path gives the path where the program is nothing but one, as
// state.address.city.
func (p *Program) Path() (Path, bool) {
	if at, ok := p.root.(*pathNode); ok {
		return at.path, true
	}
	return nil, false
}

// Constant gives the value where it is the same whatever the program is
// evaluated on.
func (p *Program) Constant() (any, bool) {
	if c, ok := p.root.(*constant); ok {
		return c.value, true
	}
	return nil, false
}

// Want is an error where the program is known to give something else than the
// kind. Int, Number and Amount are numbers; nothing is known of Any.
func (p *Program) Want(k Kind) error {
	got := p.typ.Kind
	switch {
	case got == k || got == Any || k == Any:
		return nil
	case k == Number && (got == Int || got == Amount || got == Duration), k == Time && got == Day:
		return nil
	}
	if c, ok := p.root.(*constant); ok && c.value == nil {
		return nil
	}
	return &Error{Source: p.source, Message: fmt.Sprintf("gives %s, want %s", got, k)}
}

// Eval computes the value. An error names the expression and what could not be
// computed: amounts of different currencies, a text where a number is needed
// (see Env.MismatchIsNull), what a Function or an Object gives. The value may
// share memory with the input and must not be changed.
func (p *Program) Eval(in Input) (any, error) {
	var v any
	var err error
	if at, ok := p.root.(*pathNode); ok {
		v, err = in.Value(at.path, at.id)
	} else {
		v, err = p.root.eval(in, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.source, err)
	}
	return v, nil
}

// Truth evaluates a condition: what is not true, NULL included, is false.
func (p *Program) Truth(in Input) (bool, error) {
	v, err := p.Eval(in)
	b, _ := v.(bool)
	return b, err
}
