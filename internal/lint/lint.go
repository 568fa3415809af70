// Package lint holds the rules of the house that a compiler cannot check: who
// may import whom, where each foreign library lives, that packages and exported
// names explain themselves, that no package reads the environment, that no test
// sleeps. They are checked by this package's own test, so "go test ./..." tells.
//
// A new package needs a line in the table Imports, and a reason of its own to
// change, as ARCHITECTURE.md says.
package lint

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
)

// module is the path that our own imports begin with.
const module = "banyan/"

// Imports says which of our packages each package may import outside its tests.
// A folder is covered by its own line or by that of the nearest folder above.
// "*" stands for all but commands and test kits.
var Imports = map[string][]string{
	"money":       nil,
	"expression":  {"money"},
	"event":       {"money"},
	"wal":         nil,
	"translate":   {"wal", "event", "money", "expression", "internal/document"},
	"outbox":      {"event"},
	"bus":         {"event"},
	"token":       {"event"},
	"contract":    {"event"},
	"projections": {"event", "money", "token", "expression", "projections", "internal/document", "internal/figures"},
	"quote":       {"event", "money"},
	"pricing":     {"event", "money", "quote", "internal/document"},
	"compare":     {"money", "compare"},
	"shadow":      {"event", "money", "quote", "compare", "projections", "token", "expression", "shadow/ask"},
	"gateway":     {"compare"},
	"doctor":      {"wal"},
	"draft":       {"doctor", "wal"},
	"proof":       {"wal", "translate", "event", "bus", "internal/figures"},
	"cmd":         {"*"},
	"bench":       {"*"},
	"scenarios":   {"internal/embedded", "internal/pgurl", "money"},

	"projections/projectiontest": {"event", "money", "outbox", "projections"},
	"compare/stats":              nil,
	"compare/structure":          nil,
	"shadow/ask":                 {"quote", "money"},
	"shadow/parity":              {"compare", "token"},

	"internal/document":  {"expression"},
	"internal/embedded":  nil,
	"internal/figures":   nil,
	"internal/pgurl":     nil,
	"internal/lint":      nil,
	"internal/pgtest":    {"internal/embedded"},
	"internal/kafkatest": {"internal/embedded"},
	"internal/randtest":  nil,
}

// Homes says where a foreign library may be imported outside tests. A library
// that is not listed may be used anywhere.
var Homes = map[string][]string{
	"github.com/jackc/pglogrepl":    {"wal", "bench"},
	"github.com/segmentio/kafka-go": {"bus", "bench", "internal/kafkatest"},
	"github.com/twmb/franz-go":      {"internal/embedded", "internal/kafkatest", "bench"},
	"github.com/labstack/echo":      {"cmd/legacy-shop"},
	"github.com/spf13/cobra":        {"cmd"},
	"github.com/expr-lang/expr":     {"expression"},
	"github.com/google/go-cmp":      {"compare", "projections/projectiontest"},
	"github.com/prometheus":         {"cmd"},
	"github.com/ulikunitz/xz":       {"internal/embedded"},
	"github.com/failsafe-go":        {"shadow/ask"},
	"gonum.org/v1/gonum":            {"compare"},
	"go.uber.org/goleak":            {},
	"pgregory.net/rapid":            {},
}

// kits are for tests; their own files count as such.
var kits = []string{"internal/pgtest", "internal/kafkatest", "internal/randtest", "cmd/internal/clitest"}

// commands may read the environment; what they find there they pass on.
var commands = []string{"cmd", "scenarios", "bench"}

// A line that a person reads tomorrow must hold here; these do not.
var (
	unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)
	// finished are words that only look like it: a function of context, and ISO 4217's
	// code for no currency.
	finished   = strings.NewReplacer("context."+"TO"+"DO", "", `"X`+`XX"`, "")
	ownMachine = regexp.MustCompile(`(^|[^\w/.])/(wo` + `rk|ro` + `ot|ho` + `me/\w+|Us` + `ers/\w+)/`)
)

// Check reads every file under root and returns what breaks a rule, one
// sentence each, sorted. It fails when a file cannot be read or parsed.
func Check(root string) ([]string, error) {
	var faults []string
	docs := map[string]string{} // folder -> package doc, "" while none is seen
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != root && (base == ".git" || base == "banyan-data") {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return fmt.Errorf("place %s: %w", name, err)
		}
		rel = filepath.ToSlash(rel)
		faults = append(faults, checkText(rel, content)...)
		if path.Ext(rel) != ".go" {
			return nil
		}
		found, err := checkGo(rel, content, docs)
		faults = append(faults, found...)
		return err
	})
	if err != nil {
		return nil, err
	}
	for dir, doc := range docs {
		if len(doc) < 80 {
			faults = append(faults, dir+": the package does not open with a paragraph for a newcomer")
		}
	}
	sort.Strings(faults)
	return faults, nil
}

