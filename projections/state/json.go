package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON in a row has one canonical form, so that equal documents are equal bytes
// wherever they come from: no spaces, the members of an object sorted by name and
// each once (the last one wins, as in jsonb), text unescaped as far as it may be,
// numbers without exponents and otherwise digit for digit. What jsonb would refuse
// is refused here, when the row is put.

// maxDepth bounds how deep JSON may nest; Postgres' own bound depends on its stack.
const maxDepth = 500

// jsonError says what is wrong with JSON, and at which byte.
type jsonError struct {
	at     int
	reason string
}

func (e *jsonError) Error() string { return fmt.Sprintf("%s, at byte %d", e.reason, e.at) }

// canonicals lends the parsers their scratch memory.
var canonicals = sync.Pool{New: func() any { return new(canonicalizer) }}

// canonicalJSON gives the canonical form: raw itself where it has it already.
func canonicalJSON(raw json.RawMessage) (json.RawMessage, error) {
	c := canonicals.Get().(*canonicalizer)
	defer canonicals.Put(c)
	c.in, c.at, c.out, c.members = raw, 0, c.out[:0], c.members[:0]
	err := c.document()
	c.in = nil
	if err != nil {
		return nil, err
	}
	// A slice of a larger buffer would keep all of that alive.
	if bytes.Equal(c.out, raw) && cap(raw) <= len(raw)+64 {
		return raw, nil
	}
	return bytes.Clone(c.out), nil
}

// canonicalizer reads JSON and writes its canonical form in one pass.
type canonicalizer struct {
	in      []byte
	at      int
	out     []byte
	members []member // of the objects that are open, innermost last
	spare   []byte
}

// member is one of an object, by its places in out: its name with the quotes,
// and the whole of it.
type member struct{ from, nameEnd, end int }

func (c *canonicalizer) fail(reason string) error { return &jsonError{c.at, reason} }

func (c *canonicalizer) document() error {
	if err := c.value(0); err != nil {
		return err
	}
	if c.space(); c.at < len(c.in) {
		return c.fail("something follows")
	}
	return nil
}

func (c *canonicalizer) space() {
	for c.at < len(c.in) {
		switch c.in[c.at] {
		case ' ', '\t', '\n', '\r':
			c.at++
		default:
			return
		}
	}
}

// next skips space and gives the byte there, 0 at the end.
func (c *canonicalizer) next() byte {
	c.space()
	if c.at == len(c.in) {
		return 0
	}
	return c.in[c.at]
}

func (c *canonicalizer) value(depth int) error {
	if depth > maxDepth {
		return c.fail(fmt.Sprintf("it is nested more than %d deep", maxDepth))
	}
	switch b := c.next(); {
	case b == '{':
		return c.object(depth)
	case b == '[':
		return c.list(depth)
	case b == '"':
		return c.text()
	case b == '-' || b >= '0' && b <= '9':
		return c.number()
	case b == 't':
		return c.word("true")
	case b == 'f':
		return c.word("false")
	case b == 'n':
		return c.word("null")
	}
	return c.fail("a value is missing")
}

func (c *canonicalizer) word(w string) error {
	if len(c.in)-c.at < len(w) || string(c.in[c.at:c.at+len(w)]) != w {
		return c.fail("a value is missing")
	}
	c.at += len(w)
	c.out = append(c.out, w...)
	return nil
}

func (c *canonicalizer) list(depth int) error {
	c.at++
	c.out = append(c.out, '[')
	if c.next() == ']' {
		c.at++
		c.out = append(c.out, ']')
		return nil
	}
	for {
		if err := c.value(depth + 1); err != nil {
			return err
		}
		b := c.next()
		if b != ',' && b != ']' {
			return c.fail("a comma or ] is missing")
		}
		c.at++
		c.out = append(c.out, b)
		if b == ']' {
			return nil
		}
	}
}

