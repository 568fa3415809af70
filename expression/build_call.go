package expression

import (
	"slices"

	"banyan/money"

	"github.com/expr-lang/expr/ast"
)

func (b *builder) unary(n *ast.UnaryNode) (node, Type) {
	of, typ := b.build(n.Node)
	switch n.Operator {
	case "!", "not":
		return fold(b, n, &notNode{of}, of), Type{Kind: Bool}
	case "-":
		return fold(b, n, &unaryNode{b.ops.negative, of}, of), typ
	case "+":
		return fold(b, n, &unaryNode{func(x any) (any, error) { return x, nil }, of}, of), typ
	}
	b.refuse(n, "%s is not part of expressions", n.Operator)
	return nothingNode, Type{}
}

func (b *builder) binary(n *ast.BinaryNode) (node, Type) {
	switch n.Operator {
	case "/", "**", "^":
		b.refuse(n, "%s is not exact; publish both values, or use round(x * y, decimals)", n.Operator)
		return nothingNode, Type{}
	}
	left, typ1 := b.build(n.Left)
	right, typ2 := b.build(n.Right)
	switch n.Operator {
	case "&&", "and", "||", "or":
		or := n.Operator == "||" || n.Operator == "or"
		return fold(b, n, &logicNode{or, left, right}, left, right), Type{Kind: Bool}
	case "??":
		return fold(b, n, &coalesceNode{[]node{left, right}}, left, right), either(typ1, typ2)
	}
	run, typ := b.operator(n.Operator, typ1, typ2)
	if run == nil {
		b.refuse(n, "%s is not part of expressions", n.Operator)
		return nothingNode, Type{}
	}
	if sign := n.Operator; sign == "+" || sign == "-" || sign == "*" {
		return fold(b, n, &arithNode{b.ops, sign[0], left, right}, left, right), typ
	}
	return fold(b, n, &binaryNode{run, left, right}, left, right), typ
}

// operator gives what computes an operator, and what is known of the result
// beyond what the library's checker will find.
func (b *builder) operator(sign string, x, y Type) (run func(x, y any) (any, error), typ Type) {
	o := b.ops
	yes := Type{Kind: Bool}
	switch sign {
	case "==":
		return func(x, y any) (any, error) { return o.equal(x, y), nil }, yes
	case "!=":
		return func(x, y any) (any, error) { return !o.equal(x, y), nil }, yes
	case "<":
		return o.order(sign, func(c int) bool { return c < 0 }), yes
	case "<=":
		return o.order(sign, func(c int) bool { return c <= 0 }), yes
	case ">":
		return o.order(sign, func(c int) bool { return c > 0 }), yes
	case ">=":
		return o.order(sign, func(c int) bool { return c >= 0 }), yes
	case "in":
		return o.in, yes
	case "contains":
		return func(x, y any) (any, error) { return contains(o, x, y) }, yes
	case "startsWith":
		return func(x, y any) (any, error) { return hasPrefix(o, x, y) }, yes
	case "endsWith":
		return func(x, y any) (any, error) { return hasSuffix(o, x, y) }, yes
	case "%":
		return o.remainder, Type{}
	case "+":
		if x.Kind == Amount && y.Kind == Amount {
			typ = either(x, y)
		}
		return o.add, typ
	case "-":
		switch {
		case x.Kind == Amount && y.Kind == Amount:
			typ = either(x, y)
		case (x.Kind == Time || x.Kind == Day) && (y.Kind == Time || y.Kind == Day):
			typ = Type{Kind: Int}
		}
		return o.subtract, typ
	case "*":
		switch {
		case x.Kind == Amount && y.Kind == Int:
			typ = x
		case x.Kind == Int && y.Kind == Amount:
			typ = y
		}
		return o.times, typ
	}
	return nil, Type{}
}

// call makes calls of the language's functions and of the caller's.
func (b *builder) call(n ast.Node, name string, args []ast.Node) (node, Type, int) {
	f, own := functions[name]
	foreign, given := b.env.Functions[name]
	if !own && !given && !slices.Contains(loops, name) {
		b.unknown(n, name, b.env.functionNames(), "%s() is not part of expressions", name)
		return nothingNode, Type{}, -1
	}
	if !slices.Contains(b.calls, name) {
		b.calls = append(b.calls, name)
	}
	switch {
	case given:
		made, typ := b.foreign(n, name, &foreign, args)
		return made, typ, -1
	case !own:
		return b.loop(n, name, args)
	}
	if len(args) < f.min || f.max >= 0 && len(args) > f.max {
		b.refuse(n, "%s() takes %s", name, f.arity())
		return nothingNode, Type{}, -1
	}
	if name == "len" {
		// How many items there are says nothing of what is in them.
		of, _, _ := b.make(args[0])
		return fold(b, n, &unaryNode{func(x any) (any, error) { return length(b.ops, x) }, of}, of), Type{Kind: Int}, -1
	}
	of := make([]node, len(args))
	types := make([]Type, len(args))
	for i := range args {
		of[i], types[i] = b.build(args[i])
	}
	made, typ := b.function(f, name, of, types)
	return fold(b, n, made, of...), typ, -1
}

