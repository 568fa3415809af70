// Package token is the one consistency token that goes through the whole
// system. A service that has just committed says with it how far the source's
// log has come, in a response header:
//
//	Banyan-Token: 1:0/1A2B3C8
//
// Whoever got it shows it to any service that lives on the source's events, and
// that service answers when it has seen the commit, or says how far behind it
// is. The token names no topic and no row, so that one is good everywhere.
//
// This package has the form of the token (Token) and the making of it: Maker is
// the middleware of the service that commits, Generations the generation that
// it asks cdc for. Waiting for a token is the reader's business. The package
// changes when form or making do.
package token

import (
	"cmp"
	"fmt"
	"strings"

	"banyan/event"
)

// Header is the HTTP header that carries a token, in responses of the service
// that commits and in requests to those that read.
const Header = "Banyan-Token"

// Wanted as the request's value of Header asks for a token where none would be
// given: in the answer to a GET it says how new that answer is.
const Wanted = "wanted"

// Path is where cdc run answers, on its --listen address, with its Incarnation
// as JSON, or with 503 and why.
const Path = "/generation"

// Token is a point in the log of a source. Everything that was committed before
// it was made ends at or below LSN.
type Token struct {
	Generation int // of the source's incarnations, from 1
	LSN        uint64
}

// String writes "1:0/1A2B3C8": the generation, and the LSN as Postgres prints
// it. It is a position without its ordinal.
func (t Token) String() string {
	return strings.TrimSuffix(event.Position{Generation: t.Generation, LSN: t.LSN}.String(), noOrdinal)
}

const noOrdinal = ".0"

// Parse reads what String writes. Its errors name the value, cut to a length
// that can be shown, and the right form; they are the sender's fault.
func Parse(s string) (Token, error) {
	p, err := event.ParsePosition(s + noOrdinal)
	if err != nil || strings.HasPrefix(s, "+") {
		const enough = 60
		if len(s) > enough {
			s = s[:enough] + "..."
		}
		return Token{}, fmt.Errorf("token %q: want generation:LSN, such as 1:0/1A2B3C8", s)
	}
	return Token{p.Generation, p.LSN}, nil
}

// MarshalText writes what String does, for JSON. The zero Token is empty.
func (t Token) MarshalText() ([]byte, error) {
	if t == (Token{}) {
		return nil, nil
	}
	return []byte(t.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (t *Token) UnmarshalText(b []byte) (err error) {
	if *t = (Token{}); len(b) > 0 {
		*t, err = Parse(string(b))
	}
	return err
}

// Compare says with -1, 0 or 1 whether t stands before o, at it or after it.
// Generations order first; LSNs of different generations are never compared.
func (t Token) Compare(o Token) int {
	return cmp.Or(cmp.Compare(t.Generation, o.Generation), cmp.Compare(t.LSN, o.LSN))
}

// Of is the token that a watermark has just passed.
func Of(w *event.Watermark) Token { return Token{w.Generation, w.LSN} }

// Passed reports whether all that t stands for is told when w is: a watermark
// of a newer generation has passed every older token. What w says of parked
// keys is not told nevertheless.
func (t Token) Passed(w *event.Watermark) bool { return t.Compare(Of(w)) <= 0 }