func (c *canonicalizer) object(depth int) error {
	c.at++
	c.out = append(c.out, '{')
	first, begin := len(c.members), len(c.out)
	defer func() { c.members = c.members[:first] }()
	if c.next() == '}' {
		c.at++
		c.out = append(c.out, '}')
		return nil
	}
	sorted := true
	for {
		if c.next() != '"' {
			return c.fail("a name in quotes is missing")
		}
		m := member{from: len(c.out)}
		if err := c.text(); err != nil {
			return err
		}
		m.nameEnd = len(c.out)
		if c.next() != ':' {
			return c.fail("a colon is missing")
		}
		c.at++
		c.out = append(c.out, ':')
		if err := c.value(depth + 1); err != nil {
			return err
		}
		m.end = len(c.out)
		if n := len(c.members); n > first && bytes.Compare(c.name(c.members[n-1]), c.name(m)) >= 0 {
			sorted = false
		}
		c.members = append(c.members, m)
		b := c.next()
		if b != ',' && b != '}' {
			return c.fail("a comma or } is missing")
		}
		c.at++
		c.out = append(c.out, b)
		if b == '}' {
			break
		}
	}
	if !sorted {
		c.sort(c.members[first:], begin)
	}
	return nil
}

func (c *canonicalizer) name(m member) []byte { return c.out[m.from+1 : m.nameEnd-1] }

// sort writes the members of the object that begins at begin in order; of those
// with one name the last stays.
func (c *canonicalizer) sort(members []member, begin int) {
	slices.SortStableFunc(members, func(a, b member) int { return bytes.Compare(c.name(a), c.name(b)) })
	c.spare = c.spare[:0]
	for i, m := range members {
		if i+1 < len(members) && bytes.Equal(c.name(m), c.name(members[i+1])) {
			continue
		}
		if len(c.spare) > 0 {
			c.spare = append(c.spare, ',')
		}
		c.spare = append(c.spare, c.out[m.from:m.end]...)
	}
	c.out = append(append(c.out[:begin], c.spare...), '}')
}

// text reads a string; out gets it in quotes.
func (c *canonicalizer) text() error {
	c.at++
	c.out = append(c.out, '"')
	for {
		// Most text needs nothing: copy it in runs.
		run := c.at
		for c.at < len(c.in) && c.in[c.at] >= ' ' && c.in[c.at] < utf8.RuneSelf && c.in[c.at] != '"' && c.in[c.at] != '\\' {
			c.at++
		}
		c.out = append(c.out, c.in[run:c.at]...)
		if c.at == len(c.in) {
			return c.fail("a quote is missing")
		}
		switch b := c.in[c.at]; {
		case b == '"':
			c.at++
			c.out = append(c.out, '"')
			return nil
		case b == '\\':
			if err := c.escape(); err != nil {
				return err
			}
		case b < ' ':
			return c.fail("a control character stands in a text")
		default:
			r, n := utf8.DecodeRune(c.in[c.at:])
			if r == utf8.RuneError && n == 1 {
				return c.fail("it is no valid UTF-8")
			}
			c.out = append(c.out, c.in[c.at:c.at+n]...)
			c.at += n
		}
	}
}

func (c *canonicalizer) escape() error {
	if c.at+1 == len(c.in) {
		return c.fail("a quote is missing")
	}
	b := c.in[c.at+1]
	switch b {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		c.out = append(c.out, '\\', b)
	case '/':
		c.out = append(c.out, '/')
	case 'u':
		return c.unicode()
	default:
		return c.fail(`no such escape: \` + string(rune(b)))
	}
	c.at += 2
	return nil
}

// unicode reads \uXXXX, two of them where they make one character.
func (c *canonicalizer) unicode() error {
	r, ok := c.hex4(c.at)
	if !ok {
		return c.fail(`\u wants four hexadecimal digits`)
	}
	n := 6
	if utf16.IsSurrogate(r) {
		low, _ := c.hex4(c.at + 6)
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return c.fail("half of a surrogate pair is missing")
		}
		n = 12
	}
	if r == 0 {
		return c.fail(`Postgres holds no text with the character \u0000`)
	}
	c.out = appendJSONRune(c.out, r)
	c.at += n
	return nil
}

func (c *canonicalizer) hex4(at int) (rune, bool) {
	if len(c.in) < at+6 || c.in[at] != '\\' || c.in[at+1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(c.in[at+2:at+6]), 16, 16)
	return rune(n), err == nil
}

func appendJSONRune(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	if r < ' ' {
		return fmt.Appendf(dst, `\u%04x`, r)
	}
	return utf8.AppendRune(dst, r)
}
