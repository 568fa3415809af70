package structure

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// MaxDifferences is how many differences a Result holds; the rest is counted.
const MaxDifferences = 1000

// maxPlaces is how many differing places are looked into for one Result.
const maxPlaces = 20_000

// MaxDepth is how deep documents may be nested.
const MaxDepth = 200

// Options say what is no difference. Paths are patterns: $.items[*].updatedAt,
// $.x-*, $..etag (at any depth), $["a.b"].
type Options struct {
	// Ignore are places that are not compared, with all below them.
	Ignore []string `json:"ignore,omitempty"`
	// Tolerances say how far numbers, sums of money, and strings that are numbers
	// may be apart. The first that matches a place holds there.
	Tolerances []Tolerance `json:"tolerances,omitempty"`
	// Lists are lists whose order says nothing. The first that matches holds.
	Lists []List `json:"lists,omitempty"`
	// Maps are objects whose member names are data, such as ids: their general
	// path is $.byID.*, and not one for each id.
	Maps []string `json:"maps,omitempty"`
	// StrictNumbers makes 1.0 and 1.00 differ, and 2550 at scale 3 from 255 at
	// scale 2, with the cause Form.
	StrictNumbers bool `json:"strictNumbers,omitempty"`
}

// Tolerance lets numbers at a path be apart by Absolute or less, or by the share
// Relative of the larger one or less. Both are decimals: "0.005". Empty allows
// nothing.
type Tolerance struct {
	Path     string `json:"path"`
	Absolute string `json:"absolute,omitempty"`
	Relative string `json:"relative,omitempty"`
}

// List says how the elements of a list are paired: by the member named Key, and
// where Key is empty in any order. Elements of one key are paired in theirs.
type List struct {
	Path string `json:"path"`
	Key  string `json:"key,omitempty"`
}

// rule is one entry of the Options.
type rule struct {
	number   int // its place in Result.Uses
	text     string
	segments []segment
	kind     ruleKind
	limit    *tolerance
	key      string
}

type ruleKind int

const (
	ignoring ruleKind = iota
	tolerating
	listing
	mapping
)

// Comparer compares by one set of Options. It does not change: use it from as
// many goroutines as you like.
type Comparer struct {
	rules  []*rule
	strict bool
}

// New makes a Comparer. The error names every fault of the options at once.
func New(o Options) (*Comparer, error) {
	c := &Comparer{strict: o.StrictNumbers}
	var faults []error
	add := func(field string, kind ruleKind, text, path string) *rule {
		r := &rule{number: len(c.rules), kind: kind, text: text}
		var err error
		if r.segments, err = parsePattern(path); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", field, err))
		}
		if slices.ContainsFunc(c.rules, func(o *rule) bool { return o.text == text }) {
			faults = append(faults, fmt.Errorf("%s: %q is there twice: leave one", field, text))
		}
		c.rules = append(c.rules, r)
		return r
	}
	for _, p := range o.Ignore {
		if add("Ignore", ignoring, "ignore "+p, p); p == "$" {
			faults = append(faults, fmt.Errorf("Ignore: %q ignores everything: name what is below it", p))
		}
	}
	for _, t := range o.Tolerances {
		r := add("Tolerances", tolerating, "tolerance "+t.Path, t.Path)
		r.limit = &tolerance{limit("Absolute", t.Path, t.Absolute, &faults), limit("Relative", t.Path, t.Relative, &faults)}
		if t.Absolute == "" && t.Relative == "" {
			faults = append(faults, fmt.Errorf("Tolerances: that of %q allows nothing: give Absolute or Relative, such as 0.005", t.Path))
		}
	}
	for _, l := range o.Lists {
		r := add("Lists", listing, "list "+l.Path, l.Path)
		if r.key = l.Key; l.Key != "" {
			r.text += " by " + l.Key
		}
	}
	for _, p := range o.Maps {
		add("Maps", mapping, "map "+p, p)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return c, nil
}

func limit(field, path, text string, faults *[]error) *big.Rat {
	if text == "" {
		return nil
	}
	d := parseDecimal(text)
	if !d.sane() || d.negative {
		*faults = append(*faults, fmt.Errorf("Tolerances: %s of %q is %q: want a decimal that is not negative, such as 0.005", field, path, text))
		return nil
	}
	return d.rat()
}

// Rules lists all rules of the Options, as used by nobody yet.
func (c *Comparer) Rules() []Use {
	uses := make([]Use, len(c.rules))
	for i, r := range c.rules {
		uses[i].Rule = r.text
	}
	return uses
}
