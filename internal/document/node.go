package document

import (
	"errors"
	"fmt"
	"strings"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile bounds what is read, in bytes: nobody writes more by hand.
const maxFile = 1 << 20

// Node is one value of a file together with the field it stands in. The zero
// Node is a value that is missing.
type Node struct {
	faults *Collector
	n      ast.Node
	field  string
}

// Parse reads a file of one YAML document. What is no YAML is noted in c; ok is
// false then.
func Parse(c *Collector, text []byte) (root Node, ok bool) {
	if len(text) > maxFile {
		c.Add(Place{}, "file", "", "has %d bytes; want at most %d", len(text), maxFile)
		return Node{}, false
	}
	file, err := parse(text)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			c.Add(placeOf(syntax.GetToken()), "file", "", "is not YAML: %s", firstLine(syntax.GetMessage()))
		} else {
			c.Add(Place{}, "file", "", "is not YAML: %s", firstLine(err.Error()))
		}
		return Node{}, false
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		c.Add(Place{1, 1}, "file", "", "want one YAML document")
		return Node{}, false
	}
	return Node{c, file.Docs[0].Body, ""}, true
}

// parse keeps what the YAML library does with odd input within bounds.
func parse(text []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			file, err = nil, fmt.Errorf("the parser cannot read it: %v", p)
		}
	}()
	return parser.ParseBytes(text, 0)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func placeOf(t *token.Token) Place {
	if t == nil || t.Position == nil {
		return Place{}
	}
	return Place{t.Position.Line, t.Position.Column}
}

// At says where the value stands.
func (v Node) At() Place {
	switch n := v.n.(type) {
	case nil:
		return Place{}
	case *ast.MappingValueNode:
		return placeOf(n.Key.GetToken())
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return placeOf(n.Values[0].Key.GetToken())
		}
	case *ast.SequenceNode:
		if !n.IsFlowStyle && n.Start != nil {
			return placeOf(n.Start)
		}
	}
	return placeOf(v.n.GetToken())
}

// Field is the path of the value: "tables.lines.columns".
func (v Node) Field() string { return v.field }

// Fault says that the value is not what it should be.
func (v Node) Fault(format string, args ...any) {
	value, _ := v.Scalar()
	v.faults.Add(v.At(), v.field, value, format, args...)
}

// Warn says something about the value that somebody should know.
func (v Node) Warn(format string, args ...any) {
	value, _ := v.Scalar()
	v.faults.Warn(v.At(), v.field, value, format, args...)
}

// Null says whether there is no value.
func (v Node) Null() bool {
	if v.n == nil {
		return true
	}
	_, ok := v.n.(*ast.NullNode)
	return ok
}

// Scalar gives the text of a plain value as written; ok is false for anything
// else.
func (v Node) Scalar() (text string, ok bool) { return scalar(v.n) }

func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value), true
	case *ast.IntegerNode:
		return n.Token.Value, true
	case *ast.FloatNode:
		return n.Token.Value, true
	case *ast.BoolNode:
		return n.Token.Value, true
	}
	return "", false
}

// Text is Scalar without its ok.
func (v Node) Text() string {
	s, _ := v.Scalar()
	return s
}

// Plain says whether the value is a number, true or false, and no text: 3 is,
// "3" is not.
func (v Node) Plain() bool {
	switch v.n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return true
	}
	return false
}

// Bool reads true and false; ok is false for anything else.
func (v Node) Bool() (is, ok bool) {
	b, ok := v.n.(*ast.BoolNode)
	return ok && b.Value, ok
}

// List gives the items of a list; ok is false for anything else.
func (v Node) List() (items []Node, ok bool) {
	s, ok := v.n.(*ast.SequenceNode)
	if !ok {
		return nil, false
	}
	items = make([]Node, len(s.Values))
	for i, item := range s.Values {
		items[i] = Node{v.faults, item, fmt.Sprintf("%s[%d]", v.field, i)}
	}
	return items, true
}

// Entry is one key of a mapping with its value.
type Entry struct {
	Key   string
	KeyAt Place
	Node
}

// Entries gives a mapping in the order of the file; ok is false for anything
// else. A key that is no plain name is noted as a fault.
func (v Node) Entries() (entries []Entry, ok bool) {
	var values []*ast.MappingValueNode
	switch n := v.n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		return nil, false
	}
	entries = make([]Entry, 0, len(values))
	for _, m := range values {
		key, ok := scalar(m.Key)
		at := placeOf(m.Key.GetToken())
		if !ok {
			v.faults.Add(at, v.field, "", "want a plain name as key; anchors and merge keys are not understood here")
			continue
		}
		field := key
		if v.field != "" {
			field = v.field + "." + key
		}
		entries = append(entries, Entry{key, at, Node{v.faults, m.Value, field}})
	}
	return entries, true
}

// Get gives the value under a key of a mapping; a missing Node where there is
// none.
func (v Node) Get(key string) Node {
	entries, _ := v.Entries()
	for _, e := range entries {
		if e.Key == key {
			return e.Node
		}
	}
	return Node{faults: v.faults, field: v.field}
}

// FaultOf says that a part of the value is not what it should be.
func (v Node) FaultOf(part, format string, args ...any) {
	v.faults.Add(v.At(), v.field, part, format, args...)
}

// WarnOf says something about a part of the value that somebody should know.
func (v Node) WarnOf(part, format string, args ...any) {
	v.faults.Warn(v.At(), v.field, part, format, args...)
}
