package clitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Answer is what a finished command said.
type Answer struct {
	// Args is what was asked, without the program.
	Args []string
	// Code is its exit code, -1 after a signal.
	Code int
	// Out and Err are all of its stdout and stderr.
	Out, Err string

	program string
}

func (a Answer) String() string {
	return fmt.Sprintf("%s %s: exit %d\n--- stdout\n%s--- stderr\n%s", a.program, strings.Join(a.Args, " "), a.Code, a.Out, a.Err)
}

// Run runs a command to its end. One that cannot be started, or that has not ended
// within the limit, fails the test at once; the latter is killed. An exit code other
// than 0 does not: see Must.
func Run(t testing.TB, limit time.Duration, cmd *exec.Cmd) Answer {
	t.Helper()
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := start(cmd); err != nil {
		t.Fatalf("run %s: %v", name(cmd), err)
	}
	late := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	a := Answer{cmd.Args[1:], cmd.ProcessState.ExitCode(), out.String(), errw.String(), filepath.Base(cmd.Path)}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", name(cmd), err)
	}
	if !late.Stop() {
		t.Fatalf("it does not end within %s: %s", limit, a)
	}
	return a
}

// Must fails the test at once where the exit code is another one, and gives the answer
// itself.
func (a Answer) Must(t testing.TB, code int) Answer {
	t.Helper()
	if a.Code != code {
		t.Fatalf("want exit %d from %s", code, a)
	}
	return a
}

// Decode reads the JSON on stdout into v. What is no JSON, or has a field without a
// place in v, fails the test at once.
func (a Answer) Decode(t testing.TB, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(a.Out))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, a)
	}
}
