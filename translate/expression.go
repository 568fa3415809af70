package translate

import (
	"slices"

	"banyan/expression"
)

// program is a compiled expression of a rule.
type program struct {
	*expression.Program
	// plain is set for new.column, old.column and state.column: the column's
	// own JSON form is used, without a detour through Go values.
	plain *plainRef
}

type plainRef struct{ name, column string }

// scope is what names an expression may use, and what shape they have.
type scope struct {
	rows map[string]*rowType // new, old, state
	many map[string]*rowType // reach names
}

// typeOf is what an expression sees of a column's type.
func typeOf(c *codec) expression.Type {
	switch c.kind {
	case kindInt:
		return expression.Type{Kind: expression.Int}
	case kindBool:
		return expression.Type{Kind: expression.Bool}
	case kindFloat, kindNumeric:
		return expression.Type{Kind: expression.Number}
	case kindMoney:
		return expression.Type{Kind: expression.Amount, Scale: c.scale, Currency: c.unit}
	case kindTime, kindDate:
		return expression.Type{Kind: expression.Time}
	case kindJSON:
		return expression.Type{}
	case kindArray:
		return expression.Type{Kind: expression.List}
	}
	return expression.Type{Kind: expression.Text}
}

func (t *rowType) expressionType() expression.Type {
	fields := map[string]expression.Type{}
	for i := range t.cols {
		c := &t.cols[i]
		if c.mask != "" {
			fields[c.name] = expression.Type{Kind: expression.Text}
			continue
		}
		fields[c.name] = typeOf(&c.codec)
	}
	for as, child := range t.children {
		fields[as] = expression.ListOf(child.types.expressionType())
	}
	return expression.Type{Kind: expression.Row, Fields: fields}
}

func (s *scope) env() *expression.Env {
	vars := map[string]expression.Type{"op": {Kind: expression.Text}, "key": {Kind: expression.Text}}
	for n, t := range s.rows {
		vars[n] = t.expressionType()
	}
	for n, t := range s.many {
		vars[n] = expression.ListOf(t.expressionType())
	}
	// Rules were promised NULL where values do not go together: only JSON columns
	// can make them so, the others are checked.
	return &expression.Env{Vars: vars, MismatchIsNull: true}
}

// compileExpression checks an expression against the scope. want is what it
// must give; expression.Any for anything.
func compileExpression(source string, s *scope, want expression.Kind) (*program, error) {
	p, err := expression.Compile(source, s.env())
	if err != nil {
		return nil, err
	}
	if err := p.Want(want); err != nil {
		return nil, err
	}
	return &program{p, plainOf(p)}, nil
}

func plainOf(p *expression.Program) *plainRef {
	path, ok := p.Path()
	if !ok || len(path) != 2 || !slices.Contains([]string{"new", "old", "state"}, path[0]) {
		return nil
	}
	return &plainRef{path[0], path[1]}
}

// runner evaluates expressions on an environment that is reused.
type runner struct{ env expression.Vars }

// truth runs a condition: NULL is false.
func (r *runner) truth(p *program) (bool, error) {
	if p == nil {
		return true, nil
	}
	return p.Truth(r.env)
}

// appendJSON runs an expression and appends what it gives.
func (r *runner) appendJSON(dst []byte, p *program) ([]byte, error) {
	if at := p.plain; at != nil {
		row, ok := r.env[at.name].(*rowValue)
		if !ok {
			return append(dst, "null"...), nil
		}
		if i, ok := row.t.index[at.column]; ok {
			return appendColumn(dst, &row.t.cols[i], row.vals[i], row.t.what)
		}
	}
	v, err := p.Eval(r.env)
	if err != nil {
		return dst, err
	}
	return expression.AppendJSON(dst, v)
}
