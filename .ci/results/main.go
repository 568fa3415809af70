// Command results reads what "go test -json" prints and makes of it what a
// person wants of a long run: one line per package, the whole output of what
// failed, and every skipped test with its reason, so that no hole in the tests
// goes unseen. It exits 1 when a test failed and 2 when it read nothing.
//
//	go test -json ./... | go run ./.ci/results -skips skips.txt
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of "go test -json".
type event struct {
	Action, Package, ImportPath, Test, Output, FailedBuild string
}

func main() {
	skips := flag.String("skips", "", "append skipped tests and their reasons to this file")
	flag.Parse()
	sum, err := report(os.Stdin, os.Stdout)
	if err == nil && *skips != "" {
		err = appendLines(*skips, sum.skipped)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "results:", err)
		os.Exit(2)
	case len(sum.failed) > 0:
		os.Exit(1)
	}
}

type summary struct {
	passed  int
	skipped []string        // "package Test: reason"
	failed  []string        // "package Test", or "package" alone where it panicked or did not build
	broken  map[string]bool // the packages with a failed test
}

// report copies what matters from r to w as it comes.
func report(r io.Reader, w io.Writer) (summary, error) {
	sum := summary{broken: map[string]bool{}}
	said := map[string][]string{} // package + test -> its output so far
	in := bufio.NewReader(r)
	lines := 0
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			lines++
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(w, "%s", line) // the go command's own words
			} else {
				sum.take(e, said, w)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return sum, fmt.Errorf("read the test results: %w", err)
		}
	}
	if lines == 0 {
		return sum, errors.New("no test results came")
	}
	// Again at the end: what they printed may be a thousand lines above.
	for _, name := range sum.failed {
		fmt.Fprintln(w, "failed:", name)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", sum.passed, len(sum.failed), len(sum.skipped))
	return sum, nil
}

func (s *summary) take(e event, said map[string][]string, w io.Writer) {
	key := e.Package + " " + e.Test
	switch {
	case e.Action == "build-output":
		fmt.Fprint(w, e.Output)
	case e.Action == "output" && e.Test == "" && isVerdict(e.Output):
		fmt.Fprint(w, e.Output)
	case e.Action == "output":
		said[key] = append(said[key], e.Output)
	case e.Action == "pass" && e.Test != "":
		s.passed++
		delete(said, key)
	case e.Action == "skip" && e.Test != "":
		s.skipped = append(s.skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(said[key])))
		delete(said, key)
	case e.Action == "fail":
		// A package fails with its tests; alone when it panics or does not build.
		if e.Test != "" {
			s.failed = append(s.failed, key)
			s.broken[e.Package] = true
		} else if !s.broken[e.Package] {
			s.failed = append(s.failed, e.Package)
		}
		fmt.Fprint(w, strings.Join(said[key], ""))
		delete(said, key)
	}
}

// isVerdict is true for the lines with which go test closes a package.
func isVerdict(line string) bool {
	for _, p := range []string{"ok  ", "FAIL\t", "---", "?   "} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return false
}

// reason is what the test said, without go test's own frame.
func reason(lines []string) string {
	var kept []string
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if l != "" && !strings.HasPrefix(l, "===") && !strings.HasPrefix(l, "---") {
			kept = append(kept, l)
		}
	}
	if len(kept) == 0 {
		return "it gives no reason"
	}
	return strings.Join(kept, " ")
}

func appendLines(name string, lines []string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("keep the skipped tests: %w", err)
	}
	for _, l := range lines {
		if _, err = fmt.Fprintln(f, l); err != nil {
			break
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep the skipped tests: %w", err)
	}
	return nil
}
