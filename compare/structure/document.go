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
type digest [sha256.Size]byte

// node is one JSON value with what the rules say of its place.
type node struct {
	kind     kind
	json     string   // of a scalar, as written; a string without needless escapes
	value    string   // of a string
	number   decimal  // of a number, of money, and of a string that is a number
	currency string   // of money
	names    []string // of an object, sorted
	kids     []*node  // by names, or in the order of the list
	digest   digest   // of what is compared
	whole    digest   // of everything

	ignored *rule // nil: compared
	limit   *rule
	list    *rule
	mapped  bool
	isMoney bool
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
	dec *json.Decoder
	doc *Document
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
		n.kind, n.json = null, "null"
	case bool:
		n.kind, n.json = boolean, strconv.FormatBool(t)
	case json.Number:
		n.kind, n.json, n.number = number, t.String(), parseDecimal(t.String())
	case string:
		n.kind, n.json, n.value, n.number = text, quote(t), t, parseDecimal(t)
	case json.Delim:
		if t == '{' {
			err = p.members(n, under, depth)
		} else {
			err = p.elements(n, under, depth)
		}
	}
	p.doc.by.seal(n)
	return n, err
}

// mark notes what the rules say of this place.
func (p *parser) mark(n *node, matched []*rule) {
	for _, r := range matched {
		p.doc.uses[r.number].Matched++
		switch r.kind {
		case ignoring:
			first(&n.ignored, r)
		case tolerating:
			first(&n.limit, r)
		case listing:
			first(&n.list, r)
		case mapping:
			n.mapped = true
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
		n.money()
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

// money recognises {"amount": 2550, "scale": 3, "currency": "GBP"}.
func (n *node) money() {
	if !slices.Equal(n.names, []string{"amount", "currency", "scale"}) {
		return
	}
	amount, currency, scale := n.kids[0], n.kids[1], n.kids[2]
	const largestScale = 18 // of package money
	s, err := strconv.Atoi(scale.json)
	if amount.kind != number || currency.kind != text || scale.kind != number || err != nil || s < 0 || s > largestScale ||
		strings.ContainsAny(amount.json, ".eE") {
		return
	}
	n.isMoney, n.number, n.currency = true, amount.number.shift(s), currency.value
}

// kid is the member of that name, nil where there is none.
func (n *node) kid(name string) *node {
	if i, ok := slices.BinarySearch(n.names, name); ok && n.kind == object {
		return n.kids[i]
	}
	return nil
}

// seal works out the digests of a node whose kids have theirs.
func (c *Comparer) seal(n *node) {
	n.digest = c.sum(n, func(kid *node) (digest, bool) { return kid.digest, kid.ignored == nil })
	n.whole = n.digest
	if slices.ContainsFunc(n.kids, func(kid *node) bool { return kid.ignored != nil || kid.whole != kid.digest }) {
		n.whole = c.sum(n, func(kid *node) (digest, bool) { return kid.whole, true })
	}
	if n.ignored != nil {
		n.digest = digest{} // all that is ignored is alike: in a list, none of it moves
	}
}

// sum gives equal digests to equal values; of says what a kid adds, if anything.
func (c *Comparer) sum(n *node, of func(kid *node) (digest, bool)) digest {
	switch {
	case n.isMoney && !c.strict:
		return sha256.Sum256([]byte("money " + n.number.canonical() + " " + n.currency))
	case n.kind == number && n.number.valid && !c.strict:
		return sha256.Sum256([]byte("number " + n.number.canonical()))
	case n.kind == text:
		return sha256.Sum256([]byte("string " + n.value))
	case n.kind != object && n.kind != list:
		return sha256.Sum256([]byte("as is " + n.json))
	}
	parts := make([][]byte, 0, len(n.kids))
	for i, kid := range n.kids {
		d, counts := of(kid)
		if !counts {
			continue
		}
		part := d[:]
		if n.kind == object {
			part = append([]byte(strconv.Quote(n.names[i])), part...)
		}
		parts = append(parts, part)
	}
	if n.list != nil {
		slices.SortFunc(parts, bytes.Compare)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d of %d:", n.kind, len(parts))
	for _, part := range parts {
		h.Write(part)
	}
	return digest(h.Sum(nil))
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
		b.WriteString(n.json)
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
