package expression

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// maxSource bounds an expression, and with it how deep it can be nested.
const maxSource = 64 << 10

// Error is what is wrong with an expression.
type Error struct {
	Source string
	// Line and Column, from 1, are the place inside Source; 0 is unknown.
	Line, Column int
	Message      string
	// Unknown is the word that is not known, where that is the fault, and Near
	// the known word that is nearest to it, if one is.
	Unknown, Near string
}

// Error writes the message and the place.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s (at %d:%d)", e.Message, e.Line, e.Column)
}

// Compile checks an expression against the Env and makes a Program of it. What
// is wrong with the expression is an *Error.
//
// It is read twice: the library's checker, which is given the types of the Env,
// refuses operands that can never go together; what runs is built of the parsed
// tree by this package alone.
func Compile(source string, env *Env) (*Program, error) {
	if err := env.check(); err != nil {
		return nil, err
	}
	tree, err := parse(source)
	if err != nil {
		return nil, misspelt(source, env, err)
	}
	b := &builder{env: env, ops: ops{lenient: env.MismatchIsNull}, source: source}
	root, typ := b.build(tree.Node)
	if b.err != nil {
		return nil, b.err
	}
	checked, err := check(source, env)
	if err != nil {
		return nil, err
	}
	if typ.Kind == Any {
		typ = known(checked)
	}
	if c, ok := root.(*constant); ok {
		typ = Type{Kind: kindOf(c.value)}
	}
	return &Program{source: source, root: root, typ: typ, paths: b.paths, vars: b.vars, calls: b.calls}, nil
}

// parse gives the tree, or an error that names the place inside.
func parse(source string) (*parser.Tree, error) {
	if len(source) > maxSource {
		return nil, &Error{Source: source[:40], Message: fmt.Sprintf("an expression of %d bytes; at most %d are taken", len(source), maxSource)}
	}
	tree, err := parser.Parse(source)
	if err != nil {
		return nil, libraryError(source, err)
	}
	return tree, nil
}

var called = regexp.MustCompile(`[A-Za-z_]\w*\(`)

// misspelt gives a better reason for a source that cannot be parsed: after a
// function that is not known, .name is no expression.
func misspelt(source string, env *Env, err error) error {
	known := env.functionNames()
	for _, at := range called.FindAllStringIndex(source, -1) {
		name := source[at[0] : at[1]-1]
		if near := nearest(name, known); near != "" && !slices.Contains(known, name) {
			line, column := place(source, utf8.RuneCountInString(source[:at[0]]))
			return &Error{Source: source, Line: line, Column: column, Unknown: name, Near: near,
				Message: fmt.Sprintf("%s() is not part of expressions; %s", name, DidYouMean(name, known))}
		}
	}
	return err
}

// check runs the library's checker and gives the type of the whole.
func check(source string, env *Env) (reflect.Type, error) {
	vars := Type{Kind: Row, Fields: env.Vars}
	if vars.Fields == nil {
		vars.Fields = map[string]Type{}
	}
	options := []expr.Option{expr.Env(vars.nature()), expr.Optimize(false)}
	for name, f := range functions {
		if f.form != nil {
			options = append(options, expr.DisableBuiltin(name), expr.Function(name, nothing, f.form))
		}
	}
	for name, f := range env.Functions {
		options = append(options, expr.Function(name, nothing, f.form()))
	}
	program, err := expr.Compile(source, options...)
	if err != nil {
		return nil, libraryError(source, err)
	}
	root := program.Node()
	if err := checkSums(source, root); err != nil {
		return nil, err
	}
	return root.Type(), nil
}

func nothing(...any) (any, error) { return nil, nil }

// form is what the library's checker sees of a function: a pointer to its type.
func (f Function) form() any {
	in := make([]reflect.Type, len(f.Params))
	for i, k := range f.Params {
		in[i] = k.reflect()
	}
	if f.Variadic && len(in) > 0 {
		in[len(in)-1] = reflect.SliceOf(in[len(in)-1])
	}
	out := f.Result.Kind.reflect()
	return reflect.New(reflect.FuncOf(in, []reflect.Type{out}, f.Variadic && len(in) > 0)).Interface()
}

var (
	anyType      = reflect.TypeFor[any]()
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
)

func (k Kind) reflect() reflect.Type {
	switch k {
	case Bool:
		return reflect.TypeFor[bool]()
	case Int:
		return reflect.TypeFor[int64]()
	case Number, Amount:
		return reflect.TypeFor[float64]()
	case Text:
		return reflect.TypeFor[string]()
	case Time, Day:
		return timeType
	case Duration:
		return durationType
	}
	return anyType
}

// known is the other way round.
func known(t reflect.Type) Type {
	switch {
	case t == nil:
		return Type{}
	case t == timeType:
		return Type{Kind: Time}
	case t == durationType:
		return Type{Kind: Number}
	}
	switch t.Kind() {
	case reflect.Bool:
		return Type{Kind: Bool}
	case reflect.Int, reflect.Int64:
		return Type{Kind: Int}
	case reflect.Float64:
		return Type{Kind: Number}
	case reflect.String:
		return Type{Kind: Text}
	case reflect.Map:
		return Type{Kind: Row}
	case reflect.Slice, reflect.Array:
		return Type{Kind: List}
	}
	return Type{}
}

// checkSums refuses sums of what is no number: the library does not look.
func checkSums(source string, root ast.Node) error {
	var wrong *Error
	ast.Walk(&root, visit(func(n ast.Node) {
		sum, ok := n.(*ast.BuiltinNode)
		if !ok || sum.Name != "sum" || len(sum.Arguments) != 2 {
			return
		}
		each, ok := sum.Arguments[1].(*ast.PredicateNode)
		if !ok || each.Node.Type() == nil {
			return
		}
		if t := each.Node.Type(); t != durationType {
			switch t.Kind() {
			case reflect.String, reflect.Bool, reflect.Struct, reflect.Map:
				line, column := place(source, n.Location().From)
				wrong = &Error{Source: source, Line: line, Column: column, Message: fmt.Sprintf("sum() of %s: want numbers", known(t).Kind)}
			}
		}
	}))
	if wrong != nil {
		return wrong
	}
	return nil
}

type visit func(ast.Node)

// Visit is called for the root last.
func (v visit) Visit(n *ast.Node) { v(*n) }

// libraryError leaves the library's drawing of the source out of its message,
// and the names of its types.
func libraryError(source string, err error) *Error {
	e := &Error{Source: source, Message: err.Error()}
	var fe *file.Error
	if errors.As(err, &fe) {
		e.Message, e.Line, e.Column = fe.Message, fe.Line, fe.Column+1
	}
	e.Message, _, _ = strings.Cut(e.Message, "\n")
	for _, w := range [][2]string{{"float64", "number"}, {"time.Time", "time"}, {"time.Duration", "duration"}, {"[]interface {}", "list"}, {"map[string]interface {}", "row"}} {
		e.Message = strings.ReplaceAll(e.Message, w[0], w[1])
	}
	return e
}

// place gives the line and column, from 1, of a rune.
func place(source string, at int) (line, column int) {
	line, column = 1, 1
	for _, r := range source {
		if at == 0 {
			break
		}
		at--
		if column++; r == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column
}
