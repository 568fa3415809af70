package structure

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Document is a JSON text that a Comparer has read, by its rules. It does not
// change.
type Document struct {
	root *node
	by   *Comparer
	uses []Use
}

type kind int

const (
	null kind = iota
	boolean
	number
	text
	object
	list
)

// digest stands for a value: where two are equal, there is nothing to look at.
// It is half a SHA-256.
type digest [16]byte

// node is one JSON value with what the rules say of its place. An answer of a
// megabyte has half a million: what few of them have is behind pointers.
type node struct {
	kind   kind
	value  string   // of a string, decoded; of other scalars, as written
	names  []string // of an object, sorted
	kids   []*node  // by names, or in the order of the list
	digest digest   // of what is compared
	whole  digest   // of everything
	money  *sum     // nil where it is none
	marks  *marks   // nil where no rule speaks of the place
}

// sum is an amount of money.
type sum struct {
	amount   decimal
	currency string
}

// marks are the rules that hold at a place.
type marks struct {
	ignored, limit, list *rule
	mapped               bool
}

var unmarked marks

// by is what the rules say.
func (n *node) by() *marks {
	if n.marks == nil {
		return &unmarked
	}
	return n.marks
}

// number is the number that a value is: a number, money, or a string of one.
func (n *node) number() decimal {
	switch {
	case n.money != nil:
		return n.money.amount
	case n.kind == number || n.kind == text:
		return parseDecimal(n.value)
	}
	return decimal{}
}

// Parse reads one JSON text. It fails on what is no JSON, or more than one, on
// bytes that are not UTF-8, on a member that is there twice (readers disagree
// on which holds), and on nesting deeper than MaxDepth.
func (c *Comparer) Parse(b []byte) (*Document, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("it is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	d := &Document{by: c, uses: c.Rules()}
	p := &parser{dec: dec, doc: d}
	var under []follow
	var matched []*rule
	for _, r := range c.rules {
		if len(r.segments) == 0 {
			matched = append(matched, r)
			continue
		}
		under = append(under, follow{r, 0})
	}
	root, err := p.value(under, matched, 0)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("at byte %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("at byte %d: more follows after the end", dec.InputOffset())
	}
	d.root = root
	return d, nil
}

type parser struct {
	dec    *json.Decoder
	doc    *Document
	buffer []byte // of sum
}

// value reads the next value, at which the rules under are under way and matched
// have ended.
func (p *parser) value(under []follow, matched []*rule, depth int) (*node, error) {
	t, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	if depth > MaxDepth {
		return nil, fmt.Errorf("it is nested deeper than %d", MaxDepth)
	}
	n := &node{}
	p.mark(n, matched)
	switch t := t.(type) {
	case nil:
		n.kind, n.value = null, "null"
	case bool:
		n.kind, n.value = boolean, strconv.FormatBool(t)
	case json.Number:
		n.kind, n.value = number, t.String()
	case string:
		n.kind, n.value = text, t
	case json.Delim:
		if t == '{' {
			err = p.members(n, under, depth)
		} else {
			err = p.elements(n, under, depth)
		}
	}
	p.seal(n)
	return n, err
}

// mark notes what the rules say of this place.
func (p *parser) mark(n *node, matched []*rule) {
	for _, r := range matched {
		p.doc.uses[r.number].Matched++
		if n.marks == nil {
			n.marks = &marks{}
		}
		switch r.kind {
		case ignoring:
			first(&n.marks.ignored, r)
		case tolerating:
			first(&n.marks.limit, r)
		case listing:
			first(&n.marks.list, r)
		case mapping:
			n.marks.mapped = true
		}
	}
}

func first(at **rule, r *rule) {
	if *at == nil || r.number < (*at).number {
		*at = r
	}
}

func (p *parser) members(n *node, under []follow, depth int) error {
	n.kind = object
	ruled := false
	found := map[string]*node{}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok {
			return fmt.Errorf("%v is no name of a member", t)
		}
		if found[name] != nil {
			return fmt.Errorf("the member %.60q is there twice", name)
		}
		next, matched := step(under, member, name)
		kid, err := p.value(next, matched, depth+1)
		if err != nil {
			return err
		}
		ruled = ruled || len(matched) > 0
		found[name] = kid
		n.names = append(n.names, name)
	}
	slices.Sort(n.names)
	for _, name := range n.names {
		n.kids = append(n.kids, found[name])
	}
	if !ruled { // a rule about a part of it needs the parts
		n.readMoney()
	}
	_, err := p.dec.Token()
	return err
}

