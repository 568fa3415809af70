package bench_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"banyan/internal/pgtest"
)

// server is a Postgres whose work is counted.
type server struct{ pid int }

func serverOf(s *pgtest.Server) server {
	b, err := os.ReadFile(filepath.Join(s.Dir, "data", "postmaster.pid"))
	if err != nil {
		return server{}
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		return server{}
	}
	return server{pid}
}

// cpu is what the server's processes have used, in seconds: those that live,
// and those that the postmaster has seen end. Where there is no /proc it is 0.
func (s server) cpu(t testing.TB) float64 {
	t.Helper()
	ended, ok := ticks(s.pid, true)
	for ok {
		live := s.live(t)
		// A backend that ended in between would be in neither or in both.
		again, _ := ticks(s.pid, true)
		if again == ended {
			return ended + live
		}
		ended = again
	}
	return 0
}

// live is what the postmaster's children have used that have not ended.
func (s server) live(t testing.TB) float64 {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var total float64
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if fields := statOf(pid); len(fields) > 1 && fields[1] == strconv.Itoa(s.pid) {
			n, _ := ticks(pid, false)
			total += n
		}
	}
	return total
}

// cpuOf is what one process has used, in seconds; 0 where it cannot be seen.
func cpuOf(pid int) float64 {
	if pid == 0 {
		return 0
	}
	n, _ := ticks(pid, false)
	return n
}

// statOf is /proc/PID/stat behind the command's name: state, parent, ...
func statOf(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// ticks are user and system time in seconds; the kernel counts in 1/100.
func ticks(pid int, andChildren bool) (float64, bool) {
	f := statOf(pid)
	if len(f) < 15 {
		return 0, false
	}
	columns := f[11:13]
	if andChildren {
		columns = f[11:15]
	}
	var sum float64
	for _, s := range columns {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, false
		}
		sum += n
	}
	return sum / 100, true
}

// peakRSS is the most memory a running process has had, in MB.
func peakRSS(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		if rest, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				return 0
			}
			return kb / 1024
		}
	}
	return 0
}

// used is what a finished process and its children used, in seconds.
func used(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}

// ownCPU is what this process has used, in seconds.
func ownCPU(t testing.TB) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	seconds := func(v syscall.Timeval) float64 { return float64(v.Sec) + float64(v.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
