package declared

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	yaml "github.com/goccy/go-yaml"
)

// validate checks a value against the part of JSON Schema that Schema writes.
func validate(schema map[string]any, v any, at string) []string {
	if of, ok := schema["anyOf"].([]any); ok {
		var all []string
		for _, one := range of {
			wrong := validate(one.(map[string]any), v, at)
			if len(wrong) == 0 {
				return nil
			}
			all = append(all, wrong...)
		}
		return all
	}
	if words, ok := schema["enum"].([]any); ok {
		for _, w := range words {
			if w == v {
				return nil
			}
		}
		return []string{fmt.Sprintf("%s: %v is none of %v", at, v, words)}
	}
	switch v := v.(type) {
	case map[string]any:
		return validateObject(schema, v, at)
	case []any:
		if !hasType(schema, "array") || len(v) == 0 && schema["minItems"] != nil {
			return []string{at + ": no list here, or an empty one"}
		}
		var wrong []string
		for i, item := range v {
			wrong = append(wrong, validate(schema["items"].(map[string]any), item, fmt.Sprintf("%s[%d]", at, i))...)
		}
		return wrong
	case string:
		p, _ := schema["pattern"].(string)
		if !hasType(schema, "string") || p != "" && !regexp.MustCompile(p).MatchString(v) {
			return []string{fmt.Sprintf("%s: %q", at, v)}
		}
	case bool:
		if !hasType(schema, "boolean") {
			return []string{at + ": no truth here"}
		}
	case nil:
		return []string{at + ": nothing"}
	default:
		if !hasType(schema, "number") {
			return []string{at + ": no number here"}
		}
	}
	return nil
}

func validateObject(schema, v map[string]any, at string) []string {
	if !hasType(schema, "object") || len(v) == 0 && schema["minProperties"] != nil {
		return []string{at + ": no mapping here, or an empty one"}
	}
	var wrong []string
	properties, _ := schema["properties"].(map[string]any)
	more, _ := schema["additionalProperties"].(map[string]any)
	for name, value := range v {
		if names, ok := schema["propertyNames"].(map[string]any); ok && !regexp.MustCompile(names["pattern"].(string)).MatchString(name) {
			wrong = append(wrong, at+": the name "+name)
		}
		one, ok := properties[name].(map[string]any)
		if !ok {
			if one = more; more == nil {
				wrong = append(wrong, at+": unknown "+name)
				continue
			}
		}
		wrong = append(wrong, validate(one, value, at+"."+name)...)
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s: %s is missing", at, name))
		}
	}
	return wrong
}

func hasType(schema map[string]any, want string) bool {
	types, ok := schema["type"].([]any)
	if !ok {
		return schema["type"] == want
	}
	for _, t := range types {
		if t == want {
			return true
		}
	}
	return false
}

// TestSchemaAgreesWithLoad gives the same files to both.
func TestSchemaAgreesWithLoad(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	files := shopFiles(t)
	docs, err := os.ReadFile("../../docs/projections.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range yamlBlock.FindAllSubmatch(docs, -1) {
		files[fmt.Sprintf("example %d", i)] = string(b[1])
	}
	paths, err := filepath.Glob("testdata/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path], _, _ = strings.Cut(string(b), "---- ")
		files[path] = strings.TrimSuffix(files[path], "# ")
	}
	// One key after the other of a right file is replaced by nonsense.
	for i, line := range strings.Split(files["orders_view"], "\n") {
		if name, _, ok := strings.Cut(line, ":"); ok && !strings.Contains(line, "#") {
			broken := strings.Split(files["orders_view"], "\n")
			broken[i] = name + ": [[1]]"
			files[fmt.Sprintf("orders_view broken at %d", i+1)] = strings.Join(broken, "\n")
		}
	}
	right, wrong := 0, 0
	for name, text := range files {
		var v any
		if yaml.Unmarshal([]byte(text), &v) != nil {
			continue
		}
		_, faults := Load(name, []byte(text))
		form := faults.Err()
		if form != nil && strings.Contains(form.Error(), "there is nothing to read") {
			form = nil // a matter of sense, not of form
		}
		says := validate(schema, v, "")
		if (form == nil) != (len(says) == 0) {
			t.Errorf("%s: Load says %v, the schema %q", name, form, says)
		}
		if form == nil {
			right++
		} else {
			wrong++
		}
	}
	if right < 20 || wrong < 20 {
		t.Errorf("%d files were right and %d wrong", right, wrong)
	}
}
