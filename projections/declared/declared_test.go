package declared

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files anew")

// must loads and compiles a definition.
func must(t testing.TB, path, text string) *Program {
	t.Helper()
	f, faults := Load(path, []byte(text))
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	p, faults := Compile(f, nil)
	for _, one := range faults {
		t.Errorf("%s", one)
	}
	if p == nil {
		t.FailNow()
	}
	return p
}

func shopFiles(t testing.TB) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../../scenarios/projections/*.yaml")
	if err != nil || len(paths) < 6 {
		t.Fatalf("%d projections of the shop, %v", len(paths), err)
	}
	out := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(path), ".yaml")] = string(text)
	}
	return out
}

func TestTheShopsProjectionsCompile(t *testing.T) {
	for name, text := range shopFiles(t) {
		p := must(t, name+".yaml", text)
		if p.Spec().Name != name {
			t.Errorf("%s.yaml is the projection %s", name, p.Spec().Name)
		}
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(projection: .*?)```")

func TestTheExamplesOfTheDocumentationCompile(t *testing.T) {
	text, err := os.ReadFile("../../docs/projections.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllSubmatch(text, -1)
	if len(blocks) < 10 {
		t.Fatalf("found %d examples", len(blocks))
	}
	for _, b := range blocks {
		must(t, "docs/projections.md", string(b[1]))
	}
}

// TestDigest: what decides rows counts, how it is written does not.
func TestDigest(t *testing.T) {
	of := func(text string) string {
		f, faults := Load("it.yaml", []byte("projection: it\n"+text))
		if f == nil {
			t.Fatal(faults)
		}
		return f.Digest
	}
	base := of("tables:\n  a: {from: x.y, columns: {id: bigint key, comment: text}}\n")
	for _, same := range []string{
		"tables:\n  a:\n    from: x.y # why\n    comment: for people\n    columns:\n      id: bigint key\n      comment: text\n",
		"comment: hello\ntables:\n  a: {from: x.y, columns: {id: bigint key, comment: text}}\napi: {b: a}\neffects: {e: {from: x.y, on: [A], http: {url: x}}}\n",
	} {
		if of(same) != base {
			t.Errorf("another digest: %s", same)
		}
	}
	for _, other := range []string{
		"tables:\n  a: {from: x.y, columns: {id: bigint key, comment: integer}}\n",
		"tables:\n  a: {from: x.y, columns: {id: bigint key}}\n",
		"settings: {a: 3}\ntables:\n  a: {from: x.y, columns: {id: bigint key, comment: text}}\n",
		"settings: {a: \"3\"}\ntables:\n  a: {from: x.y, columns: {id: bigint key, comment: text}}\n",
	} {
		if of(other) == base {
			t.Errorf("the same digest: %s", other)
		}
	}
}
