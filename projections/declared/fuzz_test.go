package declared

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad reads anything: what is right in form is compiled too, and what
// compiles has tables that package state takes.
func FuzzLoad(f *testing.F) {
	for _, text := range shopFiles(f) {
		f.Add([]byte(text))
	}
	paths, err := filepath.Glob("testdata/*/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		definition, _, _ := strings.Cut(string(text), "---- ")
		f.Add([]byte(strings.TrimSuffix(definition, "# ")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, faults := Load("it.yaml", text)
		if (file == nil) != (faults.Err() != nil) {
			t.Fatalf("a file and faults, or neither: %v", faults)
		}
		if file == nil {
			return
		}
		p, faults := Compile(file, nil)
		if (p == nil) != (faults.Err() != nil) {
			t.Fatalf("a program and faults, or neither: %v", faults)
		}
		if p == nil {
			return
		}
		again, faults := Load("it.yaml", []byte(file.Definition))
		if again == nil || again.Digest != file.Digest {
			t.Fatalf("its own definition is another one: %v", faults)
		}
	})
}
