package declared

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"banyan/internal/document"
)

// File is a definition whose form is right. Whether it makes sense is Compile's
// to say.
type File struct {
	Path   string // what messages call it
	Name   string // of the projection
	Source string // whose events: "shop"
	// Topics are those that the file names, each once.
	Topics  []string
	Aligned bool
	// Definition is the text; Digest the fingerprint of what decides rows:
	// comments, effects and names of the read API do not.
	Definition, Digest string
}

// Load reads a definition; path is what messages call the file. It is strict: a
// key that is not known, a missing one, a value of another form are faults, and
// all of them are returned at once. The File is nil where there are some.
func Load(path string, text []byte) (*File, Faults) {
	c := &document.Collector{Path: path}
	root, ok := document.Parse(c, text)
	if ok {
		grammar.Check(root)
	}
	if c.Wrong() {
		return nil, c.Faults()
	}
	f := &File{Path: path, Name: root.Get("projection").Text(), Definition: string(text), Aligned: root.Get("order").Text() == "aligned"}
	f.Topics = topicsOf(root)
	f.Source = root.Get("source").Text()
	if f.Source == "" && len(f.Topics) > 0 {
		f.Source, _, _ = strings.Cut(f.Topics[0], ".")
		if !sourceName.MatchString(f.Source) {
			c.Add(document.Place{Line: 1, Column: 1}, "source", "", "is missing: the topics' names do not begin with one, such as shop")
		}
	}
	if len(f.Topics) == 0 {
		c.Add(document.Place{Line: 1, Column: 1}, "tables", "", "is missing: without tables, groups or windows there is nothing to read from a projection")
	}
	if c.Wrong() {
		return nil, c.Faults()
	}
	f.Digest = digest(root)
	return f, c.Faults()
}

// topicsOf gives all topics that are named under any `from` or `topic`, in the
// order of the file.
func topicsOf(root document.Node) []string {
	var out []string
	add := func(v document.Node) {
		if t, ok := v.Scalar(); ok && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	for _, section := range []string{"tables", "groups", "windows", "timers", "effects"} {
		entries, _ := root.Get(section).Entries()
		for _, e := range entries {
			from := e.Get("from")
			items, _ := from.List()
			if len(items) == 0 {
				add(from)
			}
			for _, item := range items {
				if _, ok := item.Scalar(); ok {
					add(item)
				} else {
					add(item.Get("topic"))
				}
			}
		}
	}
	return out
}

// digest is over the values of the file in a form in which layout and comments
// do not show. It goes along the grammar: a column may be called comment.
func digest(root document.Node) string {
	h := sha256.New()
	var write func(v document.Node, shape *document.Shape, top bool)
	write = func(v document.Node, shape *document.Shape, top bool) {
		shape = shape.Of(v)
		if entries, ok := v.Entries(); ok {
			h.Write([]byte("{"))
			for _, e := range entries {
				inner := shape.Item
				if shape.Form == document.Object {
					if e.Key == "comment" || top && (e.Key == "api" || e.Key == "effects") {
						continue
					}
					inner = shape.Field(e.Key)
				}
				h.Write([]byte(strconv.Quote(e.Key) + ":"))
				write(e.Node, inner, false)
			}
			h.Write([]byte("}"))
			return
		}
		if items, ok := v.List(); ok {
			h.Write([]byte("["))
			for _, item := range items {
				write(item, shape.Item, false)
			}
			h.Write([]byte("]"))
			return
		}
		h.Write([]byte(strconv.Quote(v.Text()) + strconv.FormatBool(v.Plain())))
	}
	write(root, grammar, true)
	return hex.EncodeToString(h.Sum(nil)[:16])
}
