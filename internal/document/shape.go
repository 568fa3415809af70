package document

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"banyan/expression"
)

// Form is what a value is in YAML.
type Form int

// The forms.
const (
	Scalar Form = iota // one value: text, number, true, false
	Flag               // true or false
	List
	Map    // names of the writer's choice
	Object // names that are known
)

// Shape says what a value may be. It is what Check and Schema go by.
type Shape struct {
	Form Form
	Doc  string // one sentence for editors
	// Fields of an Object, in the order in which documentation names them.
	Fields []Field
	// Item is the shape of the items of a List and of the values of a Map.
	Item *Shape
	// KeyPattern and KeyWant say what the names of a Map are.
	KeyPattern *regexp.Regexp
	KeyWant    string
	// Filled asks a List or Map for at least one item.
	Filled bool
	// Words are the only values of a Scalar, where there are some.
	Words []string
	// Pattern is what a Scalar looks like, Want that in words.
	Pattern *regexp.Regexp
	Want    string
	// Either holds other forms of the same value: the first whose form fits
	// decides.
	Either []*Shape
	// Empty allows a value that is not there: `key:`.
	Empty bool
}

// Field is one known name of an Object.
type Field struct {
	Name     string
	Shape    *Shape
	Required bool
}

// Durations and names as they are written in all our files.
var (
	DurationPattern = regexp.MustCompile(`^(([0-9]+(\.[0-9]+)?(ms|s|m|h))+|[0-9]{1,5}d)$`)
	NamePattern     = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
)

// Duration reads 90s, 24h or 7d.
func Duration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, fmt.Errorf("%q is no number of days", text)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration such as 90s, 24h or 7d", text)
	}
	return d, nil
}

// Check notes everything in which the value differs from the shape.
func (s *Shape) Check(v Node) {
	if len(s.Either) > 0 {
		s.choose(v)
		return
	}
	if v.Null() {
		if !s.Empty {
			v.Fault("is empty; %s", s.wants())
		}
		return
	}
	switch s.Form {
	case Scalar:
		s.checkScalar(v)
	case Flag:
		if _, ok := v.Bool(); !ok {
			v.Fault("want true or false")
		}
	case List:
		items, ok := v.List()
		if !ok || s.Filled && len(items) == 0 {
			v.Fault("%s", s.wants())
			return
		}
		for _, item := range items {
			s.Item.Check(item)
		}
	case Map:
		s.checkMap(v)
	case Object:
		s.checkObject(v)
	}
}

func (s *Shape) choose(v Node) {
	wants := make([]string, len(s.Either))
	for i, one := range s.Either {
		if one.fits(v) {
			one.Check(v)
			return
		}
		wants[i] = strings.TrimPrefix(one.wants(), "want ")
	}
	v.Fault("want %s", strings.Join(wants, ", or "))
}

// Of gives the one of several forms that a value has; the shape itself where
// there is no choice.
func (s *Shape) Of(v Node) *Shape {
	for _, one := range s.Either {
		if one.fits(v) {
			return one.Of(v)
		}
	}
	return s
}

// Field gives the shape under a name of an Object; nil where there is none.
func (s *Shape) Field(name string) *Shape {
	for _, f := range s.Fields {
		if f.Name == name {
			return f.Shape
		}
	}
	return nil
}

func (s *Shape) fits(v Node) bool {
	if len(s.Either) > 0 {
		for _, one := range s.Either {
			if one.fits(v) {
				return true
			}
		}
		return false
	}
	if v.Null() {
		return s.Empty
	}
	_, scalar := v.Scalar()
	_, list := v.List()
	_, mapping := v.Entries()
	switch s.Form {
	case Flag:
		_, ok := v.Bool()
		return ok
	case Scalar:
		return scalar
	case List:
		return list
	}
	return mapping
}

// wants says what would be right.
func (s *Shape) wants() string {
	switch {
	case len(s.Either) > 0:
		return s.Either[0].wants()
	case s.Want != "":
		return "want " + s.Want
	case len(s.Words) > 0:
		return "want " + strings.Join(s.Words, " or ")
	case s.Form == Flag:
		return "want true or false"
	case s.Form == List && s.Filled:
		return "want a list that is not empty"
	case s.Form == List:
		return "want a list"
	case s.Form == Map:
		return "want a mapping of names to values"
	case s.Form == Object:
		names := make([]string, len(s.Fields))
		for i, f := range s.Fields {
			names[i] = f.Name
		}
		return "want a mapping with " + strings.Join(names, ", ")
	}
	return "want one value"
}

func (s *Shape) checkScalar(v Node) {
	text, ok := v.Scalar()
	if !ok {
		v.Fault("%s, not a list or a mapping", s.wants())
		return
	}
	if len(s.Words) > 0 {
		for _, w := range s.Words {
			if text == w {
				return
			}
		}
		v.Fault("%s", s.wants())
		return
	}
	if text == "" || s.Pattern != nil && !s.Pattern.MatchString(text) {
		v.Fault("%s", s.wants())
	}
}

func (s *Shape) checkMap(v Node) {
	entries, ok := v.Entries()
	if !ok || s.Filled && len(entries) == 0 {
		v.Fault("%s", s.wants())
		return
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if seen[e.Key] {
			v.faults.Add(e.KeyAt, e.field, e.Key, "is named twice")
			continue
		}
		seen[e.Key] = true
		if s.KeyPattern != nil && !s.KeyPattern.MatchString(e.Key) {
			v.faults.Add(e.KeyAt, e.field, e.Key, "want %s", s.KeyWant)
		}
		s.Item.Check(e.Node)
	}
}

func (s *Shape) checkObject(v Node) {
	entries, ok := v.Entries()
	if !ok {
		v.Fault("%s", s.wants())
		return
	}
	var known []string
	fields := map[string]*Shape{}
	for _, f := range s.Fields {
		known = append(known, f.Name)
		fields[f.Name] = f.Shape
	}
	seen := map[string]bool{}
	for _, e := range entries {
		shape := fields[e.Key]
		switch {
		case shape == nil:
			v.faults.Add(e.KeyAt, e.field, e.Key, "is no key here; %s", expression.DidYouMean(e.Key, known))
		case seen[e.Key]:
			v.faults.Add(e.KeyAt, e.field, e.Key, "is named twice")
		default:
			shape.Check(e.Node)
		}
		seen[e.Key] = true
	}
	for _, f := range s.Fields {
		if f.Required && !seen[f.Name] {
			field := f.Name
			if v.field != "" {
				field = v.field + "." + f.Name
			}
			v.faults.Add(v.At(), field, "", "is missing%s", because(f.Shape))
		}
	}
}

func because(s *Shape) string {
	if s.Doc == "" {
		return ""
	}
	return ": " + strings.ToLower(s.Doc[:1]) + strings.TrimSuffix(s.Doc[1:], ".")
}