func (p *parser) elements(n *node, under []follow, depth int) error {
	n.kind = list
	for i := 0; p.dec.More(); i++ {
		name := ""
		if len(under) > 0 {
			name = strconv.Itoa(i)
		}
		next, matched := step(under, element, name)
		kid, err := p.value(next, matched, depth+1)
		if err != nil {
			return err
		}
		n.kids = append(n.kids, kid)
	}
	_, err := p.dec.Token()
	return err
}

// readMoney recognises {"amount": 2550, "scale": 3, "currency": "GBP"}.
func (n *node) readMoney() {
	if !slices.Equal(n.names, []string{"amount", "currency", "scale"}) {
		return
	}
	amount, currency, scale := n.kids[0], n.kids[1], n.kids[2]
	const largestScale = 18 // of package money
	s, err := strconv.Atoi(scale.value)
	if amount.kind != number || currency.kind != text || scale.kind != number || err != nil || s < 0 || s > largestScale ||
		strings.ContainsAny(amount.value, ".eE") {
		return
	}
	n.money = &sum{amount.number().shift(s), currency.value}
}

// kid is the member of that name, nil where there is none.
func (n *node) kid(name string) *node {
	if i, ok := slices.BinarySearch(n.names, name); ok && n.kind == object {
		return n.kids[i]
	}
	return nil
}

// seal works out the digests of a node whose kids have theirs.
func (p *parser) seal(n *node) {
	n.digest = p.sum(n, false)
	n.whole = n.digest
	if slices.ContainsFunc(n.kids, func(kid *node) bool { return kid.by().ignored != nil || kid.whole != kid.digest }) {
		n.whole = p.sum(n, true)
	}
	if n.by().ignored != nil {
		n.digest = digest{} // all that is ignored is alike: in a list, none of it moves
	}
}

// sum gives equal digests to equal values, with or without what is ignored.
func (p *parser) sum(n *node, whole bool) digest {
	b := append(p.buffer[:0], byte(n.kind))
	switch {
	case n.money != nil && !p.doc.by.strict:
		b = append(append(b, "money "...), n.money.amount.canonical()...)
		b = append(append(b, ' '), n.money.currency...)
	case n.kind == number:
		d := n.number()
		if p.doc.by.strict || !d.valid {
			b = append(append(b, '='), n.value...)
		} else {
			b = append(b, d.canonical()...)
		}
	case n.kind != object && n.kind != list:
		b = append(b, n.value...)
	default:
		b = p.parts(b, n, whole)
	}
	p.buffer = b
	full := sha256.Sum256(b)
	return digest(full[:len(digest{})])
}

// parts appends what an object or list is made of; where the order says nothing,
// in one that does not depend on it.
func (p *parser) parts(b []byte, n *node, whole bool) []byte {
	var sorted []digest
	for i, kid := range n.kids {
		d := kid.digest
		switch {
		case whole:
			d = kid.whole
		case kid.by().ignored != nil:
			continue
		}
		switch {
		case n.kind == object:
			b = append(strconv.AppendQuote(b, n.names[i]), d[:]...)
		case n.by().list != nil:
			sorted = append(sorted, d)
		default:
			b = append(b, d[:]...)
		}
	}
	slices.SortFunc(sorted, func(x, y digest) int { return bytes.Compare(x[:], y[:]) })
	for _, d := range sorted {
		b = append(b, d[:]...)
	}
	return b
}

func quote(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return strconv.Quote(s) // a string always encodes
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// instant reads an RFC 3339 time.
func (n *node) instant() (time.Time, bool) {
	const longest = 64
	if n.kind != text || len(n.value) > longest {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, n.value)
	return t, err == nil
}

// longestValue is what is shown of a value.
const longestValue = 200

// String is the value as JSON, cut to what can be shown; "" of nothing.
func (n *node) String() string {
	var b strings.Builder
	n.write(&b)
	s := b.String()
	if len(s) <= longestValue {
		return s
	}
	cut := longestValue
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// write stops when b has more than anybody will see.
func (n *node) write(b *strings.Builder) {
	if n == nil || b.Len() > longestValue {
		return
	}
	if n.kind != object && n.kind != list {
		s := n.value
		if n.kind == text {
			const enough = 2 * longestValue // quoting makes nothing shorter
			s = quote(strings.ToValidUTF8(s[:min(len(s), enough)], ""))
		}
		b.WriteString(s)
		return
	}
	open, end := "{", "}"
	if n.kind == list {
		open, end = "[", "]"
	}
	b.WriteString(open)
	for i, kid := range n.kids {
		if b.Len() > longestValue {
			break
		}
		if i > 0 {
			b.WriteString(",")
		}
		if n.kind == object {
			b.WriteString(quote(n.names[i]) + ":")
		}
		kid.write(b)
	}
	b.WriteString(end)
}
