package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// BrokerOptions of ServeBroker.
type BrokerOptions struct {
	// Dir holds the broker's data; one process at a time serves it.
	Dir string
	// Listen is "127.0.0.1:port"; port 0 takes a free one.
	Listen string
	// Log hears what the broker has to complain about. Nil is silent.
	Log *slog.Logger
}

// ErrBrokerRuns says that another process serves the directory.
var ErrBrokerRuns = errors.New("another process serves this broker's data")

// ServeBroker is the embedded broker: it serves the Kafka protocol until the
// context ends, then writes its state and returns nil.
//
// What it acknowledged has been handed to the operating system, as with Kafka's
// own defaults, and survives the end of the process by SIGKILL. It may not
// survive the loss of power: that, as a single machine, is what this broker is
// not for. An fsync for each batch is the alternative: measured on two cores and
// one disk, 2,400 single produces a second instead of 22,700, and far fewer on a
// disk that really waits.
func ServeBroker(ctx context.Context, o BrokerOptions) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	host, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("read the listen address %q: %w", o.Listen, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || host != "127.0.0.1" {
		return fmt.Errorf("listen address %q: want 127.0.0.1:port", o.Listen)
	}
	if err := makeDir(o.Dir); err != nil {
		return err
	}
	lock, err := holdBrokerLock(o.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.Ports(int(port)),
		kfake.DataDir(o.Dir),
		kfake.DefaultNumPartitions(6),
		kfake.ClusterID("banyan-embedded"),
		kfake.WithLogger(brokerLog{o.Log}),
	)
	if err != nil {
		return fmt.Errorf("serve the broker's data in %s: %w", o.Dir, err)
	}
	// The note is complete, last line included, only once the broker answers.
	note := fmt.Sprintf("%d\n%s\n", os.Getpid(), cluster.ListenAddrs()[0])
	if _, err := lock.WriteAt([]byte(note), 0); err != nil {
		cluster.Close()
		return fmt.Errorf("note where the broker listens: %w", err)
	}
	o.Log.Info("broker is ready", "addr", cluster.ListenAddrs()[0])
	<-ctx.Done()
	cluster.Close()
	return nil
}

// brokerLog passes on what kfake has to complain about; its informational
// lines, one for each request, are left out.
type brokerLog struct{ log *slog.Logger }

func (l brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error(fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		l.log.Warn(fmt.Sprintf(format, args...))
	}
}

const brokerLockName = "serving.lock"

// holdBrokerLock makes this process the only one on the data. The lock goes
// with the process, however it ends, so that whoever finds it held knows that
// the broker lives, and no process number can deceive.
func holdBrokerLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, brokerLockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the broker's data: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrBrokerRuns, dir)
		}
		return nil, fmt.Errorf("lock the broker's data: %w", err)
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the broker's data: %w", err)
	}
	return f, nil
}

type brokerNote struct {
	held bool   // a process serves the data
	pid  int    // of that process; 0 until it answers
	addr string // "127.0.0.1:port"
}

// readBrokerLock looks whether a process serves <dir>/broker. The look takes
// the lock shared for an instant.
func readBrokerLock(dir string) brokerNote {
	f, err := os.Open(filepath.Join(dir, "broker", brokerLockName))
	if err != nil {
		return brokerNote{}
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		return brokerNote{}
	}
	n := brokerNote{held: true}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		return n
	}
	if lines := strings.Split(string(b), "\n"); len(lines) == 3 {
		if pid, err := strconv.Atoi(lines[0]); err == nil {
			n.pid, n.addr = pid, lines[1]
		}
	}
	return n
}

// startBroker returns the running broker and whether this call started it.
func startBroker(ctx context.Context, o Options, old *BrokerState) (*BrokerState, bool, error) {
	if readBrokerLock(o.Dir).held {
		b, err := awaitBroker(ctx, o.Dir, 0)
		return b, false, err
	}
	exe := o.Executable
	if exe == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, false, fmt.Errorf("find this program: %w", err)
		}
		exe = self
	}
	args := o.BrokerArgs
	if args == nil {
		args = []string{"embedded", "serve-broker"}
	}
	port := 0
	if old != nil && len(old.Addrs) == 1 {
		if _, p, err := net.SplitHostPort(old.Addrs[0]); err == nil {
			port, _ = strconv.Atoi(p) // our own writing; 0 asks for a new one
		}
	}
	port, err := keepPort(port)
	if err != nil {
		return nil, false, err
	}
	logName := filepath.Join(o.Dir, "broker.log")
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open the broker's log: %w", err)
	}
	defer log.Close()
	args = append(append([]string{}, args...), "--dir", filepath.Join(o.Dir, "broker"),
		"--listen", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	cmd := exec.Command(exe, args...)
	// It outlives us and needs none of our environment, which may hold secrets.
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = o.Dir, log, log, serverEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, false, fmt.Errorf("start %s: %w", exe, err)
	}
	pid := cmd.Process.Pid
	if err := cmd.Process.Release(); err != nil {
		return nil, false, fmt.Errorf("start %s: %w", exe, err)
	}
	b, err := awaitBroker(ctx, o.Dir, pid)
	if err != nil {
		if !Gone(pid) {
			err = errors.Join(err, endProcess(context.WithoutCancel(ctx), pid))
		}
		return nil, false, fmt.Errorf("%w; %s ends:\n%s", err, logName, tail(logName))
	}
	o.Log.Info("broker is ready", "addrs", b.Addrs)
	return b, true, nil
}

// awaitBroker waits until the broker answers. A pid other than 0 is the process
// we wait for: its end is a failure.
func awaitBroker(ctx context.Context, dir string, pid int) (*BrokerState, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		note := readBrokerLock(dir)
		err := errors.New("it has not said where it listens")
		if note.pid != 0 {
			if err = probeBroker(ctx, note.addr); err == nil {
				return &BrokerState{PID: note.pid, Addrs: []string{note.addr}}, nil
			}
		}
		if pid != 0 && Gone(pid) {
			return nil, errors.New("the broker ended at once")
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the broker: %w (%w)", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// probeBroker makes a real request.
func probeBroker(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer c.Close()
	resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, c)
	if err != nil {
		return err
	}
	if len(resp.Brokers) == 0 {
		return errors.New("the broker knows no broker")
	}
	return nil
}

func stopBroker(ctx context.Context, dir string) error {
	note := readBrokerLock(dir)
	if !note.held {
		return nil
	}
	if note.pid == 0 {
		// It is just starting: wait until it says who it is.
		b, err := awaitBroker(ctx, dir, 0)
		if err != nil {
			return err
		}
		note.pid = b.PID
	}
	return endProcess(ctx, note.pid)
}

func endProcess(ctx context.Context, pid int) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
		if waitGone(ctx, pid, 30*time.Second) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for process %d to end: %w", pid, ctx.Err())
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}
