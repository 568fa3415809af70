package draft

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// printer writes YAML of the plain kind that banyan.yaml is: every name that
// could be read as anything but a text stands in double quotes.
type printer struct{ b strings.Builder }

func (p *printer) line(indent int, format string, args ...any) {
	p.b.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(&p.b, format, args...)
	p.b.WriteByte('\n')
}

// comment writes a remark, wrapped, at the indent. No text of the database can
// leave it: control characters become spaces.
func (p *printer) comment(indent int, text string) { p.remark(indent, "", text) }

// remark is a comment whose lines after the first hang by so much.
func (p *printer) remark(indent int, hang, text string) {
	const width = 110
	lead := strings.Repeat("  ", indent) + "#"
	line := lead
	for _, w := range strings.Fields(printable(text)) {
		if len(line)+1+len(w) > width && line != lead {
			p.b.WriteString(line + "\n")
			line = lead + hang
		}
		line += " " + w
	}
	p.b.WriteString(line + "\n")
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// yamlWords are read as something else than a text by some reader of YAML.
var yamlWords = wordSet(`true false null yes no on off y n nan inf`)

// yamlString writes a text as a YAML scalar.
func yamlString(s string) string {
	plain := s != "" && !yamlWords[strings.ToLower(s)]
	for i, r := range s {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || !('0' <= r && r <= '9' || r == '.' || r == '-')) {
			plain = false
		}
	}
	if plain {
		return s
	}
	return strconv.Quote(s) // \uXXXX, \n and \" are the same in YAML; \x00 too
}

// yamlText writes free text, quoted only where YAML needs it.
func yamlText(s string) string {
	safe := s != "" && s == strings.TrimSpace(s) && !strings.Contains(s, ": ") && !strings.Contains(s, " #") &&
		!strings.ContainsAny(s[:1], "!&*-?|>@`%[]{},#:'\"=~0123456789+.") && !strings.HasSuffix(s, ":") && !yamlWords[strings.ToLower(s)]
	for _, r := range s {
		safe = safe && unicode.IsPrint(r) && r < unicode.MaxASCII
	}
	if safe {
		return s
	}
	return strconv.Quote(s)
}

// yamlExpr writes an expression: in single quotes where it holds anything that
// YAML might read.
func yamlExpr(s string) string {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	if plainPath(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

func plainPath(s string) bool {
	for _, part := range strings.Split(s, ".") {
		if !plainColumn(part) {
			return false
		}
	}
	return true
}

func yamlList(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = yamlString(n)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

func yamlFlow(s string) string {
	// Inside braces a comma or a bracket ends a plain text.
	if t := yamlText(s); t == s && !strings.ContainsAny(s, ",[]{}") {
		return s
	}
	return strconv.Quote(s)
}
