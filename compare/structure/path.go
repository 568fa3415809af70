package structure

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// segment is one step of a path pattern.
type segment struct {
	kind    segmentKind
	pattern string // member: a name with * for any letters; element: index or *
	literal bool   // pattern is taken as it is
}

type segmentKind int

const (
	member segmentKind = iota
	element
	deep // any number of steps
)

// parsePattern reads $.items[*].updatedAt, $.a[3], $.x-*, $..updatedAt (at any
// depth), $["a.b"] (a name as it is).
func parsePattern(text string) ([]segment, error) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return nil, fmt.Errorf("%q does not begin with $, as in $.items[*].updatedAt", text)
	}
	var segments []segment
	for rest != "" {
		s, tail, err := parseSegment(rest)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		segments, rest = append(segments, s), tail
	}
	if len(segments) > 0 && segments[len(segments)-1].kind == deep {
		return nil, fmt.Errorf("%q ends in the middle: name a member after ..", text)
	}
	return segments, nil
}

func parseSegment(s string) (segment, string, error) {
	if strings.HasPrefix(s, "..") {
		if strings.HasPrefix(s, "..[") {
			return segment{kind: deep}, s[2:], nil
		}
		return segment{kind: deep}, s[1:], nil
	}
	if name, ok := strings.CutPrefix(s, "."); ok {
		end := strings.IndexAny(name, ".[")
		if end < 0 {
			end = len(name)
		}
		if end == 0 || strings.ContainsAny(name[:end], "]\"") {
			return segment{}, "", fmt.Errorf("at %q: want a name after the point; one with . [ ] or \" is written [\"a.b\"]", s)
		}
		return segment{kind: member, pattern: name[:end]}, name[end:], nil
	}
	inner, ok := strings.CutPrefix(s, "[")
	if !ok {
		return segment{}, "", fmt.Errorf("at %q: want . or [", s)
	}
	if strings.HasPrefix(inner, "\"") {
		quoted, err := strconv.QuotedPrefix(inner)
		if err == nil && strings.HasPrefix(inner[len(quoted):], "]") {
			name, err := strconv.Unquote(quoted)
			return segment{member, name, true}, inner[len(quoted)+1:], err
		}
		return segment{}, "", fmt.Errorf("at %q: want [\"a name\"]", s)
	}
	index, tail, closed := strings.Cut(inner, "]")
	if !closed || index != "*" && (index == "" || !onlyDigits(index)) {
		return segment{}, "", fmt.Errorf("at %q: want [*], [3] or [\"a name\"]", s)
	}
	return segment{kind: element, pattern: index}, tail, nil
}

// takes reports whether the segment names this step.
func (s segment) takes(kind segmentKind, name string) bool {
	switch {
	case s.kind != kind:
		return false
	case s.literal:
		return s.pattern == name
	}
	return wild(s.pattern, name)
}

// wild matches a pattern with any number of *.
func wild(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	for {
		part, tail, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], tail
	}
}

// follow is a pattern under way: how much of it the path so far has used.
type follow struct {
	rule *rule
	at   int // in rule.segments
}

// step takes all patterns one step further; those that end here are matched.
func step(under []follow, kind segmentKind, name string) (next []follow, matched []*rule) {
	add := func(r *rule, at int) {
		f := follow{r, at}
		switch {
		case at == len(r.segments):
			if !slices.Contains(matched, r) {
				matched = append(matched, r)
			}
		case !slices.Contains(next, f):
			next = append(next, f)
		}
	}
	for _, f := range under {
		s := f.rule.segments[f.at]
		if s.kind == deep {
			add(f.rule, f.at)
			if f.rule.segments[f.at+1].takes(kind, name) {
				add(f.rule, f.at+2)
			}
			continue
		}
		if s.takes(kind, name) {
			add(f.rule, f.at+1)
		}
	}
	return next, matched
}

// memberText writes a member as a step of a path.
func memberText(name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return strings.ContainsRune(".[]\"*$", r) || r <= ' ' || !strconv.IsPrint(r) }) {
		return "[" + strconv.Quote(name) + "]"
	}
	return "." + name
}
