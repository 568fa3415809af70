package expression

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"banyan/money"

	"github.com/expr-lang/expr/ast"
)

// builder makes nodes of a parsed tree. It refuses what is not part of the
// language, and what is not known, and folds what is constant.
type builder struct {
	env    *Env
	ops    ops
	source string
	items  []item // of the lists that are being gone through, innermost last
	paths  []Path
	vars   []string
	calls  []string
	err    error
}

// item is what is known of `#`.
type item struct {
	typ Type
	use int // number of the path whose list it is from; -1 for another list
}

func (b *builder) refuse(at ast.Node, format string, args ...any) {
	if b.err != nil {
		return
	}
	line, column := place(b.source, at.Location().From)
	b.err = &Error{Source: b.source, Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
}

// unknown refuses a word and names the one that may be meant.
func (b *builder) unknown(at ast.Node, word string, known []string, format string, args ...any) {
	if b.err != nil {
		return
	}
	b.refuse(at, format+"; %s", append(args, DidYouMean(word, known))...)
	if e, ok := b.err.(*Error); ok {
		e.Unknown, e.Near = word, nearest(word, known)
	}
}

// build makes a node whose value may be wanted as a whole.
func (b *builder) build(n ast.Node) (node, Type) {
	made, typ, use := b.make(n)
	if use >= 0 {
		b.env.needWhole(use)
	}
	return made, typ
}

// nothingNode stands where an error has been found.
var nothingNode node = &constant{}

// make makes a node. use is the number of the path whose list, or a part of
// it, is the node's value, where nobody has asked for the items as a whole yet;
// -1 otherwise.
func (b *builder) make(n ast.Node) (made node, typ Type, use int) {
	use = -1
	if b.err != nil {
		return nothingNode, Type{}, use
	}
	switch n := n.(type) {
	case *ast.NilNode:
		return &constant{}, Type{}, use
	case *ast.BoolNode:
		return &constant{n.Value}, Type{Kind: Bool}, use
	case *ast.IntegerNode:
		return &constant{int64(n.Value)}, Type{Kind: Int}, use
	case *ast.StringNode:
		return &constant{n.Value}, Type{Kind: Text}, use
	case *ast.FloatNode:
		made, typ = b.decimal(n)
	case *ast.IdentifierNode, *ast.MemberNode:
		return b.access(n)
	case *ast.PointerNode:
		made, typ = b.pointer(n)
	case *ast.ChainNode:
		of, typ, use := b.make(n.Node)
		if _, ok := of.(*pathNode); ok && typ.Kind != List {
			return of, typ, use
		}
		return &chainNode{of}, typ, use
	case *ast.UnaryNode:
		made, typ = b.unary(n)
	case *ast.BinaryNode:
		made, typ = b.binary(n)
	case *ast.ConditionalNode:
		when, _ := b.build(n.Cond)
		then, typ1 := b.build(n.Exp1)
		otherwise, typ2 := b.build(n.Exp2)
		made, typ = &chooseNode{when, then, otherwise}, either(typ1, typ2)
	case *ast.ArrayNode:
		list, typ := b.all(n.Nodes)
		return fold(b, n, &listNode{list}, list...), Type{Kind: List, Elem: &typ}, use
	case *ast.MapNode:
		made, typ = b.object(n), Type{Kind: Row}
	case *ast.SequenceNode:
		list, _ := b.all(n.Nodes)
		made = &sequenceNode{list}
	case *ast.BuiltinNode:
		return b.call(n, n.Name, n.Arguments)
	case *ast.CallNode:
		id, ok := n.Callee.(*ast.IdentifierNode)
		if !ok {
			b.refuse(n, "methods are not part of expressions")
			break
		}
		return b.call(n, id.Value, n.Arguments)
	case *ast.SliceNode:
		b.refuse(n, "slices are not part of expressions")
	case *ast.VariableDeclaratorNode:
		b.refuse(n, "let is not part of expressions")
	case *ast.BytesNode:
		b.refuse(n, "bytes are not part of expressions")
	default:
		b.refuse(n, "this is not part of expressions")
	}
	if made == nil {
		made = nothingNode
	}
	return made, typ, use
}

// all makes nodes and gives the type that they have in common.
func (b *builder) all(of []ast.Node) ([]node, Type) {
	list := make([]node, len(of))
	var common Type
	for i, n := range of {
		var typ Type
		list[i], typ = b.build(n)
		if i == 0 {
			common = typ
		}
		common = either(common, typ)
	}
	return list, common
}

// either is what is known of a value that is one of two.
func either(a, b Type) Type {
	switch {
	case a.Kind != b.Kind:
		return Type{}
	case a.Kind == Amount && (a.Scale != b.Scale || a.Currency != b.Currency):
		return Type{Kind: Amount}
	case a.Kind == List || a.Kind == Row:
		return Type{Kind: a.Kind}
	}
	return a
}

func (b *builder) decimal(n *ast.FloatNode) (node, Type) {
	// The library has read the digits as a float already. Up to 15 of them come
	// back as they were written.
	text := strconv.FormatFloat(n.Value, 'f', -1, 64)
	d, err := ParseNumber(text)
	if err != nil || len(text) > 16 {
		b.refuse(n, `a number may have 15 digits; decimal("...") takes more`)
	}
	return &constant{d}, Type{Kind: Number}
}

func (b *builder) pointer(n *ast.PointerNode) (node, Type) {
	if len(b.items) == 0 {
		b.refuse(n, "# is not known outside of a list's function")
		return nothingNode, Type{}
	}
	switch n.Name {
	case "":
		it := b.items[len(b.items)-1]
		if it.use >= 0 {
			b.env.needWhole(it.use)
		}
		return itemNode{}, it.typ
	case "index":
		return positionNode{}, Type{Kind: Int}
	}
	b.refuse(n, "#%s is not part of expressions", n.Name)
	return nothingNode, Type{}
}

// access makes variables, members and items.
func (b *builder) access(n ast.Node) (node, Type, int) {
	if path, typ, ok := b.path(n); ok {
		if b.err != nil {
			return nothingNode, Type{}, -1
		}
		id := b.env.path(path)
		if !slices.ContainsFunc(b.paths, func(p Path) bool { return slices.Equal(p, path) }) {
			b.paths = append(b.paths, path)
		}
		if !slices.Contains(b.vars, path[0]) {
			b.vars = append(b.vars, path[0])
		}
		return &pathNode{path, id}, typ, id
	}
	m, ok := n.(*ast.MemberNode)
	if !ok {
		return nothingNode, Type{}, -1
	}
	name, named := m.Property.(*ast.StringNode)
	if pointer, ok := m.Node.(*ast.PointerNode); ok && named && pointer.Name == "" && len(b.items) > 0 {
		// A member of an item: the rest of the item may not be needed.
		it := b.items[len(b.items)-1]
		if it.use >= 0 {
			b.env.needField(it.use, name.Value)
		}
		return &memberNode{itemNode{}, name.Value}, b.field(m, it.typ, name.Value, "the row"), -1
	}
	from, typ := b.build(m.Node)
	if named {
		return &memberNode{from, name.Value}, b.field(m, typ, name.Value, "the row"), -1
	}
	key, _ := b.build(m.Property)
	var elem Type
	if typ.Elem != nil {
		elem = *typ.Elem
	}
	return fold(b, n, &indexNode{from, key}, from, key), elem, -1
}

// path reads a variable and the names below it; ok is false for anything else.
func (b *builder) path(n ast.Node) (Path, Type, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		typ, ok := b.env.Vars[n.Value]
		switch {
		case n.Value == "$env":
			b.refuse(n, "$env is not part of expressions")
		case !ok:
			b.unknown(n, n.Value, b.env.names(), "there is no %s here", n.Value)
		}
		return Path{n.Value}, typ, true
	case *ast.ChainNode:
		return b.path(n.Node)
	case *ast.MemberNode:
		name, ok := n.Property.(*ast.StringNode)
		if !ok {
			return nil, Type{}, false
		}
		path, typ, ok := b.path(n.Node)
		if !ok || b.err != nil {
			return path, typ, ok
		}
		typ = b.field(n, typ, name.Value, path.String())
		return append(slices.Clip(path), name.Value), typ, true
	}
	return nil, Type{}, false
}

