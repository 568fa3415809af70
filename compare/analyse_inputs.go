package compare

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// inputs say what the report was made of.
func (a *analysis) inputs() (Inputs, error) {
	f := a.facts
	digest, err := a.digest()
	if err != nil {
		return Inputs{}, err
	}
	in := Inputs{Digest: digest, Topics: f.Topics, Position: f.Position, Seed: a.settings.Seed, Build: f.Build,
		Settings: a.settings, SignedBy: f.SignedBy}
	if in.Topics == nil {
		in.Topics = []TopicSpan{}
	}
	return in, nil
}

// digest is the SHA-256 of everything that a figure rests on, each as a line of JSON:
// candidate, positions, build, salt, settings and the share of the sample, then the ledger by sorted currency and
// key. What belongs to the moment and not to the figures is left out, so that whoever
// makes the report again from the same offsets finds the same digest: timings, the state
// of a breaker, when noise was measured, whether a projection happened to stand at the
// same offsets, who signs.
func (a *analysis) digest() (string, error) {
	sum := sha256.New()
	f := a.facts
	kept, _ := a.kept()
	lines := lineWriter{to: json.NewEncoder(sum)}
	lines.write(Schema, struct {
		Candidate     Candidate
		Position      string
		Topics        []TopicSpan
		Build, Salted string
		Settings      Settings
		Kept          float64
	}{f.Candidate, f.Position, f.Topics, f.Build, f.Salted, a.settings, kept})
	lines.write("ledger", a.ledger)
	for _, currency := range a.ledger.Currencies() {
		b := a.ledger.Books[currency]
		lines.write("book", b)
		writeRows(&lines, "clusters", b.Clusters)
		writeRows(&lines, "products", b.Products)
		writeRows(&lines, "moves", b.Moves)
		writeRows(&lines, "days", b.Days)
	}
	if lines.err != nil {
		return "", lines.err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// lineWriter writes lines of JSON; the first error stays.
type lineWriter struct {
	to  *json.Encoder
	err error
}

func (w *lineWriter) write(values ...any) {
	for _, v := range values {
		if w.err == nil {
			w.err = w.to.Encode(v)
		}
	}
}

func writeRows[K cmp.Ordered, V any](w *lineWriter, kind string, rows map[K]V) {
	w.write(kind)
	for _, k := range sortedKeys(rows) {
		w.write(k, rows[k])
	}
}
