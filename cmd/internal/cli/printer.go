package cli

import (
	"encoding/json"
	"io"
	"os"
)

// Printer writes results on stdout and, apart from them, progress on stderr.
type Printer struct {
	out, err io.Writer
	json     bool
	colour   bool // of out
	live     bool // err is a terminal: progress rewrites its line
}

func newPrinter(out, errw io.Writer, asJSON, noColour bool) *Printer {
	return &Printer{out: out, err: errw, json: asJSON, colour: isTerminal(out) && !noColour, live: isTerminal(errw)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// Result prints v as one JSON document, or calls text.
func (p *Printer) Result(v any, text func(w io.Writer)) error { return p.print(v, text, "  ") }

// Line prints v as one line of JSON, for commands that give a stream, or calls
// text.
func (p *Printer) Line(v any, text func(w io.Writer)) error { return p.print(v, text, "") }

func (p *Printer) print(v any, text func(w io.Writer), indent string) error {
	if !p.json {
		text(p.out)
		return nil
	}
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}

// Text calls text for what has no place in JSON, where results are printed as
// text.
func (p *Printer) Text(text func(w io.Writer)) {
	if !p.json {
		text(p.out)
	}
}

// Aside is where a command says what is not a result: stderr.
func (p *Printer) Aside() io.Writer { return p.err }

// Colour reports whether results may be coloured: on a terminal, unless
// --no-color or NO_COLOR says otherwise.
func (p *Printer) Colour() bool { return p.colour }

func (p *Printer) paint(code, s string) string {
	if !p.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Good paints a text of a result that is as it should be.
func (p *Printer) Good(s string) string { return p.paint("32", s) }

// Bad paints a text of a result that is not as it should be.
func (p *Printer) Bad(s string) string { return p.paint("31", s) }

// Warn paints a text of a result that somebody should look at.
func (p *Printer) Warn(s string) string { return p.paint("33", s) }

// Dim paints a text of a result that few need.
func (p *Printer) Dim(s string) string { return p.paint("2", s) }
