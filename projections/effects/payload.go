package effects

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/mail"
	"net/url"
	"slices"
	"strings"
)

// Kinds of effects.
const (
	KindMail = "mail"
	KindHTTP = "http"
)

// Mail is the payload of a mail: plain text, UTF-8.
type Mail struct {
	From    string   `json:"from,omitempty"` // the sender's default where empty
	To      []string `json:"to"`
	Subject string   `json:"subject"`
	Body    string   `json:"body"`
}

// Call is the payload of an HTTP call.
type Call struct {
	Method  string            `json:"method,omitempty"` // POST where empty
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
}

// methods that a call may have. A GET is no effect.
var methods = []string{"POST", "PUT", "PATCH", "DELETE"}

// Validate reports all faults of the mail.
func (m *Mail) Validate() error {
	var errs []error
	if len(m.To) == 0 {
		errs = append(errs, errors.New("to: no receiver"))
	}
	for _, a := range append(slices.Clone(m.To), m.From) {
		if a == "" && len(m.To) > 0 && !slices.Contains(m.To, "") {
			continue // no sender of its own
		}
		if _, err := mail.ParseAddress(a); err != nil {
			errs = append(errs, fmt.Errorf("%q is no mail address: %w", a, err))
		}
	}
	if m.Subject == "" {
		errs = append(errs, errors.New("subject: empty"))
	}
	return errors.Join(errs...)
}

// Validate reports all faults of the call.
func (c *Call) Validate() error {
	var errs []error
	if c.Method != "" && !slices.Contains(methods, c.Method) {
		errs = append(errs, fmt.Errorf("method: %q: want one of %v", c.Method, methods))
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("url: %q: want http://... or https://...", c.URL))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		switch {
		case name == "" || strings.ContainsFunc(name, notOfToken):
			errs = append(errs, fmt.Errorf("headers: %q is no name of a header", name))
		case strings.ContainsFunc(c.Headers[name], notOfValue):
			errs = append(errs, fmt.Errorf("headers: %s: a line break or another control character is in its value", name))
		}
	}
	return errors.Join(errs...)
}

// notOfToken and notOfValue say what may not stand in the name and the value of a
// header (RFC 9110, 5.6.2 and 5.5).
func notOfToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

func notOfValue(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// Check reports whether a payload can be sent at all: it is of a known kind and
// says where to. A promise is checked before it is made, so that an address that
// is none parks its event instead of failing hours later.
func Check(kind string, payload []byte) error {
	switch kind {
	case KindMail:
		var m Mail
		if err := json.Unmarshal(payload, &m); err != nil {
			return fmt.Errorf("payload of a mail: %w", err)
		}
		return m.Validate()
	case KindHTTP:
		var c Call
		if err := json.Unmarshal(payload, &c); err != nil {
			return fmt.Errorf("payload of a call: %w", err)
		}
		return c.Validate()
	}
	return fmt.Errorf("effects of kind %q are not known: want %s or %s", kind, KindMail, KindHTTP)
}