func (b *builder) function(f *function, name string, of []node, types []Type) (node, Type) {
	o := b.ops
	typ := Type{Kind: f.result}
	switch name {
	case "coalesce":
		typ = types[0]
		for _, t := range types[1:] {
			typ = either(typ, t)
		}
		return &coalesceNode{of}, typ
	case "abs":
		typ = types[0]
	case "round":
		typ = Type{Kind: Number}
		if types[0].Kind == Amount {
			typ = types[0]
		}
	case "first", "last":
		if types[0].Elem != nil {
			typ = *types[0].Elem
		}
	case "max", "min":
		switch {
		case len(types) > 1:
			typ = types[0]
			for _, t := range types[1:] {
				typ = either(typ, t)
			}
		case types[0].Elem != nil:
			typ = *types[0].Elem
		case types[0].Kind != List:
			typ = types[0]
		}
	case "amount":
		scale, ok1 := of[1].(*constant)
		unit, ok2 := of[2].(*constant)
		if ok1 && ok2 {
			n, _ := integer(scale.value)
			text, _ := unit.value.(string)
			typ.Scale, typ.Currency = int(n), text
		}
	}
	switch {
	case f.one != nil:
		return &unaryNode{func(x any) (any, error) { return f.one(o, x) }, of[0]}, typ
	case f.two != nil:
		return &binaryNode{func(x, y any) (any, error) { return f.two(o, x, y) }, of[0], of[1]}, typ
	}
	return &callNode{func(args []any) (any, error) { return f.many(o, args) }, of}, typ
}

func (b *builder) foreign(n ast.Node, name string, f *Function, args []ast.Node) (node, Type) {
	least := len(f.Params)
	if f.Variadic && least > 0 {
		least--
	}
	if len(args) < least || len(args) > len(f.Params) && (!f.Variadic || len(f.Params) == 0) {
		b.refuse(n, "%s() takes %s", name, (&function{min: least, max: map[bool]int{true: -1, false: len(f.Params)}[f.Variadic]}).arity())
		return nothingNode, Type{}
	}
	of := make([]node, len(args))
	seen := make([]Argument, len(args))
	for i := range args {
		of[i], seen[i].Type = b.build(args[i])
		if c, ok := of[i].(*constant); ok {
			seen[i].Constant, seen[i].Value = true, c.value
		}
	}
	if f.Check != nil && b.err == nil {
		if err := f.Check(seen); err != nil {
			b.refuse(n, "%s(): %s", name, err)
		}
	}
	return &foreignNode{name, f.Params, f.Call, of}, f.Result
}

// loop makes the functions that go through a list.
func (b *builder) loop(n ast.Node, name string, args []ast.Node) (node, Type, int) {
	if len(args) == 0 || len(args) > 2 || len(args) == 1 && name != "sum" && name != "count" {
		b.refuse(n, "%s() takes a list and what is asked of each item", name)
		return nothingNode, Type{}, -1
	}
	list, typ, use := b.make(args[0])
	var elem Type
	if typ.Elem != nil {
		elem = *typ.Elem
	}
	var each node
	var gives Type
	if len(args) == 2 {
		body := args[1]
		if p, ok := body.(*ast.PredicateNode); ok {
			body = p.Node
		}
		b.items = append(b.items, item{elem, use})
		each, gives = b.build(body)
		b.items = b.items[:len(b.items)-1]
	} else if use >= 0 {
		b.env.needWhole(use)
	}
	switch name {
	case "sum":
		sum := &sumNode{ops: b.ops, list: list, each: each, zero: int64(0)}
		// The sum of no money is no money of that currency, not the number 0.
		if m := b.money(n); m != nil {
			sum.zero = *m
		}
		if gives.Kind != Amount {
			gives = Type{}
		}
		return sum, gives, -1
	case "map":
		return &loopNode{b.ops, name, list, each}, ListOf(gives), -1
	case "filter":
		return &loopNode{b.ops, name, list, each}, typ, use
	case "find":
		if use >= 0 {
			b.env.needWhole(use)
		}
		return &loopNode{b.ops, name, list, each}, elem, -1
	case "count":
		if each == nil {
			each = conditionNode{}
		}
		return &loopNode{b.ops, name, list, each}, Type{Kind: Int}, -1
	}
	return &loopNode{b.ops, name, list, each}, Type{Kind: Bool}, -1
}

// money finds the one currency and scale of the money columns that a sum names.
func (b *builder) money(sum ast.Node) *money.Amount {
	var found *money.Amount
	mixed := false
	ast.Walk(&sum, visit(func(n ast.Node) {
		get, ok := n.(*ast.MemberNode)
		if !ok {
			return
		}
		name, ok := get.Property.(*ast.StringNode)
		if !ok {
			return
		}
		b.env.rows(func(fields map[string]Type) {
			f := fields[name.Value]
			if f.Kind != Amount || f.Currency == "" {
				return
			}
			m := money.Amount{Scale: f.Scale, Currency: f.Currency}
			mixed = mixed || found != nil && *found != m
			found = &m
		})
	}))
	if mixed {
		return nil
	}
	return found
}
