package parity

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"banyan/token"
)

// Request is one question that both services are asked.
type Request struct {
	Method string
	// Path begins with / and may have a query; it is escaped as on the wire.
	Path string
	// Body is sent as application/json; nil is none.
	Body []byte
	// Key is what sampling goes by; Path where empty.
	Key string
	// Token is the commit that the answers must have seen at least; zero is none.
	Token token.Token
}

// String writes the request as ParseRequest reads it: "GET /orders/1".
func (r Request) String() string {
	s := r.Method + " " + r.Path
	if len(r.Body) > 0 {
		s += " " + string(r.Body)
	}
	return s
}

// ParseRequest reads "GET /orders/1", "/orders/1" (which is a GET), and
// "POST /quotes {...}", where the rest of the line is the body.
func ParseRequest(line string) (Request, error) {
	line = strings.TrimSpace(line)
	r := Request{Method: http.MethodGet}
	rest := line
	if !strings.HasPrefix(line, "/") {
		r.Method, rest, _ = strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
	}
	path, body, _ := strings.Cut(rest, " ")
	r.Path = path
	if body = strings.TrimSpace(body); body != "" {
		r.Body = []byte(body)
	}
	return r, r.check()
}

func (r Request) check() error {
	const want = "want a line such as GET /orders/1"
	_, err := url.ParseRequestURI(r.Path)
	switch {
	case !isMethod(r.Method):
		return fmt.Errorf("%.60q does not begin with a method: %s", r.Method, want)
	case !strings.HasPrefix(r.Path, "/") || err != nil || strings.ContainsAny(r.Path, "#\\\"<> "):
		return fmt.Errorf("%.60q is no path: %s, escaped as on the wire", r.Path, want)
	}
	return nil
}

// ParseRequests reads requests, one a line; empty lines and those that begin
// with # say nothing. The error names all lines that are none, up to twenty.
func ParseRequests(r io.Reader) ([]Request, error) {
	const longestLine, enough = 1 << 20, 20
	var list []Request
	var faults []error
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longestLine)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		req, err := ParseRequest(line)
		if err != nil && len(faults) < enough {
			faults = append(faults, fmt.Errorf("line %d: %w", n, err))
		}
		list = append(list, req)
	}
	if err := lines.Err(); err != nil {
		faults = append(faults, fmt.Errorf("read after line %d: %w", n, err))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return list, nil
}

// List is a source of the requests of a list.
func List(list []Request) iter.Seq2[Request, error] {
	return func(yield func(Request, error) bool) {
		for _, r := range list {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// SkipError, given by a source in place of a request, excludes one request with
// this reason; any other error ends the run.
type SkipError struct {
	Reason string
}

func (e *SkipError) Error() string { return "no request: " + e.Reason }

// Template makes requests of the records of a topic: "/orders/{key}",
// "GET /customers/{customer}?page={page}".
type Template struct {
	method string
	parts  []part
}

type part struct {
	text  string
	value bool // text is the name of a value
	query bool // and it stands behind the ?
}

// ParseTemplate reads a template. Each {name} is replaced by the record's value
// of that name, escaped.
func ParseTemplate(text string) (Template, error) {
	t := Template{method: http.MethodGet}
	rest := strings.TrimSpace(text)
	if !strings.HasPrefix(rest, "/") {
		t.method, rest, _ = strings.Cut(rest, " ")
		rest = strings.TrimSpace(rest)
	}
	bad := func(why string) (Template, error) {
		return Template{}, fmt.Errorf("template %q: %s: want one such as GET /orders/{key}", text, why)
	}
	query := false
	for rest != "" {
		plain, tail, open := strings.Cut(rest, "{")
		if strings.Contains(plain, "}") {
			return bad("a } without its {")
		}
		query = query || strings.Contains(plain, "?")
		t.parts = append(t.parts, part{text: plain})
		if !open {
			break
		}
		name, after, closed := strings.Cut(tail, "}")
		if !closed || name == "" || strings.Contains(name, "{") {
			return bad("a { without its name and }")
		}
		t.parts = append(t.parts, part{name, true, query})
		rest = after
	}
	probe, _ := t.fill(func(string) string { return "1" })
	if err := probe.check(); err != nil {
		return bad(err.Error())
	}
	return t, nil
}

// fill is false where a value is missing or would change the path.
func (t Template) fill(value func(name string) string) (Request, bool) {
	var b strings.Builder
	whole := true
	for _, p := range t.parts {
		if !p.value {
			b.WriteString(p.text)
			continue
		}
		v := value(p.text)
		whole = whole && v != "" && v != "." && v != ".."
		if p.query {
			b.WriteString(url.QueryEscape(v))
		} else {
			b.WriteString(url.PathEscape(v))
		}
	}
	return Request{Method: t.method, Path: b.String()}, whole
}

// Requests is a source that makes one request of each record. Two values mean
// something to it: "key" is the key to sample by, and "token", where there is
// one, the commit that the answers must have seen. A record that lacks a value of
// the template, or has "." or ".." for one, is excluded (ReasonTemplate).
func (t Template) Requests(records iter.Seq2[map[string]string, error]) iter.Seq2[Request, error] {
	return func(yield func(Request, error) bool) {
		for values, err := range records {
			var r Request
			if err == nil {
				r, err = t.request(values)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

func (t Template) request(values map[string]string) (Request, error) {
	r, whole := t.fill(func(name string) string { return values[name] })
	if !whole {
		return Request{}, &SkipError{ReasonTemplate}
	}
	r.Key = values["key"]
	if text := values["token"]; text != "" {
		var err error
		if r.Token, err = token.Parse(text); err != nil {
			return Request{}, fmt.Errorf("record %q: %w", values["key"], err)
		}
	}
	return r, nil
}

// sampled reports whether the key of the request is in the sample: by its hash,
// so that it does not matter when, or how often, it is asked about.
func (c Config) sampled(r Request) bool {
	if c.Sample >= 100 {
		return true
	}
	h := sha256.New()
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, c.Seed))
	_, _ = io.WriteString(h, cmp.Or(r.Key, r.Path))
	const fine = 1_000_000 // a ten-thousandth of a percent
	return binary.BigEndian.Uint64(h.Sum(nil))%fine < uint64(c.Sample/100*fine)
}
