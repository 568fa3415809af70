package document_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/internal/document"
)

func shape() *document.Shape {
	text := &document.Shape{Form: document.Scalar, Doc: "A name.", Want: "a name", Pattern: regexp.MustCompile(`^[a-z]+$`)}
	return &document.Shape{Form: document.Object, Want: "a mapping with name", Fields: []document.Field{
		{Name: "name", Shape: text, Required: true},
		{Name: "kind", Shape: &document.Shape{Form: document.Scalar, Words: []string{"big", "small"}}},
		{Name: "tags", Shape: &document.Shape{Form: document.List, Item: text, Filled: true}},
		{Name: "by", Shape: &document.Shape{Form: document.Map, KeyPattern: regexp.MustCompile(`^[a-z]$`), KeyWant: "one letter", Item: &document.Shape{
			Either: []*document.Shape{text, {Form: document.Flag}}}}},
	}}
}

func TestCheckTellsAllFaultsWithTheirPlaces(t *testing.T) {
	c := &document.Collector{Path: "it.yaml"}
	root, ok := document.Parse(c, []byte("nme: x\nkind: middle\ntags:\n  - ok\n  - Not\n  - [a]\nby: {ab: x, c: true, d: 7, e: {}}\n"))
	if !ok {
		t.Fatal(c.Faults())
	}
	shape().Check(root)
	want := `it.yaml:1:1: nme: value "nme": is no key here; did you mean "name"?
it.yaml:1:1: name: is missing: a name
it.yaml:2:7: kind: value "middle": want big or small
it.yaml:5:5: tags[1]: value "Not": want a name
it.yaml:6:5: tags[2]: want a name, not a list or a mapping
it.yaml:7:6: by.ab: value "ab": want one letter
it.yaml:7:25: by.d: value "7": want a name
it.yaml:7:31: by.e: want a name, or true or false`
	if d := cmp.Diff(want, c.Faults().Error()); d != "" {
		t.Error(d)
	}
	if c.Faults().Err() == nil || !c.Wrong() || c.Len() != 8 {
		t.Errorf("%d faults are no error", c.Len())
	}
}

func TestWarningsAreNoErrors(t *testing.T) {
	c := &document.Collector{Path: "it.yaml"}
	root, _ := document.Parse(c, []byte("name: x"))
	root.Get("name").Warn("is short")
	root.Get("name").Warn("is short")
	if c.Wrong() || c.Faults().Err() != nil || c.Len() != 1 {
		t.Errorf("%v", c.Faults())
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "want one YAML document",
		"a: 1\n---\nb: 2\n":              "want one YAML document",
		"a: [":                           "is not YAML",
		strings.Repeat("a", 1<<20) + "b": "has 1048577 bytes; want at most 1048576",
	} {
		c := &document.Collector{Path: "it.yaml"}
		if _, ok := document.Parse(c, []byte(text)); ok || !strings.Contains(c.Faults().Error(), want) {
			t.Errorf("%.20q: %v, %v; want %s", text, ok, c.Faults(), want)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * 24 * time.Hour, "250ms": 250 * time.Millisecond} {
		got, err := document.Duration(text)
		if err != nil || got != want || !document.DurationPattern.MatchString(text) {
			t.Errorf("%s is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "7", "-1s", "d", "7w", "99999999d", "1 h"} {
		if d, err := document.Duration(text); err == nil {
			t.Errorf("%q is %s", text, d)
		}
	}
}

func TestSchema(t *testing.T) {
	text, err := shape().Schema("it.json", "It")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "it.json", "title": "It", "type": "object",
		"additionalProperties": false, "required": []any{"name"}, "properties": map[string]any{
			"name": map[string]any{"description": "A name.", "type": "string", "pattern": "^[a-z]+$"},
			"kind": map[string]any{"enum": []any{"big", "small"}},
			"tags": map[string]any{"type": "array", "minItems": 1., "items": map[string]any{"description": "A name.", "type": "string", "pattern": "^[a-z]+$"}},
			"by": map[string]any{"type": "object", "propertyNames": map[string]any{"pattern": "^[a-z]$"}, "additionalProperties": map[string]any{
				"anyOf": []any{map[string]any{"description": "A name.", "type": "string", "pattern": "^[a-z]+$"}, map[string]any{"type": "boolean"}}}},
		}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