// checkText holds for every file that is text.
func checkText(rel string, content []byte) []string {
	if bytes.IndexByte(content, 0) >= 0 {
		return nil
	}
	var faults []string
	for i, line := range strings.Split(string(content), "\n") {
		if unfinished.MatchString(finished.Replace(line)) {
			faults = append(faults, fmt.Sprintf("%s:%d: unfinished work: %s", rel, i+1, strings.TrimSpace(line)))
		}
		if ownMachine.MatchString(line) {
			faults = append(faults, fmt.Sprintf("%s:%d: a path of somebody's machine: %s", rel, i+1, strings.TrimSpace(line)))
		}
	}
	return faults
}

func checkGo(rel string, content []byte, docs map[string]string) ([]string, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, rel, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	dir := path.Dir(rel)
	test := strings.HasSuffix(rel, "_test.go")
	kit := slices.Contains(kits, dir)
	var faults []string
	report := func(p token.Pos, format string, args ...any) {
		faults = append(faults, fmt.Sprintf("%s:%d: %s", rel, fset.Position(p).Line, fmt.Sprintf(format, args...)))
	}
	if !test {
		if doc := f.Doc.Text(); len(doc) > len(docs[dir]) || docs[dir] == "" {
			docs[dir] = doc
		}
		checkImports(f, dir, kit, report)
		checkExported(f, report)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := call.X.(*ast.Ident)
		if !ok {
			return true
		}
		switch name := pkg.Name + "." + call.Sel.Name; name {
		case "time.Sleep":
			if test {
				report(n.Pos(), "a test sleeps; wait for a signal, or poll a condition with a deadline")
			}
		case "os.Getenv", "os.LookupEnv", "os.Environ", "os.ExpandEnv":
			if !test && !kit && !slices.ContainsFunc(commands, func(c string) bool { return within(dir, c) }) {
				report(n.Pos(), "%s: only commands read the environment", name)
			}
		}
		return true
	})
	return faults, nil
}

func checkImports(f *ast.File, dir string, kit bool, report func(token.Pos, string, ...any)) {
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has refused it already
		}
		if own, ok := strings.CutPrefix(p, module); ok {
			if err := mayImport(dir, own); err != nil && !(kit && slices.Contains(kits, own)) {
				report(spec.Pos(), "%v", err)
			}
			continue
		}
		for lib, homes := range Homes {
			if within(p, lib) && !slices.ContainsFunc(homes, func(h string) bool { return within(dir, h) }) {
				report(spec.Pos(), "%s lives in %s and nowhere else", lib, orTests(homes))
			}
		}
	}
}

func orTests(homes []string) string {
	if len(homes) == 0 {
		return "tests"
	}
	return strings.Join(homes, ", ")
}

// mayImport says whether the package in dir may import another of ours.
func mayImport(dir, own string) error {
	if slices.Contains(kits, own) {
		return fmt.Errorf("%s is for tests", own)
	}
	for d := dir; ; d = path.Dir(d) {
		allowed, listed := Imports[d]
		if !listed {
			if d == "." || d == "/" {
				return fmt.Errorf("%s is not in the table Imports of internal/lint", dir)
			}
			continue
		}
		if d != dir && within(own, d) {
			return nil // parts of one package's folder
		}
		for _, a := range allowed {
			if within(own, a) || (a == "*" && !within(own, "cmd")) {
				return nil
			}
		}
		return fmt.Errorf("%s may not import %s", dir, own)
	}
}

// within reports whether a slash path is the folder or lies below it.
func within(p, folder string) bool {
	return p == folder || strings.HasPrefix(p, folder+"/")
}

// checkExported wants a doc comment on every exported name of a package that
// others can import; a group's comment covers its members.
func checkExported(f *ast.File, report func(token.Pos, string, ...any)) {
	if f.Name.Name == "main" {
		return
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
				report(d.Pos(), "%s has no doc comment", d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if name, documented := exportedSpec(spec); name != "" && !documented && d.Doc == nil {
					report(spec.Pos(), "%s has no doc comment", name)
				}
			}
		}
	}
}

// exportedReceiver is false for methods nobody outside can name, and for those
// whose contract a well-known interface gives.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	if slices.Contains([]string{"Error", "Unwrap", "Is", "String", "Len", "Less", "Swap", "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText"}, d.Name.Name) {
		return false
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return unicode.IsUpper([]rune(x.Name)[0])
		default:
			return false
		}
	}
}

func exportedSpec(spec ast.Spec) (name string, documented bool) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			return s.Name.Name, s.Doc != nil || s.Comment != nil
		}
	case *ast.ValueSpec:
		for _, n := range s.Names {
			if n.IsExported() {
				return n.Name, s.Doc != nil || s.Comment != nil
			}
		}
	}
	return "", false
}

// FindRoot is the nearest folder upward from dir that holds go.mod.
func FindRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolve the folder: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above this folder")
		}
		dir = filepath.Dir(dir)
	}
}
