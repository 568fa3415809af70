// Package clitest runs our programs in tests as an operator runs them: as processes
// of their own, with flags, an environment, exit codes, signals and kill -9.
//
// Command builds the program of a package, once in a test process, and prepares a
// command of it. Run runs a command to its end and gives an Answer: exit code, stdout
// and stderr. Start begins one that goes on, and gives a Process: a test waits for the
// stages that it says on stdout, reads its log, sends it signals, ends it. What has no
// line of its own to wait for is asked for with Eventually.
//
// A package whose tests use Command has the one line
//
//	func TestMain(m *testing.M) { clitest.Main(m) }
//
// which removes the programs. Processes need nothing: they end with the test that
// started them, and with the test process when that is killed.
//
// Tests only: it imports testing, and no program may be linked with it.
package clitest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Away is an address where nobody listens: a port that the system gives to nobody who
// asks for any.
const Away = "127.0.0.1:1023"

// Patience is how long a test waits for what must come, on a loaded machine and under
// the race detector too.
const Patience = 2 * time.Minute

// programs are what Command has built, by absolute path of the package.
var programs struct {
	sync.Mutex
	dir   string // removed by Main
	built map[string]program
}

type program struct {
	path string
	err  error
}

// Main is all of a package's TestMain: it runs the tests, removes the programs that
// they have built, and exits with the code of the tests. It does not return.
func Main(m *testing.M) {
	code := m.Run()
	programs.Lock()
	defer programs.Unlock()
	if programs.dir != "" {
		os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

// Command prepares a command of the main package in folder pkg ("." is the tested
// one), with these arguments and with Environ; the caller may set its directory and
// add to its environment. The program is built by the first call, with the race
// detector where the tests have it; one that cannot be built fails the test at once.
func Command(t testing.TB, pkg string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := build(pkg)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = Environ()
	return cmd
}

func build(pkg string) (string, error) {
	folder, err := filepath.Abs(pkg)
	if err != nil {
		return "", fmt.Errorf("find package %s: %w", pkg, err)
	}
	programs.Lock()
	defer programs.Unlock()
	p, done := programs.built[folder]
	if !done {
		if programs.dir == "" {
			if programs.dir, err = os.MkdirTemp("", "banyan-clitest-"); err != nil {
				return "", err
			}
			programs.built = map[string]program{}
		}
		p.path = filepath.Join(programs.dir, filepath.Base(folder))
		args := []string{"build", "-o", p.path}
		if raceEnabled {
			args = append(args, "-race")
		}
		if msg, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
			p.err = fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
		}
		programs.built[folder] = p
	}
	return p.path, p.err
}

// Environ is the environment of the tests without what tells programs where to connect
// and what to do: BANYAN_* and PG*. Where a name comes twice in an environment, the
// last one counts.
func Environ() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "BANYAN_") && !strings.HasPrefix(e, "PG") {
			env = append(env, e)
		}
	}
	return env
}

// start starts a process that dies with the tests, also when those are killed.
func start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// The parent-death signal is bound to the thread that starts the process: when that
	// thread ends, the process is killed. So nobody who calls this may end its thread,
	// as a goroutine does that returns while it is locked to one.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return cmd.Start()
}

// name is how messages call a command: the program without its folder, and what was
// asked of it.
func name(cmd *exec.Cmd) string {
	return strings.Join(append([]string{filepath.Base(cmd.Path)}, cmd.Args[1:]...), " ")
}

// Eventually asks every 20 ms until it is so, and fails the test at once where it is
// not within the limit. It is for what gives no signal; a stage of a Process does.
func Eventually(t testing.TB, limit time.Duration, what string, is func() bool) {
	t.Helper()
	if !reached(limit, nil, is) {
		t.Fatalf("not within %s: %s", limit, what)
	}
}

// reached asks until it is so, for so long at most; once the channel is closed it asks
// for the last time.
func reached(limit time.Duration, last <-chan struct{}, is func() bool) bool {
	late := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-late:
			return false
		case <-last:
			return is()
		case <-tick.C:
		}
	}
	return true
}

// Buffer is a bytes.Buffer that one goroutine writes and another reads. The zero value
// is empty and ready.
type Buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to the text; it never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
