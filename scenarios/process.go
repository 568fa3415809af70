package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is a program that runs beside the story; its stderr goes to a file.
type process struct {
	name  string
	cmd   *exec.Cmd
	lines chan string // of stdout; closed at its end
	done  chan error
}

// start runs a program in the background. The process dies with us.
func (t *tour) start(name, program string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(t.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir = t.dir
	cmd.Env = t.env()
	cmd.Stderr = log
	// A group of its own, so that Ctrl-C reaches us alone and we end it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, lines: make(chan string, 64), done: make(chan error, 1)}
	go func() {
		s := bufio.NewScanner(stdout)
		for s.Scan() {
			select {
			case p.lines <- s.Text():
			default: // nobody waits for a line any more
			}
		}
		close(p.lines)
		p.done <- cmd.Wait()
	}()
	t.running = append(t.running, p)
	return p, nil
}

// waitLine waits for a line of stdout that begins with prefix, and returns the
// rest of it.
func (t *tour) waitLine(ctx context.Context, p *process, prefix string) (string, error) {
	rests, err := t.waitLines(ctx, p, prefix)
	if err != nil {
		return "", err
	}
	return rests[0], nil
}

// waitLines waits for lines of stdout that begin with the prefixes, one each and
// in any order, and returns the rests of them.
func (t *tour) waitLines(ctx context.Context, p *process, prefixes ...string) ([]string, error) {
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	rests := map[string]string{}
	for len(rests) < len(prefixes) {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return nil, fmt.Errorf("%s ended too early: %s", p.name, t.tailOf(p.name))
			}
			for _, prefix := range prefixes {
				if rest, ok := strings.CutPrefix(line, prefix); ok {
					rests[prefix] = strings.TrimSpace(rest)
				}
			}
		case <-limit.C:
			return nil, fmt.Errorf("%s did not say all of %q within a minute: %s", p.name, prefixes, t.tailOf(p.name))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	inOrder := make([]string, len(prefixes))
	for i, prefix := range prefixes {
		inOrder[i] = rests[prefix]
	}
	return inOrder, nil
}

// tailOf gives the end of a process's log.
func (t *tour) tailOf(name string) string {
	b, err := os.ReadFile(filepath.Join(t.dir, name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-1000):])
}

// stop asks a process to end and waits; after ten seconds it is killed.
func (p *process) stop() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-limit.C:
		p.cmd.Process.Kill()
		return fmt.Errorf("%s did not end within ten seconds and was killed", p.name)
	}
}

// command runs a program to its end and returns its stdout. exits are the
// codes that are fine; none means 0.
func (t *tour) command(ctx context.Context, program string, args []string, exits ...int) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = t.dir
	cmd.Env = t.env()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		for _, code := range exits {
			if exit.ExitCode() == code {
				return stdout.String(), nil
			}
		}
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(program), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// columns is how wide a terminal is at least.
const columns = 80

// say prints indented lines, and breaks those that are too long at a space.
func say(w io.Writer, text string) {
	const indent = "   "
	for line := range strings.Lines(text) {
		for _, part := range wrap(strings.TrimRight(line, "\n"), columns-len(indent)) {
			fmt.Fprintln(w, strings.TrimRight(indent+part, " "))
		}
	}
}

// wrap breaks a line at spaces; what follows is indented a little more. A word
// that is too long stays whole.
func wrap(line string, width int) []string {
	margin := strings.Repeat(" ", len(line)-len(strings.TrimLeft(line, " "))+2)
	var parts []string
	for {
		rest := []rune(line)
		if len(rest) <= width {
			return append(parts, line)
		}
		at := -1
		for i := len(margin); i < len(rest) && (i <= width || at < 0); i++ {
			if rest[i] == ' ' {
				at = i
			}
		}
		if at < 0 {
			return append(parts, line)
		}
		parts = append(parts, string(rest[:at]))
		line = margin + strings.TrimLeft(string(rest[at:]), " ")
	}
}
