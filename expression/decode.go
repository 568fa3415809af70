package expression

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"banyan/money"
)

// FromJSON reads one JSON value exactly: numbers become int64 where they are
// whole and fit and money.Decimal otherwise, an object of just amount, scale and
// currency becomes a money.Amount, other objects map[string]any and lists
// []any. Strings stay strings. A member that stands twice counts as it stands
// last. Nothing of raw is kept.
func FromJSON(raw []byte) (any, error) {
	s := scanners.Get().(*scanner)
	defer s.free()
	s.raw, s.at = raw, 0
	v, err := s.value(0)
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// maxDepth is how deep JSON may be nested; it is that of encoding/json.
const maxDepth = 10_000

// maxNames bounds the names of members that a scanner remembers.
const maxNames = 1000

var scanners = sync.Pool{New: func() any { return &scanner{names: map[string]string{}} }}

// scanner reads JSON. What it allocates for itself is used again.
type scanner struct {
	raw   []byte
	at    int
	names map[string]string // so that a name is allocated once, not per event
	stack []any             // items of the lists and values of the objects that are open
	keys  []string          // of the objects that are open
}

func (s *scanner) free() {
	s.raw = nil
	s.drop(0)
	s.keys = s.keys[:0]
	if cap(s.stack) > 10_000 {
		s.stack, s.keys = nil, nil
	}
	scanners.Put(s)
}

// drop lets go of what lies on the stack from base on.
func (s *scanner) drop(base int) {
	clear(s.stack[base:])
	s.stack = s.stack[:base]
}

func (s *scanner) fail(what string) error {
	if s.at >= len(s.raw) {
		return fmt.Errorf("JSON ends after %d bytes, want %s", len(s.raw), what)
	}
	return fmt.Errorf("JSON at byte %d: %q, want %s", s.at, s.raw[s.at], what)
}

// peek gives the next byte that is no white space; 0 at the end.
func (s *scanner) peek() byte {
	for s.at < len(s.raw) {
		c := s.raw[s.at]
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		s.at++
	}
	return 0
}

func (s *scanner) end() error {
	s.peek()
	if s.at < len(s.raw) {
		return s.fail("the end")
	}
	return nil
}

func (s *scanner) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("JSON is nested deeper than %d", maxDepth)
	}
	switch c := s.peek(); {
	case c == '"':
		return s.text()
	case c == '{':
		if a, ok := s.amount(); ok {
			return a, nil
		}
		return s.object(depth)
	case c == '[':
		return s.list(depth)
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return true, s.literal("true")
	case c == 'f':
		return false, s.literal("false")
	case c == 'n':
		return nil, s.literal("null")
	}
	return nil, s.fail("a value")
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.raw[s.at:], []byte(word)) {
		return s.fail(word)
	}
	s.at += len(word)
	return nil
}

// amount reads an amount as it stands on the wire. Where it is written in
// another way nothing is read, and object makes it.
func (s *scanner) amount() (a money.Amount, ok bool) {
	rest, ok := bytes.CutPrefix(s.raw[s.at:], []byte(`{"amount":`))
	if !ok {
		return a, false
	}
	n, rest, ok1 := wholeNumber(rest)
	rest, ok2 := bytes.CutPrefix(rest, []byte(`,"scale":`))
	scale, rest, ok3 := wholeNumber(rest)
	rest, ok4 := bytes.CutPrefix(rest, []byte(`,"currency":"`))
	if !ok1 || !ok2 || !ok3 || !ok4 || scale < 0 || scale > money.MaxScale || len(rest) < 5 || rest[3] != '"' || rest[4] != '}' {
		return a, false
	}
	unit := s.name(rest[:3])
	if !isCurrency(unit) {
		return a, false
	}
	s.at = len(s.raw) - len(rest) + 5
	return money.Amount{Amount: n, Scale: int(scale), Currency: unit}, true
}

// wholeNumber reads up to 18 digits.
func wholeNumber(b []byte) (n int64, rest []byte, ok bool) {
	i := 0
	if len(b) > 0 && b[0] == '-' {
		i = 1
	}
	first := i
	for i < len(b) && i-first < 19 && b[i] >= '0' && b[i] <= '9' {
		n = n*10 + int64(b[i]-'0')
		i++
	}
	if i == first || i-first > 18 || b[first] == '0' && i-first > 1 {
		return 0, b, false
	}
	if first == 1 {
		n = -n
	}
	return n, b[i:], true
}

