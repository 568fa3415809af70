package translate

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"banyan/expression"
	"banyan/internal/document"
)

// node is one value of the YAML file together with the field it stands in.
type node struct {
	f *faults
	document.Node
	field string
}

func nodeOf(f *faults, v document.Node) node { return node{f, v, v.Field()} }

func (v node) at() place { return v.At() }

// fault says that the value is not what it should be.
func (v node) fault(format string, args ...any) { v.Fault(format, args...) }

func (v node) null() bool { return v.Null() }

func (v node) text() string {
	s, ok := v.Scalar()
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
	s, ok := v.Scalar()
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
	b, ok := v.Bool()
	if !ok {
		v.fault("want true or false")
	}
	return b
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
	d, err := document.Duration(v.text())
	if err != nil {
		v.fault("want a duration such as 90s, 24h or 7d")
	}
	return d
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
	items, ok := v.List()
	if !ok {
		v.fault("want a list")
	}
	out := make([]node, len(items))
	for i, item := range items {
		out[i] = nodeOf(v.f, item)
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
	all, ok := v.Entries()
	if !ok && !v.null() {
		v.fault("want a mapping of names to values")
	}
	out := make([]entry, len(all))
	for i, e := range all {
		out[i] = entry{e.Key, e.KeyAt, nodeOf(v.f, e.Node)}
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
	slices.Sort(known)
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
