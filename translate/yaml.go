package translate

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"banyan/expression"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// node is one value of the YAML file together with the field it stands in, so
// that whatever is wrong with it can be told with its place.
type node struct {
	f     *faults
	n     ast.Node
	field string
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{t.Position.Line, t.Position.Column}
}

func (v node) at() place {
	if v.n == nil {
		return place{}
	}
	if m, ok := v.n.(*ast.MappingValueNode); ok {
		return placeOf(m.Key.GetToken())
	}
	if m, ok := v.n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		return placeOf(m.Values[0].Key.GetToken())
	}
	if s, ok := v.n.(*ast.SequenceNode); ok && !s.IsFlowStyle && s.Start != nil {
		return placeOf(s.Start)
	}
	return placeOf(v.n.GetToken())
}

// fault says that the value is not what it should be.
func (v node) fault(format string, args ...any) {
	value, ok := scalar(v.n)
	if !ok {
		value = ""
	}
	v.f.add(v.at(), v.field, value, format, args...)
}

func (v node) null() bool {
	if v.n == nil {
		return true
	}
	_, ok := v.n.(*ast.NullNode)
	return ok
}

// scalar gives the text of a plain value as written.
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

func (v node) text() string {
	s, ok := scalar(v.n)
	if !ok && !v.null() {
		v.fault("want one value, not a list or a mapping")
	}
	return s
}

// name is a text that may not be empty.
func (v node) name() string {
	s := v.text()
	if s == "" {
		v.fault("want a name")
	}
	return s
}

func (v node) integer(low, high int) int {
	s, ok := scalar(v.n)
	n, err := strconv.Atoi(s)
	if !ok || err != nil || n < low || n > high {
		if high == math.MaxInt {
			v.fault("want a whole number from %d on", low)
		} else {
			v.fault("want a whole number from %d to %d", low, high)
		}
		return low
	}
	return n
}

func (v node) boolean() bool {
	b, ok := v.n.(*ast.BoolNode)
	if !ok {
		v.fault("want true or false")
		return false
	}
	return b.Value
}

func (v node) oneOf(words ...string) string {
	s := v.text()
	for _, w := range words {
		if s == w {
			return s
		}
	}
	v.fault("want %s", strings.Join(words, " or "))
	return words[0]
}

func (v node) duration() time.Duration {
	d, err := parseDuration(v.text())
	if err != nil {
		v.fault("want a duration such as 90s, 24h or 7d")
	}
	return d
}

func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, fmt.Errorf("%q is no number of days", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		return 0, fmt.Errorf("%q is negative", s)
	}
	return d, err
}

func (v node) size() int64 {
	n, err := parseSize(v.text())
	if err != nil {
		v.fault("want a size such as 512MiB, 10GiB or 1TB")
	}
	return n
}

// parseSize reads 10GiB (powers of 1024), 10GB (powers of 1000) or plain bytes.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGTPikmgtp ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no size", s)
	}
	unit, step := strings.TrimSpace(s[len(digits):]), int64(1000)
	if u, ok := strings.CutSuffix(unit, "iB"); ok {
		unit, step = u, 1024
		if u == "" {
			return 0, fmt.Errorf("%q is no size", s)
		}
	} else {
		unit = strings.TrimSuffix(unit, "B")
	}
	power := strings.Index("KMGTP", strings.ToUpper(unit)) + 1
	if unit == "" {
		power = 0
	} else if power == 0 || len(unit) != 1 {
		return 0, fmt.Errorf("%q is no size", s)
	}
	for ; power > 0; power-- {
		if n > math.MaxInt64/step {
			return 0, fmt.Errorf("%q is too large", s)
		}
		n *= step
	}
	return n, nil
}

// list gives the items of a list. A single plain value is not taken for one.
func (v node) list() []node {
	if v.null() {
		return nil
	}
	s, ok := v.n.(*ast.SequenceNode)
	if !ok {
		v.fault("want a list")
		return nil
	}
	out := make([]node, len(s.Values))
	for i, item := range s.Values {
		out[i] = node{v.f, item, fmt.Sprintf("%s[%d]", v.field, i)}
	}
	return out
}

// names gives a list of names and remembers where each stands.
func (v node) names(pos map[string]place) []string {
	var out []string
	seen := map[string]bool{}
	for _, item := range v.list() {
		s := item.name()
		if s == "" {
			continue
		}
		if seen[s] {
			item.fault("is named twice")
			continue
		}
		seen[s] = true
		out = append(out, s)
		if pos != nil {
			pos[v.last()+"."+s] = item.at()
		}
	}
	return out
}

// last is the last part of the field's path.
func (v node) last() string { return v.field[strings.LastIndexByte(v.field, '.')+1:] }

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	keyAt place
	node
}

// entries gives a mapping in the order of the file.
func (v node) entries() []entry {
	var values []*ast.MappingValueNode
	switch n := v.n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		if !v.null() {
			v.fault("want a mapping of names to values")
		}
		return nil
	}
	out := make([]entry, 0, len(values))
	for _, m := range values {
		key, ok := scalar(m.Key)
		at := placeOf(m.Key.GetToken())
		if !ok {
			v.f.add(at, v.field, "", "want a plain name as key; anchors and merge keys are not understood here")
			continue
		}
		field := key
		if v.field != "" {
			field = v.field + "." + key
		}
		out = append(out, entry{key, at, node{v.f, m.Value, field}})
	}
	return out
}

// keys reads a mapping whose keys are all known. A nil handler is never called.
func (v node) keys(handlers map[string]func(node)) map[string]place {
	pos := map[string]place{}
	var known []string
	for k := range handlers {
		known = append(known, k)
	}
	sortStrings(known)
	for _, e := range v.entries() {
		pos[e.key] = e.keyAt
		handle, ok := handlers[e.key]
		if !ok {
			v.f.add(e.keyAt, e.field, e.key, "is no key here; %s", expression.DidYouMean(e.key, known))
			continue
		}
		handle(e.node)
	}
	return pos
}
