package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// maxDepth bounds the nesting of a state, so that no record can exhaust the
// stack.
const maxDepth = 1000

var errJSON = errors.New("not JSON")

// stateHash stands for the canonical form of a state.
type stateHash [16]byte

// hashState gives the hash of a state in canonical form; buf is scratch space
// that is returned for the next call.
func hashState(state, buf []byte) (h stateHash, canon []byte, err error) {
	canon, err = canonical(buf[:0], state)
	if err != nil {
		return h, buf, err
	}
	sum := sha256.Sum256(canon)
	return stateHash(sum[:16]), canon, nil
}

// canonical appends the one form of a JSON value: members sorted by name, no
// space, no needless escape in a string. Numbers stay as they are written:
// 1.50 and 1.5 are not the same price tag.
func canonical(dst, src []byte) ([]byte, error) {
	p := parser{b: src}
	dst, err := p.value(dst, 0)
	if err != nil {
		return dst, err
	}
	if p.space(); p.i != len(p.b) {
		return dst, p.bad("something follows the value")
	}
	return dst, nil
}

type parser struct {
	b []byte
	i int
}

func (p *parser) bad(what string) error { return fmt.Errorf("%w at byte %d: %s", errJSON, p.i, what) }

func (p *parser) space() {
	for p.i < len(p.b) && (p.b[p.i] == ' ' || p.b[p.i] == '\n' || p.b[p.i] == '\t' || p.b[p.i] == '\r') {
		p.i++
	}
}

// next skips space and gives the next byte without taking it, 0 at the end.
func (p *parser) next() byte {
	if p.space(); p.i < len(p.b) {
		return p.b[p.i]
	}
	return 0
}

func (p *parser) value(dst []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return dst, p.bad("nested too deeply")
	}
	switch c := p.next(); c {
	case '{':
		return p.object(dst, depth)
	case '[':
		return p.array(dst, depth)
	case '"':
		return p.text(dst)
	case 0:
		return dst, p.bad("a value is missing")
	}
	from := p.i
	for p.i < len(p.b) && !bytes.ContainsRune([]byte(" \n\t\r,:]}{[\""), rune(p.b[p.i])) {
		p.i++
	}
	if from == p.i {
		return dst, p.bad("a value is missing")
	}
	return append(dst, p.b[from:p.i]...), nil
}

func (p *parser) array(dst []byte, depth int) ([]byte, error) {
	p.i++
	dst = append(dst, '[')
	if p.next() == ']' {
		p.i++
		return append(dst, ']'), nil
	}
	for {
		var err error
		if dst, err = p.value(dst, depth+1); err != nil {
			return dst, err
		}
		switch p.next() {
		case ',':
			p.i++
			dst = append(dst, ',')
		case ']':
			p.i++
			return append(dst, ']'), nil
		default:
			return dst, p.bad("a list has no end")
		}
	}
}

// span is where a member's name and whole text stand in the output.
type span struct{ from, nameEnd, to int }

func (p *parser) object(dst []byte, depth int) ([]byte, error) {
	p.i++
	dst = append(dst, '{')
	if p.next() == '}' {
		p.i++
		return append(dst, '}'), nil
	}
	start := len(dst)
	var few [24]span
	members, sorted := few[:0], true
	for {
		if p.next() != '"' {
			return dst, p.bad("a member has no name")
		}
		m := span{from: len(dst)}
		var err error
		if dst, err = p.text(dst); err != nil {
			return dst, err
		}
		m.nameEnd = len(dst)
		if p.next() != ':' {
			return dst, p.bad("a name has no value")
		}
		p.i++
		dst = append(dst, ':')
		if dst, err = p.value(dst, depth+1); err != nil {
			return dst, err
		}
		m.to = len(dst)
		if n := len(members); n > 0 {
			sorted = sorted && bytes.Compare(dst[members[n-1].from:members[n-1].nameEnd], dst[m.from:m.nameEnd]) < 0
		}
		members = append(members, m)
		c := p.next()
		p.i++
		if c == '}' {
			break
		}
		if c != ',' {
			return dst, p.bad("an object has no end")
		}
		dst = append(dst, ',')
	}
	if !sorted {
		sortMembers(dst, start, members)
	}
	return append(dst, '}'), nil
}

