package clitest_test

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banyan/cmd/internal/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m) }

func shell(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }

// failing is a test that may fail: it keeps what it was told.
type failing struct {
	testing.TB
	mu   sync.Mutex
	told []string
}

func (f *failing) Helper() {}

func (f *failing) Failed() bool { return false }

func (f *failing) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, fmt.Sprintf(format, args...))
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *failing) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }

// fails wants do to fail its test at once, and to say all of this.
func fails(t *testing.T, do func(t testing.TB), says ...string) {
	t.Helper()
	f := &failing{TB: t}
	ended := make(chan bool, 1)
	go func() {
		through := false
		defer func() { ended <- through }()
		do(f)
		through = true
	}()
	through := <-ended
	if through || len(f.told) != 1 {
		t.Fatalf("it goes on %v, and says %q", through, f.told)
	}
	for _, s := range says {
		if !strings.Contains(f.told[0], s) {
			t.Errorf("it does not say %q: %s", s, f.told[0])
		}
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	a := clitest.Run(t, clitest.Patience, shell(`echo '{"a":1}'; echo oh >&2; exit 3`)).Must(t, 3)
	if a.Out != "{\"a\":1}\n" || a.Err != "oh\n" {
		t.Errorf("it is %s", a)
	}
	var v struct{ A int }
	if a.Decode(t, &v); v.A != 1 {
		t.Errorf("it decodes %+v", v)
	}
	fails(t, func(t testing.TB) { a.Must(t, 0) }, "want exit 0 from sh -c", "exit 3", "oh")
	fails(t, func(t testing.TB) { a.Decode(t, &struct{ B int }{}) }, "unknown field")
	fails(t, func(t testing.TB) { clitest.Run(t, 50*time.Millisecond, shell(`echo early; exec sleep 600`)) }, "does not end within 50ms", "early")
	fails(t, func(t testing.TB) { clitest.Run(t, clitest.Patience, exec.Command("./nothing")) }, "run nothing")
}

func TestStagesComeInAnyOrder(t *testing.T) {
	t.Parallel()
	p := clitest.Start(t, shell(`echo 'listening on http://x (/healthz)'; echo one; echo two; echo one more; echo said >&2; read never`))
	p.Await("two")
	if got := p.Await("one"); got != "one" {
		t.Errorf("the first is %q", got)
	}
	if got := p.AwaitNext("one"); got != "one more" {
		t.Errorf("the next is %q", got)
	}
	if got := p.Listening(); got != "http://x" {
		t.Errorf("it listens on %q", got)
	}
	p.AwaitLog("said")
	if code := p.End(); code != 1 || p.End() != 1 {
		t.Errorf("it ends with %d", code)
	}
	if got := p.Said(); len(got) != 4 || p.Log() != "said\n" {
		t.Errorf("it said %q and %q", got, p.Log())
	}
	<-p.Ended()
	p.Signal(syscall.SIGTERM) // nobody is there
}

func TestAnEndBeforeTheStage(t *testing.T) {
	t.Parallel()
	last := clitest.Start(t, shell(`echo last; echo why >&2; exit 3`))
	last.End()
	last.Await("last")
	fails(t, func(t testing.TB) { clitest.Start(t, shell(`echo other; echo why >&2; exit 3`)).Await("stage") }, "ended (exit 3) before it said \"stage\"", "other", "why")
	fails(t, func(t testing.TB) { clitest.Start(t, shell(`echo stage`)).AwaitNext("other") }, "before it said")
	fails(t, func(t testing.TB) { clitest.Start(t, shell(`echo why >&2`)).AwaitLog("how") }, "does not say \"how\"", "why")
	fails(t, func(t testing.TB) { clitest.Start(t, exec.Command("./nothing")) }, "start nothing")
}

func TestStopAndKill(t *testing.T) {
	t.Parallel()
	p := clitest.Start(t, shell(`trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done`))
	p.Await("up")
	p.StopWithin(clitest.Patience)
	p = clitest.Start(t, shell(`echo up; exec sleep 600`))
	p.Await("up")
	p.Kill()
	if code := p.End(); code != -1 {
		t.Errorf("killed, it ends with %d", code)
	}
	fails(t, func(t testing.TB) {
		p := clitest.Start(t, shell(`trap 'echo sorry >&2; exit 4' TERM; echo up; while :; do sleep 0.01; done`))
		p.Await("up")
		p.Stop()
	}, "told to stop, exits with 4", "sorry")
	f := &failing{TB: t}
	p = clitest.Start(f, shell(`trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done`))
	p.Await("up")
	if p.StopWithin(0); len(f.told) != 1 || !strings.Contains(f.told[0], "told to stop, takes") {
		t.Errorf("of one that takes its time it says %q", f.told)
	}
}

// What a test leaves behind is killed when it ends, also where it stands still.
func TestTheEndOfATestEndsItsProcesses(t *testing.T) {
	t.Parallel()
	var p *clitest.Process
	t.Run("one", func(t *testing.T) {
		p = clitest.Start(t, shell(`echo up; exec sleep 600`))
		p.Await("up")
		p.Signal(syscall.SIGSTOP)
	})
	select {
	case <-p.Ended():
	default:
		t.Error("it lives")
	}
}

func TestCommandBuildsOnceAndForgetsWhereToConnect(t *testing.T) {
	t.Setenv("BANYAN_DB", "postgres://elsewhere")
	t.Setenv("PGHOST", "elsewhere")
	t.Setenv("CLITEST", "stays")
	one, two := clitest.Command(t, "../../pricing", "--help"), clitest.Command(t, "../../pricing", "nothing")
	if one.Path != two.Path {
		t.Errorf("it is built twice: %s, %s", one.Path, two.Path)
	}
	env := strings.Join(one.Env, "\n")
	if strings.Contains(env, "elsewhere") || !strings.Contains(env, "CLITEST=stays") {
		t.Errorf("the environment is %s", env)
	}
	if a := clitest.Run(t, clitest.Patience, one).Must(t, 0); !strings.Contains(a.Out, "Usage:") || a.Args[0] != "--help" {
		t.Errorf("it says %s", a)
	}
	if a := clitest.Run(t, clitest.Patience, two); a.Code == 0 || !strings.HasPrefix(a.String(), "pricing nothing: exit") {
		t.Errorf("it says %s", a)
	}
	fails(t, func(t testing.TB) { clitest.Command(t, "../nothing") }, "build ../nothing")
}

func TestEventually(t *testing.T) {
	t.Parallel()
	n := 0
	clitest.Eventually(t, clitest.Patience, "three", func() bool { n++; return n == 3 })
	fails(t, func(t testing.TB) { clitest.Eventually(t, 30*time.Millisecond, "never", func() bool { return false }) }, "not within 30ms: never")
}
