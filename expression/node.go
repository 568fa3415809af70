package expression

import (
	"errors"
	"fmt"
)

// node is one part of a compiled expression. Nodes are never changed once they
// are built. at is the item of the innermost list that is being gone through,
// nil outside.
type node interface {
	eval(in Input, at *cursor) (any, error)
}

// maxVisits bounds the items that nested loops may go through in one
// evaluation, so that every expression ends in a time that somebody can wait.
const maxVisits = 10_000_000

var errVisits = errors.New("more than 10 million items are gone through, one list within another")

// cursor is the place in a list.
type cursor struct {
	item   any
	index  int64
	root   *cursor // of the outermost list, which counts
	visits int
}

func (c *cursor) next(item any, index int) error {
	c.item, c.index = item, int64(index)
	if c.root.visits++; c.root.visits > maxVisits {
		return errVisits
	}
	return nil
}

func within(at *cursor) *cursor {
	c := &cursor{}
	if c.root = c; at != nil {
		c.root = at.root
	}
	return c
}

func truth(n node, in Input, at *cursor) (bool, error) {
	v, err := n.eval(in, at)
	b, _ := v.(bool)
	return b, err
}

type constant struct{ value any }

func (n *constant) eval(Input, *cursor) (any, error) { return n.value, nil }

type pathNode struct {
	path Path
	id   int
}

func (n *pathNode) eval(in Input, _ *cursor) (any, error) { return in.Value(n.path, n.id) }

// memberNode is .name of a value that is no path.
type memberNode struct {
	from node
	name string
}

func (n *memberNode) eval(in Input, at *cursor) (any, error) {
	v, err := n.from.eval(in, at)
	if err != nil || v == nil {
		return nil, err
	}
	return member(v, n.name)
}

type indexNode struct{ from, key node }

func (n *indexNode) eval(in Input, at *cursor) (any, error) {
	v, err := n.from.eval(in, at)
	if err != nil {
		return nil, err
	}
	key, err := n.key.eval(in, at)
	if err != nil {
		return nil, err
	}
	if name, ok := key.(string); ok {
		return member(v, name)
	}
	return element(v, key), nil
}

type itemNode struct{}

func (itemNode) eval(_ Input, at *cursor) (any, error) { return at.item, nil }

// conditionNode is an item that must be a condition itself.
type conditionNode struct{}

func (conditionNode) eval(_ Input, at *cursor) (any, error) {
	if !fits(at.item, Bool) {
		return nil, fmt.Errorf("count() of a list that holds %s, want conditions; len() counts all items", describe(at.item))
	}
	return at.item, nil
}

type positionNode struct{}

func (positionNode) eval(_ Input, at *cursor) (any, error) { return at.index, nil }

// chainNode is what `?.` makes: a list that is not there is NULL.
type chainNode struct{ of node }

func (n *chainNode) eval(in Input, at *cursor) (any, error) {
	v, err := n.of.eval(in, at)
	if err != nil || isNull(v) {
		return nil, err
	}
	return v, nil
}

func isNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return v == nil
	case map[string]any:
		return v == nil
	}
	return false
}

type notNode struct{ of node }

func (n *notNode) eval(in Input, at *cursor) (any, error) {
	b, err := truth(n.of, in, at)
	return !b, err
}

// logicNode is and, or: it stops at the left side where that decides.
type logicNode struct {
	or          bool
	left, right node
}

func (n *logicNode) eval(in Input, at *cursor) (any, error) {
	b, err := truth(n.left, in, at)
	if err != nil || b == n.or {
		return b, err
	}
	b, err = truth(n.right, in, at)
	return b, err
}

type chooseNode struct{ when, then, otherwise node }

func (n *chooseNode) eval(in Input, at *cursor) (any, error) {
	b, err := truth(n.when, in, at)
	if err != nil {
		return nil, err
	}
	if b {
		return n.then.eval(in, at)
	}
	return n.otherwise.eval(in, at)
}

// coalesceNode is ?? and coalesce(): the first that is not NULL.
type coalesceNode struct{ of []node }

func (n *coalesceNode) eval(in Input, at *cursor) (any, error) {
	for i, of := range n.of {
		v, err := of.eval(in, at)
		if err != nil || i == len(n.of)-1 || !isNull(v) {
			return v, err
		}
	}
	return nil, nil
}

type sequenceNode struct{ of []node }

func (n *sequenceNode) eval(in Input, at *cursor) (v any, err error) {
	for _, of := range n.of {
		if v, err = of.eval(in, at); err != nil {
			return nil, err
		}
	}
	return v, nil
}

type unaryNode struct {
	run func(x any) (any, error)
	of  node
}

func (n *unaryNode) eval(in Input, at *cursor) (any, error) {
	v, err := n.of.eval(in, at)
	if err != nil {
		return nil, err
	}
	return n.run(v)
}

type binaryNode struct {
	run         func(x, y any) (any, error)
	left, right node
}

func (n *binaryNode) eval(in Input, at *cursor) (any, error) {
	x, err := n.left.eval(in, at)
	if err != nil {
		return nil, err
	}
	y, err := n.right.eval(in, at)
	if err != nil {
		return nil, err
	}
	return n.run(x, y)
}

// callNode is a function of the language with any number of arguments.
type callNode struct {
	run func(args []any) (any, error)
	of  []node
}

func (n *callNode) eval(in Input, at *cursor) (any, error) {
	args, err := evalAll(n.of, in, at)
	if err != nil {
		return nil, err
	}
	return n.run(args)
}

func evalAll(of []node, in Input, at *cursor) ([]any, error) {
	args := make([]any, len(of))
	for i, n := range of {
		var err error
		if args[i], err = n.eval(in, at); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// foreignNode is a function of the caller's.
type foreignNode struct {
	name   string
	params []Kind
	run    func(in Input, args []any) (any, error)
	of     []node
}

func (n *foreignNode) eval(in Input, at *cursor) (any, error) {
	args, err := evalAll(n.of, in, at)
	if err != nil {
		return nil, err
	}
	for i, v := range args {
		if k := n.params[min(i, len(n.params)-1)]; !fits(v, k) {
			return nil, fmt.Errorf("%s(): argument %d is %s, want %s", n.name, i+1, describe(v), k)
		}
	}
	v, err := n.run(in, args)
	if err != nil {
		return nil, fmt.Errorf("%s(): %w", n.name, err)
	}
	return v, nil
}

type listNode struct{ of []node }

func (n *listNode) eval(in Input, at *cursor) (any, error) {
	list, err := evalAll(n.of, in, at)
	if err != nil {
		return nil, err
	}
	return list, nil
}

type objectNode struct{ keys, values []node }

func (n *objectNode) eval(in Input, at *cursor) (any, error) {
	out := make(map[string]any, len(n.keys))
	for i := range n.keys {
		k, err := n.keys[i].eval(in, at)
		if err != nil {
			return nil, err
		}
		name, ok := k.(string)
		if !ok {
			return nil, fmt.Errorf("the name of a member is %s, want a text", describe(k))
		}
		if out[name], err = n.values[i].eval(in, at); err != nil {
			return nil, err
		}
	}
	return out, nil
}