// sortMembers puts the members that stand in dst from start on, with commas
// between them, in the order of their names.
func sortMembers(dst []byte, start int, members []span) {
	old := bytes.Clone(dst[start:])
	slices.SortStableFunc(members, func(a, b span) int {
		return bytes.Compare(old[a.from-start:a.nameEnd-start], old[b.from-start:b.nameEnd-start])
	})
	at := start
	for i, m := range members {
		if i > 0 {
			dst[at] = ','
			at++
		}
		at += copy(dst[at:], old[m.from-start:m.to-start])
	}
}

// text takes a string and writes it with no escape that is not needed.
func (p *parser) text(dst []byte) ([]byte, error) {
	from, escaped := p.i, false
	for p.i++; p.i < len(p.b); p.i++ {
		switch p.b[p.i] {
		case '\\':
			escaped = true
			p.i++
		case '"':
			p.i++
			if !escaped {
				return append(dst, p.b[from:p.i]...), nil
			}
			var s string
			if err := json.Unmarshal(p.b[from:p.i], &s); err != nil {
				return dst, p.bad("a string has a wrong escape")
			}
			return appendText(dst, s), nil
		}
	}
	return dst, p.bad("a string has no end")
}

func appendText(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// skip passes over one value and gives its bytes as they stand.
func (p *parser) skip() ([]byte, error) {
	p.next()
	from, depth := p.i, 0
	for p.i < len(p.b) {
		switch c := p.b[p.i]; c {
		case '"':
			for p.i++; p.i < len(p.b) && p.b[p.i] != '"'; p.i++ {
				if p.b[p.i] == '\\' {
					p.i++
				}
			}
			if p.i >= len(p.b) {
				return nil, p.bad("a string has no end")
			}
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return p.b[from:p.i], nil
			}
			if c != ',' {
				depth--
			}
		}
		p.i++
	}
	return nil, p.bad("an object has no end")
}

// stateOf finds the state in the value of a record. A removal, whose state is
// null, gives nil.
func stateOf(value []byte) ([]byte, error) {
	p := parser{b: value}
	if p.next() != '{' {
		return nil, p.bad("the value is no object")
	}
	p.i++
	for p.next() == '"' {
		name, err := p.text(nil)
		if err != nil {
			return nil, err
		}
		if p.next() != ':' {
			return nil, p.bad("a name has no value")
		}
		p.i++
		v, err := p.skip()
		if err != nil {
			return nil, err
		}
		if string(name) == `"state"` {
			v = bytes.TrimRight(v, " \n\t\r")
			if string(v) == "null" {
				return nil, nil
			}
			if len(v) == 0 || v[0] != '{' {
				return nil, p.bad("the state is neither an object nor null")
			}
			return v, nil
		}
		if p.next() == ',' {
			p.i++
		}
	}
	return nil, p.bad("the value has no state")
}

// field is one top-level member of a state in canonical form.
type field struct {
	name  string
	value []byte
}

// fields takes a canonical state apart; it gives nil for anything else.
func fields(canon []byte) []field {
	p := parser{b: canon}
	if p.next() != '{' {
		return nil
	}
	p.i++
	var fs []field
	for p.next() == '"' {
		from := p.i
		if _, err := p.skipName(); err != nil {
			return fs
		}
		var name string
		if json.Unmarshal(p.b[from:p.i-1], &name) != nil {
			return fs
		}
		v, err := p.skip()
		if err != nil {
			return fs
		}
		fs = append(fs, field{name, v})
		if p.next() == ',' {
			p.i++
		}
	}
	return fs
}

// skipName passes over a member's name and its colon.
func (p *parser) skipName() (int, error) {
	if _, err := p.text(nil); err != nil {
		return p.i, err
	}
	if p.next() != ':' {
		return p.i, p.bad("a name has no value")
	}
	p.i++
	return p.i, nil
}
