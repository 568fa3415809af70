package clitest

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a command in the background. It says its stages on stdout, a line each,
// and its log on stderr. Its methods fail the test that started it, and are for the
// goroutine of that test; String, Log, Said, PID and Ended are for all.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	log   Buffer
	ended chan struct{}
	next  int // of said, where AwaitNext goes on

	mu   sync.Mutex
	said []string
	more chan struct{} // closed by the next line
}

// Start begins a command and returns at once. When the test ends the process is
// killed, if it lives, and its log is printed where the test has failed. One that
// cannot be started fails the test at once.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, ended: make(chan struct{}), more: make(chan struct{})}
	cmd.Stderr = &p.log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := start(cmd); err != nil {
		t.Fatalf("start %s: %v", p, err)
	}
	go func() {
		defer close(p.ended)
		s := bufio.NewScanner(stdout)
		s.Buffer(nil, 16<<20)
		for s.Scan() {
			p.hear(s.Text())
		}
		_ = cmd.Wait() // its exit code is asked for where it matters
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("log of %s (pid %d):\n%s", p, p.PID(), p.Log())
		}
	})
	return p
}

func (p *Process) String() string { return name(p.cmd) }

// PID is the number that the system gave the process; it may have ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is what it has written on stderr so far.
func (p *Process) Log() string { return p.log.String() }

// Said are the lines of stdout so far.
func (p *Process) Said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.said)
}

// Ended is closed when the process has ended and all that it said is here.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// hear takes a line and wakes those who wait for one.
func (p *Process) hear(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, line)
	close(p.more)
	p.more = make(chan struct{})
}

// find gives where the first line is that begins with word, from a place on, or else
// what is closed when there is one more to look at.
func (p *Process) find(word string, from int) (at int, line string, more <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := from; at < len(p.said); at++ {
		if strings.HasPrefix(p.said[at], word) {
			return at, p.said[at], nil
		}
	}
	return -1, "", p.more
}

// Await waits for a stage, a line of stdout that begins with word, and gives the first
// such line. Stages may come in any order: one that was said before counts. The test
// fails at once where the process ends without it, or has not said it within Patience.
func (p *Process) Await(word string) string {
	p.t.Helper()
	return p.await(word, 0)
}

// AwaitNext is Await for a stage that comes after those that were awaited already.
func (p *Process) AwaitNext(word string) string {
	p.t.Helper()
	return p.await(word, p.next)
}

func (p *Process) await(word string, from int) string {
	p.t.Helper()
	limit, gone := time.After(Patience), false
	for {
		at, line, more := p.find(word, from)
		switch {
		case at >= 0:
			p.next = max(p.next, at+1)
			return line
		case gone:
			p.t.Fatalf("%s ended (exit %d) before it said %q, it said %q:\n%s", p, p.cmd.ProcessState.ExitCode(), word, p.Said(), p.Log())
		}
		select {
		case <-more:
		case <-p.ended:
			gone = true // what it said last is still to be looked at
		case <-limit:
			p.t.Fatalf("%s did not say %q in %s, it said %q:\n%s", p, word, Patience, p.Said(), p.Log())
		}
	}
}

// AwaitLog waits until the log has a text somewhere. The test fails at once where the
// process ends without it, or has not written it within Patience.
func (p *Process) AwaitLog(text string) {
	p.t.Helper()
	if !reached(Patience, p.ended, func() bool { return strings.Contains(p.Log(), text) }) {
		p.t.Fatalf("the log of %s does not say %q:\n%s", p, text, p.Log())
	}
}

// Listening waits, as Await does, until the program says "listening on URL", and gives
// the URL without what else is on that line.
func (p *Process) Listening() string {
	p.t.Helper()
	url, _, _ := strings.Cut(strings.TrimPrefix(p.Await("listening on "), "listening on "), " ")
	return url
}

// Signal sends a signal; SIGKILL is a real kill -9. To a process that has ended it does
// nothing.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

// End waits until the process ends by itself and gives its exit code, -1 after a
// signal. It may be called again. The test fails at once where that takes longer than
// Patience.
func (p *Process) End() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.t.Fatalf("%s does not end:\n%s", p, p.Log())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Kill is kill -9, and waits until the process is gone.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	p.End()
}

// Stop asks the process to end, as an operator does (SIGTERM). The test fails where it
// exits with another code than 0, or has not ended within Patience, at once.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.End(); code != 0 {
		p.t.Fatalf("%s, told to stop, exits with %d:\n%s", p, code, p.Log())
	}
}

// StopWithin is Stop for a process that may wait for what does not come, and must not
// when it is told to stop: the test also fails where that takes longer than the limit.
func (p *Process) StopWithin(limit time.Duration) {
	p.t.Helper()
	began := time.Now()
	p.Stop()
	if took := time.Since(began); took > limit {
		p.t.Errorf("%s, told to stop, takes %s", p, took)
	}
}
