package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"banyan/compare"
	"banyan/money"

	"github.com/google/go-cmp/cmp"
)

const schemaFile = "../../docs/shadow-report.schema.json"

// TestSchema holds the documented shape of the JSON against the types.
func TestSchema(t *testing.T) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(newSchema(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s is not the shape of a report any more (-want +got); run the test with -update:\n%s", schemaFile, diff)
	}
}

// TestReportsFitTheSchema checks reports of all rungs against it, and that it refuses
// what is no report.
func TestReportsFitTheSchema(t *testing.T) {
	raw, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	check := func(r any) []string {
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		return validate(schema, schema, v, "report")
	}
	reports := []*compare.Report{sample()}
	for _, s := range ladder {
		reports = append(reports, onRung(s.Rung))
	}
	for _, r := range reports {
		for _, fault := range check(r) {
			t.Errorf("%s: %s", r.Verdict.Rung, fault)
		}
	}
	wrong := sample()
	wrong.Verdict.Rung, wrong.Schema = "ship", "other"
	if faults := check(wrong); len(faults) != 2 {
		t.Errorf("a report with a rung and a version that are not there has the faults %q, want two", faults)
	}
	if faults := check(map[string]any{"schema": 1}); len(faults) < 5 {
		t.Errorf("what is no report has the faults %q only", faults)
	}
}

// source is what the files of a package say about its types.
type source struct {
	docs   map[string]string   // "Report" and "Report.Schema" -> comment
	values map[string][]string // type -> its constants
}

func readSource(t *testing.T, files ...string) source {
	t.Helper()
	s := source{map[string]string{}, map[string][]string{}}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					s.docs[spec.Name.Name] = oneLine(g.Doc.Text())
					if st, ok := spec.Type.(*ast.StructType); ok {
						s.fields(spec.Name.Name, st)
					}
				case *ast.ValueSpec:
					s.constant(spec)
				}
			}
		}
	}
	return s
}

func (s source) fields(name string, st *ast.StructType) {
	for _, f := range st.Fields.List {
		doc := oneLine(f.Doc.Text())
		if doc == "" {
			doc = oneLine(f.Comment.Text())
		}
		for _, n := range f.Names {
			s.docs[name+"."+n.Name] = doc
		}
	}
}

func (s source) constant(spec *ast.ValueSpec) {
	id, ok := spec.Type.(*ast.Ident)
	if !ok {
		return
	}
	for _, v := range spec.Values {
		if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				s.values[id.Name] = append(s.values[id.Name], text)
			}
		}
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// newSchema makes the schema of a Report, JSON Schema 2020-12, from the types and
// their comments.
func newSchema(t *testing.T) map[string]any {
	t.Helper()
	s := schemer{source: readSource(t, "../report.go", "../settings.go", "../cause.go", "../../money/amount.go"), defs: map[string]any{}}
	s.of(reflect.TypeFor[compare.Report]())
	root := s.defs["Report"].(map[string]any)
	delete(s.defs, "Report")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = "banyan/shadow-report/1"
	root["title"] = "A shadow report of Banyan"
	root["$defs"] = s.defs
	root["properties"].(map[string]any)["schema"].(map[string]any)["const"] = "banyan/shadow-report/1"
	return root
}

type schemer struct {
	source source
	defs   map[string]any
}

func (s schemer) of(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		return s.of(t.Elem())
	case t.Kind() == reflect.Struct:
		if _, known := s.defs[t.Name()]; !known {
			s.defs[t.Name()] = nil // for a type that holds itself
			s.defs[t.Name()] = s.object(t)
		}
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": []any{"array", "null"}, "items": s.of(t.Elem())}
	case t.Kind() == reflect.String && len(s.source.values[t.Name()]) > 0:
		var values []any
		for _, v := range s.source.values[t.Name()] {
			values = append(values, v)
		}
		return map[string]any{"enum": values}
	}
	switch t.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	}
	panic("a report holds a " + t.String() + ", for which there is no word in the schema")
}

func (s schemer) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []any{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		p := s.of(f.Type)
		if doc := s.source.docs[t.Name()+"."+f.Name]; doc != "" {
			p["description"] = doc
		}
		properties[name] = p
		if !strings.Contains(options, "omitempty") && f.Type.Kind() != reflect.Pointer {
			required = append(required, name)
		}
	}
	out := map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	if doc := s.source.docs[t.Name()]; doc != "" {
		out["description"] = doc
	}
	return out
}

// TestEveryFieldIsDescribed says which types of a report have no comment.
func TestEveryFieldIsDescribed(t *testing.T) {
	s := schemer{source: readSource(t, "../report.go", "../settings.go", "../cause.go", "../../money/amount.go"), defs: map[string]any{}}
	s.of(reflect.TypeFor[compare.Report]())
	for name, def := range s.defs {
		if def.(map[string]any)["description"] == nil && name != reflect.TypeFor[money.Amount]().Name() {
			t.Errorf("%s is not described", name)
		}
	}
}

// validate checks a value against the words of JSON Schema that newSchema uses.
func validate(root, schema map[string]any, v any, at string) []string {
	var faults []string
	if ref, ok := schema["$ref"].(string); ok {
		def := root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")]
		if def == nil {
			return []string{at + ": nothing is called " + ref}
		}
		faults = validate(root, def.(map[string]any), v, at)
	}
	if want, ok := schema["const"]; ok && want != v {
		faults = append(faults, fmt.Sprintf("%s: %v, want %v", at, v, want))
	}
	if values, ok := schema["enum"].([]any); ok && !slices.Contains(values, v) {
		faults = append(faults, fmt.Sprintf("%s: %v is none of %v", at, v, values))
	}
	if want, ok := schema["type"]; ok && !isType(want, v) {
		return append(faults, fmt.Sprintf("%s: %v is no %v", at, v, want))
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			faults = append(faults, validate(root, schema["items"].(map[string]any), e, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case map[string]any:
		properties, ok := schema["properties"].(map[string]any)
		if !ok {
			return faults
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			p, known := properties[name].(map[string]any)
			if !known {
				faults = append(faults, at+": nothing is known of "+name)
				continue
			}
			faults = append(faults, validate(root, p, v[name], at+"."+name)...)
		}
		for _, name := range schema["required"].([]any) {
			if _, there := v[name.(string)]; !there {
				faults = append(faults, at+": "+name.(string)+" is missing")
			}
		}
	}
	return faults
}

func isType(want, v any) bool {
	if several, ok := want.([]any); ok {
		return slices.ContainsFunc(several, func(w any) bool { return isType(w, v) })
	}
	switch v := v.(type) {
	case nil:
		return want == "null"
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	case float64:
		return want == "number" || want == "integer" && v == math.Trunc(v)
	}
	return false
}
