package declared

import (
	"fmt"
	"strings"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/money"
)

// template is a text with expressions in it: "Order ${state.id} is on its way".
type template struct {
	pieces []piece
	late   bool
}

type piece struct {
	text  string
	value *formula // nil for text
}

// template compiles the text of a node.
func (c *compiler) template(x vocabulary, at document.Node) *template {
	t := &template{}
	rest := at.Text()
	plain := ""
	for {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			break
		}
		plain, rest = plain+rest[:i], rest[i+1:]
		switch {
		case strings.HasPrefix(rest, "$"):
			plain, rest = plain+"$", rest[1:]
		case strings.HasPrefix(rest, "{"):
			source, after, ok := braced(rest[1:])
			if !ok {
				c.fault(at, "${"+firstOf(rest[1:]), "the brace is not closed; $$ is a dollar sign")
				return t
			}
			if plain != "" {
				t.pieces = append(t.pieces, piece{text: plain})
			}
			plain, rest = "", after
			if f := c.formula(x, at, source, expression.Any); f != nil {
				t.pieces = append(t.pieces, piece{value: f})
				t.late = t.late || f.late
			}
		default:
			plain += "$"
		}
	}
	if plain += rest; plain != "" {
		t.pieces = append(t.pieces, piece{text: plain})
	}
	return t
}

// braced cuts an expression before the brace that closes it.
func braced(text string) (source, after string, ok bool) {
	depth, quote := 1, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == '\\' && quote != '`' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return text[:i], text[i+1:], true
			}
		}
	}
	return "", "", false
}

func firstOf(s string) string {
	if len(s) > 20 {
		return s[:20] + "..."
	}
	return s
}

// text fills the template. NULL is nothing.
func (t *template) text(s *scope) (string, error) {
	if t == nil {
		return "", nil
	}
	var out strings.Builder
	for _, p := range t.pieces {
		if p.value == nil {
			out.WriteString(p.text)
			continue
		}
		v, err := p.value.Eval(s)
		if err != nil {
			return "", err
		}
		text, err := readable(v)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.value.Source(), err)
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

// readable is a value as it stands in a mail.
func readable(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case money.Amount:
		return v.String(), nil
	case []any, map[string]any, expression.Object:
		b, err := expression.AppendJSON(nil, v)
		return string(b), err
	}
	t, err := toText(v)
	if err != nil {
		return "", err
	}
	return t.(string), nil
}
