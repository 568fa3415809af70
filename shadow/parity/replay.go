package parity

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"banyan/token"
)

// replay writes the commands that ask a request again. The token is that of the
// control's answer, or else the one that was asked with.
func (a *asker) replay(r Request, seen token.Token) (replay, control, candidate string) {
	t := seen
	for _, o := range []token.Token{r.Token, a.config.Token} {
		if t.Compare(o) < 0 {
			t = o
		}
	}
	if a.config.Replay != nil {
		replay = a.config.Replay(r)
	} else {
		replay = "shadow parity --control " + quote(a.control.Redacted()) + " --candidate " + quote(a.candidate.Redacted())
		if t != (token.Token{}) {
			replay += " --token " + t.String()
		}
		replay += " --replay " + quote(r.String())
	}
	return replay, a.curl(a.controlSide(), r, t), a.curl(a.candidateSide(), r, t)
}

// curl leaves out what may be a secret.
func (a *asker) curl(s side, r Request, t token.Token) string {
	var b strings.Builder
	b.WriteString("curl -sS")
	switch r.Method {
	case http.MethodGet:
	case http.MethodHead:
		b.WriteString(" -I")
	default:
		b.WriteString(" -X " + r.Method)
	}
	h := a.header(s, r, t)
	h.Del("User-Agent")
	for _, name := range slices.Sorted(keys(h)) {
		for _, v := range h[name] {
			if _, given := a.config.Send[name]; given && !strings.HasPrefix(name, "Accept") {
				v = "..."
			}
			b.WriteString(" -H " + quote(name+": "+v))
		}
	}
	if len(r.Body) > 0 {
		b.WriteString(" --data-binary " + quote(string(r.Body)))
	}
	b.WriteString(" " + quote(strings.TrimSuffix(withoutPassword(s.base), "/")+r.Path))
	return b.String()
}

func withoutPassword(u *url.URL) string {
	bare := *u
	bare.User = nil
	return bare.String()
}

// quote makes one word of a shell's command line of a text.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// percent writes what is small without making nothing of it.
func percent(v float64) string {
	switch {
	case v != 0 && v < 0.001:
		return "<0.001 %"
	case v < 1:
		return fmt.Sprintf("%.3f %%", v)
	}
	return fmt.Sprintf("%.2f %%", v)
}