func (s *scanner) object(depth int) (any, error) {
	base := len(s.stack)
	baseKey := len(s.keys)
	defer func() { s.drop(base); s.keys = s.keys[:baseKey] }()
	err := s.members(func(key []byte) error {
		name := s.name(key)
		v, err := s.value(depth + 1)
		s.keys, s.stack = append(s.keys, name), append(s.stack, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	m := make(map[string]any, len(s.stack)-base)
	for i, name := range s.keys[baseKey:] {
		m[name] = s.stack[base+i]
	}
	if a, ok := asAmount(m); ok {
		return a, nil
	}
	return m, nil
}

func asAmount(m map[string]any) (a money.Amount, ok bool) {
	if len(m) != 3 {
		return a, false
	}
	n, ok1 := m["amount"].(int64)
	scale, ok2 := m["scale"].(int64)
	unit, ok3 := m["currency"].(string)
	if !ok1 || !ok2 || !ok3 || scale < 0 || scale > money.MaxScale || !isCurrency(unit) {
		return a, false
	}
	return money.Amount{Amount: n, Scale: int(scale), Currency: unit}, true
}

// members goes through an object. each must read the member's value; the key
// is only good until it does.
func (s *scanner) members(each func(key []byte) error) error {
	s.at++
	if s.peek() == '}' {
		s.at++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.fail("a member's name")
		}
		key, err := s.bytes()
		if err != nil {
			return err
		}
		if s.peek() != ':' {
			return s.fail("a colon")
		}
		s.at++
		if err := each(key); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case '}':
			s.at++
			return nil
		default:
			return s.fail("a comma or a closing brace")
		}
	}
}

func (s *scanner) list(depth int) (any, error) {
	base := len(s.stack)
	defer s.drop(base)
	err := s.items(func() error {
		v, err := s.value(depth + 1)
		s.stack = append(s.stack, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return append(make([]any, 0, len(s.stack)-base), s.stack[base:]...), nil
}

// items goes through a list. each must read an item.
func (s *scanner) items(each func() error) error {
	s.at++
	if s.peek() == ']' {
		s.at++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.at++
		case ']':
			s.at++
			return nil
		default:
			return s.fail("a comma or a closing bracket")
		}
	}
}

// name gives a text that is likely to come again.
func (s *scanner) name(b []byte) string {
	if name, ok := s.names[string(b)]; ok {
		return name
	}
	name := string(b)
	if len(name) <= 64 {
		if len(s.names) >= maxNames {
			clear(s.names)
		}
		s.names[name] = name
	}
	return name
}

func (s *scanner) text() (any, error) {
	b, err := s.bytes()
	if err != nil {
		return nil, err
	}
	return string(b), nil
}

// bytes reads a string. What it gives may be a part of raw.
func (s *scanner) bytes() ([]byte, error) {
	start := s.at
	plain := true
	for i := start + 1; i < len(s.raw); i++ {
		switch c := s.raw[i]; {
		case c == '"':
			s.at = i + 1
			b := s.raw[start+1 : i]
			if plain || utf8.Valid(b) && bytes.IndexByte(b, '\\') < 0 {
				return b, nil
			}
			var text string
			if err := json.Unmarshal(s.raw[start:s.at], &text); err != nil {
				return nil, fmt.Errorf("JSON at byte %d: %w", start, err)
			}
			return []byte(text), nil
		case c == '\\':
			plain = false
			i++
		case c < ' ':
			s.at = i
			return nil, s.fail("no control character")
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	s.at = len(s.raw)
	return nil, s.fail("the end of a string")
}

func (s *scanner) number() (any, error) {
	if n, rest, ok := wholeNumber(s.raw[s.at:]); ok && (len(rest) == 0 || !inNumber(rest[0])) {
		s.at = len(s.raw) - len(rest)
		return n, nil
	}
	start := s.at
	for s.at < len(s.raw) && inNumber(s.raw[s.at]) {
		s.at++
	}
	text := string(s.raw[start:s.at])
	if !isNumber(text) {
		s.at = start
		return nil, s.fail("a number")
	}
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	}
	d, err := ParseNumber(text)
	if err != nil {
		return nil, fmt.Errorf("JSON at byte %d: %w", start, err)
	}
	return d, nil
}

func inNumber(c byte) bool {
	return c >= '0' && c <= '9' || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}

// isNumber is the grammar of JSON.
func isNumber(s string) bool {
	run := func() bool {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		s = s[n:]
		return n > 0
	}
	s = strings.TrimPrefix(s, "-")
	if len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' || !run() {
		return false
	}
	if rest, ok := strings.CutPrefix(s, "."); ok {
		if s = rest; !run() {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if !run() {
			return false
		}
	}
	return s == ""
}

// skip passes over a value. Only its brackets and quotes are looked at.
func (s *scanner) skip() error {
	switch c := s.peek(); {
	case c == '"':
		return s.skipText()
	case c == '{' || c == '[':
		return s.skipNested()
	case c == 0 || c == ',' || c == ':' || c == '}' || c == ']':
		return s.fail("a value")
	}
	for s.at < len(s.raw) {
		switch s.raw[s.at] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return nil
		}
		s.at++
	}
	return nil
}

func (s *scanner) skipNested() error {
	depth := 0
	for s.at < len(s.raw) {
		switch s.raw[s.at] {
		case '"':
			if err := s.skipText(); err != nil {
				return err
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.at++
		if depth == 0 {
			return nil
		}
	}
	return s.fail("a closing bracket")
}

func (s *scanner) skipText() error {
	s.at++
	for {
		n := bytes.IndexByte(s.raw[s.at:], '"')
		if n < 0 {
			s.at = len(s.raw)
			return s.fail("the end of a string")
		}
		end := s.at + n
		escapes := 0
		for i := end - 1; i >= s.at && s.raw[i] == '\\'; i-- {
			escapes++
		}
		s.at = end + 1
		if escapes%2 == 0 {
			return nil
		}
	}
}