// field gives the type of a member, and refuses one that cannot be there.
func (b *builder) field(at *ast.MemberNode, of Type, name, what string) Type {
	switch {
	case of.Kind == List:
		b.refuse(at, "%s is a list; map(%s, .%s) and first(%s) go into it", what, what, name, what)
	case of.Fields != nil:
		f, ok := of.Fields[name]
		if !ok {
			b.unknown(at, name, slices.Sorted(maps.Keys(of.Fields)), "%s has no column %q", what, name)
		}
		return f
	case of.Kind == Amount && name == "currency":
		return Type{Kind: Text}
	}
	return Type{}
}

func (b *builder) object(n *ast.MapNode) node {
	out := &objectNode{}
	for _, pair := range n.Pairs {
		p, ok := pair.(*ast.PairNode)
		if !ok {
			b.refuse(n, "this is not part of expressions")
			return nothingNode
		}
		k, _ := b.build(p.Key)
		v, _ := b.build(p.Value)
		out.keys, out.values = append(out.keys, k), append(out.values, v)
	}
	return out
}

// fold evaluates what is the same whatever it is evaluated on.
func fold(b *builder, at ast.Node, n node, of ...node) node {
	for _, part := range of {
		if _, ok := part.(*constant); !ok {
			return n
		}
	}
	if b.err != nil {
		return nothingNode
	}
	v, err := n.eval(nil, nil)
	if err != nil {
		b.refuse(at, "%s", err)
	}
	return &constant{v}
}

func kindOf(v any) Kind {
	switch v.(type) {
	case bool:
		return Bool
	case int64:
		return Int
	case money.Decimal, json.Number:
		return Number
	case money.Amount:
		return Amount
	case string:
		return Text
	case time.Time:
		return Time
	case Date:
		return Day
	case time.Duration:
		return Duration
	case []any:
		return List
	case map[string]any, Object:
		return Row
	}
	return Any
}
