package translate

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"banyan/money"

	"github.com/expr-lang/expr/ast"
)

// limiter refuses what could fail on a row or is not exact.
type limiter struct {
	scope *scope
	err   error
}

func (l *limiter) refuse(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
}

// Visit checks one node.
func (l *limiter) Visit(n *ast.Node) {
	switch n := (*n).(type) {
	case *ast.BinaryNode:
		switch n.Operator {
		case "/", "**", "^":
			l.refuse("%s is not exact; publish both values, or use round(x * y, decimals)", n.Operator)
		case "matches", "..", "|":
			l.refuse("%s is not part of rules", n.Operator)
		}
	case *ast.FloatNode:
		if digits := strconv.FormatFloat(n.Value, 'f', -1, 64); len(digits) > 16 {
			l.refuse("a number may have 15 digits")
		}
	case *ast.SliceNode:
		l.refuse("slices are not part of rules")
	case *ast.BuiltinNode:
		l.call(n.Name)
	case *ast.CallNode:
		id, ok := n.Callee.(*ast.IdentifierNode)
		if !ok {
			l.refuse("methods are not part of rules")
			return
		}
		l.call(id.Value)
	case *ast.VariableDeclaratorNode:
		l.refuse("let is not part of rules")
	case *ast.IdentifierNode:
		if n.Value == "$env" {
			l.refuse("$env is not part of rules")
		}
	case *ast.MemberNode:
		l.member(n)
	}
}

func (l *limiter) call(name string) {
	if !slices.Contains(allowedCalls, name) {
		l.refuse("%s() is not part of rules; %s", name, didYouMean(name, allowedCalls))
	}
}

// member gives a better message than the library for a column that is not there.
func (l *limiter) member(n *ast.MemberNode) {
	id, ok1 := n.Node.(*ast.IdentifierNode)
	col, ok2 := n.Property.(*ast.StringNode)
	if !ok1 || !ok2 {
		return
	}
	t := l.scope.rows[id.Value]
	if t == nil {
		if id.Value == "new" || id.Value == "old" || id.Value == "state" {
			l.refuse("there is no %s here; known are %s", id.Value, strings.Join(l.scope.names(), ", "))
		}
		return
	}
	if _, ok := t.index[col.Value]; ok || t.children[col.Value] != nil {
		return
	}
	var known []string
	for name := range t.index {
		known = append(known, name)
	}
	for name := range t.children {
		known = append(known, name)
	}
	sort.Strings(known)
	l.refuse("%s has no column %q; %s", id.Value, col.Value, didYouMean(col.Value, known))
}

var predicates = []string{"all", "none", "any", "one", "filter", "map", "find", "count"}

// patcher replaces operators and calls by functions of operators.go.
type patcher struct{ scope *scope }

func call(name string, args ...ast.Node) *ast.CallNode {
	return &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: args}
}

var binaryNames = map[string]string{
	"==": "_equal", "!=": "_differs", "<": "_less", "<=": "_atMost", ">": "_more", ">=": "_atLeast", "+": "_add",
	"-": "_subtract", "*": "_times", "%": "_remainder", "in": "_in", "contains": "_contains",
	"startsWith": "_hasPrefix", "endsWith": "_hasSuffix",
}

// Visit is called after the children of the node.
func (p *patcher) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.FloatNode:
		d, err := parseNumber(strconv.FormatFloat(n.Value, 'f', -1, 64))
		if err == nil {
			*node = &ast.ConstantNode{Value: d}
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "&&", "and", "||", "or":
			n.Left, n.Right = call("_true", n.Left), call("_true", n.Right)
		default:
			if name := binaryNames[n.Operator]; name != "" {
				*node = call(name, n.Left, n.Right)
			}
		}
	case *ast.UnaryNode:
		switch n.Operator {
		case "!", "not":
			n.Node = call("_true", n.Node)
		case "-":
			*node = call("_negative", n.Node)
		}
	case *ast.ConditionalNode:
		n.Cond = call("_true", n.Cond)
	case *ast.MemberNode:
		*node = call("_get", n.Node, n.Property)
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok && !strings.HasPrefix(id.Value, "_") {
			*node = call("_"+id.Value, n.Arguments...)
		}
	case *ast.BuiltinNode:
		*node = p.builtin(n)
	}
}

func (p *patcher) builtin(n *ast.BuiltinNode) ast.Node {
	if n.Name == "sum" {
		// The sum of no money is no money of that currency, not the number 0.
		var zero ast.Node = &ast.ConstantNode{Value: int64(0)}
		if m := p.money(n); m != nil {
			zero = &ast.ConstantNode{Value: *m}
		}
		if len(n.Arguments) == 2 {
			mapped := &ast.BuiltinNode{Name: "map", Arguments: []ast.Node{call("_list", n.Arguments[0]), n.Arguments[1]}}
			return call("_sum", mapped, zero)
		}
		return call("_sum", n.Arguments[0], zero)
	}
	if !slices.Contains(predicates, n.Name) {
		return call("_"+n.Name, n.Arguments...)
	}
	n.Arguments[0] = call("_list", n.Arguments[0])
	if len(n.Arguments) > 1 && n.Name != "map" {
		if pred, ok := n.Arguments[1].(*ast.PredicateNode); ok {
			pred.Node = call("_true", pred.Node)
		}
	}
	return n
}

// money finds the one currency and scale of the money columns that a sum names.
func (p *patcher) money(n ast.Node) *money.Amount {
	var found *money.Amount
	mixed := false
	ast.Walk(&n, observer(func(n ast.Node) {
		get, ok := n.(*ast.CallNode)
		if !ok || len(get.Arguments) != 2 {
			return
		}
		name, ok := get.Arguments[1].(*ast.StringNode)
		if !ok {
			return
		}
		for _, t := range p.scope.all() {
			i, ok := t.index[name.Value]
			if !ok || t.cols[i].codec.kind != kindMoney {
				continue
			}
			m := money.Amount{Scale: t.cols[i].codec.scale, Currency: t.cols[i].codec.unit}
			mixed = mixed || found != nil && *found != m
			found = &m
		}
	}))
	if mixed {
		return nil
	}
	return found
}

// all are the shapes of all rows that an expression can meet.
func (s *scope) all() []*rowType {
	var out []*rowType
	var add func(t *rowType)
	add = func(t *rowType) {
		out = append(out, t)
		for _, child := range t.children {
			add(child.types)
		}
	}
	for _, t := range s.rows {
		add(t)
	}
	for _, t := range s.many {
		add(t)
	}
	return out
}
