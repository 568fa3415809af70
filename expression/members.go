package expression

import "github.com/expr-lang/expr/ast"

// Member is a member that an expression names: new.status is {"new", "status"}.
// Var is "" where the object is not a variable's own, as an item of a list.
type Member struct{ Var, Name string }

// Members lists what an expression names, inner members first, before anything
// is known of its variables: for callers that must decide from it what they
// keep. An error is one of parsing, an *Error.
func Members(source string) ([]Member, error) {
	tree, err := parse(source)
	if err != nil {
		return nil, err
	}
	var out []Member
	ast.Walk(&tree.Node, visit(func(n ast.Node) {
		m, ok := n.(*ast.MemberNode)
		if !ok {
			return
		}
		name, ok := m.Property.(*ast.StringNode)
		if !ok {
			return
		}
		found := Member{Name: name.Value}
		if id, ok := m.Node.(*ast.IdentifierNode); ok {
			found.Var = id.Value
		}
		out = append(out, found)
	}))
	return out, nil
}
