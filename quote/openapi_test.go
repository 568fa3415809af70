package quote

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/money"
)

type schema struct {
	Type        any               `json:"type"`
	Ref         string            `json:"$ref"`
	Format      string            `json:"format"`
	Description string            `json:"description"`
	Required    []string          `json:"required"`
	Properties  map[string]schema `json:"properties"`
	Items       *schema           `json:"items"`
	Enum        []string          `json:"enum"`
	MaxItems    int               `json:"maxItems"`
	MaxLength   int               `json:"maxLength"`
}

type content map[string]struct {
	Schema   schema          `json:"schema"`
	Example  json.RawMessage `json:"example"`
	Examples map[string]struct {
		Value json.RawMessage `json:"value"`
	} `json:"examples"`
}

type document struct {
	OpenAPI string `json:"openapi"`
	Paths   map[string]map[string]struct {
		RequestBody struct {
			Content content `json:"content"`
		} `json:"requestBody"`
		Responses map[string]struct {
			Content content `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

func readDocument(t *testing.T) document {
	t.Helper()
	var doc document
	if err := json.Unmarshal(OpenAPI(), &doc); err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	return doc
}

// TestOpenAPISaysWhatTheTypesAre holds the document against the Go types: the same
// fields, the same ones always there, the same kinds.
func TestOpenAPISaysWhatTheTypesAre(t *testing.T) {
	doc := readDocument(t)
	types := map[string]reflect.Type{}
	for _, v := range []any{Request{}, Order{}, Line{}, Product{}, Demand{}, Response{}, Answer{}, Price{}, Step{}, Problem{}, FieldProblem{}, money.Amount{}} {
		types[reflect.TypeOf(v).Name()] = reflect.TypeOf(v)
	}
	for name, typ := range types {
		s, ok := doc.Components.Schemas[name]
		if !ok {
			t.Errorf("openapi.json does not describe %s", name)
			continue
		}
		got := map[string]string{}
		for field, p := range s.Properties {
			got[field] = kindOf(p)
			if p.Ref == "" && p.Description == "" && p.Type != "array" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
		want, required := map[string]string{}, []string{}
		for f := range typ.Fields() {
			field, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
			if field == "-" {
				continue
			}
			want[field] = goKind(f.Type)
			if opts == "" {
				required = append(required, field)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -Go +openapi.json\n%s", name, diff)
		}
		slices.Sort(required)
		slices.Sort(s.Required)
		if diff := cmp.Diff(required, s.Required); diff != "" {
			t.Errorf("required of %s: -Go +openapi.json\n%s", name, diff)
		}
	}
	for name := range doc.Components.Schemas {
		if _, ok := types[name]; !ok && name != "Health" {
			t.Errorf("openapi.json describes %s, which is no type", name)
		}
	}
	limits := map[string]int{"orders": doc.Components.Schemas["Request"].Properties["orders"].MaxItems, "lines": doc.Components.Schemas["Order"].Properties["lines"].MaxItems,
		"id": doc.Components.Schemas["Order"].Properties["id"].MaxLength}
	if diff := cmp.Diff(map[string]int{"orders": MaxOrders, "lines": MaxLines, "id": maxName}, limits); diff != "" {
		t.Errorf("limits: -Go +openapi.json\n%s", diff)
	}
}

func kindOf(s schema) string {
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Items != nil:
		return "array of " + kindOf(*s.Items)
	case s.Format == "date-time":
		return "time"
	}
	return s.Type.(string)
}

func goKind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t.Kind() == reflect.Pointer:
		return goKind(t.Elem())
	case t.Kind() == reflect.Slice:
		return "array of " + goKind(t.Elem())
	case t.Kind() == reflect.Struct:
		return t.Name()
	case t.Kind() == reflect.Int64 || t.Kind() == reflect.Int:
		return "integer"
	case t.Kind() == reflect.Bool:
		return "boolean"
	}
	return t.Kind().String()
}

// TestOpenAPIExamples reads each example as what its schema says, and writes it back
// to the same.
func TestOpenAPIExamples(t *testing.T) {
	doc := readDocument(t)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("it is OpenAPI %s", doc.OpenAPI)
	}
	seen := map[string]int{}
	look := func(where string, c content) {
		for _, m := range c {
			var all []json.RawMessage
			if m.Example != nil {
				all = append(all, m.Example)
			}
			for _, e := range m.Examples {
				all = append(all, e.Value)
			}
			name := kindOf(m.Schema)
			seen[name] += len(all)
			for _, example := range all {
				back, err := again(name, example)
				if err != nil {
					t.Errorf("%s: %v", where, err)
					continue
				}
				if diff := cmp.Diff(plain(t, example), plain(t, back)); diff != "" {
					t.Errorf("%s: an example comes back as another: -it +Go\n%s", where, diff)
				}
			}
		}
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			look(method+" "+path, op.RequestBody.Content)
			for status, r := range op.Responses {
				look(method+" "+path+" "+status, r.Content)
			}
		}
	}
	if seen["Request"] < 1 || seen["Response"] < 2 || seen["Problem"] < 4 {
		t.Errorf("there are only so many examples: %v", seen)
	}
}

func again(name string, example []byte) ([]byte, error) {
	switch name {
	case "Request":
		v, err := DecodeRequest(example)
		if err != nil {
			return nil, err
		}
		return json.Marshal(v)
	case "Response":
		v, err := DecodeResponse(example)
		if err != nil {
			return nil, err
		}
		return json.Marshal(v)
	case "Problem":
		var v Problem
		if err := json.Unmarshal(example, &v); err != nil {
			return nil, err
		}
		return json.Marshal(v)
	}
	return example, nil
}

func plain(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

var problemType = regexp.MustCompile(`problem\([^,]+, "([a-z-]+)"`)

// TestOpenAPIListsEveryProblem finds the types of problems in the source.
func TestOpenAPIListsEveryProblem(t *testing.T) {
	want := []string{}
	for _, m := range problemType.FindAllStringSubmatch(source(t, "handler.go"), -1) {
		if kind := "/problems/" + m[1]; !slices.Contains(want, kind) {
			want = append(want, kind)
		}
	}
	got := readDocument(t).Components.Schemas["Problem"].Properties["type"].Enum
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-source +openapi.json\n%s", diff)
	}
}
