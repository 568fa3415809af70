package translate

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// An expression is compiled twice. The first time is the check: with the types
// of the real columns, by the library's own checker, so that a wrong name or
// type is refused at the start. The second time is for running: every operator
// is replaced by a function of operators.go that knows NULL and exact decimals,
// so that nothing is left that can fail on a row which the check let pass,
// except arithmetic beyond all bounds.
type expression struct {
	source  string
	program *vm.Program
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

var allowedCalls = []string{
	"all", "none", "any", "one", "filter", "map", "find", "count", "sum", "len", "upper", "lower", "trim", "hasPrefix",
	"hasSuffix", "replace", "split", "join", "first", "last", "abs", "max", "min", "string", "round",
}

// natureOf is the type that the checker sees. Numbers of every exact kind are
// float64 to it, which makes all arithmetic between them well-typed; none is
// ever computed as one.
func natureOf(c *codec) types.Type {
	switch c.kind {
	case kindInt:
		return types.Int64
	case kindBool:
		return types.Bool
	case kindFloat, kindNumeric, kindMoney:
		return types.Float64
	case kindTime, kindDate:
		return types.TypeOf(time.Time{})
	case kindJSON:
		return types.Any
	case kindArray:
		return types.Array(types.Any)
	}
	return types.String
}

func (t *rowType) nature() types.Type {
	m := types.Map{}
	for _, c := range t.cols {
		if c.mask != "" {
			m[c.name] = types.String
			continue
		}
		m[c.name] = natureOf(&c.codec)
	}
	for as, child := range t.children {
		m[as] = types.Array(child.types.nature())
	}
	return m
}

func (s *scope) names() []string {
	out := []string{"op", "key"}
	for n := range s.rows {
		out = append(out, n)
	}
	for n := range s.many {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

func (s *scope) env() types.Map {
	m := types.Map{"op": types.String, "key": types.String}
	for n, t := range s.rows {
		m[n] = t.nature()
	}
	for n, t := range s.many {
		m[n] = types.Array(t.nature())
	}
	return m
}

// parseExpression gives the tree, or an error that names the place inside.
func parseExpression(source string) (*parser.Tree, error) {
	tree, err := parser.Parse(source)
	if err != nil {
		return nil, shortError(err)
	}
	return tree, nil
}

// compileExpression checks an expression against the scope. want is the type
// that it must have; nil for any.
func compileExpression(source string, s *scope, want reflect.Type) (*expression, error) {
	tree, err := parseExpression(source)
	if err != nil {
		return nil, err
	}
	limits := &limiter{scope: s}
	ast.Walk(&tree.Node, limits)
	if limits.err != nil {
		return nil, limits.err
	}
	got := reflect.Type(nil)
	options := []expr.Option{expr.Env(s.env()), expr.Optimize(false), expr.DisableBuiltin("round"),
		expr.Function("round", nothing, new(func(float64, int) float64)),
		expr.Patch(observer(func(n ast.Node) {
			got = n.Type()
			if wrong := notSummable(n); wrong != nil {
				limits.refuse("sum() of %s: want numbers", goodName(wrong))
			}
		}))}
	if want == reflect.TypeFor[bool]() {
		options = append(options, expr.AsBool())
	}
	if _, err := expr.Compile(source, options...); err != nil {
		return nil, shortError(err)
	}
	if limits.err != nil {
		return nil, limits.err
	}
	if want != nil && got != nil && got != want && got.Kind() != reflect.Interface {
		return nil, fmt.Errorf("gives %s, want %s", goodName(got), goodName(want))
	}
	e := &expression{source: source, plain: plainOf(tree.Node)}
	running := []expr.Option{expr.Env(map[string]any{}), expr.AllowUndefinedVariables(), expr.Optimize(false), expr.DisableAllBuiltins()}
	for _, b := range predicates {
		running = append(running, expr.EnableBuiltin(b))
	}
	for name, op := range operators {
		running = append(running, expr.Function(name, op.run, op.form))
	}
	patched := &patcher{scope: s}
	// sum with a predicate and our own functions are parsed as builtins or
	// calls alike; the patcher turns both into functions of ours.
	for _, b := range []string{"sum", "len", "upper", "lower", "trim", "hasPrefix", "hasSuffix", "replace", "split", "join", "first", "last", "abs", "max", "min", "string", "round"} {
		running = append(running, expr.EnableBuiltin(b))
	}
	running = append(running, expr.Patch(patched))
	if e.program, err = expr.Compile(source, running...); err != nil {
		return nil, shortError(err)
	}
	return e, nil
}

// notSummable gives the type that a sum is over where that is none of numbers:
// the library does not look.
func notSummable(n ast.Node) reflect.Type {
	sum, ok := n.(*ast.BuiltinNode)
	if !ok || sum.Name != "sum" || len(sum.Arguments) != 2 {
		return nil
	}
	each, ok := sum.Arguments[1].(*ast.PredicateNode)
	if !ok || each.Node.Type() == nil {
		return nil
	}
	switch t := each.Node.Type(); t.Kind() {
	case reflect.String, reflect.Bool, reflect.Struct, reflect.Map:
		return t
	}
	return nil
}

func nothing(...any) (any, error) { return nil, nil }

func goodName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[float64]():
		return "a number"
	case reflect.TypeFor[time.Time]():
		return "a time"
	case reflect.TypeFor[bool]():
		return "true or false"
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		return "a number"
	case reflect.Map:
		return "a row"
	case reflect.Slice:
		return "a list"
	}
	return "a " + t.String()
}

// shortError leaves the library's drawing of the source out of its message.
func shortError(err error) error {
	message := err.Error()
	if fe, ok := err.(*file.Error); ok {
		message = fmt.Sprintf("%s (at %d:%d)", fe.Message, fe.Line, fe.Column+1)
	}
	message = strings.ReplaceAll(firstLine(message), "float64", "number")
	message = strings.ReplaceAll(message, "time.Time", "time")
	return fmt.Errorf("%s", strings.ReplaceAll(message, "map[string]interface {}", "row"))
}

type observer func(ast.Node)

// Visit is called for the root last.
func (o observer) Visit(n *ast.Node) { o(*n) }

func plainOf(n ast.Node) *plainRef {
	m, ok := n.(*ast.MemberNode)
	if !ok {
		return nil
	}
	id, ok1 := m.Node.(*ast.IdentifierNode)
	col, ok2 := m.Property.(*ast.StringNode)
	if !ok1 || !ok2 || !slices.Contains([]string{"new", "old", "state"}, id.Value) {
		return nil
	}
	return &plainRef{id.Value, col.Value}
}

// runner evaluates expressions; its machine and its environment are reused.
type runner struct {
	machine vm.VM
	env     map[string]any
}

func (r *runner) run(e *expression) (any, error) {
	v, err := r.machine.Run(e.program, r.env)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.source, shortRun(err))
	}
	return v, nil
}

func shortRun(err error) error {
	if fe, ok := err.(*file.Error); ok && fe.Unwrap() != nil {
		return fe.Unwrap()
	}
	return shortError(err)
}

// truth runs a condition: NULL is false.
func (r *runner) truth(e *expression) (bool, error) {
	if e == nil {
		return true, nil
	}
	v, err := r.run(e)
	b, _ := v.(bool)
	return b, err
}

// appendJSON runs an expression and appends what it gives.
func (r *runner) appendJSON(dst []byte, e *expression) ([]byte, error) {
	if p := e.plain; p != nil {
		row, ok := r.env[p.name].(*rowValue)
		if !ok {
			return append(dst, "null"...), nil
		}
		if i, ok := row.t.index[p.column]; ok {
			return appendColumn(dst, &row.t.cols[i], row.vals[i], row.t.what)
		}
	}
	v, err := r.run(e)
	if err != nil {
		return dst, err
	}
	return appendValue(dst, v)
}
