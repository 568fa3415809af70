package embedded

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// NobodyID is the user and group id that servers run under when we are root:
// Postgres refuses to run as root, and initdb wants an id that has an entry in
// the password file, which "nobody" has everywhere.
const NobodyID = 65534

// DropRoot returns the credential to start a server under, or nil when the
// caller is an ordinary user and there is nothing to give up.
func DropRoot() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	// An empty, non-nil group list clears root's supplementary groups.
	return &syscall.Credential{Uid: NobodyID, Gid: NobodyID, Groups: []uint32{}}
}

// ReachableBy reports whether a process with the credential can enter dir,
// that is, whether every folder above it (and dir itself, if it exists) lets
// others pass or belongs to that user. A nil credential can enter what we can.
// The error names the folder that is in the way.
func ReachableBy(cred *syscall.Credential, dir string) error {
	if cred == nil {
		return nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", dir, err)
	}
	for p := abs; ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return fmt.Errorf("look at %s: %w", p, err)
		default:
			st, ok := info.Sys().(*syscall.Stat_t)
			owned := ok && st.Uid == cred.Uid && info.Mode().Perm()&0o100 != 0
			if !owned && info.Mode().Perm()&0o001 == 0 {
				return fmt.Errorf("%s (mode %04o) cannot be entered by user id %d, which the server runs under because Postgres refuses to run as root",
					p, info.Mode().Perm(), cred.Uid)
			}
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// ScratchDir makes a new directory, mode 0700, that a server with the
// credential owns and can enter. It prefers the system's temporary directory
// and leaves it only when that lies behind a closed folder. The caller removes
// it.
func ScratchDir(cred *syscall.Credential, pattern string) (string, error) {
	return scratchDir(cred, pattern, 1<<10)
}

// scratchDir is ScratchDir for a path of at most longest bytes.
func scratchDir(cred *syscall.Credential, pattern string, longest int) (string, error) {
	const random = 20 // what MkdirTemp adds at most
	var why error
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if len(parent)+len("/")+len(pattern)+random > longest {
			why = fmt.Errorf("%s is too long a path", parent)
			continue
		}
		if why = ReachableBy(cred, parent); why != nil {
			continue
		}
		dir, err := os.MkdirTemp(parent, pattern)
		if err != nil {
			return "", fmt.Errorf("make a directory for the server: %w", err)
		}
		if cred != nil {
			if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
				return "", fmt.Errorf("give %s to the server's user: %w", dir, err)
			}
		}
		return dir, nil
	}
	return "", why
}

// FreePort returns a TCP port on 127.0.0.1 that nobody listened on a moment
// ago. It lies below those that the system gives to whoever asks for any port,
// so that it stays free, also while a server is down that will want it again;
// only another caller may draw the same, so one that can, retries with a new one.
func FreePort() (int, error) {
	const from, to = 20_000, 32_000 // Linux gives away what lies above 32767, others above 49151
	var err error
	for range 100 {
		port := from + rand.IntN(to-from)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("release the free port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// Gone reports whether the process has ended. It also collects the process if
// it is a child of ours: an uncollected child would look alive for ever.
func Gone(pid int) bool {
	var ws syscall.WaitStatus
	if got, err := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); err == nil && got == pid {
		return true
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// WaitGone waits until the process has ended and reports whether it did so
// within the limit.
func WaitGone(pid int, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for !Gone(pid) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// waitGone is WaitGone for a caller that may lose patience.
func waitGone(ctx context.Context, pid int, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !Gone(pid) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true
}

// commandLine is how the process was called, "" when it cannot be seen.
func commandLine(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		b, err = exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	}
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(string(b), "\x00", " ")
}

// tail is the end of a log, for an error message.
func tail(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
